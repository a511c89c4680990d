"""The folder of an evaluation: what was asked for, and one line for each picture and method, which survive a kill.

DIR/evaluation.json is written first and whole.
In DIR/pictures.jsonl a line is whole or, at the very end of the file, torn; a torn one is cut off when the run is resumed.
"""

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from maskwright.errors import OutputError, SettingsError
from maskwright.exports.document import encode
from maskwright.exports.files import replacing

HEAD, LINES = "evaluation.json", "pictures.jsonl"
UNCOMPARED = ("seconds", "peak_mb")  # of a line: what no metric is made of
SYNC_SECONDS = 1.0
Line = dict[str, Any]


class RunFolder:
    """A folder that an evaluation writes into.

    Attributes:
        path: the folder.
        evaluation: what evaluation.json holds.
        lines: of pictures.jsonl, in its order.
    """

    def __init__(self, path: Path, evaluation: Mapping[str, Any], lines: Sequence[Line]) -> None:
        """Use `start`, `read_folder` or `merge_folders`."""
        self.path, self.evaluation, self.lines = path, dict(evaluation), list(lines)
        self._synced = 0.0

    @classmethod
    def start(cls, path: str | Path, evaluation: Mapping[str, Any], *, resume: bool = False) -> "RunFolder":
        """A new folder, or with `resume` an earlier one that asked for the same.

        Args:
            path: made if it is not there.
            evaluation: plain JSON values.
            resume: go on with what is there, if anything is.

        Raises:
            OutputError: a folder that holds an evaluation already, that asked for something else, or cannot be written into.
        """
        path = Path(path)
        refuse_taken(path, resume=resume)
        if not (path / HEAD).exists():
            _write(path, evaluation, ())
            return cls(path, evaluation, ())
        held = read_folder(path)
        if changed := differences(held.evaluation, json.loads(encode(evaluation))):
            raise OutputError(f"{str(path)!r} asked for something else in {', '.join(changed)}: ask for the same, or choose another --out")
        _cut_torn_line(path / LINES)
        return held

    def done(self) -> set[tuple[int, str]]:
        """(number of the picture, key of the method) of every line."""
        return {(line["number"], line["method"]) for line in self.lines}

    def sync(self) -> None:
        """Waits until all lines are on the disk."""
        with (self.path / LINES).open("ab") as file:
            os.fsync(file.fileno())

    def append(self, lines: Sequence[Line]) -> None:
        """Writes the lines of one picture.

        They survive the end of this process at once, and that of the machine from the next second on: waiting for the disk after
        every picture would take longer than a small model does.

        Raises:
            OutputError: they cannot be written.
        """
        if not lines:
            return
        try:
            with (self.path / LINES).open("ab") as file:
                file.write(b"".join(map(_line, lines)))
                file.flush()
                if time.monotonic() - self._synced > SYNC_SECONDS:
                    os.fsync(file.fileno())
                    self._synced = time.monotonic()
        except OSError as error:
            raise OutputError(f"cannot write into {str(self.path)!r} ({error.strerror or error}): free space and add --resume") from error
        self.lines += lines


def refuse_taken(path: Path, *, resume: bool = False) -> None:
    """Raises OutputError for a folder that a run cannot start in, or with `resume` go on in; before anything takes long."""
    if (path / HEAD).exists() and not resume:
        raise OutputError(f"{str(path)!r} holds an evaluation: add --resume to go on with it, or choose another folder with --out")
    if (path / LINES).exists() and not (path / HEAD).exists():
        raise OutputError(f"{str(path)!r} has {LINES} but no {HEAD}: choose another folder with --out")


