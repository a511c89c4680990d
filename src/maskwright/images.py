"""Pictures: opening and finding them, bringing them to the size a model works at, and its maps back to theirs."""

import glob
import io
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from maskwright import decoding
from maskwright.decoding import Pixels
from maskwright.errors import ImageError

if TYPE_CHECKING:
    import torch

Size: TypeAlias = tuple[int, int]
ImageLike: TypeAlias = "str | os.PathLike[str] | bytes | BinaryIO | Image.Image | npt.NDArray[Any] | torch.Tensor | Picture"

LIMIT = 150_000_000  # pixels
SUFFIXES = frozenset(".avif .bmp .gif .j2k .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split())
OWN_OUTPUTS = (".labels.png", ".overlay.png", ".mask.png")  # results left in a folder of pictures are not its pictures


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded, upright picture.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        name: stem for output files, "picture" where nothing better is known.
        source: where it came from, for messages and records.
    """

    pixels: Pixels
    name: str
    source: str

    def __post_init__(self) -> None:
        """Refuses pixels that are not (H, W, 3) uint8 with at least one pixel."""
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 3 or self.pixels.shape[2] != 3 or self.pixels.size == 0:
            found = f"{self.pixels.shape} {self.pixels.dtype}"
            raise ImageError(f"a Picture needs (H, W, 3) uint8 pixels, not {found}: let Picture.open convert them")

    @property
    def size(self) -> Size:
        """(H, W)."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @classmethod
    def open(cls, image: ImageLike, *, limit: int = LIMIT) -> "Picture":
        """Reads a picture from whatever holds one.

        EXIF orientation is applied, transparency is laid over white, 16 bits are scaled to 8; an animation gives its first frame.

        Args:
            image: a path, the bytes of a picture file, a binary stream, a Pillow image, an array (H, W), (H, W, 3) or (H, W, 4)
                or a tensor (C, H, W), both of uint8 or of floats in 0..1, or a Picture (returned as it is).
            limit: the most pixels; a larger file is refused before it is decoded.

        Raises:
            ImageError: one line that names the picture, what is wrong and how to mend it.
        """
        torch = sys.modules.get("torch")  # a tensor can only come from a torch that is already imported
        if isinstance(image, Picture):
            return image
        if isinstance(image, str | os.PathLike):
            return cls._from_file(os.fspath(image), limit)
        if isinstance(image, bytes | bytearray | memoryview):
            return cls(decoding.from_stream(io.BytesIO(image), "the picture given as bytes", limit=limit), "picture", "bytes")
        if isinstance(image, Image.Image):
            path = str(getattr(image, "filename", ""))
            where = repr(path) if path else "the Pillow image"
            return cls(decoding.from_pillow(image, where, limit=limit), Path(path).stem or "picture", path or "pillow")
        if isinstance(image, np.ndarray):
            return cls(decoding.from_array(image), "picture", "array")
        if torch is not None and isinstance(image, torch.Tensor):
            return cls(decoding.from_tensor(image), "picture", "tensor")
        if hasattr(image, "read"):
            return cls._from_stream(cast(BinaryIO, image), limit)
        kind = type(image).__name__
        raise ImageError(f"a {kind} holds no picture: give a path, bytes, a binary stream, a Pillow image, an array or a tensor")

    @classmethod
    def _from_file(cls, path: str, limit: int) -> "Picture":
        where = repr(path)  # quoted and escaped: a message stays one printable line whatever the name
        if path.startswith(("http://", "https://")):
            raise ImageError(f"{where} is an address: download the picture and give its path")
        try:
            with Path(path).open("rb") as stream:
                return cls(decoding.from_stream(stream, where, limit=limit), Path(path).stem, path)
        except FileNotFoundError:
            raise ImageError(f"{where} does not exist: check the path") from None
        except IsADirectoryError:
            raise ImageError(f"{where} is a folder: name a picture in it, or list them with find_pictures") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ImageError(f"{where} cannot be opened ({reason}): check path and permissions") from error

    @classmethod
    def _from_stream(cls, stream: BinaryIO, limit: int) -> "Picture":
        label = getattr(stream, "name", None)
        source = label if isinstance(label, str) and label else "stream"
        content = stream.read()
        if not isinstance(content, bytes | bytearray | memoryview):
            raise ImageError(f"the stream {source!r} gives text: open it in binary mode, 'rb'")
        pixels = decoding.from_stream(io.BytesIO(content), f"the stream {source!r}", limit=limit)
        return cls(pixels, Path(source).stem.strip("<>") or "picture", source)


def find_pictures(inputs: Sequence[str | os.PathLike[str]] | str) -> list[Path]:
    """Lists the picture files that the inputs name.

    Args:
        inputs: files (always taken, whatever their extension), folders (searched through, hidden names and other files skipped),
            and patterns with *, ?, [] or ** (matched as in a shell; a pattern that spells out an extension takes it).

    Returns:
        Paths in the order of the inputs, sorted within each; what is named twice is listed once.

    Raises:
        ImageError: an input that does not exist, a folder without pictures or a pattern that matches none; it names the input.
    """
    names = [inputs] if isinstance(inputs, str) else [os.fspath(one) for one in inputs]
    if not names or "" in names:
        raise ImageError("no picture is named: give files, folders or patterns such as 'photos/*.jpg'")
    found = [path for name in names for path in _expand(name)]
    first: dict[str, Path] = {}
    for path in found:
        # The folder's real path, since ** follows links round in circles; not the file's, since two names may well share a file.
        first.setdefault(os.path.join(os.path.realpath(path.parent), path.name), path)
    return list(first.values())


def _expand(name: str) -> list[Path]:
    """The pictures that one input names, sorted; at least one."""
    path = Path(name)
    try:
        if path.is_dir():
            found = sorted(_walk(path))
            lacking = f"the folder {name!r} holds no pictures: give another one ({' '.join(sorted(SUFFIXES))} are looked for)"
        elif path.exists():
            return [path]
        elif glob.has_magic(name):
            found = sorted(match for match in map(Path, glob.iglob(name, recursive=True)) if _is_picture(match, path.suffix))
            lacking = f"no picture matches {name!r}: check the pattern"
        else:
            raise ImageError(f"{name!r} does not exist: check the path")
    except (OSError, ValueError) as error:
        raise ImageError(f"{name!r} cannot be searched ({error}): check path and permissions") from error
    if not found:
        raise ImageError(lacking)
    return found


def _walk(folder: Path) -> Iterator[Path]:
    """All pictures below a folder, in no order; links to folders are not followed, since they may lead round in circles."""

    def refuse(error: OSError) -> None:
        raise error

    for root, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (path for path in (Path(root, name) for name in files if not name.startswith(".")) if _is_picture(path))


def _is_picture(path: Path, also: str = "") -> bool:
    """Whether a path is a file with a picture's suffix, or with the suffix `also`, and not one of our own results."""
    known = path.suffix.lower() in SUFFIXES or (also != "" and path.suffix.lower() == also.lower())
    return known and not path.name.endswith(OWN_OUTPUTS) and path.is_file()


def working_size(size: Size, *, native: int, multiple: int, max_aspect: float = 4.0) -> Size:
    """The size at which a model reads a picture: the picture's aspect ratio at the model's native area.

    Args:
        size: (H, W) of the picture.
        native: side in pixels of the square pictures that the model was trained on.
        multiple: both sides of the result are multiples of this.
        max_aspect: a picture that is longer than this, seen either way, is read as if it were only so long, hence squashed.

    Returns:
        (h, w): of the roundings of the ideal size, the one that is nearest in area and aspect ratio, where a factor in the aspect
        counts twice as much as the same factor in the area. A square picture gives (native, native) if `multiple` divides it.
    """
    aspect = min(max(size[0] / size[1], 1 / max_aspect), max_aspect)
    ideal = native * sqrt(aspect) / multiple, native / sqrt(aspect) / multiple

    def error(units: Size) -> float:
        tall, wide = log(units[0] / ideal[0]), log(units[1] / ideal[1])
        return (tall + wide) ** 2 + (2 * (tall - wide)) ** 2

    candidates = ((h, w) for h in _roundings(ideal[0]) for w in _roundings(ideal[1]))
    best = min(candidates, key=error)
    return best[0] * multiple, best[1] * multiple


def _roundings(value: float) -> Sequence[int]:
    """The positive whole numbers next to a positive value, two on either side."""
    return range(max(1, int(value) - 1), int(value) + 3)


def shrunk_size(size: Size, *, pixels: int) -> Size:
    """The largest (h, w) of about the aspect ratio of `size` (H, W) with at most `pixels` pixels; `size` itself where it fits."""
    if size[0] * size[1] <= pixels:
        return size
    scale = sqrt(pixels / (size[0] * size[1]))
    h, w = max(1, int(size[0] * scale)), max(1, int(size[1] * scale))
    return min(h, pixels // w) or 1, min(w, pixels // h) or 1


def resize(picture: Picture | Pixels, size: Size) -> Pixels:
    """A picture (H, W, 3) uint8 at the size (h, w), antialiased, no half-pixel shift; at its own size the pixels themselves."""
    pixels = picture.pixels if isinstance(picture, Picture) else picture
    if pixels.shape[:2] == tuple(size):
        return pixels
    # Lanczos, because Stable Diffusion's own preprocessing uses it.
    return np.array(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.LANCZOS, reducing_gap=3.0))


def to_tensor(arrays: Sequence[Pixels]) -> "torch.Tensor":
    """Pictures (h, w, 3) uint8 of one size as (B, 3, h, w) float32 in -1..1, channels last in memory (fast to convolve)."""
    import torch

    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 127.5 - 1  # (B, h, w, 3) -> (B, 3, h, w)


def upsample(maps: "torch.Tensor", size: Size) -> "torch.Tensor":
    """Maps (C, h, w) float at the size (H, W): bilinear, no half-pixel shift, borders held. A side that shrinks is antialiased.

    Every map of this project is resized here and nowhere else. At its own size it comes back as it is.
    """
    from torch.nn import functional

    height, width = maps.shape[-2:]
    if (height, width) == tuple(size):
        return maps
    shrinks = size[0] < height or size[1] < width
    return functional.interpolate(maps[None], size=tuple(size), mode="bilinear", align_corners=False, antialias=shrinks)[0]
