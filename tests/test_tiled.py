"""Large pictures: the whole decides, tiles sharpen."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from maskwright.images import Picture, resize, to_tensor, upsample
from maskwright.tiled import sharpen_by_tiles, tiles_are_worthwhile
from tests.tiny import pixels

WORKING = (16, 24)  # pixels at which a picture is read


def brightness(pictures: Sequence[Picture]) -> Tensor:
    """A method that needs no model: maps (pictures, 2, 4, 6) of brightness and of darkness at a quarter of the side."""
    read = to_tensor([resize(picture, WORKING) for picture in pictures])
    bright = torch.nn.functional.avg_pool2d(read.mean(1, keepdim=True), 4)
    return torch.cat([bright, -bright], 1)


def smooth_picture(size: tuple[int, int]) -> Picture:
    y, x = np.mgrid[: size[0], : size[1]]
    wave = 127 + 60 * np.sin(y / size[0] * 7) + 60 * np.cos(x / size[1] * 9)
    return Picture(np.repeat(wave[..., None], 3, 2).astype(np.uint8), "wave", "wave")


def test_when_tiles_show_more() -> None:
    assert not tiles_are_worthwhile((16, 24), WORKING) and not tiles_are_worthwhile((23, 30), WORKING)
    assert tiles_are_worthwhile((24, 24), WORKING) and tiles_are_worthwhile((10, 36), WORKING)


@pytest.mark.parametrize("size", [(48, 72), (40, 60), (400, 600), (36, 72)])
def test_tiles_are_finer_and_nearer_to_the_truth(size: tuple[int, int]) -> None:
    picture = smooth_picture(size)
    whole = brightness([picture])[0]
    finer = sharpen_by_tiles(picture, whole, WORKING, brightness)
    zoom = min(max(size[0] / 16, size[1] / 24), 3)
    assert finer.shape == (2, np.ceil(4 * zoom), np.ceil(6 * zoom)) and finer.dtype == torch.float32
    truth = upsample(to_tensor([picture.pixels])[0, :1], tuple(finer.shape[-2:]))[0]
    coarse = upsample(whole, tuple(finer.shape[-2:]))
    assert float((finer[0] - truth).abs().mean()) < float((coarse[0] - truth).abs().mean())
    assert float((finer[0] + finer[1]).abs().max()) < 1e-5  # both labels are treated alike


def test_tiles_stay_in_the_range_of_the_whole() -> None:
    picture = Picture(pixels(3, size=(48, 72)), "noise", "noise")
    whole = brightness([picture])[0]
    finer = sharpen_by_tiles(picture, whole, WORKING, lambda batch: 100 * brightness(batch) + 7)
    assert float(finer.min()) >= float(whole.min()) - 1e-5 and float(finer.max()) <= float(whole.max()) + 1e-5


def test_a_constant_stays_that_constant() -> None:
    picture = Picture(np.full((48, 72, 3), 90, np.uint8), "flat", "flat")
    whole = torch.full((2, 4, 6), 0.3)
    finer = sharpen_by_tiles(picture, whole, WORKING, lambda batch: torch.full((len(batch), 2, 4, 6), 9.0))
    torch.testing.assert_close(finer, torch.full_like(finer, 0.3))


def test_tiles_are_read_at_the_working_size() -> None:
    seen: list[tuple[int, int]] = []

    def score(batch: Sequence[Picture]) -> Tensor:
        seen.extend(picture.size for picture in batch)
        return brightness(batch)

    sharpen_by_tiles(smooth_picture((500, 800)), brightness([smooth_picture((500, 800))])[0], WORKING, score)
    assert set(seen) == {WORKING} and len(seen) == 16
