"""MaskDiffusion: attention says coarsely where, internal features say which pixels belong together. See README.md."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from maskwright.errors import SettingsError
from maskwright.methods.features import decoder_inputs, join_features
from maskwright.methods.maps import EPS, mean_over_layers, resize_maps
from maskwright.readings.keys import TextKeys
from maskwright.readings.probe import STAGES, Probe, Select, Stage
from maskwright.readings.reading import Reading
from maskwright.text.wording import Prompting, Wording


@dataclass(frozen=True)
class MaskDiffusion:
    """Kawano and Aoki, arXiv 2403.11194, text-driven part; step numbers as in README.md beside this file.

    Attributes:
        prompting: "joint" (as published), "shared" or "per-label".
        timesteps: read at each and averaged; the published code reads 0.
        noise: add noise for the timestep; the published code reads the clean latent.
        samples: noise samples per timestep.
        attention: "exp" keeps exponentiated logits (published), "softmax" the attention itself.
        attention_factors: cross-attention grids by latent side / grid side; the published code's are a quarter and less.
        stages: parts of the U-Net whose cross-attention counts.
        attention_grid: maps are averaged at latent side / this.
        feature_factors: decoder inputs at these grids.
        components: PCA of the features to so many dimensions first; 0 for none.
        grid: working grid (h, w); None for the latents' own. The published code uses (256, 352).
        cosine: compare by cosine (the paper); False leaves the representatives unnormalised (the published code).
        template: the prompt of a label or of labels joined.
        tokens: "all" of a label's tokens or the "last".
        padding: "merged" or "exact" padding in re-keyed prompts.
        squash: read at the model's square.
    """

    name: ClassVar[str] = "maskdiffusion"
    meaning: ClassVar[str] = "cosine similarity to the label's representative feature"
    stretch: ClassVar[Literal["label", "none"]] = "none"
    background: ClassVar[float | None] = None

    prompting: Prompting = "joint"
    timesteps: tuple[int, ...] = (0,)
    noise: bool = False
    samples: int = 1
    attention: Literal["exp", "softmax"] = "exp"
    attention_factors: tuple[int, ...] = (4, 8)
    stages: tuple[Stage, ...] = STAGES
    attention_grid: int = 2
    feature_factors: tuple[int, ...] = (4, 2)
    components: int = 0
    grid: tuple[int, int] | None = None
    cosine: bool = True
    template: str = "{}"
    tokens: Literal["all", "last"] = "all"
    padding: Literal["merged", "exact"] = "merged"
    squash: bool = False

    def __post_init__(self) -> None:
        """Refuses what cannot be read or computed."""
        if self.attention not in ("exp", "softmax"):
            raise SettingsError(f"attention must be 'exp' or 'softmax', not {self.attention!r}")
        if self.attention_grid < 1:
            raise SettingsError(f"attention_grid must be 1 or more, not {self.attention_grid}")
        if self.components < 0:
            raise SettingsError(f"components must be 0 or more, not {self.components}")
        if self.grid is not None and min(self.grid) < 1:
            raise SettingsError(f"grid must be (height, width) of at least 1, not {self.grid}")
        self.wording()  # refuses its own settings
        self.probe()

    def wording(self) -> Wording:
        """Step 1: names joined by " and "."""
        return Wording(template=self.template, tokens=self.tokens, padding=self.padding)

    def probe(self) -> Probe:
        """Steps 2, 4 and 5: coarse cross-attention and the last decoder input at each feature grid."""
        return Probe(
            timesteps=self.timesteps, samples=self.samples, noise=self.noise,
            cross=self._cross, features=decoder_inputs(self.feature_factors),
        )  # fmt: skip

    @property
    def _cross(self) -> Select:
        return Select(factors=self.attention_factors, stages=self.stages)

    def score(self, reading: Reading, keys: TextKeys) -> Tensor:
        """Step 7: similarity of each pixel to each label's representative, (pictures, labels, h, w) float32."""
        size = self.grid or reading.latent_size
        features = self.features(reading, size).flatten(2)  # pictures channels pixels
        maps = resize_maps(self.attention_maps(reading, keys), size).flatten(2)  # pictures labels pixels
        weights = maps / maps.sum(-1, keepdim=True).clamp(min=EPS)
        representatives = torch.bmm(weights, features.transpose(1, 2))  # pictures labels channels
        if self.cosine:
            representatives = F.normalize(representatives, dim=-1)
        return torch.unflatten(torch.bmm(representatives, features), -1, size)

    def attention_maps(self, reading: Reading, keys: TextKeys) -> Tensor:
        """Steps 3 and 4: the plain mean over layers at one grid, (pictures, labels, h, w), non-negative."""
        size = tuple(max(1, side // self.attention_grid) for side in reading.latent_size)
        return mean_over_layers(reading.cross_attention_of(self._cross).maps(keys, weighting=self.attention), (size[0], size[1]))

    def features(self, reading: Reading, size: tuple[int, int]) -> Tensor:
        """Step 5: decoder inputs, joined on one grid: (pictures, channels, h, w) of unit norm."""
        return join_features(reading.features_of(decoder_inputs(self.feature_factors)), size, components=self.components)
