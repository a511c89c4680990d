"""Foreground first: what is no ground is decided before the words compete, inside it and outside of it. See README.md."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from maskwright.errors import SettingsError
from maskwright.methods.foreground_first.keys import begin_keys, begin_logits, duel_keys
from maskwright.methods.maps import EPS, mean_over_layers, min_max, resize_maps
from maskwright.readings.keys import TextKeys
from maskwright.readings.probe import STAGES, Probe, Select, Stage
from maskwright.readings.reading import Reading
from maskwright.score_maps import check_finite
from maskwright.solvers.otsu import otsu_threshold
from maskwright.text.wording import Prompting, Wording


@dataclass(frozen=True)
class ForegroundFirst:
    """This project's own method; step numbers as in README.md beside this file.

    Attributes:
        prompting: "shared", "per-label" or "joint". In "joint" grounds compete by their words alone, which say little.
        timesteps: read at each and averaged.
        samples: noise samples per timestep, averaged.
        factors: cross-attention grids by latent side / grid side; those that a model lacks are left out.
        stages: parts of the U-Net whose cross-attention tells words apart.
        sink_stages: parts of the U-Net whose last layer at each of `factors` is asked for the begin token.
        ground_stages: parts of the U-Net in which ground words compete.
        sink_weight: of the begin token's map in the foreground, beside that of the words.
        ground: a word is a ground's if outside of the foreground it holds so large a part of what it and the begin token get, 0 to 1.
        smooth: how much of a word's map is taken after a hop of self-attention, 0 to 1.
        inside: how much the competition of words weighs beside the decision of foreground, 0 to 1.
        template: the prompt of a label or of labels joined.
        tokens: "all" of a label's tokens or the "last".
        padding: "merged" or "exact" padding in re-keyed prompts.
        squash: read at the model's square.
    """

    name: ClassVar[str] = "foreground-first"
    meaning: ClassVar[str] = "above 0.5 where the label is on its own side of the foreground's edge, more where attention says more"
    stretch: ClassVar[Literal["label", "none"]] = "none"
    background: ClassVar[float | None] = 0.5

    prompting: Prompting = "shared"
    timesteps: tuple[int, ...] = (100,)
    samples: int = 1
    factors: tuple[int, ...] = (2, 4)
    stages: tuple[Stage, ...] = STAGES
    sink_stages: tuple[Stage, ...] = ("up",)
    ground_stages: tuple[Stage, ...] = ("down",)
    sink_weight: float = 1.0
    ground: float = 0.3
    smooth: float = 0.4
    inside: float = 0.1
    template: str = "a photograph of {}"
    tokens: Literal["all", "last"] = "all"
    padding: Literal["merged", "exact"] = "merged"
    squash: bool = False

    def __post_init__(self) -> None:
        """Refuses what cannot be read or computed."""
        for setting in ("ground", "smooth", "inside"):
            if not 0 <= getattr(self, setting) <= 1:
                raise SettingsError(f"{setting} must lie in 0..1, not {getattr(self, setting)}")
        if not self.sink_weight >= 0:
            raise SettingsError(f"sink_weight must be 0 or more, not {self.sink_weight}")
        if not (self.factors and self.stages and self.sink_stages and self.ground_stages):
            raise SettingsError("factors, stages, sink_stages and ground_stages must each name one or more")
        self.wording()  # refuses its own settings
        self.probe()

    def wording(self) -> Wording:
        """Step 1: one short prompt a label, for the tokens after the word matter too."""
        return Wording(template=self.template, tokens=self.tokens, padding=self.padding)

    def probe(self) -> Probe:
        """Step 1: cross-attention for words, sink and grounds, and the finest self-attention."""
        return Probe(
            timesteps=self.timesteps, samples=self.samples, cross=(self._words, self._sink, self._grounds),
            self_attention=Select(factors="finest"), self_mode="fold",
        )  # fmt: skip

    @property
    def _words(self) -> Select:
        return Select(factors=self.factors, stages=self.stages)

    @property
    def _sink(self) -> Select:
        return Select(factors=self.factors, stages=self.sink_stages, last=True)

    @property
    def _grounds(self) -> Select:
        return Select(factors=self.factors, stages=self.ground_stages)

    def score(self, reading: Reading, keys: TextKeys) -> Tensor:
        """Step 6: both decisions in one map a label, (pictures, labels, h, w) float32 in 0..1."""
        sink, duels = self.sink(reading, keys), self.duels(reading, keys)
        grounds = self.grounds(duels, sink)
        edge = self.foreground(reading, duels, sink, grounds)
        words = self._mean(reading, self._words, keys)
        things = torch.lerp(words, reading.self_attention.complete(words), self.smooth)
        of_ground = grounds[..., None, None]
        strength = torch.where(of_ground, self._ground_strength(reading, keys, words), things)
        return (0.5 + 0.5 * torch.lerp(torch.where(of_ground, -edge, edge), strength, self.inside)).clamp(0, 1)

    def sink(self, reading: Reading, keys: TextKeys) -> Tensor:
        """Step 2: how little each pixel asks for the begin token, after a hop and stretched: (pictures, 1, h, w) in 0..1."""
        attention = reading.self_attention
        logits = begin_logits(reading.cross_attention_of(self._sink), keys.embeddings[0, 0])
        mean = torch.stack([resize_maps(one, attention.grid) for one in logits]).mean(0)
        return min_max(attention.complete(-mean))

    def duels(self, reading: Reading, keys: TextKeys) -> Tensor:
        """Step 3: what a label gets of what it and the begin token get together, (pictures, labels, h, w) in 0..1."""
        return self._mean(reading, self._words, duel_keys(keys))

    def grounds(self, duels: Tensor, sink: Tensor) -> Tensor:
        """Step 3: which labels are grounds, (pictures, labels) bool: those that are a sink themselves where the sink is.

        Args:
            duels: as `duels` returns them.
            sink: as `sink` returns it; its Otsu threshold says what is outside.
        """
        return _mean_over(duels, (_split(sink) <= 0).float()) >= self.ground

    def foreground(self, reading: Reading, duels: Tensor, sink: Tensor, grounds: Tensor) -> Tensor:
        """Step 4: how far each pixel is from the edge of the foreground, (pictures, 1, h, w) in -1..1, above 0 inside.

        Args:
            reading: of the pictures.
            duels: as `duels` returns them.
            sink: as `sink` returns it.
            grounds: as `grounds` returns them: labels that do not count.
        """
        objects = duels.masked_fill(grounds[..., None, None], 0).amax(1, keepdim=True)
        return _split(min_max(reading.self_attention.complete(objects)) + self.sink_weight * sink)

    def _ground_strength(self, reading: Reading, keys: TextKeys, words: Tensor) -> Tensor:
        """Step 5: what each label's prompt takes from its begin token, after a hop: (pictures, labels, h, w) in 0..1."""
        if len(keys.embeddings) == 1 < len(keys):  # labels of one prompt share its begin token: their words speak for them
            return reading.self_attention.complete(words)
        return reading.self_attention.complete(1 - self._mean(reading, self._grounds, begin_keys(keys)))

    def _mean(self, reading: Reading, selection: Select, keys: TextKeys) -> Tensor:
        """The plain mean over the selected layers of the labels' attention, (pictures, labels, h, w) on the working grid."""
        return mean_over_layers(reading.cross_attention_of(selection).maps(keys), reading.self_attention.grid)


def _mean_over(maps: Tensor, part: Tensor) -> Tensor:
    """The mean of (pictures, labels, h, w) over the pixels where (pictures, 1, h, w) is 1, 0 where there are none."""
    return (maps * part).sum((-2, -1)) / part.sum((-2, -1)).clamp(min=EPS)


def _split(maps: Tensor) -> Tensor:
    """(pictures, 1, h, w) less each picture's Otsu threshold, as a part of its range: in -1..1; -1 where nothing stands out.

    Raises:
        NumberError: a map holds NaN or infinity.
    """
    check_finite(maps, "the foreground's maps hold")
    thresholds = torch.tensor([otsu_threshold(one.cpu().numpy()) for one in maps], dtype=maps.dtype, device=maps.device)
    spread = maps.amax((-2, -1), keepdim=True) - maps.amin((-2, -1), keepdim=True)
    return torch.where(spread > EPS, (maps - thresholds[:, None, None, None]) / spread.clamp(min=EPS), -1.0)
