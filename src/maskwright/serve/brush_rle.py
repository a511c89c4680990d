"""Label Studio's brush masks: the run lengths of an RGBA picture, as a stream of bits.

The stream is that of thi.ng's rle-pack, which Label Studio's page reads: 32 bits for the number of values, 5 for the bits of a value
less 1, four times 4 for the bits of a run length less 1; then runs. A run is one bit (1: one value repeated, 0: values one by one),
two bits that choose among the four sizes, the length less 1 in that many bits, and the value or the values. The highest bit is first.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from maskwright.errors import ImageError

Mask = npt.NDArray[np.bool_]

CHANNELS = 4
WORD = 8  # bits of a value, 0 or 255
SIZES = (3, 4, 8, 16)  # bits of a run length
LONGEST = 1 << SIZES[-1]  # values in one run


def encode_brush(mask: Mask) -> list[int]:
    """A mask as Label Studio's page and converters read it.

    Args:
        mask: (H, W) bool.

    Returns:
        Bytes 0..255: the runs of the (H, W, 4) picture that is 255 in all channels inside the mask and 0 outside.

    Raises:
        ImageError: a mask of more pixels than the stream can count, 2 ** 30 - 1.
    """
    flat = mask.ravel()
    if flat.size * CHANNELS >= 1 << 32:
        raise ImageError(f"a brush mask of {flat.size} pixels is too large for Label Studio: reduce the picture")
    edges = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]])
    lengths, values = _split(np.diff(edges) * CHANNELS, flat[edges[:-1]].astype(np.uint64) * np.uint64(255))
    choice = np.searchsorted([1 << size for size in SIZES[:-1]], lengths)
    sizes = np.array(SIZES, dtype=np.uint64)[choice]
    codes = (((np.uint64(4) | choice.astype(np.uint64)) << sizes) | (lengths - 1).astype(np.uint64)) << np.uint64(WORD) | values
    bits = np.concatenate([_header(flat.size * CHANNELS), _write(codes, sizes.astype(np.int64) + 3 + WORD)])
    stream: list[int] = np.packbits(bits).tolist()
    return stream


def decode_brush(rle: Sequence[int], size: tuple[int, int]) -> Mask:
    """The mask of a brush region, ours or one that was painted.

    Args:
        rle: the region's value["rle"], bytes 0..255.
        size: (H, W), the region's original_height and original_width.

    Returns:
        (H, W) bool, where the picture is not transparent.

    Raises:
        ImageError: a stream that is damaged, or of a picture of another size.
    """
    try:
        stream = _Bits(bytes(rle))
    except (TypeError, ValueError) as error:
        raise ImageError("a brush mask is a list of bytes 0..255: give value['rle'] of a brush region") from error
    count, expected = stream.read(32), size[0] * size[1] * CHANNELS
    if count != expected:
        raise ImageError(f"the brush mask has {count} values, not the {expected} of {size[1]} x {size[0]} RGBA pixels: check its size")
    word = stream.read(5) + 1
    sizes = [stream.read(4) + 1 for _ in SIZES]
    values = np.zeros(count, dtype=np.bool_)
    place = 0
    while place < count:
        repeated = stream.read(1)
        end = place + 1 + stream.read(sizes[stream.read(2)])
        if end > count:
            raise ImageError("the brush mask is damaged, a run passes its end: export the annotation again")
        if repeated:
            values[place:end] = stream.read(word) != 0
        else:
            values[place:end] = [stream.read(word) != 0 for _ in range(end - place)]
        place = end
    return values.reshape(*size, CHANNELS)[..., 3]  # (H, W, 4): alpha decides


def _split(lengths: npt.NDArray[np.int64], values: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """Runs longer than one code holds become several."""
    pieces = -(-lengths // LONGEST)
    split = np.full(int(pieces.sum()), LONGEST, dtype=np.int64)
    split[np.cumsum(pieces) - 1] = lengths - (pieces - 1) * LONGEST
    return split, np.repeat(values, pieces)


def _header(count: int) -> npt.NDArray[np.uint8]:
    text = f"{count:032b}{WORD - 1:05b}" + "".join(f"{size - 1:04b}" for size in SIZES)
    return np.frombuffer(text.encode(), dtype=np.uint8) - ord("0")


def _write(codes: npt.NDArray[np.uint64], widths: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """The lowest `widths` bits of each code, one after the other, the highest first."""
    ends = np.cumsum(widths)
    shifts = np.repeat(ends, widths) - 1 - np.arange(ends[-1])
    return (np.repeat(codes, widths) >> shifts.astype(np.uint64) & np.uint64(1)).astype(np.uint8)


class _Bits:
    """Reads whole numbers of any width from bytes, the highest bit first."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def read(self, width: int) -> int:
        first, end = self.place // 8, self.place + width
        if end > len(self.data) * 8:
            raise ImageError("the brush mask is damaged, it ends too early: export the annotation again")
        window = self.data[first : -(-end // 8)]
        self.place = end
        return int.from_bytes(window) >> (-end % 8) & ((1 << width) - 1)
