"""What a decoder is given: a frozen model's levels, read where a picture's inversion arrives."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import Any, cast

import torch
from torch import Tensor

from maskwright.backbones.contract import Backbone, DrawingBackbone
from maskwright.backbones.inversion import invert, path
from maskwright.decoders.settings import DecoderSettings
from maskwright.discovery.matching import best_words
from maskwright.errors import SettingsError
from maskwright.images import Picture, Size
from maskwright.methods import DISCOVERY_METHODS
from maskwright.methods.attentioncut.method import AttentionCut
from maskwright.methods.maps import resize_maps
from maskwright.reader import Reader
from maskwright.readings.attention import LayerMaps
from maskwright.readings.keys import TextKeys
from maskwright.readings.probe import Probe, Select
from maskwright.readings.reading import Reading
from maskwright.text.planning import plan_text
from maskwright.vocabulary import Label, Vocabulary

REMEMBERED = 2048  # prompts that are kept


@dataclass(frozen=True)
class Level:
    """One resolution of a model's own decoder: the site's name, latent side / side of its grid, and its channels."""

    name: str
    factor: int
    channels: int


def last_levels(backbone: Backbone, count: int) -> tuple[Level, ...]:
    """The last resolutions of a model, at most `count`, coarsest first; found by one pass over a picture of a few pixels."""
    side = 2 * backbone.info.multiple
    latents = backbone.encode_image(torch.zeros(1, 3, side, side))
    probe = Probe(timesteps=(0,), noise=False, levels=Select(last=True))
    reading = backbone.read(latents, probe, condition=backbone.text.encode([""]).embeddings)
    levels = [Level(site.name, site.factor, reading.levels[site.name].shape[1]) for site in reading.sites]
    return tuple(levels[-count:])


def describe_model(backbone: Backbone, levels: Sequence[Level]) -> dict[str, Any]:
    """What decides whether a decoder fits a model, as plain JSON: "name", "source" (without folders), "revision", "channels"."""
    info = backbone.info
    source = PurePath(info.source).name.removeprefix("bundled:")
    return {"name": PurePath(info.name).name, "source": source, "revision": info.revision, "channels": [one.channels for one in levels]}


class FeatureReader:
    """Reads a frozen model's levels of pictures: encoding, inversion, one pass at the decoder's timestep.

    All that needs attention is read in that same pass, on the same noisy latents and under the same prompt: of the settings for
    attentioncut (the model's own) the layers and the mathematics count, its timesteps and samples do not. There is no second pass.

    Args:
        reader: the model, and how pictures come to it; `reader.batch` pictures are read at a time, and its seed is that of all noise.
        settings: of the decoder.
        labels: the words that compete where none is given and the prior is "match"; none for the model's own objects.

    Raises:
        SettingsError: a timestep that the model's schedule does not have.
    """

    def __init__(self, reader: Reader, settings: DecoderSettings, *, labels: Sequence[Label] = ()) -> None:
        self.reader, self.settings, self.labels = reader, settings, tuple(labels)
        self.backbone = cast(DrawingBackbone, reader.backbone)
        path(settings.timestep, mode=settings.inversion, steps=settings.steps, beyond=len(self.backbone.scheduler.alphas_cumprod))
        self._method: AttentionCut = reader.make_method("attentioncut", None, among=DISCOVERY_METHODS)
        self._remembered: dict[tuple[str, ...], _Asked] = {}

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """What is read, coarsest first."""
        return last_levels(self.backbone, self.settings.levels)

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each level, coarsest first; with attention its two maps are joined to every level."""
        return tuple(level.channels + self.settings.extra_channels for level in self.levels)

    @cached_property
    def model(self) -> dict[str, Any]:
        """`describe_model` of what is read."""
        return describe_model(self.backbone, self.levels)

    @torch.no_grad()
    def read(self, pictures: Sequence[Picture], *, words: Sequence[tuple[str, ...]] | None = None) -> list[Tensor]:
        """The levels of pictures that are read at one size.

        Args:
            pictures: at least one.
            words: what is in each picture, where that is known; the prior "match" makes its prompt of them, of none the empty one.
                Words that do not fit the prompt any more are left out. The prior "empty" does not look at them.

        Returns:
            For each level (pictures, channels, h, w) float32 on the model's device, without gradient, coarsest first.

        Raises:
            SettingsError: pictures of several sizes, not as many words as pictures, or nothing for the prior to choose from.
        """
        size = self._size(pictures)
        if words is not None and len(words) != len(pictures):
            raise SettingsError(f"{len(pictures)} pictures with the words of {len(words)}: give each picture its own")
        parts = []
        for first in range(0, len(pictures), self.reader.batch):
            part = slice(first, first + self.reader.batch)
            parts.append(self._read_part(pictures[part], size, None if words is None else words[part]))
        return [torch.cat(level) for level in zip(*parts, strict=True)]  # a copy, outside of inference mode: a network can learn from it

    def _size(self, pictures: Sequence[Picture]) -> Size:
        sizes = {self.reader.size(picture) for picture in {picture.size: picture for picture in pictures}.values()}
        if len(sizes) != 1:
            raise SettingsError(f"features are read of pictures of one size, not of {len(sizes)}: read those of each size by themselves")
        return sizes.pop()

    def _read_part(self, pictures: Sequence[Picture], size: Size, words: Sequence[tuple[str, ...]] | None) -> list[Tensor]:
        """Pictures that share their passes."""
        settings = self.settings
        latents = self.reader.latents(pictures, size)
        asked = self._asked(latents, words)
        condition = torch.cat([one.condition for one in asked])
        rows = invert(
            self.backbone, latents, timestep=settings.timestep, mode=settings.inversion, steps=settings.steps, condition=condition,
            seed=self.reader.seed,
        )  # fmt: skip
        timesteps = torch.full((len(rows),), settings.timestep, device=rows.device)
        _, reading = self.backbone.read_rows(rows, timesteps, condition, self._probe)
        levels = list(reading.levels_of(self._probe.levels).values())
        if not settings.attention:
            return levels
        maps = torch.cat([self._attention(reading.picture(row), one) for row, one in enumerate(asked)])
        return [torch.cat([level, resize_maps(maps, (level.shape[-2], level.shape[-1]))], 1) for level in levels]

    @cached_property
    def _probe(self) -> Probe:
        levels = Probe(levels=Select(factors=tuple(level.factor for level in self.levels), last=True))
        if not self.settings.attention:
            return levels
        return levels.union(dataclasses.replace(self._method.probe(), timesteps=levels.timesteps, samples=1))

    def _asked(self, latents: Tensor, words: Sequence[tuple[str, ...]] | None) -> "list[_Asked]":
        """The prompt of each picture."""
        if self.settings.prior == "empty":
            return [self._ask(())] * len(latents)
        if words is None:
            best = best_words(
                self.backbone, latents, self._vocabulary, self._method.wording(), seed=self.reader.seed, chunk=self.reader.batch
            )
            words = [(self._vocabulary.labels[place].name,) for place in best]
        return [self._ask(tuple(one)) for one in words]

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        """The words that compete for a picture."""
        objects = self.backbone.info.objects
        if not self.labels and not objects:
            raise SettingsError("the prior 'match' has nothing to choose from, since this model's vocabulary is open: give labels or words")
        return Vocabulary(self.labels) if self.labels else Vocabulary.parse(objects or ())

    def _ask(self, words: tuple[str, ...]) -> "_Asked":
        """The prompt that names words, encoded when it is first asked for."""
        if words not in self._remembered:
            if len(self._remembered) >= REMEMBERED:
                self._remembered.clear()
            self._remembered[words] = self._plan(words)
        return self._remembered[words]

    def _plan(self, words: tuple[str, ...]) -> "_Asked":
        text, wording = self.backbone.text, self._method.wording()
        if not words:
            return _Asked(text.encode([""]).embeddings, None)
        names = list(dict.fromkeys(words))
        while len(names) > 1 and text.count_tokens(wording.write(wording.joiner.join(names))) > text.room:
            names.pop()
        plan = plan_text(text, Vocabulary(tuple(Label(name) for name in names)), wording, "joint")
        return _Asked(plan.passes[0].condition, plan.keys)

    def _attention(self, reading: Reading, asked: "_Asked") -> Tensor:
        """A_c and r of one picture's words as one object, (1, 2, h, w) float32; zeros where it has none."""
        attention = reading.self_attention_at(self._method.grid_factor)
        if asked.keys is None:
            return torch.zeros(1, 2, *attention.grid, device=self.backbone.device)
        maps = reading.cross_attention_of(self._method.probe().cross).maps(asked.keys)
        together = [LayerMaps(layer.factor, layer.layers, layer.maps.sum(1, keepdim=True)) for layer in maps]
        evidence = self._method.evidence(together, attention, seed=self.reader.seed)
        return torch.stack([evidence.cross[0], evidence.refined[0]])[None]


@dataclass(frozen=True, eq=False)
class _Asked:
    """What a picture is read under, (1, tokens, width), and the words' tokens in it, None for the empty prompt."""

    condition: Tensor
    keys: TextKeys | None
