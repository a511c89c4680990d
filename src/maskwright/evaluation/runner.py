"""An evaluation from the first picture to the last: one line per picture and method, on the disk before the next picture begins.

Pictures are read one at a time: a batch would change last bits with its neighbours, and a shard has other neighbours than the whole.
"""

import hashlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from maskwright.datasets.contract import EvaluationItem, EvaluationSet
from maskwright.errors import SettingsError
from maskwright.evaluation.crews import Choice, make_crews
from maskwright.evaluation.outcomes import Outcome, explain
from maskwright.evaluation.protocol import Protocol
from maskwright.evaluation.run_folder import Line, RunFolder
from maskwright.evaluation.task import Task, Truth, Words
from maskwright.exports.locking import alone_in
from maskwright.images import Picture
from maskwright.reader import Reader
from maskwright.versions import package_versions

log = logging.getLogger("maskwright")


@dataclass(frozen=True)
class Part:
    """Which pictures of a set.

    Attributes:
        limit: the first so many; None for all.
        shard: (i, n), from 1 to n: every n-th picture of those, beginning with the i-th; None for all.

    Raises:
        SettingsError: numbers that mean no pictures.
    """

    limit: int | None = None
    shard: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Refuses what means no pictures."""
        if self.limit is not None and self.limit < 1:
            raise SettingsError(f"limit must be at least 1, not {self.limit}")
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            raise SettingsError(f"a shard is i/n with i from 1 to n, not {self.shard[0]}/{self.shard[1]}")

    def numbers(self, pictures: int) -> range:
        """Positions in a set of so many pictures."""
        last = pictures if self.limit is None else min(pictures, self.limit)
        return range(last) if self.shard is None else range(self.shard[0] - 1, last, self.shard[1])


class Runner:
    """Evaluates methods on a data set.

    Args:
        dataset: pictures with their truth.
        choices: the methods; those that can share a reading do.
        protocol: how predictions become numbers.
        model: as for `Segmenter`.
        words: to look for in sets whose truth names no classes, or "@name" for the name of each picture.
        part: which pictures.
        refine, seed, device, dtype, offline: as for `Segmenter`.
        segmenting: further options of `Segmenter` for the text-driven methods: `category_filter`, `captioner`, `tile`.

    Raises:
        ModelError: a model that cannot be loaded.
        SettingsError: an option that cannot be used, or a method that the set cannot measure.
    """

    def __init__(
        self, dataset: EvaluationSet, choices: Sequence[Choice], protocol: Protocol | None = None, *, model: Any = "sticker",
        words: Words = None, part: Part | None = None, refine: str = "none", seed: int = 0, device: str = "auto",
        dtype: str = "auto", offline: bool = False, segmenting: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        keys = [choice.key for choice in choices]
        if not keys or len(set(keys)) < len(keys):
            raise SettingsError(f"give one or more different methods, not {', '.join(keys) or 'none'}")
        self.dataset, self.choices, self.protocol = dataset, tuple(choices), protocol or Protocol()
        self.part, self.segmenting = part or Part(), dict(segmenting or {})
        self.task = Task(dataset, self.protocol, words)
        for choice in choices:
            self.task.refuse(choice.method)
        if self.protocol.labels == "filtered" and "category_filter" not in self.segmenting:
            raise SettingsError("this protocol lets a category filter choose the labels: give one, --filter clip, or change labels=all")
        if self.protocol.labels == "family" and not dataset.rivals:
            raise SettingsError(f"{dataset.name} does not say which classes are hard to tell apart: choose scenes-full, or labels=all")
        self.reader = Reader(model, refine=refine, seed=seed, device=device, dtype=dtype, batch=1, offline=offline)
        self.crews = make_crews(self.task, choices, self.reader, **self.segmenting)

    @property
    def numbers(self) -> range:
        """Positions of the pictures of this run."""
        return self.part.numbers(len(self.dataset))

    def evaluation(self) -> dict[str, Any]:
        """What evaluation.json says: everything that decides the numbers."""
        records = {key: record for crew in self.crews for key, record in crew.records().items()}
        info = self.reader.backbone.info
        names = "\n".join(item.name for item in self.dataset.items)
        return {
            "dataset": {
                "name": self.dataset.name, "split": self.dataset.split, "kind": self.dataset.kind, "classes": list(self.task.names),
                "background": self.task.background, "pictures": len(self.dataset), "limit": self.part.limit,
                "shard": None if self.part.shard is None else list(self.part.shard),
                "words": self.task.described_words,
                "digest": hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()[:16],
            },
            "protocol": self.protocol.as_dict(),
            "methods": [
                {"key": one.key, "method": one.method, "settings": records[one.key]["settings"], "record": records[one.key]}
                for one in self.choices
            ],
            "model": {"name": info.name, "source": info.source, "revision": info.revision or None},
            "seed": self.reader.seed,
            "versions": dict(package_versions()),
        }  # fmt: skip

    def run(self, out: str | Path, *, resume: bool = False, on_picture: Callable[[], object] | None = None) -> RunFolder:
        """Evaluates what is not yet in the folder.

        Args:
            out: the folder, see `run_folder`.
            resume: go on with an earlier run that asked for the same.
            on_picture: called after each picture, also of those that are there already.

        Raises:
            OutputError: a folder that cannot be used or written into, or that another run writes to.
        """
        with _warnings_once(), alone_in(out):
            folder = RunFolder.start(out, self.evaluation(), resume=resume)
            done = folder.done()
            for number in self.numbers:
                missing = [choice.key for choice in self.choices if (number, choice.key) not in done]
                if missing:
                    outcomes = dict(self.outcomes(number))
                    folder.append([self._line(number, key, outcomes[key]) for key in missing])
                if on_picture is not None:
                    on_picture()
            folder.sync()
        return folder

    def outcomes(self, number: int) -> Iterator[tuple[str, Outcome]]:
        """The outcome of each method for the picture at a position, by the method's key."""
        item = self.dataset.items[number]
        truth: Truth | None = None
        try:
            picture = item.open()
            truth = self.task.truth(item, picture)
            picture = self.task.picture(picture)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong with a picture, the evaluation goes on
            reason = explain(error)
            truth = self._truth_alone(item) if truth is None else truth
            for crew in self.crews:
                yield from crew.fail(truth, reason)
            return
        for crew in self.crews:
            yield from crew.work(picture, truth)

    def _truth_alone(self, item: EvaluationItem) -> Truth | None:
        """The truth of a picture that cannot be decoded; its header may still tell the size, which is all that the truth wants."""
        try:
            with Image.open(item.picture) as header:
                size = (header.height, header.width)
            blank = Picture.open(Image.new("RGB", size[::-1]))
            return self.task.truth(item, blank)
        except Exception:  # noqa: BLE001 - neither picture nor truth
            return None

    def _line(self, number: int, key: str, outcome: Outcome) -> Line:
        return {
            "picture": self.dataset.items[number].name, "number": number, "method": key, "failed": outcome.failed,
            "seconds": outcome.seconds, "peak_mb": peak_memory(self.reader), "statistics": outcome.statistics,
        }  # fmt: skip


def peak_memory(reader: Reader) -> float | None:
    """The most memory so far, in MB: of the GPU where the model is on one, else of this process; None where nobody knows."""
    if reader.backbone.device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(reader.backbone.device) / 1e6, 1)
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


@contextmanager
def _warnings_once() -> Iterator[None]:
    """Every picture is asked for the same words: what is told of them is told once."""
    told: set[str] = set()

    def first(record: logging.LogRecord) -> bool:
        new = str(record.msg) not in told
        told.add(str(record.msg))
        return new

    log.addFilter(first)
    try:
        yield
    finally:
        log.removeFilter(first)
