"""Word lists: a TOML file that says what a set of scenes shows, and how its scenes are painted."""

import colorsys
import dataclasses
import functools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskwright.datasets.grounds import GROUNDS
from maskwright.datasets.scene_style import SceneStyle, read_style, refuse_strange
from maskwright.errors import SettingsError

ASSETS = Path(__file__).parent.parent / "assets"
BUNDLED = {"scenes": ASSETS / "scenes" / "words.toml", "scenes-full": ASSETS / "scenes-full" / "words.toml"}
CELL = 96  # pixels a side of one glyph in an atlas
COLUMNS = 8  # glyphs in a row of an atlas
MOST_WORDS = 255  # a label map holds one byte a pixel


@dataclass(frozen=True)
class Word:
    """One word of a list: an object with its artwork, or a ground.

    Attributes:
        name: as captions and labels write it.
        synonyms: that captions use now and then.
        artwork: of an object: what the cells of the atlas show that stand for it, one of which is taken for each object painted;
            a glyph of the font ("🐶"), or a picture file beside the list ("mug.png").
        family: words that are hard to tell apart share one; empty for none.
        proper: whether it is the name of one thing, so that no article stands before it.
        article: "the" where the language wants it ("the Statue of Liberty"); empty: by `proper` and spelling.
        plural: of the name; empty where there is none.
        tint: hue 0..1, saturation 0..1 and value 0..1 that the artwork's main colour becomes; None leaves it.
        mirrored: whether the artwork may be flipped (flags and writing may not).
        draw: of a ground: the function of `maskwright.datasets.grounds` that paints it.
        settings: of a ground: that function's keyword arguments.
    """

    name: str
    synonyms: tuple[str, ...] = ()
    artwork: tuple[str, ...] = ()
    family: str = ""
    proper: bool = False
    article: str = ""
    plural: str = ""
    tint: tuple[float, float, float] | None = None
    mirrored: bool = True
    draw: str = ""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The name and its synonyms."""
        return (self.name, *self.synonyms)


@dataclass(frozen=True)
class Words:
    """All words; a label map holds the position in `all`, objects first."""

    objects: tuple[Word, ...]
    grounds: tuple[Word, ...]

    @functools.cached_property
    def all(self) -> tuple[Word, ...]:
        """Objects, then grounds."""
        return self.objects + self.grounds

    @functools.cached_property
    def families(self) -> tuple[tuple[int, ...], ...]:
        """For each object the positions of its family, itself included."""
        kin = [word.family for word in self.objects]
        return tuple(tuple(n for n, other in enumerate(kin) if other == own) if own else (place,) for place, own in enumerate(kin))

    @functools.cached_property
    def rivals(self) -> tuple[tuple[int, ...], ...]:
        """For each word the positions of those that are hard to tell from it, itself included: its family; of a proper noun, all others.

        Empty where no word is hard to tell from another.
        """
        proper = set(self.proper)
        if max(map(len, self.families)) == 1 and len(proper) < 2:
            return ()
        of_objects = [tuple(sorted({*kin, *proper})) if place in proper else kin for place, kin in enumerate(self.families)]
        return (*of_objects, *((place,) for place in range(len(self.objects), len(self.all))))

    @functools.cached_property
    def proper(self) -> tuple[int, ...]:
        """Positions of the objects that are proper nouns."""
        return tuple(place for place, word in enumerate(self.objects) if word.proper)


@dataclass(frozen=True)
class WordList:
    """A word list as it was read.

    Attributes:
        path: of the file.
        words: objects and grounds.
        side: pixels a side of a scene.
        most: at most so many objects in a scene.
        atlas: the picture of all artwork.
        style: how scenes are painted.
    """

    path: Path
    words: Words
    side: int = 64
    most: int = 3
    atlas: Path = Path("atlas.png")
    style: SceneStyle = dataclasses.field(default_factory=SceneStyle)

    @property
    def artwork(self) -> tuple[str, ...]:
        """What the cells of the atlas show, in their order: each glyph or picture file once."""
        return tuple(dict.fromkeys(art for word in self.words.objects for art in word.artwork))


def find_word_list(words: str | Path) -> Path:
    """The file of a bundled list ("scenes", "scenes-full") or of a path.

    Raises:
        SettingsError: neither.
    """
    path = BUNDLED.get(str(words), Path(words))
    if not path.is_file():
        raise SettingsError(f"there is no word list {str(words)!r}: give a TOML file, or one of {', '.join(BUNDLED)}")
    return path


@functools.cache
def read_word_list(path: Path) -> WordList:
    """Reads and checks a word list; the form is described in `maskwright_recipes/README.md`.

    Raises:
        SettingsError: a file that cannot be used; it names the word and what to change.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"the word list {path} cannot be read: {error}") from error
    refuse_strange(table, {"side", "most", "atlas", "style", "objects", "grounds"}, f"{path}")
    for part in ("objects", "grounds"):
        if not isinstance(table.get(part), dict) or not table[part]:
            raise SettingsError(f"{path} has no [{part}]: add a table with at least one word")
    words = Words(
        objects=tuple(_object(name, row, path) for name, row in table["objects"].items()),
        grounds=tuple(_ground(name, row, path) for name, row in table["grounds"].items()),
    )
    _no_doubles(words, path)
    if not isinstance(atlas := table.get("atlas", f"{path.stem}.png"), str):
        raise SettingsError(f"{path}: atlas must be the name of a PNG file, not {atlas!r}")
    side, most = table.get("side", 64), table.get("most", 3)
    if not isinstance(side, int) or side < 16 or side % 16:
        raise SettingsError(f"{path}: side must be a multiple of 16, not {side!r}")
    if not isinstance(most, int) or not 1 <= most <= 12:
        raise SettingsError(f"{path}: most must be a number of objects from 1 to 12, not {most!r}")
    style = read_style(table.get("style", {}), path)
    if style.scale[0] * side < 4 or style.scale[1] > 1:
        raise SettingsError(f"{path}: [style] scale {list(style.scale)} is no share of the side: write for instance [0.25, 0.7]")
    if style.place[1] > 1:
        raise SettingsError(f"{path}: [style] place {list(style.place)} is no share of the side: write for instance [0.12, 0.88]")
    if style.visible > 1:
        raise SettingsError(f"{path}: [style] visible must be a share of an object, up to 1, not {style.visible:g}")
    return WordList(path, words, side, most, path.parent / atlas, style)


