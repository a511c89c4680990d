"""The whole flow without words: pictures in, regions out; words may name the regions afterwards."""

import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from maskwright.errors import SettingsError
from maskwright.images import ImageLike, Picture
from maskwright.methods import METHODS, REGION_METHODS, make_method
from maskwright.methods.contract import RegionMethod, Regions
from maskwright.projection import Projection, compete
from maskwright.reader import Reader
from maskwright.readings.probe import Probe
from maskwright.record import Record
from maskwright.score_maps import ScoreMaps
from maskwright.segmentation import Segmentation
from maskwright.segmenter import Labels, Segmenter
from maskwright.vocabulary import Label, Vocabulary


@dataclass(frozen=True)
class SharedPass:
    """One pass of the model, and the methods that read it.

    Attributes:
        probe: the union of their probes.
        squash: whether pictures are read at the model's square.
        methods: names of the methods.
    """

    probe: Probe
    squash: bool
    methods: tuple[str, ...]


class Grouper:
    """Parts pictures into regions.

    A result is a Segmentation whose labels are "region 1", "region 2", ..., the largest first, or the words that name them; there is no
    background. A region that wins no pixel at the picture's size is left out.

    Args:
        model: catalogue name, hub id, local folder, live diffusers pipeline, or a loaded backbone.
        method: "maskdiffusion-unsupervised", "diffseg", "diffcut", "kmeans", a settings object of such a method, or several of these.
        settings: settings over each method's (and the model's) defaults, for methods given by name. Methods that read the same
            timesteps, samples and noise share a pass: {"timesteps": (100,), "noise": True} lets all of them.
        regions: how many: a number, "auto" for a method's own rule, or "oracle"; None leaves it to the settings.
        naming: the text-driven method that names regions: its name, or a settings object. Of the true regions of 40 bundled tuning
            scenes the words in the scene were given to the right ones in 98 % by maskdiffusion and in 84 % by diffsegmenter.
        naming_settings: settings over its defaults, when it is given by name.
        refine: "none", "guided" or "pamr".
        seed: of the noise, and of whatever a method draws at random.
        device: "auto", "cpu", "cuda", ...
        dtype: "auto", "float32", "float16" or "bfloat16".
        batch: pictures in one call of the model; "auto" chooses by device.
        offline: never touch the network.

    Raises:
        ModelError: a model that cannot be loaded.
        SettingsError: an option that cannot be used.
    """

    def __init__(
        self, model: Any = "sticker", method: Any = "maskdiffusion-unsupervised", *, settings: Mapping[str, Any] | None = None,
        regions: Regions | None = None, naming: Any = "maskdiffusion", naming_settings: Mapping[str, Any] | None = None,
        refine: Literal["none", "guided", "pamr"] = "none", seed: int = 0, device: str = "auto", dtype: str = "auto",
        batch: int | Literal["auto"] = "auto", offline: bool = False,
    ) -> None:  # fmt: skip
        chosen = {} if regions is None else {"regions": regions}
        wanted = list(method) if isinstance(method, list | tuple) else [method]
        for name in wanted:  # a wrong name or setting is told before a model is loaded
            if isinstance(name, str):
                make_method(name, {**(settings or {}), **chosen}, among=REGION_METHODS)
        if isinstance(naming, str):
            make_method(naming, naming_settings, among=METHODS)
        self.reader = Reader(model, refine=refine, seed=seed, device=device, dtype=dtype, batch=batch, offline=offline)
        made = [self.reader.make_method(one, settings, among=REGION_METHODS) for one in wanted]
        self.methods: dict[str, RegionMethod] = {one.name: dataclasses.replace(one, **chosen) for one in made}
        if not made or len(self.methods) < len(made):
            raise SettingsError(f"give one or more different methods, of which there are {', '.join(REGION_METHODS)}")
        self.passes = share_passes(self.methods)
        self.namer = Segmenter(
            self.reader.backbone, naming, settings=naming_settings, background="none", seed=seed, batch=self.reader.batch
        )  # fmt: skip

    def regions(self, image: Any, labels: Labels | None = None, *, oracle: Any = None) -> Any:
        """Regions of one picture, or of each of a list, by the one method.

        Args:
            image: path, bytes, PIL image, array (H, W, 3), tensor (3, H, W), or a list of these.
            labels: words to name regions by, as for `Segmenter.segment`; None for numbers.
            oracle: the number of regions in the ground truth, for a list one for each picture; only for regions "oracle".

        Returns:
            A Segmentation, or a list of them.

        Raises:
            MaskwrightError: for pictures, labels or settings that cannot be used.
        """
        name = self._only_method()
        found = self.by_method(image, labels, oracle=oracle)
        return [one[name] for one in found] if isinstance(found, list) else found[name]

    def regions_many(
        self, images: Iterable[ImageLike], labels: Labels | None = None, *, oracle: Iterable[int] | None = None
    ) -> Iterator[Segmentation]:
        """Regions of pictures one after the other by the one method, neighbours of one shape together; yields in their order."""
        name = self._only_method()
        return (one[name] for one in self.by_method_many(images, labels, oracle=oracle))

    def by_method(self, image: Any, labels: Labels | None = None, *, oracle: Any = None) -> Any:
        """As `regions`, but by every method: {name of the method: Segmentation}, or a list of such."""
        if isinstance(image, list | tuple):
            return list(self.by_method_many(image, labels, oracle=oracle))
        return next(self.by_method_many([image], labels, oracle=None if oracle is None else [oracle]))

    def by_method_many(
        self, images: Iterable[ImageLike], labels: Labels | None = None, *, oracle: Iterable[int] | None = None
    ) -> Iterator[dict[str, Segmentation]]:
        """As `regions_many`, but by every method. Labels are checked at once, a picture when its turn comes."""
        if oracle is None and any(method.regions == "oracle" for method in self.methods.values()):
            raise SettingsError(
                'regions "oracle" needs the number of regions in the ground truth: hand it over, or choose "auto" or a number'
            )
        vocabulary = None if labels is None else self.namer.vocabulary(labels)
        return self._group_all(images, vocabulary, None if oracle is None else iter(oracle))

    def record(self, name: str | None = None, vocabulary: Vocabulary | None = None) -> Record:
        """How a method (None for the only one) makes its results, and a vocabulary its names: everything but the timings."""
        record = self.reader.record(self.methods[name or self._only_method()], vocabulary)
        if vocabulary is None:
            return record
        naming = {
            "method": self.namer.method.name, "settings": dataclasses.asdict(self.namer.method),
            "labels": [[label.name, list(label.synonyms)] for label in vocabulary],
        }  # fmt: skip
        return dataclasses.replace(record, naming=naming)

    def _only_method(self) -> str:
        if len(self.methods) > 1:
            raise SettingsError(f"this grouper has the methods {', '.join(self.methods)}: ask it by_method")
        return next(iter(self.methods))

    def _group_all(
        self, images: Iterable[ImageLike], vocabulary: Vocabulary | None, oracle: Iterator[int] | None
    ) -> Iterator[dict[str, Segmentation]]:
        for pictures in self.reader.batches(images, self.reader.size):
            counts = None if oracle is None else list(islice(oracle, len(pictures)))
            if counts is not None and len(counts) < len(pictures):
                raise SettingsError("oracle has fewer numbers of regions than there are pictures: give one for each")
            yield from self._group_batch(pictures, vocabulary, counts)

    def _group_batch(
        self, pictures: Sequence[Picture], vocabulary: Vocabulary | None, oracle: Sequence[int] | None
    ) -> Iterator[dict[str, Segmentation]]:
        """Pictures of one shape: the passes, the methods on them, the naming, then each picture by itself."""
        maps: dict[str, list[Tensor]] = {}
        seconds: dict[str, dict[str, float]] = {}
        for shared in self.passes:
            self._run_pass(shared, pictures, oracle, maps, seconds)
        began = time.perf_counter()
        scores = None if vocabulary is None else self.namer.score(pictures, vocabulary)
        naming = {} if scores is None else {"read_and_score": (time.perf_counter() - began) / len(pictures)}
        records = {name: self.record(name, vocabulary) for name in self.methods}
        for row, picture in enumerate(pictures):
            found = {}
            for name, method in self.methods.items():
                began = time.perf_counter()
                parts = ScoreMaps(maps[name][row].float(), "none", (True,) * len(maps[name][row]), method.meaning)
                words = None if vocabulary is None or scores is None else (vocabulary, scores[row])
                result = self._finish(picture, parts, words, records[name])
                timings = {**seconds[name], **naming, "full_size": time.perf_counter() - began}
                found[name] = dataclasses.replace(result, record=dataclasses.replace(records[name], timings=timings))
            yield found

    @torch.inference_mode()
    def _run_pass(
        self, shared: SharedPass, pictures: Sequence[Picture], oracle: Sequence[int] | None, maps: dict[str, list[Tensor]],
        seconds: dict[str, dict[str, float]],
    ) -> None:  # fmt: skip
        """One pass under the empty prompt, and the soft regions of each of its methods: maps and seconds per picture by method."""
        began = time.perf_counter()
        backbone, seed = self.reader.backbone, self.reader.seed
        latents = self.reader.latents(pictures, self.reader.size(pictures[0], squash=shared.squash))
        reading = backbone.read(latents, shared.probe, condition=backbone.text.encode([""]).embeddings, seed=seed)
        read = time.perf_counter()
        for name in shared.methods:
            before = time.perf_counter()
            maps[name] = self.methods[name].group(reading, seed=seed, oracle=oracle)
            seconds[name] = {"read": (read - began) / len(pictures), "group": (time.perf_counter() - before) / len(pictures)}

    def _finish(self, picture: Picture, parts: ScoreMaps, words: tuple[Vocabulary, ScoreMaps] | None, record: Record) -> Segmentation:
        """Soft regions to the picture's size, numbered by their size there, and named."""
        refiner = self.reader.refiner(picture, parts.maps.shape[-2:])
        label_map, confidence = compete(Projection(parts, picture.size, refiner), range(1, len(parts) + 1), threshold=None)
        order = largest_first(label_map)
        numbers = np.zeros(len(parts) + 1, dtype=np.uint16)
        numbers[order] = np.arange(1, len(order) + 1)
        label_map = numbers[label_map]
        kept = ScoreMaps(parts.maps[torch.from_numpy(order - 1)], parts.stretch, (True,) * len(order), parts.meaning)
        if words is None:
            names = tuple(f"region {number}" for number in range(1, len(order) + 1))
        else:
            vocabulary, scores = words
            best = mean_scores(Projection(scores, picture.size), label_map).argmax(0)
            names = distinct([vocabulary[index].name for index in best])
        labels = Vocabulary(tuple(Label(name) for name in names))
        return Segmentation(picture, labels, label_map, confidence, record, Projection(kept, picture.size, refiner))


