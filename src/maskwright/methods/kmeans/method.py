"""k-means of internal features, the plainest text-free method and the baseline of the others. See README.md."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from maskwright.errors import SettingsError
from maskwright.methods.contract import Regions
from maskwright.methods.features import decoder_inputs, join_features
from maskwright.methods.region_count import check_bounds, check_regions, eigengap_count, is_flat, wanted_counts
from maskwright.readings.probe import Probe
from maskwright.readings.reading import Reading
from maskwright.solvers.affinity import cosine_affinity
from maskwright.solvers.kmeans import kmeans


@dataclass(frozen=True)
class KMeans:
    """k-means++ on the features of MaskDiffusion; step numbers as in README.md beside this file.

    Attributes:
        regions: a number, "auto" for the largest eigengap of the features' affinity, or "oracle" for the number in the ground truth.
        least: fewest regions of "auto".
        most: most regions of "auto".
        power: of the cosines in the affinity that "auto" looks at.
        timesteps: read at each and averaged.
        noise: add noise for the timestep; False reads the clean latent.
        samples: noise samples per timestep.
        feature_factors: decoder inputs at these grids, by latent side / grid side.
        components: PCA of the features to so many dimensions first, which is as good and much cheaper; 0 for none.
        grid: working grid (h, w); None for the latents' own.
        restarts: starts of k-means, of which the best is kept.
        squash: read at the model's square.
    """

    name: ClassVar[str] = "kmeans"
    meaning: ClassVar[str] = "minus half the squared distance to a cluster's centre"

    regions: Regions = "auto"
    least: int = 2
    most: int = 10
    power: float = 10.0
    timesteps: tuple[int, ...] = (0,)
    noise: bool = False
    samples: int = 1
    feature_factors: tuple[int, ...] = (4, 2)
    components: int = 64
    grid: tuple[int, int] | None = None
    restarts: int = 10
    squash: bool = False

    def __post_init__(self) -> None:
        """Refuses what cannot be read or computed."""
        check_regions(self.regions)
        check_bounds(self.least, self.most)
        if not self.power > 0:
            raise SettingsError(f"power must be above 0, not {self.power}")
        if self.components < 0:
            raise SettingsError(f"components must be 0 or more, not {self.components}")
        if self.grid is not None and min(self.grid) < 1:
            raise SettingsError(f"grid must be (height, width) of at least 1, not {self.grid}")
        if self.restarts < 1:
            raise SettingsError(f"restarts must be 1 or more, not {self.restarts}")
        self.probe()

    def probe(self) -> Probe:
        """Step 1: the last decoder input at each feature grid."""
        return Probe(timesteps=self.timesteps, samples=self.samples, noise=self.noise, features=decoder_inputs(self.feature_factors))

    def group(self, reading: Reading, *, seed: int = 0, oracle: Sequence[int] | None = None) -> list[Tensor]:
        """Steps 2 and 3, picture by picture: (regions, h, w) float32 on the working grid, 0 at a centre and below elsewhere.

        No more regions are made than the grid has pixels; features that are the same everywhere are one region.
        """
        counts = wanted_counts(self.regions, oracle, pictures=reading.pictures)
        return [self._part(features, count, seed) for features, count in zip(self.features(reading), counts, strict=True)]

    def features(self, reading: Reading) -> Tensor:
        """Step 1: decoder inputs, joined on the working grid: (pictures, channels, h, w) of unit norm."""
        size = self.grid or reading.latent_size
        return join_features(reading.features_of(decoder_inputs(self.feature_factors)), size, components=self.components)

    def _part(self, features: Tensor, count: int | None, seed: int) -> Tensor:
        """Regions of one picture's features (channels, h, w)."""
        grid = (int(features.shape[1]), int(features.shape[2]))
        points = features.flatten(1).T.contiguous()  # pixels channels
        if is_flat(points):
            return torch.zeros(1, *grid, device=points.device)
        if count is None:
            count = eigengap_count(cosine_affinity(points, power=self.power), least=self.least, most=self.most, seed=seed)
        centres = kmeans(points, min(count, len(points)), seed=seed, restarts=self.restarts).centres
        offsets = (centres.square().sum(1, keepdim=True) + 1) / 2  # pixels have unit norm
        return torch.unflatten(centres @ points.T - offsets, -1, grid)  # regions h w
