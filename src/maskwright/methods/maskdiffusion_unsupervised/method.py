"""MaskDiffusion without words: spectral clusters of internal features. See README.md."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from maskwright.errors import SettingsError
from maskwright.methods.contract import Regions
from maskwright.methods.features import decoder_inputs, join_features
from maskwright.methods.region_count import check_bounds, check_regions, eigengap_count, is_flat, label_maps, wanted_counts
from maskwright.readings.probe import Probe
from maskwright.readings.reading import Reading
from maskwright.solvers.affinity import cosine_affinity, principal_features
from maskwright.solvers.kmeans import kmeans
from maskwright.solvers.kway import kway_cut
from maskwright.solvers.spectral import spectral_clusters

Solver = Literal["spectral", "kway"]
START = 64  # leading directions of the features in which k-means looks for the start of "kway"


@dataclass(frozen=True)
class MaskDiffusionUnsupervised:
    """Kawano and Aoki, arXiv 2403.11194, unsupervised variant; step numbers as in README.md beside this file.

    Attributes:
        regions: a number, "auto" for the largest eigengap, or "oracle" for the number in the ground truth.
        least: fewest regions of "auto".
        most: most regions of "auto".
        timesteps: read at each and averaged; the published code reads 0.
        noise: add noise for the timestep; the published code reads the clean latent.
        samples: noise samples per timestep.
        feature_factors: decoder inputs at these grids, by latent side / grid side.
        components: PCA of the features to so many dimensions first, which is as good and much cheaper; 0 for none.
        grid: working grid (h, w); None for the latents' own.
        power: of the cosines in the affinity.
        spatial: width of the affinity's spatial factor in diagonals of the grid; 0 leaves it out, 0.1 is the value to try first.
        solver: "spectral" (as published), or "kway" for a discrete K-way normalised cut that starts from k-means.
        restarts: of k-means.
        squash: read at the model's square.
    """

    name: ClassVar[str] = "maskdiffusion-unsupervised"
    meaning: ClassVar[str] = "membership in a spectral cluster of internal features"

    regions: Regions = "auto"
    least: int = 2
    most: int = 10
    timesteps: tuple[int, ...] = (0,)
    noise: bool = False
    samples: int = 1
    feature_factors: tuple[int, ...] = (4, 2)
    components: int = 64
    grid: tuple[int, int] | None = None
    power: float = 10.0
    spatial: float = 0.0
    solver: Solver = "spectral"
    restarts: int = 10
    squash: bool = False

    def __post_init__(self) -> None:
        """Refuses what cannot be read or computed."""
        check_regions(self.regions)
        check_bounds(self.least, self.most)
        if self.components < 0:
            raise SettingsError(f"components must be 0 or more, not {self.components}")
        if self.grid is not None and min(self.grid) < 1:
            raise SettingsError(f"grid must be (height, width) of at least 1, not {self.grid}")
        if not self.power > 0:
            raise SettingsError(f"power must be above 0, not {self.power}")
        if not self.spatial >= 0:
            raise SettingsError(f"spatial must be 0 (off) or a share of the grid's diagonal, not {self.spatial}")
        if self.solver not in get_args(Solver):
            raise SettingsError(f"solver must be one of {', '.join(get_args(Solver))}, not {self.solver!r}")
        if self.restarts < 1:
            raise SettingsError(f"restarts must be 1 or more, not {self.restarts}")
        self.probe()

    def probe(self) -> Probe:
        """Steps 1 and 2: the last decoder input at each feature grid."""
        return Probe(timesteps=self.timesteps, samples=self.samples, noise=self.noise, features=decoder_inputs(self.feature_factors))

    def group(self, reading: Reading, *, seed: int = 0, oracle: Sequence[int] | None = None) -> list[Tensor]:
        """Steps 3 to 5, picture by picture: memberships (regions, h, w) float32 in 0..1 on the working grid, their sum 1 at every pixel.

        No more regions are made than the grid has pixels; features that are the same everywhere are one region.
        """
        counts = wanted_counts(self.regions, oracle, pictures=reading.pictures)
        return [self._part(features, count, seed) for features, count in zip(self.features(reading), counts, strict=True)]

    def features(self, reading: Reading) -> Tensor:
        """Step 2: decoder inputs, joined on the working grid: (pictures, channels, h, w) of unit norm."""
        size = self.grid or reading.latent_size
        return join_features(reading.features_of(decoder_inputs(self.feature_factors)), size, components=self.components)

    def _part(self, features: Tensor, count: int | None, seed: int) -> Tensor:
        """Regions of one picture's features (channels, h, w)."""
        grid = (int(features.shape[1]), int(features.shape[2]))
        points = features.flatten(1).T.contiguous()  # pixels channels
        if is_flat(points):
            return torch.ones(1, *grid, device=points.device)
        affinity = cosine_affinity(points, power=self.power, spatial=self.spatial, grid=grid)
        if self.solver == "kway":
            count = count or eigengap_count(affinity, least=self.least, most=self.most, seed=seed)
            count = min(count, len(points))
            start = kmeans(principal_features(points, START, seed=seed), count, seed=seed, restarts=self.restarts).labels
            return label_maps(kway_cut(affinity, count, start=start, seed=seed).labels, grid, regions=count)
        if count is None and len(points) > self.least:
            found = spectral_clusters(affinity, "eigengap", least=self.least, most=self.most, seed=seed, restarts=self.restarts)
        else:
            found = spectral_clusters(affinity, min(count or len(points), len(points)), seed=seed, restarts=self.restarts)
        return torch.unflatten(found.assignments.T, -1, grid)  # regions h w