def _texts(value: Any, where: str) -> tuple[str, ...]:
    """One text or several."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise SettingsError(f"{where} must be a text or a list of texts, not {value!r}")
    return tuple(texts)


def _object(name: str, row: Any, path: Path) -> Word:
    """One line of [objects]."""
    where = f"{path}: {name!r}"
    if not isinstance(row, dict):
        raise SettingsError(f'{where} needs artwork: write {{ glyph = "..." }} or {{ picture = "file.png" }}')
    refuse_strange(row, {"glyph", "picture", "synonyms", "family", "proper", "article", "plural", "tint", "mirrored"}, where)
    for key, kind in {"family": str, "proper": bool, "article": str, "plural": str, "mirrored": bool}.items():
        if not isinstance(row.get(key, kind()), kind):
            raise SettingsError(f"{where}: {key} must be {'a text' if kind is str else 'true or false'}, not {row[key]!r}")
    artwork = (*_texts(row.get("glyph", []), f"{where}: glyph"), *_texts(row.get("picture", []), f"{where}: picture"))
    if not artwork:
        raise SettingsError(f'{where} needs artwork: add glyph = "..." or picture = "file.png"')
    return Word(
        name, _texts(row.get("synonyms", []), f"{where}: synonyms"), artwork, family=row.get("family", ""), proper=row.get("proper", False),
        article=row.get("article", ""), plural=row.get("plural", "" if row.get("proper") else plural_of(name)),
        tint=_tint(row["tint"], where) if "tint" in row else None, mirrored=row.get("mirrored", True),
    )  # fmt: skip


def _ground(name: str, row: Any, path: Path) -> Word:
    """One line of [grounds]."""
    where = f"{path}: {name!r}"
    if not isinstance(row, dict):
        raise SettingsError(f"{where} must be a table: write {{}} or {{ draw = ... }}")
    draw, synonyms = row.get("draw", name), _texts(row.get("synonyms", []), f"{where}: synonyms")
    if draw not in GROUNDS:
        raise SettingsError(f"{where}: no ground {draw!r} can be drawn: choose draw from {', '.join(GROUNDS)}")
    settings = {key: value for key, value in row.items() if key not in ("draw", "synonyms")}
    known = GROUNDS[draw].__kwdefaults__ or {}
    refuse_strange(settings, set(known), f"{where} (drawn by {draw})")
    for key, value in settings.items():
        wanted = len(known[key]) if isinstance(known[key], tuple) else 0
        if not (isinstance(value, list) and len(value) == wanted and all(map(_is_colour, value)) if wanted else _is_colour(value)):
            raise SettingsError(f"{where}: {key} cannot be {value!r}: its usual value is {known[key]!r}")
    return Word(name, synonyms, draw=draw, settings=settings)


def _is_colour(text: Any) -> bool:
    return isinstance(text, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", text) is not None


def _tint(text: Any, where: str) -> tuple[float, float, float]:
    """A colour "#rrggbb" as hue, saturation and value in 0..1."""
    if not _is_colour(text):
        raise SettingsError(f'{where}: tint must be a colour such as "#2f6fe0", not {text!r}')
    red, green, blue = (int(text[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return colorsys.rgb_to_hsv(red, green, blue)


def _no_doubles(words: Words, path: Path) -> None:
    """Two words of one name could not be told apart in a caption, and a label map has room for 255."""
    seen: dict[str, str] = {}
    for word in words.all:
        for name in word.names:
            if name.lower() in seen:
                raise SettingsError(f"{path}: {name!r} stands for {seen[name.lower()]!r} and for {word.name!r}: rename one of them")
            seen[name.lower()] = word.name
    if len(words.all) > MOST_WORDS:
        raise SettingsError(f"{path} has {len(words.all)} words: a label map holds {MOST_WORDS} at most")


def plural_of(name: str) -> str:
    """The plural of a name by the rules of English spelling: dogs, foxes, butterflies; "" where only a dictionary would know."""
    if re.search(r"[^aeiou]y$", name):
        return name[:-1] + "ies"
    return name + ("es" if re.search(r"(s|x|z|ch|sh)$", name) else "s")
