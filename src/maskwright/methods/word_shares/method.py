"""Word shares: of the attention that all labels get at a place, the part that each gets. See README.md."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from maskwright.errors import SettingsError
from maskwright.methods.maps import EPS, resize_maps
from maskwright.readings.attention import LayerMaps
from maskwright.readings.keys import TextKeys
from maskwright.readings.probe import Probe, Select, Stage
from maskwright.readings.reading import Reading
from maskwright.text.wording import Prompting, Wording


@dataclass(frozen=True)
class WordShares:
    """This project's own method; step numbers as in README.md beside this file.

    Attributes:
        prompting: "joint" (labels compete in one prompt), "shared" or "per-label" (labels do not compete).
        timesteps: read at each and averaged.
        samples: noise samples per timestep, averaged.
        factors: cross-attention grids by latent side / grid side, each counting alike; those that a model lacks are left out.
        stages: parts of the U-Net whose cross-attention counts.
        rest: how much of what no label gets counts as a rival of all, 0 to 1: with 0 each place is parted among the labels.
        smooth: how much of a share is taken after a hop of self-attention, 0 to 1.
        sharpen: power to which self-attention is raised for the hop; 1 leaves it as it is.
        template: the prompt of a label or of labels joined.
        emphasis: of the labels' tokens, as of DiffSegmenter; 1 for none.
        tokens: "all" of a label's tokens or the "last".
        padding: "merged" or "exact" padding in re-keyed prompts.
        squash: read at the model's square.
    """

    name: ClassVar[str] = "word-shares"
    meaning: ClassVar[str] = "part of the labels' attention that the label gets"
    stretch: ClassVar[Literal["label", "none"]] = "none"
    background: ClassVar[float | None] = 0.5

    prompting: Prompting = "joint"
    timesteps: tuple[int, ...] = (100, 200, 300, 400)
    samples: int = 1
    factors: tuple[int, ...] = (2, 4)
    stages: tuple[Stage, ...] = ("up",)
    rest: float = 0.05
    smooth: float = 0.5
    sharpen: float = 1.5
    template: str = "a photograph of {}"
    emphasis: float = 1.0
    tokens: Literal["all", "last"] = "all"
    padding: Literal["merged", "exact"] = "merged"
    squash: bool = False

    def __post_init__(self) -> None:
        """Refuses what cannot be read or computed."""
        for setting in ("rest", "smooth"):
            if not 0 <= getattr(self, setting) <= 1:
                raise SettingsError(f"{setting} must lie in 0..1, not {getattr(self, setting)}")
        if not self.sharpen >= 0:
            raise SettingsError(f"sharpen must be 0 or more, not {self.sharpen}")
        if not (self.factors and self.stages):
            raise SettingsError("factors and stages must each name one or more")
        self.wording()  # refuses its own settings
        self.probe()

    def wording(self) -> Wording:
        """Step 1: the labels joined by " and ", or one prompt a label."""
        return Wording(template=self.template, emphasis=self.emphasis, tokens=self.tokens, padding=self.padding)

    def probe(self) -> Probe:
        """Step 1: cross-attention, and the finest self-attention where a hop is made."""
        return Probe(
            timesteps=self.timesteps, samples=self.samples, cross=self._cross,
            self_attention=Select(factors="finest") if self.smooth else None, self_mode="fold",
        )  # fmt: skip

    @property
    def _cross(self) -> Select:
        return Select(factors=self.factors, stages=self.stages)

    def score(self, reading: Reading, keys: TextKeys) -> Tensor:
        """Steps 2 and 3: shares, in part after a hop, (pictures, labels, h, w) float32 in 0..1."""
        shares = self.shares(reading, keys)
        if not self.smooth:
            return shares
        return torch.lerp(shares, reading.self_attention.sharpened(self.sharpen).complete(shares), self.smooth)

    def shares(self, reading: Reading, keys: TextKeys) -> Tensor:
        """Step 2: of each grid the labels' shares, mean over grids: (pictures, labels, h, w) in 0..1 on the working grid."""
        size = reading.self_attention.grid if self.smooth else reading.latent_size
        grids = reading.cross_attention_of(self._cross).maps(keys)
        return torch.stack([self._part(grid, size) for grid in grids]).mean(0)

    def _part(self, grid: LayerMaps, size: tuple[int, int]) -> Tensor:
        """The shares in one grid; they sum to 1 where `rest` is 0."""
        maps = resize_maps(grid.maps, size)
        given = maps.sum(1, keepdim=True)
        return maps / (given + self.rest * (1 - given).clamp(min=0)).clamp(min=EPS)
