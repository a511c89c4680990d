"""DiffCut: a recursive normalised cut of the features of one self-attention layer. See README.md."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from maskwright.errors import SettingsError
from maskwright.images import upsample
from maskwright.methods.contract import Regions
from maskwright.methods.features import join_features
from maskwright.methods.region_count import check_regions, is_flat, label_maps, wanted_counts
from maskwright.readings.probe import STAGES, Probe, Select, Stage
from maskwright.readings.reading import Reading
from maskwright.solvers.affinity import Scale, cosine_affinity
from maskwright.solvers.ncut import recursive_cut


@dataclass(frozen=True)
class DiffCut:
    """Couairon et al., arXiv 2406.02842; step numbers as in README.md beside this file.

    Attributes:
        regions: "auto" for what `threshold` leaves, a number, or "oracle" for the number in the ground truth.
        threshold: a segment is cut in two while its best normalised cut is below; 0.5 as published.
        power: of the scaled cosines in the affinity.
        affinity: "min-max" stretches all cosines to 0..1 before the power (published), "clamp" sets negative ones to 0.
        split_points: values tried along each eigenvector.
        drop_zero: parity with the published code, in which pixels with an affinity of exactly 0 take no part in further cuts.
        renormalise: segments' mean features get unit norm, so that similarity is a cosine; False is parity with the published code.
        scale: masks are made on a grid so many times finer than the features'; None for the latents' own, which for a 1024 px XL model
            is the published 128 x 128.
        stage: part of the U-Net that features are read in.
        factors: grids of the features, by latent side / grid side; several are joined on the finest of them.
        timesteps: read at each and averaged.
        noise: add noise for the timestep; False feeds the clean latent.
        samples: noise samples per timestep.
        squash: read at the model's square (parity with the published code).
    """

    name: ClassVar[str] = "diffcut"
    meaning: ClassVar[str] = "similarity to a segment's mean feature"

    regions: Regions = "auto"
    threshold: float = 0.5
    power: float = 10.0
    affinity: Scale = "min-max"
    split_points: int = 100
    drop_zero: bool = False
    renormalise: bool = True
    scale: int | None = None
    stage: Stage = "down"
    factors: tuple[int, ...] | Literal["finest", "coarsest"] = "coarsest"
    timesteps: tuple[int, ...] = (50,)
    noise: bool = True
    samples: int = 1
    squash: bool = False

    def __post_init__(self) -> None:
        """Refuses what cannot be read or computed."""
        check_regions(self.regions)
        if not self.threshold >= 0:
            raise SettingsError(f"threshold must be 0 or more, not {self.threshold}")
        if not self.power > 0:
            raise SettingsError(f"power must be above 0, not {self.power}")
        if self.affinity not in get_args(Scale):
            raise SettingsError(f"affinity must be one of {', '.join(get_args(Scale))}, not {self.affinity!r}")
        if self.split_points < 1:
            raise SettingsError(f"split_points must be 1 or more, not {self.split_points}")
        if self.scale is not None and self.scale < 1:
            raise SettingsError(f"scale must be 1 or more, or None for the latents' grid, not {self.scale}")
        if self.stage not in STAGES:
            raise SettingsError(f"stage must be one of {', '.join(STAGES)}, not {self.stage!r}")
        if isinstance(self.factors, str) and self.factors not in ("finest", "coarsest"):
            raise SettingsError(f'factors must be "finest", "coarsest" or numbers, not {self.factors!r}')
        self.probe()

    def probe(self) -> Probe:
        """Step 1: the output of the last self-attention layer at each chosen grid."""
        return Probe(timesteps=self.timesteps, samples=self.samples, noise=self.noise, outputs=self._layers)

    @property
    def _layers(self) -> Select:
        return Select(factors=self.factors, stages=(self.stage,), last=True)

    def group(self, reading: Reading, *, seed: int = 0, oracle: Sequence[int] | None = None) -> list[Tensor]:
        """Steps 2 to 4, picture by picture: similarities (regions, h, w) float32, cosines unless `renormalise` is off.

        No more regions are made than the features have pixels; features that are the same everywhere are one region.
        """
        counts = wanted_counts(self.regions, oracle, pictures=reading.pictures)
        return [
            self._refine(features, self._cut(features, count, seed), reading.latent_size)
            for features, count in zip(self.features(reading), counts, strict=True)
        ]

    def features(self, reading: Reading) -> Tensor:
        """Step 1: (pictures, channels, h, w) of unit norm on the layer's grid."""
        outputs = reading.outputs_of(self._layers)
        size = max((tuple(values.shape[-2:]) for values in outputs.values()), key=math.prod)
        return join_features(outputs, (size[0], size[1]))

    def _cut(self, features: Tensor, count: int | None, seed: int) -> Tensor:
        """Steps 2 and 3: segments (segments, h, w) of features (channels, h, w), 1 inside and 0 elsewhere."""
        grid = (int(features.shape[1]), int(features.shape[2]))
        points = features.flatten(1).T.contiguous()  # pixels channels
        if is_flat(points):  # min-max would make an affinity of its rounding
            return torch.ones(1, *grid, device=points.device)
        affinity = cosine_affinity(points, power=self.power, scale=self.affinity, diagonal=True)
        labels = recursive_cut(
            affinity, threshold=self.threshold, regions=None if count is None else min(count, len(points)),
            split_points=self.split_points, drop_zero=self.drop_zero, seed=seed,
        )  # fmt: skip
        return label_maps(labels, grid)

    def _refine(self, features: Tensor, segments: Tensor, latent_size: tuple[int, int]) -> Tensor:
        """Step 4: similarity of finer features to each segment's mean, (segments, H, W)."""
        inside = segments.flatten(1)
        prototypes = inside @ features.flatten(1).T / inside.sum(1, keepdim=True)  # segments channels
        if self.renormalise:
            prototypes = F.normalize(prototypes, dim=1)
        size = latent_size if self.scale is None else (segments.shape[1] * self.scale, segments.shape[2] * self.scale)
        similarity: Tensor = torch.tensordot(prototypes, F.normalize(upsample(features, size), dim=0), 1)
        return similarity