def read_folder(path: str | Path) -> RunFolder:
    """An evaluation as it lies on the disk, without a torn last line; nothing is changed.

    Raises:
        OutputError: no evaluation, or a damaged one.
    """
    path = Path(path)
    try:
        evaluation = json.loads((path / HEAD).read_bytes())
        content = (path / LINES).read_bytes() if (path / LINES).exists() else b""
    except OSError as error:
        raise OutputError(f"{str(path)!r} holds no evaluation, {HEAD} cannot be read ({error.strerror}): give its --out") from error
    except ValueError as error:
        raise OutputError(f"{str(path / HEAD)!r} is damaged ({error}): run the evaluation again") from error
    whole = content[: content.rfind(b"\n") + 1]
    lines: list[Line] = []
    for number, text in enumerate(whole.splitlines(), start=1):
        try:
            line = json.loads(text)
            lines.append({**line, "picture": line["picture"], "number": line["number"], "method": line["method"]})
        except (ValueError, TypeError, KeyError) as error:
            raise OutputError(f"{str(path / LINES)!r} is damaged in line {number}: remove the lines from there on") from error
    _refuse_doubles(lines, path)
    return RunFolder(path, evaluation, lines)


def merge_folders(folders: Iterable[str | Path], out: str | Path) -> RunFolder:
    """The shards of an evaluation as one folder, which is what a single run would have written, timings aside.

    Raises:
        SettingsError: no folders.
        OutputError: folders of different evaluations, a picture that two of them have, or an `out` that holds an evaluation.
    """
    parts = [read_folder(folder) for folder in folders]
    if not parts:
        raise SettingsError("nothing to merge: name the folders of the shards")
    out = Path(out)
    if (out / HEAD).exists():
        raise OutputError(f"{str(out)!r} holds an evaluation: choose another folder with --out")
    wholes = [_without_shard(part.evaluation) for part in parts]
    for part, whole in zip(parts[1:], wholes[1:], strict=True):
        if changed := differences(wholes[0], whole):
            raise OutputError(f"{str(parts[0].path)!r} and {str(part.path)!r} differ in {', '.join(changed)}: merge one evaluation only")
    order = {method["key"]: place for place, method in enumerate(wholes[0]["methods"])}
    lines = sorted((line for part in parts for line in part.lines), key=lambda line: (line["number"], order[line["method"]]))
    _refuse_doubles(lines, out)
    _write(out, wholes[0], lines)
    return RunFolder(out, wholes[0], lines)


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of what two evaluations do not share, such as "protocol" or "dataset: split"."""
    found: list[str] = []
    for key in dict.fromkeys([*one, *other]):
        here, there = one.get(key), other.get(key)
        if here == there:
            continue
        nested = isinstance(here, Mapping) and isinstance(there, Mapping)
        found += [f"{key}: {name}" for name in differences(here, there)] if nested else [key]  # type: ignore[arg-type]
    return found


def comparable(line: Mapping[str, Any]) -> Line:
    """A line without what differs from run to run: seconds and memory."""
    return {key: value for key, value in line.items() if key not in UNCOMPARED}


def _without_shard(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    return {**evaluation, "dataset": {**evaluation["dataset"], "shard": None}}


def _refuse_doubles(lines: Sequence[Line], path: Path) -> None:
    seen: set[tuple[int, str]] = set()
    for line in lines:
        key = (line["number"], line["method"])
        if key in seen:
            raise OutputError(f"{str(path)!r}: {line['picture']!r} was evaluated twice by {line['method']}: leave one of the two out")
        seen.add(key)


def _write(path: Path, evaluation: Mapping[str, Any], lines: Sequence[Line]) -> None:
    """Both files, evaluation.json last: a folder that has it is whole."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with replacing(path / LINES) as file:
            file.write(b"".join(map(_line, lines)))
            file.flush()
            os.fsync(file.fileno())
        with replacing(path / HEAD) as file:
            file.write(encode(evaluation))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(f"cannot write into {str(path)!r} ({error.strerror or error}): choose another folder with --out") from error


def _cut_torn_line(path: Path) -> None:
    """Removes what a killed run left behind its last line break."""
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


def _line(line: Mapping[str, Any]) -> bytes:
    text = json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
    return text.encode("utf-8", "backslashreplace")  # as in exports.document
