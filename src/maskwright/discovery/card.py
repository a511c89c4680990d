"""README.md: what a data set is, how it was made, how much of it was thrown away and why; in the form of the Hugging Face hub's cards."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from maskwright.discovery.pairs import Pair
from maskwright.discovery.store import PairStore
from maskwright.discovery.writing import explained, write_whole
from maskwright.record import flat

LONGEST = 200  # characters of a setting
TITLE = 6  # labels that the heading names
MARKUP = re.compile(r"([\\`*_\[\]<>|~&$#])")
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
FILES = {
    "": "- `images/`: the pictures (PNG), `masks/`: their masks (indexed PNG, same name)\n"
    "- `pairs.jsonl`: one line for each attempt, also the rejected ones: prompt, labels, seed, scores, reasons; `batch_left` counts"
    " the lines that follow of those drawn together\n"
    "- `synthesis.json`: labels, synonyms and all settings that decide how pairs look\n",
    "coco": "- `annotations.json`: COCO; file names are relative to `images/`, masks are run-length encoded, one annotation for each"
    " label of a picture; uncertain pixels belong to none\n",
    "voc": '- `VOCdevkit/VOC2012/`: PASCAL VOC; torchvision reads it by `VOCSegmentation(folder, year="2012", image_set="train")`. The'
    " pictures are JPEG copies; `labels.txt` has the name of mask value n in line n, from 0\n",
    "yolo": "- `data.yaml` and `labels/`: YOLO segmentation; classes count from 0 (mask value - 1), one polygon for each piece of a mask,"
    " holes are filled, pieces under 1 % of their label's pixels left out; `val` repeats `train`\n",
}


def write_card(
    store: PairStore, *, formats: Sequence[str] = ("coco",), command: str | None = None, again: str | None = None,
    licence: str | None = None,
) -> None:  # fmt: skip
    """Writes README.md.

    Args:
        store: the data set.
        formats: names of the forms that are in the folder.
        command: the command line that makes this data set from nothing; without paths of this machine, as the card travels.
        again: a command line that makes one pair again.
        licence: that of the model.

    Raises:
        OutputError: it cannot be written.
    """
    text = draw_up(store, formats=formats, command=command, again=again, licence=licence)
    with explained(store.folder):
        write_whole(store.folder / "README.md", text.encode("utf-8", "backslashreplace"))


def draw_up(
    store: PairStore, *, formats: Sequence[str] = ("coco",), command: str | None = None, again: str | None = None,
    licence: str | None = None,
) -> str:  # fmt: skip
    """The text of the card; arguments as for `write_card`."""
    parts = (
        _front_matter(store),
        _introduction(store),
        _labels(store),
        _reasons([pair for pair in store.pairs if not pair.kept]),
        _making(store.settings, command),
        _again(again),
        "## Files\n\n" + "".join(FILES[name] for name in ("", *formats)),
        _licence(store.settings, licence),
    )
    return "\n".join(parts)


def _front_matter(store: PairStore) -> str:
    count = len(store.kept)
    size = next((name for limit, name in SIZES if count < limit), "n>1M")
    return (
        f"---\npretty_name: {json.dumps(_title(store), ensure_ascii=False)}\nlicense: other\n"
        "task_categories:\n- image-segmentation\ntask_ids:\n- semantic-segmentation\nannotations_creators:\n- machine-generated\n"
        f"size_categories:\n- {size}\ntags:\n- synthetic\n- maskwright\n"
        "configs:\n- config_name: default\n  data_files: pairs.jsonl\n---\n"
    )


def _title(store: PairStore) -> str:
    rest = len(store.names) - TITLE
    return f"Synthetic masks: {', '.join(store.names[:TITLE])}{f' and {rest} more' if rest > 0 else ''}"


def _introduction(store: PairStore) -> str:
    model, method = store.settings.get("model"), store.settings.get("method")
    kept = len(store.kept)
    known = (
        ", and CLIP found no other word that fits a kept picture better; neither knows"
        if "clip" in store.settings
        else " only; they do not know"
    )
    return (
        f"# {_escape(_title(store))}\n\n"
        f"{kept} {'picture' if kept == 1 else 'pictures'} with masks. The text-to-image model {_code(model)} drew the pictures from words,"
        f" and the method {_code(method)} cut the masks from what the model attended to while it drew.\n\n"
        "**The masks come from attention, and nobody has checked them.** Expect wrong outlines, parts that are missing, things that no"
        " mask marks, and pictures that do not show what their prompt says. The filters compare masks with fixed limits"
        f"{known} what is right. Look at the pairs before you train on them, and do not measure anything on them.\n\n"
        "![Some of the pairs, each picture beside its mask](preview.png)\n"
    )


def _labels(store: PairStore) -> str:
    """Counts of attempts, then one row for each label."""
    total, kept = len(store.pairs), len(store.kept)
    by_label = {result: Counter(name for pair in store.pairs if pair.kept is result for name in pair.labels) for result in (True, False)}
    rows = [
        (number, _escape(label.name), _escape(", ".join(label.synonyms)), by_label[True][label.name], by_label[False][label.name])
        for number, label in enumerate(store.vocabulary.foreground, start=1)
    ]
    return (
        "## Labels\n\n"
        f"Attempts: {total}. Kept: {kept}. Rejected: {total - kept}. A picture with several labels counts for each of them.\n\n"
        + _table(("mask value", "label", "also called", "kept", "rejected"), rows)
        + "\nMask value 0 is the background, 255 is left out as uncertain.\n"
    )


def _reasons(rejected: Sequence[Pair]) -> str:
    """One row for each reason, the most frequent first."""
    if not rejected:
        return "## Rejected\n\nNo attempt was rejected.\n"
    attempts: Counter[str] = Counter()
    labels: dict[str, Counter[str]] = {}
    for pair in rejected:
        told = {_split(reason, pair.labels) for reason in pair.reasons} or {("not told", "")}
        attempts.update({phrase for phrase, _ in told})
        for phrase, label in told:
            labels.setdefault(phrase, Counter()).update([label] if label else [])
    ranked = sorted(attempts, key=lambda phrase: (-attempts[phrase], phrase))
    rows = [(_escape(phrase), attempts[phrase], _escape(_listed(labels[phrase]))) for phrase in ranked]
    return (
        f"## Rejected\n\nWhy {len(rejected)} {'attempt was' if len(rejected) == 1 else 'attempts were'} rejected;"
        " one attempt may have several reasons.\n\n" + _table(("reason", "attempts", "labels"), rows)
    )


def _split(reason: str, labels: Sequence[str]) -> tuple[str, str]:
    """Reads "dog: too small" as ("too small", "dog"); a reason that concerns the whole picture has no label."""
    for label in sorted(labels, key=len, reverse=True):
        if reason.startswith(f"{label}: "):
            return reason.removeprefix(f"{label}: "), label
    return reason, ""


def _listed(counts: Mapping[str, int]) -> str:
    """Names with counts: "dog 3, cat 1"."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _making(settings: Mapping[str, Any], command: str | None) -> str:
    rows = [(_code(key), _code(_shorten(value))) for key, value in flat(settings).items()]
    how = f"\nThe command that makes this data set:\n\n{_block(command)}" if command else ""
    return "## How it was made\n\n" + _table(("setting", "value"), rows) + how


def _again(again: str | None) -> str:
    return (
        "## Make one pair again\n\n"
        "A pair depends on nothing but the settings above and its own line of `pairs.jsonl`: the prompt and the seed of the noise. So any"
        " of them can be drawn again alone, also a rejected one. On the same machine with the same packages the files are the same byte"
        " for byte; elsewhere, or drawn together with others, they may differ by rounding.\n" + (f"\n{_block(again)}" if again else "")
    )


def _licence(settings: Mapping[str, Any], licence: str | None) -> str:
    known = f"is under this licence: {_escape(licence)}" if licence else "has a licence that was not known when this was written"
    return (
        f"## Licence\n\nThe model {_code(settings.get('model'))} {known}. What it allows and forbids also concerns what the model draws;"
        " read it before you pass the pictures on.\n"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def _escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    return MARKUP.sub(r"\\\1", text)


def _code(value: Any) -> str:
    """A value as code within a line, also in a table."""
    text = str(value).replace("|", "\\|")
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _block(command: str) -> str:
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", command)), 0)
    return f"{fence}\n{command}\n{fence}\n"


def _shorten(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
