"""AttentionCut: a word's attention as seeds, self-attention and the picture as links, one exact minimum cut. See README.md."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from maskwright.errors import SettingsError
from maskwright.methods.attentioncut import comparators
from maskwright.methods.attentioncut.comparators import Mask, Solver
from maskwright.methods.attentioncut.energy import Array, grid_picture, lab, likelihood, links
from maskwright.methods.foreground import Foreground
from maskwright.methods.maps import mean_over_layers, min_max
from maskwright.readings.attention import LayerMaps, SelfAttention
from maskwright.readings.probe import Probe, Select
from maskwright.score_maps import check_finite
from maskwright.text.wording import Wording

EDGE = 1e-3  # how far from 0.5 a pixel inside the mask is at least


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the cut is made from, all (labels, h, w).

    Attributes:
        cross: A_c, float32 in 0..1.
        refined: r, float32 in 0..1.
        likelihood: u, float64 inside 0..1.
    """

    cross: Tensor
    refined: Tensor
    likelihood: Array


@dataclass(frozen=True)
class AttentionCut:
    """Ma et al., arXiv 2303.09813, stage 1; step numbers as in README.md beside this file.

    Attributes:
        template: the prompt under which a given picture is read; a generated one has its own.
        timesteps: read at each and averaged.
        samples: noise samples per timestep, averaged.
        attention_factors: grids of cross-attention, latent side / grid side; those that a model lacks are left out.
        grid_factor: the working grid, whose self-attention is used; 2 is 32 x 32 for latents of 64 x 64.
        seeds: "all" pixels of the high part of A_c, or some "sampled" from it.
        seed_share: the high part, as a share of all pixels.
        seed_count: how many are sampled.
        merge: r from the "rows" of self-attention, what the seeds attend to, or its "columns", who attends to the seeds.
        refined_weight: λ_φ, of the refined map beside the word's.
        shift: move u so that its Otsu threshold is 0.5.
        clamp: u stays so far from 0 and 1.
        neighbours: each pixel is linked with so many that it attends to most, and the eight around it; "full" links all.
        percentile: of self-attention, which becomes 1.
        geodesic_weight: λ_ψ, of the picture's part in a link; "equal" lets both parts contribute the same.
        geodesic_scale: geodesic distances are divided by so many mean differences of two pixels side by side.
        balance: λ, of the links; "auto" makes the median pixel's links sum to 1.
        solver: "cut", or one of those to compare it with: "threshold", "kmeans", "ncut", "crf".
        squash: read at the model's square.
    """

    name: ClassVar[str] = "attentioncut"
    meaning: ClassVar[str] = "likelihood of foreground from attention, 0.5 where the cut runs"

    template: str = "a photo of a {}"
    timesteps: tuple[int, ...] = (100,)
    samples: int = 1
    attention_factors: tuple[int, ...] = (2, 4)
    grid_factor: int = 2
    seeds: Literal["all", "sampled"] = "all"
    seed_share: float = 0.05
    seed_count: int = 16
    merge: Literal["rows", "columns"] = "rows"
    refined_weight: float = 1.0
    shift: bool = True
    clamp: float = 1e-3
    neighbours: int | Literal["full"] = 32
    percentile: float = 99.0
    geodesic_weight: float | Literal["equal"] = "equal"
    geodesic_scale: float = 5.0
    balance: float | Literal["auto"] = "auto"
    solver: Solver = "cut"
    squash: bool = False

    def __post_init__(self) -> None:
        """Refuses what cannot be read or solved."""
        _choice("seeds", self.seeds, ("all", "sampled"))
        _choice("merge", self.merge, ("rows", "columns"))
        _choice("solver", self.solver, get_args(Solver))
        _number("neighbours", self.neighbours, word="full")
        _number("geodesic_weight", self.geodesic_weight, word="equal")
        _number("balance", self.balance, word="auto")
        _number("refined_weight", self.refined_weight)
        if not self.attention_factors or min(*self.attention_factors, self.grid_factor, self.seed_count) < 1:
            raise SettingsError("attention_factors, grid_factor and seed_count must be 1 or more, with one factor at least")
        if not 0 < self.seed_share <= 1 or not 0 < self.clamp < 0.5 or not 0 < self.percentile <= 100 or not self.geodesic_scale > 0:
            raise SettingsError(
                "seed_share must lie in 0..1, clamp in 0..0.5 and percentile in 0..100, all above 0, and geodesic_scale be above 0; "
                f"not {self.seed_share}, {self.clamp}, {self.percentile} and {self.geodesic_scale}"
            )
        self.wording()  # refuses its own settings
        self.probe()

    def wording(self) -> Wording:
        """Step 1: the prompt; all tokens of a label make its map."""
        return Wording(template=self.template)

    def probe(self) -> Probe:
        """Step 1: cross-attention of two grids, the mean self-attention of the working grid."""
        return Probe(
            timesteps=self.timesteps, samples=self.samples, cross=Select(factors=self.attention_factors),
            self_attention=Select(factors=(self.grid_factor,)), self_mode="fold",
        )  # fmt: skip

    def foreground(
        self, maps: Sequence[LayerMaps], attention: SelfAttention | None, pixels: npt.NDArray[np.uint8], *, seed: int = 0
    ) -> Foreground:
        """All steps; arguments as in methods/contract.py. What no label changes, the links, is computed once.

        Raises:
            SettingsError: there is no self-attention, or no map at `attention_factors`.
            NumberError: attention holds NaN or infinity.
        """
        operator = self._checked(attention)
        evidence = self.evidence(maps, operator, seed=seed)
        picture = grid_picture(pixels, operator.grid)
        masks = self._masks(evidence, operator, picture, seed)
        u = evidence.likelihood
        probability = np.where(masks, np.maximum(u, 0.5 + EDGE), np.minimum(u, 0.5)).astype(np.float32)
        device = evidence.cross.device
        return Foreground(torch.from_numpy(probability).to(device), torch.from_numpy(masks).to(device))

    def evidence(self, maps: Sequence[LayerMaps], attention: SelfAttention | None, *, seed: int = 0) -> Evidence:
        """Steps 2 to 4: the word's map, the map that its seeds attend to, and the likelihood from both; arguments as above."""
        operator = self._checked(attention)
        used = [layer for layer in maps if layer.factor in self.attention_factors]
        if not used:
            held = sorted(layer.factor for layer in maps)
            raise SettingsError(f"attentioncut finds no cross-attention at factors {self.attention_factors}: there is some at {held}")
        mean = mean_over_layers(used, operator.grid)
        check_finite(mean, "cross-attention holds")
        if len(mean) != 1 or len(operator.dense()) != 1:
            raise ValueError(f"one picture at a time, not maps of {len(mean)} and self-attention of {len(operator.dense())}")
        cross = min_max(mean[0])
        weights = torch.stack([self._seed_weights(one, seed) for one in cross.flatten(1).cpu()])  # labels h*w
        matrix = operator.dense()[0].to(cross.device)
        merged = weights.to(cross.device) @ (matrix if self.merge == "rows" else matrix.T)  # labels h*w
        refined = min_max(torch.unflatten(merged, 1, operator.grid))
        u = likelihood(_double(cross), _double(refined), weight=self.refined_weight, shift=self.shift, clamp=self.clamp)
        return Evidence(cross, refined, u)

    def pairwise(self, attention: SelfAttention | None, pixels: npt.NDArray[np.uint8]) -> Any:
        """Steps 5 to 7: λ ψ of all linked pairs, scipy sparse (h*w, h*w); arguments as above."""
        operator = self._checked(attention)
        return self._links(operator, grid_picture(pixels, operator.grid))

    def _links(self, attention: SelfAttention, picture: Array) -> Any:
        return links(
            attention.dense()[0].cpu().numpy(), lab(picture), neighbours=self.neighbours, geodesic_weight=self.geodesic_weight,
            balance=self.balance, percentile=self.percentile, geodesic_scale=self.geodesic_scale,
        )  # fmt: skip

    def _masks(self, evidence: Evidence, attention: SelfAttention, picture: Array, seed: int) -> Mask:
        """Step 8: (labels, h, w) by the solver."""
        cross, refined, u = _double(evidence.cross), _double(evidence.refined), evidence.likelihood
        pairwise = self._links(attention, picture) if self.solver in comparators.LINKED else None
        if self.solver == "cut":
            return np.stack([comparators.cut_mask(one, pairwise) for one in u])
        if self.solver == "ncut":
            half = comparators.halves(pairwise, seed=seed).reshape(attention.grid)
            return np.stack([comparators.brighter_side(half, one) for one in cross])
        if self.solver == "kmeans":
            return np.stack([comparators.kmeans_mask(*pair, seed=seed) for pair in zip(cross, refined, strict=True)])
        if self.solver == "crf":
            return np.stack([comparators.crf_mask(one, picture) for one in u])
        return u > 0.5

    def _seed_weights(self, cross: Tensor, seed: int) -> Tensor:
        """Step 3: one label's map (h*w,) to the weights of its seeds (h*w,), which sum to 1, or are all 0 for a flat map.

        All pixels that tie with the last of the high part belong to it, so that the order of pixels does not matter.
        """
        count = max(1, round(self.seed_share * len(cross)))
        high = torch.where(cross >= cross.topk(count).values[-1], cross, 0.0)
        positive = int((high > 0).sum())
        if self.seeds == "sampled" and positive:
            generator = torch.Generator().manual_seed(seed)
            drawn = torch.multinomial(high, min(self.seed_count, positive), generator=generator)
            high = torch.zeros_like(high).scatter_(0, drawn, high[drawn])
        return high / high.sum().clamp_min(torch.finfo(high.dtype).tiny)

    def _checked(self, attention: SelfAttention | None) -> SelfAttention:
        if attention is None:
            raise SettingsError(f"attentioncut needs self-attention at factor {self.grid_factor}: its probe asks for it")
        check_finite(attention.dense(), "self-attention holds")
        return attention


def _double(maps: Tensor) -> Array:
    """A tensor as a float64 array."""
    return np.asarray(maps.cpu().numpy(), dtype=np.float64)


def _choice(setting: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SettingsError(f"{setting} must be one of {', '.join(choices)}, not {value!r}")


def _number(setting: str, value: float | str, word: str | None = None) -> None:
    """Refuses what is neither a number of 0 or more nor the word that may stand for one."""
    if isinstance(value, str) and value == word:
        return
    if isinstance(value, str) or not value >= 0:
        raise SettingsError(f"{setting} must be 0 or more{f' or {word!r}' if word else ''}, not {value!r}")
