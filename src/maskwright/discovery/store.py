"""A labelled data set on disk that grows batch by batch and survives being killed at any moment.

    DIR/synthesis.json      what decides how pairs look; written first
    DIR/pairs.jsonl         one line an attempt; written last in each batch, so that what it names is there
    DIR/images/000017.png   the picture of a kept pair
    DIR/masks/000017.png    its mask: indexed PNG, 0 background, i the i-th label, 255 ignore

Everything else in the folder is derived from these and can be made again at any time (`finish`).
"""

import os
import re
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from PIL import Image

from maskwright.discovery.claim import LOG, SETTINGS, TEMPORARY, describe, is_begun, open_locked, to_json
from maskwright.discovery.lines import read_lines, to_lines
from maskwright.discovery.pairs import IGNORE, MOST_LABELS, Drawn, Pair
from maskwright.discovery.writing import explained, mask_picture, write_whole
from maskwright.errors import OutputError, SettingsError
from maskwright.exports.files import replacing
from maskwright.vocabulary import Vocabulary

NUMBERED = re.compile(r"\d{6,}\.png")
FAST = 3  # PNG: half the time of Pillow's own 6, and 3 % more bytes


class PairStore:
    """A data set that this process alone writes to, until it is closed or the process ends.

    Attributes:
        folder: where it lies.
        settings: what decides how pairs look, as it stands in synthesis.json.
        vocabulary: the labels; number i in a mask is the i-th that is not background.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], vocabulary: Vocabulary, log: int) -> None:
        """Use `open`; `log` is the locked file descriptor of pairs.jsonl, which the store closes."""
        self.folder = folder
        self.settings = settings
        self.vocabulary = vocabulary
        self._log = log
        self._close = weakref.finalize(self, os.close, log)
        self._pairs: list[Pair] = []
        self._end = 0  # bytes of pairs.jsonl that are whole batches

    @classmethod
    def open(cls, folder: str | Path, settings: Mapping[str, Any], vocabulary: Vocabulary, *, resume: bool) -> Self:
        """Begins a data set, or goes on with one.

        What an interrupted run left half done is removed: an unfinished batch, temporary files, pictures that no line names.

        Args:
            folder: made if it is not there.
            settings: plain JSON values that decide what pairs look like, with "model", "revision" and "method". How many pairs
                are asked for is not among them: a data set may grow.
            vocabulary: the labels; names and synonyms are part of the settings.
            resume: go on with the data set that is there; without one, begin it.

        Raises:
            SettingsError: more than 254 labels, or settings that differ from those of the data set.
            OutputError: a folder with a data set, without `resume`; with other files; that another run writes to; with files
                missing; or that cannot be written.
        """
        if len(vocabulary.foreground) > MOST_LABELS:
            count = len(vocabulary.foreground)
            raise SettingsError(f"{count} labels: masks of 8 bits hold {MOST_LABELS}; split them over several data sets")
        folder = Path(folder)
        wanted = describe(settings, vocabulary)
        is_begun(folder, wanted, resume=resume)  # refuses before anything is touched
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            store = cls(folder, wanted["settings"], vocabulary, open_locked(folder))
            try:
                if not is_begun(folder, wanted, resume=resume):  # once more, now that no other run can begin here
                    write_whole(folder / SETTINGS, to_json(wanted))
                store._load()
            except BaseException:
                store.close()
                raise
        return store

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """All attempts so far, in the order in which they were made."""
        return tuple(self._pairs)

    @property
    def kept(self) -> tuple[Pair, ...]:
        """The pairs that have files, by number."""
        return tuple(sorted((pair for pair in self._pairs if pair.kept), key=lambda pair: pair.number))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the labels 1, 2, ... of the masks."""
        return tuple(label.name for label in self.vocabulary.foreground)

    def add(self, batch: Sequence[Drawn]) -> None:
        """Stores what was drawn together; after an interruption all of the batch is there, or nothing.

        Args:
            batch: attempts; those that are not kept leave a line, no files.

        Raises:
            ValueError: arrays of other shapes or values than `Drawn` says, or a number that has a kept pair already.
            OutputError: the files cannot be written.
        """
        self._refuse(batch)
        lines = to_lines([drawn.pair for drawn in batch], self.settings)
        with explained(self.folder):
            for drawn in batch:
                if drawn.pair.kept:
                    _save(Image.fromarray(drawn.image), self.image_path(drawn.pair))
                    _save(mask_picture(drawn.mask), self.mask_path(drawn.pair))
            self._append(lines)
        self._pairs += [drawn.pair for drawn in batch]

    def image_path(self, pair: Pair) -> Path:
        """Where the picture of a kept pair is."""
        return self.folder / "images" / f"{pair.stem}.png"

    def mask_path(self, pair: Pair) -> Path:
        """Where the mask of a kept pair is."""
        return self.folder / "masks" / f"{pair.stem}.png"

    def read_image(self, pair: Pair) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB.

        Raises:
            OutputError: the file cannot be read.
        """
        return _read(self.image_path(pair), "RGB")

    def read_mask(self, pair: Pair) -> npt.NDArray[np.uint8]:
        """(H, W) uint8 label numbers, 255 for ignore.

        Raises:
            OutputError: the file cannot be read.
        """
        return _read(self.mask_path(pair), "P")

    def close(self) -> None:
        """Lets other runs write to the folder."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _refuse(self, batch: Sequence[Drawn]) -> None:
        """What must not reach the disk; the caller is at fault."""
        taken = {pair.number for pair in self._pairs if pair.kept}
        for drawn in batch:
            pair, image, mask = drawn.pair, drawn.image, drawn.mask
            if pair.kept and pair.number in taken:
                raise ValueError(f"pair {pair.number} is kept already")
            if pair.kept:
                taken.add(pair.number)
            if image.dtype != np.uint8 or mask.dtype != np.uint8 or image.shape != (*mask.shape, 3) or mask.ndim != 2:
                raise ValueError(f"pair {pair.number}: image {image.shape} {image.dtype} and mask {mask.shape} {mask.dtype}")
            if (mask[mask != IGNORE] > len(self.names)).any():
                raise ValueError(f"pair {pair.number}: the mask has numbers above {len(self.names)}, the last label")

    def _append(self, lines: bytes) -> None:
        """Puts lines behind the last whole batch, on the disk when this returns."""
        os.ftruncate(self._log, self._end)  # an earlier attempt in this process may have failed half way
        os.lseek(self._log, self._end, os.SEEK_SET)
        left = memoryview(lines)
        while left:
            left = left[os.write(self._log, left) :]
        os.fsync(self._log)
        self._end += len(lines)

    def _load(self) -> None:
        """Reads the whole batches and makes the folder hold exactly them."""
        self._pairs, self._end = read_lines((self.folder / LOG).read_bytes())
        names = {f"{pair.stem}.png" for pair in self._pairs if pair.kept}
        for place in (self.folder / "images", self.folder / "masks"):
            place.mkdir(exist_ok=True)
            found = {path.name for path in place.iterdir()}
            if missing := sorted(names - found):
                name = f"{place.name}/{missing[0]}"
                raise OutputError(f"{name} is missing in {str(self.folder)!r}: put it back, or choose another folder with --out")
            for name in filter(NUMBERED.fullmatch, found - names):
                (place / name).unlink()
        for path in filter(lambda path: TEMPORARY.fullmatch(path.name), self.folder.rglob(".*.tmp")):
            path.unlink()
        if os.fstat(self._log).st_size != self._end:
            os.ftruncate(self._log, self._end)
            os.fsync(self._log)


def _read(path: Path, mode: str) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(path) as picture:
            if picture.mode == mode:
                return np.asarray(picture)
            found: object = f"mode {picture.mode} instead of {mode}"
    except OSError as error:
        found = error
    raise OutputError(f"{str(path)!r} is damaged ({found}): restore it, or choose another folder with --out")


def _save(picture: Image.Image, path: Path) -> None:
    """As PNG, on the disk when this returns: the line that names it must not outlive it when the power fails."""
    with replacing(path) as file:
        picture.save(file, "PNG", compress_level=FAST)
        file.flush()
        os.fsync(file.fileno())
