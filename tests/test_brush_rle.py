"""Label Studio's brush masks against the official codec."""

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from maskwright.errors import ImageError
from maskwright.serve.brush_rle import decode_brush, encode_brush

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own deprecated calls
    from label_studio_sdk.converter import brush

QUICK = settings(max_examples=40, deadline=None)
MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=20))


@QUICK
@given(MASKS)
def test_the_official_decoder_reads_what_we_write_and_we_what_it_writes(mask: np.ndarray) -> None:
    ours, official = encode_brush(mask), brush.mask2rle(mask.astype(np.uint8) * 255)
    np.testing.assert_array_equal(brush.decode_rle(ours).reshape(*mask.shape, 4), np.repeat(mask[..., None] * np.uint8(255), 4, axis=2))
    np.testing.assert_array_equal(decode_brush(official, mask.shape), mask)
    assert official in (ours, [*ours, 0])  # it adds a byte where the bits come out even


def test_runs_longer_than_a_code_holds_are_split() -> None:
    mask = np.ones((300, 400), dtype=bool)
    mask[150, 200] = False
    np.testing.assert_array_equal(brush.decode_rle(encode_brush(mask)).reshape(300, 400, 4)[..., 3] > 0, mask)
    np.testing.assert_array_equal(decode_brush(encode_brush(mask), mask.shape), mask)
    assert len(encode_brush(mask)) < 100


@QUICK
@given(arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 4), st.just(4))), st.lists(st.booleans(), min_size=64, max_size=64))
def test_painted_masks_with_values_one_by_one_are_read(picture: np.ndarray, singly: list[bool]) -> None:
    values = picture.ravel()
    bits = f"{values.size:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (2, 3, 5, 9))
    for place, alone in zip(range(0, values.size, 4), singly, strict=False):  # either four values, or four runs of one
        bits += "000" + "11" + "".join(f"{value:08b}" for value in values[place : place + 4]) if alone else "".join(
            f"101000{value:08b}" for value in values[place : place + 4]
        )  # fmt: skip
    stream = list(int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8)))
    np.testing.assert_array_equal(brush.decode_rle(stream), values)
    np.testing.assert_array_equal(decode_brush(stream, picture.shape[:2]), picture[..., 3] > 0)


@QUICK
@given(st.binary(max_size=40), st.booleans())
def test_damaged_streams_are_told(tail: bytes, with_header: bool) -> None:
    stream = encode_brush(np.zeros((5, 5), dtype=bool))[:6] + list(tail) if with_header else list(tail)
    try:
        assert decode_brush(stream, (5, 5)).shape == (5, 5)
    except ImageError as error:
        assert "brush mask" in str(error)


@pytest.mark.parametrize("stream", [[256], ["a"], None, encode_brush(np.zeros((5, 6), dtype=bool))])
def test_what_is_no_mask_of_that_size_is_told(stream: Any) -> None:
    with pytest.raises(ImageError, match="brush mask"):
        decode_brush(stream, (5, 5))
