"""What a reader has to know before believing a number."""

from collections.abc import Callable, Mapping
from typing import Any

from maskwright.evaluation.report.gather import Column, Entry

FEW = 4  # methods that a warning names
BY_PROTOCOL = (
    (
        "labels", "present",
        "Oracle labels: each picture was asked only for the classes of its own ground truth. This is no open vocabulary.",
    ),
    (
        "labels", "family",
        "Oracle labels: each picture was asked only for the classes of its own ground truth and those that are hard to tell from them.",
    ),
    (
        "background", "best", "Threshold chosen on the ground truth: the values of the best threshold show what could be reached, not what"
        " a user gets. The values of the fixed threshold stand beside them.",
    ),
    ("background", "none", "Background is not scored: pixels of the set's background class are left out, if it has one."),
    ("average", "pictures", "The mIoU is a mean over pictures, not that of counts summed over the set."),
    ("resolution", None, "Scored on a fixed grid, not at the size of the pictures."),
)  # fmt: skip
MATCHED = (
    "Segments get their classes from the ground truth (Hungarian matching, {}): their values cannot be compared with those of methods"
    " that read words."
)


def notices(column: Column) -> list[str]:
    """Warnings about the runs of a column, gravest first."""
    found = [*_of_methods(column, _failed), *_of_methods(column, _unfinished)]
    found += [text for key, value, text in BY_PROTOCOL if _applies(column, key, value)]
    if counted := [entry.title for entry in column.entries if _settings(entry).get("regions") == "oracle"]:
        found.append(f"Oracle number of regions: {', '.join(counted)} took it from the ground truth.")
    if column.dataset.get("kind") == "classes" and any(_matched(entry) for entry in column.entries):
        found.append(MATCHED.format("per picture" if column.protocol.get("matching") == "picture" else "once over the data set"))
    if part := _part(column.dataset):
        found.append(part)
    if len(versions := _versions(column)) > 1:
        found.append(f"The runs were made with different versions: {'; '.join(versions)}.")
    return found


def _of_methods(column: Column, tell: Callable[[Entry, Mapping[str, Any]], str]) -> list[str]:
    """What is told of single methods, those first of which the same is told."""
    told: dict[str, list[str]] = {}
    for entry in column.entries:
        if text := tell(entry, column.dataset):
            told.setdefault(text, []).append(entry.title)
    return [f"{', '.join(titles) if len(titles) <= FEW else f'{len(titles)} methods'}: {text}" for text, titles in told.items()]


def _applies(column: Column, key: str, value: str | None) -> bool:
    if key == "background" and column.dataset.get("background") is None:
        return False
    if value is None:  # anything but the original resolution
        return bool(column.protocol.get(key, "original") != "original")
    return bool(column.protocol.get(key) == value)


def _matched(entry: Entry) -> bool:
    """Whether segments without names found their classes on the ground truth."""
    return any("matched" in str(metric.get("note", "")) for metric in entry.result["metrics"].values())


def _settings(entry: Entry) -> Mapping[str, Any]:
    return entry.result.get("settings") or {}


def _failed(entry: Entry, _: Mapping[str, Any]) -> str:
    """Failed pictures count as wrong."""
    failed, all_pictures = len(entry.result.get("failed") or ()), len(entry.result["pictures"])
    if not failed:
        return ""
    return f"{failed} of {all_pictures} pictures failed. They count as wrong and are listed below."


def _unfinished(entry: Entry, dataset: Mapping[str, Any]) -> str:
    """A run that was stopped before its last picture."""
    done, asked = len(entry.result["pictures"]), expected_pictures(dataset)
    return f"not finished, {done} of {asked} pictures so far." if asked is not None and done < asked else ""


def expected_pictures(dataset: Mapping[str, Any]) -> int | None:
    """How many pictures a run was asked for; None where its folder does not say."""
    total, limit, shard = dataset.get("pictures"), dataset.get("limit"), dataset.get("shard")
    if total is None:
        return None
    wanted = total if limit is None else min(total, limit)
    return int(wanted) if not shard else wanted // shard[1]  # the smallest share: shards differ by one picture


def _part(dataset: Mapping[str, Any]) -> str:
    total, limit, shard = dataset.get("pictures"), dataset.get("limit"), dataset.get("shard")
    if shard:
        return f"Only a part of the set: shard {shard[0]} of {shard[1]}."
    if limit is not None and (total is None or limit < total):
        return f"Only a part of the set: the first {limit}{f' of {total}' if total else ''} pictures."
    return ""


def _versions(column: Column) -> list[str]:
    texts = (", ".join(f"{name} {version}" for name, version in (run.summary.get("versions") or {}).items()) for run in column.runs)
    return list(dict.fromkeys(texts))
