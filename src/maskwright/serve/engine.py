"""One loaded model and every method on it. Synchronous; which thread may call what is said at each function.

A pass of the model belongs to one thread, because the recorder changes the network while it runs. Scoring a stored reading, finding
regions in it and bringing maps to the picture's size touch only that reading and the text tower, which is guarded; any thread may do that.
"""

import copy
import dataclasses
import threading
from collections.abc import Hashable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from maskwright import __version__
from maskwright.backbones import loading
from maskwright.backbones.contract import DrawingBackbone
from maskwright.backbones.text_tower import TextEncoding, TextTower
from maskwright.discovery.discoverer import Discoverer
from maskwright.discovery.result import Discovery
from maskwright.grouping import Grouper, share_passes
from maskwright.images import Picture, Size
from maskwright.methods import DISCOVERY_METHODS, READ_ONCE, REGION_METHODS, Methods, make_method
from maskwright.passes import score_reading
from maskwright.projection import FloatMap
from maskwright.reader import Reader
from maskwright.readings.probe import Probe
from maskwright.readings.reading import Reading
from maskwright.rejection import kept_labels, with_baseline
from maskwright.score_maps import ScoreMaps
from maskwright.segmentation import Segmentation
from maskwright.segmenter import Segmenter
from maskwright.serve.options import DiscoverOptions, RegionOptions, SegmentOptions
from maskwright.serve.readings import StoredReading, own_memory
from maskwright.serve.settings import DEFAULT_METHOD, ServeSettings
from maskwright.text.planning import plan_text
from maskwright.vocabulary import Vocabulary

REGIONS, NAMING, DISCOVERY = "maskdiffusion-unsupervised", "maskdiffusion", "attentioncut"  # where a request names none


class Engine:
    """A model that answers requests.

    Attributes:
        reader: the model, its seed and how many pictures share a pass.
        methods: every method that needs nothing but the model, with the settings that suit it, by name.
        passes: the passes that serve all methods which read under the empty prompt; as few as their probes allow.

    Args:
        backbone: a loaded model.
        method: the text-driven method of requests that name none.
        seed: of the noise.
        batch: pictures in one pass; "auto" chooses by device.
    """

    def __init__(
        self, backbone: DrawingBackbone, method: str = DEFAULT_METHOD, *, seed: int = 0, batch: int | Literal["auto"] = "auto"
    ) -> None:
        self.backbone = guarded(backbone)
        self.reader = Reader(self.backbone, seed=seed, batch=batch)
        self.default = method
        served = {**READ_ONCE, **REGION_METHODS, **DISCOVERY_METHODS}
        self.methods: dict[str, Any] = {name: self.reader.make_method(name, None, among=served) for name in served}
        self.passes = share_passes({name: self.methods[name] for name in (*READ_ONCE, *REGION_METHODS)})
        self._pass_of = {name: number for number, shared in enumerate(self.passes) for name in shared.methods}

    def method(self, name: str | None, among: Methods, default: str) -> Any:
        """A method by name.

        Raises:
            SettingsError: no such method of this kind.
        """
        name = default if name is None else name
        return self.methods[name] if name in among else make_method(name, among=among)  # which tells the names there are

    def segmenter(self, options: SegmentOptions) -> Segmenter:
        """A segmenter on the loaded model; it costs microseconds.

        Raises:
            SettingsError: options that cannot be used.
        """
        return Segmenter(
            self.backbone, self.method(options.method, READ_ONCE, self.default), prompting=options.prompting or "shared",
            background=options.background, refine=options.refine, seed=self.reader.seed, batch=self.reader.batch,
        )  # fmt: skip

    def model_version(self, method: str | None = None) -> str:
        """"method@model@package"."""
        return f"{method or self.default}@{self.backbone.info.name}@{__version__}"

    def size(self, picture: Picture, *, squash: bool) -> Size:
        """(h, w) at which a picture is read: pictures of one size can share a pass."""
        return self.reader.size(picture, squash=squash)

    def segment_passes(self, options: SegmentOptions) -> tuple[int, ...]:
        """Numbers of the passes that a shared segmentation needs."""
        return (self._pass_of[self.segmenter(options).method.name],)

    def region_passes(self, options: RegionOptions) -> tuple[int, ...]:
        """Numbers of the passes that regions, and their naming, need."""
        names = [self.method(options.method, REGION_METHODS, REGIONS).name, *([NAMING] if options.labels is not None else [])]
        return tuple(dict.fromkeys(self._pass_of[name] for name in names))

    @torch.inference_mode()
    def read(self, stored: Sequence[StoredReading], number: int) -> None:
        """Makes one pass over pictures of one size, for those that it was not made for yet. The model's thread only."""
        todo = list(dict.fromkeys(one for one in stored if number not in one.readings))
        if not todo:
            return
        shared, empty = self.passes[number], self.backbone.text.encode([""]).embeddings
        latents = self.reader.latents([one.picture for one in todo], self.size(todo[0].picture, squash=shared.squash))
        reading = self.backbone.read(latents, shared.probe, condition=empty, seed=self.reader.seed)
        for row, one in enumerate(todo):
            one.readings[number] = own_memory(reading.picture(row)) if len(todo) > 1 else reading

    def labels(self, vocabulary: Vocabulary, options: SegmentOptions) -> Vocabulary:
        """The labels that are scored: with the background word of the options.

        Raises:
            SettingsError, VocabularyError: options or labels that cannot be used.
        """
        return Vocabulary.parse(vocabulary, background=self.segmenter(options).background_word)

    def question(self, labels: Vocabulary, options: SegmentOptions) -> Hashable:
        """What score maps depend on beside the picture: neither threshold nor refiner."""
        method = self.segmenter(options).method
        return method.name, method.prompting, labels

    def ask(self, stored: StoredReading, labels: Vocabulary, options: SegmentOptions) -> ScoreMaps:
        """Asks labels of a stored reading, without a pass. Any thread."""
        method = self.segmenter(options).method
        plan = plan_text(self.backbone.text, with_baseline(method, labels), method.wording(), "shared")
        scored = score_reading(method, stored.readings[self._pass_of[method.name]], plan)
        maps = scored.maps[0, : len(labels)].clone()
        return ScoreMaps(maps, method.stretch, kept_labels(method, scored, 0, labels), method.meaning)

    def score(self, pictures: Sequence[Picture], labels: Vocabulary, options: SegmentOptions) -> list[ScoreMaps]:
        """Reads pictures of one size under the labels' own prompts, and scores them. The model's thread only."""
        found = self.segmenter(options).score(pictures, labels)
        return [dataclasses.replace(one, maps=one.maps.clone()) for one in found]

    def segment(self, picture: Picture, maps: ScoreMaps, labels: Vocabulary, options: SegmentOptions) -> Segmentation:
        """Lets scored labels compete at the picture's own size. Any thread."""
        return self.segmenter(options).draw(picture, labels, maps)

    def heat(self, picture: Picture, maps: ScoreMaps, options: SegmentOptions) -> FloatMap:
        """The score of the first label at every pixel, (H, W) float32. Any thread."""
        return self.segmenter(options).reader.projection(picture, maps)(0)

    def regions(self, stored: StoredReading, options: RegionOptions) -> Segmentation:
        """Regions of a picture that was read before. Any thread.

        Raises:
            MaskwrightError: labels or options that cannot be used.
        """
        readings = [stored.readings[number] for number in self.region_passes(options)]
        grouper = Grouper(
            ReadBefore(self.backbone, readings), self.method(options.method, REGION_METHODS, REGIONS), regions=options.regions,
            naming=dataclasses.replace(self.methods[NAMING], prompting="shared"), refine=options.refine, seed=self.reader.seed,
            batch=self.reader.batch,
        )  # fmt: skip
        found: Segmentation = grouper.regions(stored.picture, options.labels)
        return found

    def discover(self, pictures: Sequence[Picture], options: DiscoverOptions) -> list[Discovery]:
        """The objects of pictures of one size, read under the words, so that no stored reading serves. The model's thread only.

        Raises:
            MaskwrightError: labels or options that cannot be used.
        """
        discoverer = self.discoverer(options)
        return list(discoverer.discover_many(pictures, options.labels, match=options.match))

    def discoverer(self, options: DiscoverOptions) -> Discoverer:
        """A discoverer on the loaded model.

        Raises:
            SettingsError: options that cannot be used.
        """
        method = self.method(options.method, DISCOVERY_METHODS, DISCOVERY)
        return Discoverer(self.backbone, method, refine=options.refine, seed=self.reader.seed, batch=self.reader.batch)


