"""DiffSegmenter: cross-attention says where a word is, self-attention which pixels belong together. See README.md."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from maskwright.errors import SettingsError
from maskwright.methods.maps import min_max, resize_maps
from maskwright.readings.attention import LayerMaps
from maskwright.readings.keys import TextKeys
from maskwright.readings.probe import STAGES, Probe, Select, Stage
from maskwright.readings.reading import Reading
from maskwright.text.wording import Prompting, Wording


@dataclass(frozen=True)
class DiffSegmenter:
    """Wang et al., arXiv 2309.02773; step numbers as in README.md beside this file.

    Attributes:
        prompting: "shared" (one pass for all labels), "per-label" (as published) or "joint".
        timesteps: read at each and averaged; the paper's is 100, useful from 50 to 150.
        samples: noise samples per timestep, averaged.
        fusion: weight of each cross-attention grid, by latent side / grid side: 0.3, 0.5, 0.1, 0.1 for 8, 4, 2, 1.
            Grids that a model lacks are left out and the rest is renormalised.
        stages: parts of the U-Net whose cross-attention counts; the paper's are all three.
        hops: how often self-attention completes the fused map.
        template: the prompt of a label.
        emphasis: of the label's tokens, 1.21 = 1.1 squared as published.
        tokens: "all" of a label's tokens, or the "last" (parity with the published code).
        padding: "merged" or "exact" padding in re-keyed prompts.
        keep: keep self-attention's queries and keys instead of folding its mean; same maps, other cost.
        squash: read at the model's square (parity with the published code).
        reject: drop labels whose unstretched maximum is below this many times that of `absent`; 0 drops none.
        absent: a word that stands for what is not in the picture, the baseline of `reject`.
    """

    name: ClassVar[str] = "diffsegmenter"
    meaning: ClassVar[str] = "completed cross-attention, stretched per label"
    stretch: ClassVar[Literal["label", "none"]] = "label"
    background: ClassVar[float | None] = 0.5

    prompting: Prompting = "shared"
    timesteps: tuple[int, ...] = (100,)
    samples: int = 1
    fusion: tuple[tuple[int, float], ...] = ((8, 0.3), (4, 0.5), (2, 0.1), (1, 0.1))
    stages: tuple[Stage, ...] = STAGES
    hops: int = 1
    template: str = "a photograph of a {}"
    emphasis: float = 1.21
    tokens: Literal["all", "last"] = "all"
    padding: Literal["merged", "exact"] = "merged"
    keep: bool = False
    squash: bool = False
    reject: float = 0.0
    absent: str = "thing"

    def __post_init__(self) -> None:
        """Refuses what cannot be read or renormalised."""
        if not self.fusion or min(weight for _, weight in self.fusion) < 0 or sum(weight for _, weight in self.fusion) <= 0:
            raise SettingsError(f"fusion needs non-negative weights that do not sum to 0, not {self.fusion}")
        if self.hops < 0:
            raise SettingsError(f"hops must be 0 or more, not {self.hops}")
        if self.reject < 0:
            raise SettingsError(f"reject must be 0 or more, not {self.reject}")
        self.wording()  # refuses its own settings
        self.probe()

    def wording(self) -> Wording:
        """Steps 3 and 5: template, emphasis, which tokens."""
        return Wording(template=self.template, emphasis=self.emphasis, tokens=self.tokens, participle=True, padding=self.padding)

    def probe(self) -> Probe:
        """Step 2: every cross-attention layer with a weight, and the finest self-attention."""
        return Probe(
            timesteps=self.timesteps, samples=self.samples, cross=self._cross,
            self_attention=Select(factors="finest") if self.hops else None, self_mode="keep" if self.keep else "fold",
        )  # fmt: skip

    @property
    def _cross(self) -> Select:
        return Select(stages=self.stages)

    def score(self, reading: Reading, keys: TextKeys) -> Tensor:
        """Steps 5 to 7: maps per grid, stretched, fused, completed; (pictures, labels, h, w) float32."""
        layers = self._weighted(reading, keys)
        size = reading.self_attention.grid if self.hops else reading.latent_size
        fused = torch.stack([weight * min_max(resize_maps(layer.maps, size)) for layer, weight in layers]).sum(0)
        return reading.self_attention.complete(fused, hops=self.hops) if self.hops else fused

    def strength(self, reading: Reading, keys: TextKeys) -> Tensor:
        """How strongly anything in the picture attends to each label: (pictures, labels), before any stretching."""
        return torch.stack([weight * layer.maps.amax((-2, -1)) for layer, weight in self._weighted(reading, keys)]).sum(0)

    def _weighted(self, reading: Reading, keys: TextKeys) -> list[tuple[LayerMaps, float]]:
        """The maps of every grid that the model has and `fusion` names, with weights that sum to 1."""
        attention = reading.cross_attention_of(self._cross)
        held = sorted({layer.factor for layer in attention.layers})
        fusion = dict(self.fusion)
        weights = {factor: fusion[factor] for factor in held if fusion.get(factor, 0.0) > 0}  # others are not worth their re-keying
        if not weights:
            raise SettingsError(f"fusion {self.fusion} names no grid of this model, which has {held}")
        total = sum(weights.values())
        return [(layer, weights[layer.factor] / total) for layer in attention.maps(keys, factors=tuple(weights))]
