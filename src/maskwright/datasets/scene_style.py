"""How the scenes of a word list are painted and captioned: its table [style]."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from maskwright.errors import SettingsError

PORTRAIT_SCALE = (0.7, 0.85)
PORTRAIT_PLACE = (0.48, 0.52)
PORTRAIT_TURN = 3


@dataclass(frozen=True)
class SceneStyle:
    """How scenes are painted. Ranges are (lowest, highest); lengths are shares of the picture's side. 0 switches off.

    Attributes:
        scale: side of an object.
        place: centre of an object, along both sides.
        crowd: with more objects than this, the highest scale shrinks with the root of their number.
        turn: an object is turned by up to so many degrees either way.
        flip: share of objects that are mirrored.
        brightness: factor on an object's light.
        colour: factor on an object's saturation.
        shadow: darkness of the shadow below an object.
        visible: an object shows at least this share of the smallest object's usual area, or the scene is painted anew.
        light: strongest change of light across the picture: up to 1 + light on one side, 1 - light on the other.
        blur: largest standard deviation of the blur over the whole picture.
        noise: largest standard deviation of the noise on each pixel, of 1.
        repeat: share of scenes that show one word several times.
        family: share of scenes whose objects are of one family.
        portrait: share of training scenes that are portraits (see `for_portraits`).
        captions: "plain" are today's eight templates; "rich" adds counts, order, objects left unnamed.
        absent: share of training captions that are keyword lists, which name what is not there as well.
    """

    scale: tuple[float, float] = (0.25, 0.70)
    place: tuple[float, float] = (0.12, 0.88)
    crowd: float = 0.0
    turn: float = 25
    flip: float = 0.5
    brightness: tuple[float, float] = (0.85, 1.1)
    colour: tuple[float, float] = (0.85, 1.15)
    shadow: float = 0.35
    visible: float = 0.35
    light: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    repeat: float = 0.0
    family: float = 0.0
    portrait: float = 0.0
    captions: Literal["plain", "rich"] = "plain"
    absent: float = 0.0

    def for_portraits(self) -> "SceneStyle":
        """Of scenes that show one object: large, in the middle, hardly turned, never mirrored, sharp.

        Where things stand anywhere in any size, a network learns their colours long before their shapes; most pictures that people
        take and caption have their subject in the middle, too. The less a portrait varies, the sooner its shape is learned.
        """
        return dataclasses.replace(
            self, scale=PORTRAIT_SCALE, place=PORTRAIT_PLACE, turn=min(self.turn, PORTRAIT_TURN), flip=0.0, blur=0.0, noise=0.0,
            visible=0.0,  # nothing hides it, and a thin one need not be as large as the others
        )  # fmt: skip


def read_style(row: Any, path: Path) -> SceneStyle:
    """The table [style] of a word list.

    Args:
        row: as TOML gives it.
        path: of the list, for messages.

    Raises:
        SettingsError: a key or value that cannot be used.
    """
    fields = {field.name: field.default for field in dataclasses.fields(SceneStyle)}
    refuse_strange(row, set(fields), f"{path}: [style]")
    values: dict[str, Any] = {}
    for name, value in row.items():
        usual = fields[name]
        if name == "captions":
            fits = value in ("plain", "rich")
        elif isinstance(usual, tuple):
            fits = isinstance(value, list) and [type(v) in (int, float) for v in value] == [True, True] and 0 < value[0] <= value[1]
        else:
            fits = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        if not fits:
            raise SettingsError(f"{path}: [style] {name} cannot be {value!r}: its usual value is {usual!r}")
        values[name] = tuple(value) if isinstance(value, list) else value
    return SceneStyle(**values)


def refuse_strange(row: Mapping[str, Any], allowed: set[str], where: str) -> None:
    """Raises SettingsError for keys that nothing would read."""
    if strange := sorted(set(row) - allowed):
        raise SettingsError(f"{where}: {', '.join(strange)} means nothing here: choose from {', '.join(sorted(allowed))}")
