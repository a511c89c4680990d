"""curve.jsonl: one line a step and one an epoch, without times, so that two runs that did the same have the same file; and its picture."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from maskwright.datasets.masks import quote
from maskwright.errors import MissingExtraError, OutputError
from maskwright.exports.files import explained, replacing
from maskwright.exports.locking import lock
from maskwright.record import plain

CURVE, PICTURE = "curve.jsonl", "curve.png"
WINDOW = 1 / 25  # of all steps, about what the running mean of the loss looks back on
COLOURS = ("#0b6e99", "#d9730d", "#448361", "#9065b0", "#d44c47", "#787774")
Line = dict[str, Any]


class Curve:
    """The lines of a training, which this process alone writes to until it is closed.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        """Use `open`."""
        self.path, self._descriptor = path, descriptor

    @classmethod
    def open(cls, path: Path) -> Self:
        """Takes hold of the file, made if need be.

        Raises:
            OutputError: another run writes to it, or it cannot be written.
        """
        with explained(path.parent, "choose another folder with --out"):
            curve = cls(path, os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666))
        try:
            lock(curve._descriptor, path.parent, "trains in")
        except BaseException:
            curve.close()
            raise
        return curve

    @property
    def end(self) -> int:
        """Bytes so far."""
        return os.fstat(self._descriptor).st_size

    def cut(self, end: int) -> None:
        """Removes what was written after a checkpoint that knows of `end` bytes.

        Raises:
            OutputError: there are fewer.
        """
        if self.end < end:
            raise OutputError(f"{quote(self.path)} is shorter than its checkpoint says: restore it, or choose another folder with --out")
        os.ftruncate(self._descriptor, end)

    def append(self, line: Mapping[str, Any]) -> None:
        """Puts a line behind the others; values that JSON has no form for become null."""
        told = {key: _finite(value) for key, value in plain(line).items()}
        with explained(self.path.parent, "choose another folder with --out"):
            os.lseek(self._descriptor, 0, os.SEEK_END)
            os.write(self._descriptor, (json.dumps(told, allow_nan=False) + "\n").encode())

    def sync(self) -> None:
        """Waits until all lines are on the disk."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Lets other runs write."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def read_curve(path: Path) -> list[Line]:
    """The whole lines of a curve: {"epoch", "step", "loss", "rate"} of a step, {"epoch", "step", "loss", "validation"} of an epoch.

    Epochs and steps count from 1; the loss of an epoch is the mean of its steps'; "validation" holds figures by name.

    Raises:
        OutputError: a file that cannot be read, or is no curve.
    """
    try:
        return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
    except (OSError, ValueError) as error:
        raise OutputError(f"{quote(path)} cannot be read as a training curve ({error}): restore it, or train again") from error


def draw_curve(path: Path, out: Path | None = None) -> Path:
    """Draws the loss of every step with its running mean, and below it the validation figures of every epoch.

    Args:
        path: of curve.jsonl.
        out: of the picture; None for curve.png beside it.

    Returns:
        The path of the picture.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: the curve cannot be read, or the picture not be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", purpose="drawing a training curve", extra="train") from error
    lines, out = read_curve(path), out or path.with_name(PICTURE)
    steps, epochs = ([line for line in lines if ("validation" in line) is is_epoch] for is_epoch in (False, True))
    names = list(epochs[0]["validation"]) if epochs else []
    figure = Figure(figsize=(7, 5.5 if names else 3), dpi=110, layout="constrained")
    above, *below = figure.subplots(1 + bool(names), 1, sharex=True, squeeze=False)[:, 0]
    _draw_loss(above, steps)
    for axes in below:
        for name, colour in zip(names, COLOURS * (len(names) // len(COLOURS) + 1), strict=False):
            points = [(line["step"], line["validation"][name]) for line in epochs if line["validation"].get(name) is not None]
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, color=colour, label=name) if points else None
        axes.set_ylabel("validation")
        axes.legend(frameon=False, fontsize=8)
    for axes in (above, *below):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    (above, *below)[-1].set_xlabel("step")
    with explained(out.parent, "choose another folder with --out"), replacing(out) as file:
        figure.savefig(file, format="png", metadata={"Software": None})
    return out


def _draw_loss(axes: Any, steps: Sequence[Line]) -> None:
    """Every step's loss, pale, and its running mean without the pull of the beginning."""
    mean = weight = 0.0
    smooth, keep = [], 1 - 1 / max(3.0, WINDOW * len(steps))
    for line in steps:
        mean, weight = keep * mean + (1 - keep) * line["loss"], keep * weight + 1 - keep
        smooth.append(mean / weight)
    places = [line["step"] for line in steps]
    axes.plot(places, [line["loss"] for line in steps], color=COLOURS[0], alpha=0.3, linewidth=0.8)
    axes.plot(places, smooth, color=COLOURS[0], label="loss, running mean")
    axes.set_ylabel("loss")
    axes.legend(frameon=False, fontsize=8)


def _finite(value: Any) -> Any:
    """Null for what `plain` turned into the text of an infinity or of no number, also inside of figures."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if value in ("nan", "inf", "-inf") else value
