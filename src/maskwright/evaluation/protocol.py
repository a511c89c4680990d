"""What a number means: which labels compete, what is background, at which size, how segments find classes, what is averaged."""

import functools
import json
import math
import tomllib
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from maskwright.errors import SettingsError

Asked = Literal["all", "present", "family", "filtered"]
Ground = Literal["own", "fixed", "best", "word", "none"]
Matching = Literal["picture", "dataset"]
Average = Literal["set", "pictures"]
Crop = Literal["none", "square"]
SpareSegments = Literal["wrong", "published", "background", "stego"]  # as `matching.Spare`, whose module imports SciPy
OnlyPredicted = Literal["skip", "zero"]
TRIED = tuple(round(0.05 * step, 2) for step in range(1, 20))
CHOICES: dict[str, tuple[str, ...]] = {
    "labels": get_args(Asked), "background": get_args(Ground), "matching": get_args(Matching), "spare": get_args(SpareSegments),
    "only_predicted": get_args(OnlyPredicted), "average": get_args(Average), "crop": get_args(Crop),
}  # fmt: skip


@dataclass(frozen=True)
class Protocol:
    """How predictions become numbers.

    Attributes:
        name: what the command line calls it; changed fields are added to it.
        labels: "all": every class of the set competes in every picture; "present": the classes of the picture's ground truth, an oracle;
            "family": these and the classes that the set calls hard to tell from them, an oracle, too;
            "filtered": those that a category filter leaves.
        background: of sets with a background class. "own": the method's own threshold, or the class's own text where the method has
            none; "fixed": `threshold`; "best": the threshold of `thresholds` with the highest mIoU on the ground truth, beside the fixed
            one; "word": the class's text competes; "none": its pixels are not scored.
        threshold: of "fixed" and "best"; None for the method's own, 0.5 where it has none.
        thresholds: tried by "best", in rising order.
        crop: "square" reads and scores the central square of each picture only; boxes are never cropped.
        resolution: "original", or (height, width) to which truth and prediction are brought by their nearest pixel before counting.
        matching: segments without names find their classes per "picture" or once over the "dataset".
        spare: what becomes of segments beyond the matched ones, see `matching`.
        only_predicted: whether classes that are predicted but never true "skip" the mean or count as "zero".
        average: the main mIoU is of the counts summed over the "set", or the mean over "pictures".
        wording: texts of the classes, where the set has published ones of this name; "" for the set's own.
        source: where the protocol comes from.

    Raises:
        SettingsError: a value that is not among the choices.
    """

    name: str = "maskwright"
    labels: Asked = "all"
    background: Ground = "own"
    threshold: float | None = None
    thresholds: tuple[float, ...] = field(default=TRIED)
    crop: Crop = "none"
    resolution: Literal["original"] | tuple[int, int] = "original"
    matching: Matching = "picture"
    spare: SpareSegments = "wrong"
    only_predicted: OnlyPredicted = "skip"
    average: Average = "set"
    wording: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        """Refuses what is not among the choices, and two fields that do not go together."""
        for name, choices in CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise SettingsError(f"protocol: {name} must be one of {', '.join(choices)}, not {value!r}")
        numbers = (*self.thresholds, *(() if self.threshold is None else (self.threshold,)))
        if not all(_is_number(number) for number in numbers):
            raise SettingsError(f"protocol: thresholds are finite numbers, not {numbers}")
        if not self.thresholds or list(self.thresholds) != sorted(set(self.thresholds)):
            raise SettingsError(f"protocol: thresholds must rise, and there must be one at least, not {self.thresholds}")
        if self.resolution != "original" and not (
            isinstance(self.resolution, tuple) and len(self.resolution) == 2 and all(type(n) is int and n > 0 for n in self.resolution)
        ):
            raise SettingsError(f"protocol: resolution must be original or HEIGHTxWIDTH, not {self.resolution!r}")
        if self.matching == "picture" and self.spare == "stego":
            raise SettingsError("protocol: spare=stego matches over the data set: add matching=dataset")
        if self.matching == "dataset" and self.spare == "background":
            raise SettingsError("protocol: spare=background matches per picture: add matching=picture")

    @property
    def tells_classes(self) -> bool:
        """Whether the truth of a picture decides which classes compete in it: an oracle."""
        return self.labels in ("present", "family")

    def as_dict(self) -> dict[str, Any]:
        """All fields as plain JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Protocol":
        """What `as_dict` gave.

        Raises:
            SettingsError: an unknown field or value.
        """
        known = {entry.name for entry in fields(cls)}
        if unknown := sorted(set(content) - known):
            raise SettingsError(f"protocol: no field {', '.join(unknown)}: there are {', '.join(sorted(known))}")
        values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
        return cls(**values)

    def describe(self) -> str:
        """Every field that decides a number, in one line."""
        size = "original size" if self.resolution == "original" else "{} x {} pixels".format(*self.resolution)
        size = f"central square, {size}" if self.crop == "square" else size
        threshold = "the method's own" if self.threshold is None else f"{self.threshold:g}"
        background = {
            "own": "the method's own", "fixed": f"threshold {threshold}", "word": "its word competes", "none": "not scored",
            "best": f"threshold {threshold}, and the best of {len(self.thresholds)} chosen on the ground truth",
        }[self.background]  # fmt: skip
        asked = {"all": "all classes", "present": "the classes of each picture (oracle)", "filtered": "classes that a filter leaves",
                 "family": "the classes of each picture and their families (oracle)"}  # fmt: skip
        over = {"set": "counts summed over the set", "pictures": "mean over pictures"}[self.average]
        texts = f"; texts {self.wording}" if self.wording else ""
        return (
            f"{self.name}: {asked[self.labels]}; background {background}; {size}; {over}, classes only predicted: {self.only_predicted}; "
            f"segments matched per {self.matching}, spare ones: {self.spare}{texts}"
        )  # fmt: skip


@functools.cache
def named_protocols() -> dict[str, Protocol]:
    """The protocols of protocols.toml by name."""
    table = tomllib.loads((Path(__file__).parent / "protocols.toml").read_text(encoding="utf-8"))
    return {name: Protocol.from_dict({"name": name, **row}) for name, row in table.items()}


def parse_protocol(text: str) -> Protocol:
    """Reads "NAME", "NAME,FIELD=VALUE,..." or "FIELD=VALUE,...": a named protocol with changed fields.

    Args:
        text: for instance "paper:diffseg,spare=wrong" or "labels=present,background=best,resolution=512x512"; in a list of thresholds
            numbers are separated by "/".

    Raises:
        SettingsError: an unknown name, field or value; it lists what there is.
    """
    parts = [part.strip() for part in text.split(",")]
    name = "maskwright" if "=" in parts[0] else parts.pop(0)
    if name not in named_protocols():
        raise SettingsError(f"there is no protocol {name!r}: choose one of {', '.join(named_protocols())}")
    protocol = named_protocols()[name]
    changes: dict[str, Any] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals or key not in _CHANGEABLE:
            raise SettingsError(f"protocol: {part!r} is not FIELD=VALUE with one of the fields {', '.join(_CHANGEABLE)}")
        changes[key] = _read(key, value)
    changed = replace(protocol, **changes)
    different = [f"{key}={_write(getattr(changed, key))}" for key in changes if getattr(changed, key) != getattr(protocol, key)]
    return replace(changed, name=",".join([name, *different]))


_CHANGEABLE = tuple(entry.name for entry in fields(Protocol) if entry.name not in ("name", "source"))


def _read(key: str, value: str) -> Any:
    """A field's value from text."""
    try:
        if key == "threshold":
            return None if value == "none" else float(value)
        if key == "thresholds":
            return tuple(float(number) for number in value.split("/"))
        if key == "resolution" and value != "original":
            return tuple(int(side) for side in value.split("x"))
    except ValueError:
        example = {"threshold": "0.5", "thresholds": "0.3/0.4/0.5", "resolution": "512x512"}[key]
        raise SettingsError(f"protocol: {key}={value!r} cannot be read: write for instance {key}={example}") from None
    return value


def _write(value: Any) -> str:
    if isinstance(value, tuple):
        return ("x" if all(isinstance(item, int) for item in value) else "/").join(map(json.dumps, value))
    return "none" if value is None else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
