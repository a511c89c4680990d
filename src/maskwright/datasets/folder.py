"""Plain folders of pictures with masks on disk, in three kinds.

    ROOT/images/NAME.jpg   the pictures
    ROOT/masks/NAME.png    "foreground": 0 and 255, foreground is what is over 127
    ROOT/masks/NAME.png    "classes": class numbers, named by ROOT/classes.json: {"1": "dog", "2": "grass"}
    ROOT/segments/NAME-K.png    "regions": one region map for each annotator K, 8 or 16 bits; the numbers mean nothing

Every picture has its masks and every mask its picture, of the same size; otherwise the folder is refused.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from maskwright.datasets.contract import IGNORE, EvaluationItem, EvaluationSet
from maskwright.datasets.masks import MASK_SUFFIXES, ForegroundItem, MaskItem, RegionItem, quote
from maskwright.errors import DatasetError, SettingsError, VocabularyError
from maskwright.images import SUFFIXES
from maskwright.vocabulary import Label

FolderKind = Literal["foreground", "classes", "regions"]

BACKGROUND = "background"
UNLABELLED = frozenset(("unlabeled", "unlabelled", "ignore", "ignored", "void"))  # names of what is not scored
UNNAMED_IGNORE = 255  # not scored either, unless classes.json names it
ANNOTATED = re.compile(r"(.+)-(\d+)")
EXPECTED = "images/NAME.jpg with masks/NAME.png, or with segments/NAME-0.png, NAME-1.png, ... of several annotators"
EXAMPLE = '{"1": "dog", "2": "grass"}'
UNKNOWN = 'classes.json does not name: add it there (a class named "unlabeled" is not scored)'


def read_folder(root: str | Path, *, kind: FolderKind | None = None) -> EvaluationSet:
    """Lists a folder of pictures with masks; no picture is opened yet.

    Args:
        root: holds images/ and masks/ or segments/.
        kind: what the masks hold. If None, a folder segments/ means "regions", a file classes.json "classes", otherwise
            "foreground".

    Returns:
        The set, named as the folder, its only split "all", pictures by rising file name. Classes are in the order of their numbers;
        several numbers with one name are one class; one named "background" is marked so.

    Raises:
        DatasetError: a folder that lacks something, or pictures and masks that do not belong together; it says what is expected.
        VocabularyError: a classes.json that cannot be used.
        SettingsError: an unknown kind, or none given for a folder that has both masks and segments.
    """
    root = Path(root)
    if kind is not None and kind not in get_args(FolderKind):
        raise SettingsError(f"kind must be one of {', '.join(get_args(FolderKind))}, not {kind!r}")
    chosen: FolderKind = kind or _find_kind(root)
    pictures = _by_stem(root / "images", SUFFIXES, "pictures")
    masks = _by_stem(root / ("segments" if chosen == "regions" else "masks"), MASK_SUFFIXES, "masks")
    truth = _group_annotators(masks) if chosen == "regions" else {stem: (path,) for stem, path in masks.items()}
    _refuse_strays(pictures, truth, chosen)
    classes, numbers = _read_classes(root / "classes.json") if chosen == "classes" else ((), {})
    items = tuple(_item(stem, path, truth[stem], chosen, numbers) for stem, path in pictures.items())
    return EvaluationSet(root.resolve().name, "all", chosen, items, classes)


def _item(name: str, picture: Path, truth: tuple[Path, ...], kind: FolderKind, numbers: Mapping[int, int]) -> EvaluationItem:
    if kind == "regions":
        return RegionItem(name, picture, truth)
    return MaskItem(name, picture, truth[0], numbers, UNKNOWN) if kind == "classes" else ForegroundItem(name, picture, truth[0])


def _find_kind(root: Path) -> FolderKind:
    """What a folder holds, from what is in it."""
    has_masks, has_segments = (root / "masks").is_dir(), (root / "segments").is_dir()
    if has_masks and has_segments:
        raise SettingsError(f"{quote(root)} has both masks and segments: keep one of them, or call read_folder with a `kind`")
    if has_segments:
        return "regions"
    return "classes" if (root / "classes.json").exists() else "foreground"


def _by_stem(folder: Path, suffixes: frozenset[str], what: str) -> dict[str, Path]:
    """The files of a folder with one of the suffixes by name without suffix, in the order of the names; at least one."""
    try:
        paths = sorted(
            (path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()),
            key=lambda path: path.name,
        )
    except OSError as error:
        raise DatasetError(f"{quote(folder)} cannot be listed ({error.strerror}): expected are {EXPECTED}") from error
    if not paths:
        raise DatasetError(f"{quote(folder)} holds no {what} ({' '.join(sorted(suffixes))}): expected are {EXPECTED}")
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            raise DatasetError(f"{quote(path)} and {found[path.stem].name!r} differ only in their extension: keep one of them")
        found[path.stem] = path
    return found


def _group_annotators(maps: Mapping[str, Path]) -> dict[str, tuple[Path, ...]]:
    """Region maps by picture, each picture's by rising number of the annotator."""
    groups: dict[str, list[tuple[int, Path]]] = {}
    for stem, path in maps.items():
        match = ANNOTATED.fullmatch(stem)
        if not match:
            raise DatasetError(f"{quote(path)} does not end in an annotator's number: name it NAME-0{path.suffix}")
        groups.setdefault(match[1], []).append((int(match[2]), path))
    return {name: tuple(path for _, path in sorted(group)) for name, group in groups.items()}


def _refuse_strays(pictures: Mapping[str, Path], truth: Mapping[str, tuple[Path, ...]], kind: FolderKind) -> None:
    """Every picture needs its truth and the other way round: what is missing would silently change the score."""
    bare = [path for stem, path in pictures.items() if stem not in truth]
    if bare:
        wanted = f"segments/{bare[0].stem}-0.png" if kind == "regions" else f"masks/{bare[0].stem}.png"
        raise DatasetError(f"{len(bare)} of {len(pictures)} pictures have no mask, first {quote(bare[0])}: add {wanted}")
    lone = [paths[0] for stem, paths in truth.items() if stem not in pictures]
    if lone:
        raise DatasetError(f"{len(lone)} masks have no picture in images/, first {quote(lone[0])}: add the picture or remove the mask")


def _read_classes(path: Path) -> tuple[tuple[Label, ...], dict[int, int]]:
    """The scored classes by rising number, and the position of each number among them."""
    try:
        table: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise VocabularyError(f"{quote(path)} cannot be read ({error.strerror}): it names the classes, {EXAMPLE}") from error
    except ValueError as error:
        raise VocabularyError(f"{quote(path)} is not JSON ({error}): write {EXAMPLE}") from error
    entries = table.items() if isinstance(table, dict) else ()
    if not entries or not all(key.isascii() and key.isdigit() and isinstance(name, str) and name.strip() for key, name in entries):
        raise VocabularyError(f"{quote(path)} does not give each class number a name: write {EXAMPLE}")
    texts = {int(key): " ".join(name.split()) for key, name in entries}
    scored = {number: texts[number] for number in sorted(texts) if texts[number].lower() not in UNLABELLED}
    if not scored:
        raise VocabularyError(f"{quote(path)} names nothing that is scored: write {EXAMPLE}")
    names = tuple(dict.fromkeys(scored.values()))
    numbers = {number: names.index(text) if number in scored else IGNORE for number, text in texts.items()}
    return tuple(Label(name, background=name.lower() == BACKGROUND) for name in names), {UNNAMED_IGNORE: IGNORE, **numbers}
