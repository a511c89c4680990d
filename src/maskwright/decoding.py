"""Whatever holds a picture (file, Pillow image, array, tensor) becomes (H, W, 3) uint8 RGB pixels, or one clear ImageError."""

import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from maskwright.errors import ImageError, TooLargeError

if TYPE_CHECKING:
    import torch

Pixels = npt.NDArray[np.uint8]

# Formats that announce themselves in their first bytes and that Pillow decodes alone: TGA may take a text file for a picture,
# and EPS starts a program.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "PPM", "AVIF")
ORIENTATION = 0x0112  # the EXIF tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SLACK = 0.5 / 255  # floats may leave 0..1 by so much, as resampling and half precision make them
_silence = threading.Lock()


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keeps Pillow's warnings from the caller; one thread at a time, because the filters belong to the whole process."""
    with _silence, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _identify(stream: BinaryIO) -> Image.Image | None:
    """The picture in the stream with only its header read, or None if it starts like none.

    `Image.open` is not used because it applies Pillow's own limit on pixels, which only a global setting raises.

    Raises:
        Exception: whatever Pillow raises for a damaged header.
    """
    Image.init()
    start = stream.read(16)
    failure: Exception | None = None
    for name in FORMATS:
        factory, accepts = Image.OPEN.get(name, (None, None))
        if factory is None or accepts is None or accepts(start) is not True:
            continue
        stream.seek(0)
        try:
            return factory(stream, "")
        except (SyntaxError, IndexError, TypeError, struct.error) as error:  # Pillow's way of saying "not mine after all"
            failure = error
    if failure is not None:
        raise failure
    return None


def from_stream(stream: BinaryIO, where: str, *, limit: int) -> Pixels:
    """Decodes an encoded picture.

    Args:
        stream: a seekable binary stream, read from its start.
        where: how messages name it.
        limit: the most pixels; a larger picture is refused from its header, before anything is decoded.

    Returns:
        (H, W, 3) uint8 RGB, the first frame of an animation.

    Raises:
        ImageError: empty, not a picture, too large, cut short or damaged.
    """
    if not stream.read(1):
        raise ImageError(f"{where} is empty (0 bytes): copy or download it again")
    stream.seek(0)
    try:
        with _without_warnings():
            image = _identify(stream)
    except Exception as error:
        raise _damaged(where, error) from error
    if image is None:
        raise ImageError(f"{where} is not a picture that can be read ({', '.join(FORMATS)}): convert it to PNG or JPEG")
    with image:
        return from_pillow(image, where, limit=limit)


def from_pillow(image: Image.Image, where: str, *, limit: int) -> Pixels:
    """Decodes a Pillow image, turned upright by its EXIF orientation.

    Args:
        image: any mode; it may still be undecoded.
        where: how messages name it.
        limit: the most pixels.

    Returns:
        (H, W, 3) uint8 RGB; transparency is laid over white, 16 bits and floats are scaled to 8.

    Raises:
        TooLargeError: over the limit.
        ImageError: no pixels, cut short or damaged, or values outside the usual range.
    """
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError(f"{where} has no pixels ({width} x {height}): give a picture of at least 1 x 1")
    if width * height > limit:
        raise TooLargeError(
            f"{where} has {width} x {height} pixels, over the limit of {limit:,}: shrink it, or raise `limit` if you trust it"
        )
    try:
        _load(image)
        turn = TURNS.get(_orientation(image))
        return _rgb(image.transpose(turn) if turn is not None else image, where)
    except ImageError:
        raise
    except Exception as error:
        raise _damaged(where, error) from error


def _damaged(where: str, error: Exception) -> ImageError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return ImageError(f"{where} is cut short or damaged ({reason}): copy or download it again")


def _load(image: Image.Image) -> None:
    """Decodes in place; only TIFF warns while it does, and only there do threads wait for each other."""
    if image.format == "TIFF":
        with _without_warnings():
            image.load()
    image.load()


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) where none can be read. To be asked after decoding, when a TIFF has turned itself."""
    try:
        with _without_warnings():
            return int(image.getexif().get(ORIENTATION, 1))
    except (SyntaxError, ValueError, TypeError, KeyError, IndexError, OSError, struct.error):
        return 1


def _rgb(image: Image.Image, where: str) -> Pixels:
    """(H, W, 3) uint8 of an upright, decoded Pillow image of any mode."""
    if image.mode == "F" or image.mode.startswith("I"):
        image = Image.fromarray(_eight_bits(np.asarray(image), where))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def _eight_bits(values: npt.NDArray[Any], where: str) -> Pixels:
    """Values of any dtype and shape as uint8: floats are 0..1, booleans 0 and 1, wider integers 0..65535."""
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind == "f":
        return _from_floats(values, where)
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 65535:
        raise ImageError(f"{where} holds integers outside 0..65535: scale them to 8 or 16 bits")
    return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _from_floats(values: npt.NDArray[Any], where: str) -> Pixels:
    if not np.isfinite(values).all():
        raise ImageError(f"{where} holds NaN or infinite values: replace them first, for instance with numpy.nan_to_num")
    low, high = float(values.min()), float(values.max())
    if low < -SLACK or high > 1 + SLACK:
        hint = "use (x + 1) / 2" if low >= -1 - SLACK and high <= 1 + SLACK else "divide by 255 or use uint8"
        raise ImageError(f"{where} holds floats from {low:.3g} to {high:.3g} where 0..1 is expected: {hint}")
    return np.rint(np.clip(values.astype(np.float32), 0, 1) * 255).astype(np.uint8)


def from_array(array: npt.NDArray[Any], where: str = "the array") -> Pixels:
    """Converts an array (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA of uint8, uint16, bool, or floats in 0..1.

    Returns:
        (H, W, 3) uint8 RGB, never a view of the array.

    Raises:
        ImageError: another shape or dtype, no pixels, NaN, or floats outside 0..1.
    """
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(f"{where} has shape {array.shape} where (H, W), (H, W, 3) or (H, W, 4) is expected{_shape_hint(array)}")
    if array.size == 0:
        raise ImageError(f"{where} has no pixels (shape {array.shape}): give a picture of at least 1 x 1")
    if array.dtype.kind != "f" and array.dtype not in (np.uint8, np.uint16, np.bool_):
        raise ImageError(f"{where} has dtype {array.dtype}: convert it to uint8 (0..255), uint16 or floats in 0..1")
    values = _eight_bits(array, where)
    return _rgb(Image.fromarray(values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values), where)


def _shape_hint(array: npt.NDArray[Any]) -> str:
    if array.ndim == 4:
        return ": give one picture at a time, array[0]"
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):
        return ": put the channels last with array.transpose(1, 2, 0)"
    return ": reshape it"


def from_tensor(tensor: "torch.Tensor", where: str = "the tensor") -> Pixels:
    """Converts a tensor (C, H, W) with 1, 3 (RGB) or 4 (RGBA) channels, or (H, W), of uint8, uint16, bool, or floats in 0..1.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: as `from_array`.
    """
    shape = tuple(tensor.shape)
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 3, 4)):
        hint = "give one picture at a time, tensor[0]" if len(shape) == 4 else "put channels first with tensor.permute(2, 0, 1)"
        raise ImageError(f"{where} has shape {shape} where (3, H, W) or (H, W) is expected: {hint}")
    plain = tensor.detach().cpu()
    if plain.is_floating_point():
        plain = plain.float()  # NumPy has no bfloat16
    return from_array((plain if plain.ndim == 2 else plain.permute(1, 2, 0)).numpy(), where)