def share_passes(methods: Mapping[str, RegionMethod]) -> tuple[SharedPass, ...]:
    """As few passes as the methods need: those whose probes are compatible, and that read at one size, share one."""
    passes: list[SharedPass] = []
    for name, method in methods.items():
        probe = method.probe()
        for place, shared in enumerate(passes):
            if shared.squash == method.squash and shared.probe.compatible(probe):
                passes[place] = SharedPass(shared.probe.union(probe), shared.squash, (*shared.methods, name))
                break
        else:
            passes.append(SharedPass(probe, method.squash, (name,)))
    return tuple(passes)


def largest_first(label_map: npt.NDArray[np.uint16]) -> npt.NDArray[np.int64]:
    """The numbers that occur in a label map without background, by falling area; of equally large ones the lower number first."""
    areas = np.bincount(label_map.ravel())
    order = np.argsort(-areas, kind="stable")
    return order[: np.count_nonzero(areas)]


def mean_scores(scores: Projection, label_map: npt.NDArray[np.uint16]) -> npt.NDArray[np.float64]:
    """The mean full-size score of each word inside each region (Kawano and Aoki 2024, names for regions).

    Args:
        scores: of the words.
        label_map: (H, W), numbers 1 to R, each of which occurs.

    Returns:
        (words, R) float64.
    """
    flat = label_map.ravel()
    areas = np.bincount(flat)[1:]
    sums = [np.bincount(flat, weights=scores(index).ravel())[1:] for index in range(len(scores.maps))]
    return np.stack(sums) / areas


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Names that differ: the second "dog" is called "dog 2"; a name that stands in the list already is not taken."""
    taken = {name.casefold() for name in names}
    seen: set[str] = set()
    result = []
    for name in names:
        unique, number = name, 2
        while unique.casefold() in seen or (unique != name and unique.casefold() in taken):
            unique, number = f"{name} {number}", number + 1
        seen.add(unique.casefold())
        result.append(unique)
    return tuple(result)