def load_engine(settings: ServeSettings) -> Engine:
    """The model of the settings.

    Raises:
        ModelError, SettingsError: a model, device or dtype that cannot be used.
    """
    backbone = loading.load_backbone(settings.model, device=settings.device, dtype=settings.dtype, offline=settings.offline)
    return Engine(backbone, settings.method, seed=settings.seed, batch=settings.batch)


class ReadBefore:
    """One picture's stored readings in place of a model: whoever wants to read it is handed what was read.

    Args:
        backbone: the model that read.
        readings: each serves the methods whose probes are compatible with its own.
    """

    def __init__(self, backbone: DrawingBackbone, readings: Sequence[Reading]) -> None:
        self.info, self.text, self.device, self.dtype = backbone.info, backbone.text, backbone.device, backbone.dtype
        self._readings = readings

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Nothing: (pictures, 0), because nothing is going to read it."""
        return pixels.new_empty(len(pixels), 0)

    def read(self, latents: Tensor, probe: Probe, *, condition: Tensor, seed: int = 0) -> Reading:
        """The stored reading that serves a probe."""
        return next(reading for reading in self._readings if reading.probe.compatible(probe))


class GuardedTower(TextTower):
    """A text tower that several threads may ask: fast tokenizers and the memory of what was encoded serve one at a time."""

    def __init__(self, tower: TextTower) -> None:
        super().__init__(tower.tokenizer, tower.encoder, tower.device)
        self._lock = threading.RLock()

    def count_tokens(self, text: str) -> int:
        """See TextTower."""
        with self._lock:
            return super().count_tokens(text)

    def encode(self, texts: Sequence[str]) -> TextEncoding:
        """See TextTower."""
        with self._lock:
            return super().encode(texts)


def guarded(backbone: DrawingBackbone) -> DrawingBackbone:
    """The same model with a guarded text tower; the one that was given stays as it is."""
    twin = copy.copy(backbone)
    twin.text = GuardedTower(backbone.text)
    return twin
