"""Pictures of a run inside the page: which to show, and small copies of their overlays as data URIs."""

import base64
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

LONGEST = 420  # pixels of the longer side of a copy
QUALITY = 74
FOLDER = "overlays"  # inside the folder of a run
PLAIN = " ()[]=,+"  # signs that a file name may have beside letters, digits and -._
LONGEST_NAME = 120  # characters of a part of a file name


@dataclass(frozen=True)
class Shown:
    """A picture that is worth looking at: its name, its value, and "best", "middle" or "worst"."""

    name: str
    value: float
    group: str


def choose_pictures(pictures: Sequence[Mapping[str, Any]], *, each: int = 3, higher: bool = True) -> list[Shown]:
    """The best, the middle and the worst pictures of a method; none twice.

    Args:
        pictures: name and value of each; those without a value are left out.
        each: so many of each group, if there are enough.
        higher: whether more is better.

    Returns:
        In the order best, middle, worst; equal values in the order of their names. Few pictures fill the groups in the order
        best, worst, middle.
    """
    valued = [(entry["name"], entry["value"]) for entry in pictures if entry["value"] is not None and math.isfinite(entry["value"])]
    ranked = sorted(valued, key=lambda pair: (-pair[1] if higher else pair[1], pair[0]))
    best = ranked[:each]
    worst = ranked[max(each, len(ranked) - each) :]
    rest = ranked[each : len(ranked) - len(worst)]
    start = max(0, (len(rest) - each + 1) // 2)
    groups = {"best": best, "middle": rest[start : start + each], "worst": worst}
    return [Shown(name, value, group) for group, chosen in groups.items() for name, value in chosen]


def overlay_path(folder: Path, picture: str, method: str) -> Path:
    """Where the overlay of a picture lies that a method made."""
    return folder / f"{_file_name(picture)}.{_file_name(method)}.png"


def truth_path(folder: Path, picture: str) -> Path:
    """Where the overlay of a picture's ground truth lies."""
    return folder / f"{_file_name(picture)}.png"


def embed(path: Path) -> str | None:
    """A small copy of a picture file as a data URI; None where there is no such file or it holds no picture."""
    try:
        with Image.open(path) as file:
            picture = file.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _file_name(text: str) -> str:
    """A name as part of a file name: no folders in it, and never too long."""
    quoted = quote(text, safe=PLAIN, errors="surrogatepass")
    if len(quoted) <= LONGEST_NAME:
        return quoted
    return f"{quoted[: LONGEST_NAME - 17]}-{hashlib.sha256(quoted.encode()).hexdigest()[:16]}"
