"""The guided filter with a colour guide (He, Sun, Tang, "Guided Image Filtering", PAMI 2013), in its fast form (He, Sun, 2015).

In every small window a map is written as a linear function of the picture's colour, so that it may change only where the colour
does. The coefficients are computed at a reduced size and applied at the full one; running sums make the cost independent of the
window.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

from maskwright.decoding import Pixels
from maskwright.images import Size, resize, shrunk_size, upsample


@dataclass(frozen=True)
class GuidedSettings:
    """Settings of the guided filter.

    Attributes:
        radius: half a window's side, in cells of the score grid.
        grid: cells along the side of a square score grid, where the caller does not tell the real one.
        eps: regularisation for colours in 0..1; a larger one keeps more of the map's own softness and follows fewer faint edges.
        pixels: the coefficients are computed on at most so many pixels.
    """

    radius: float = 1.5
    grid: int = 32
    eps: float = 1e-4
    pixels: int = 512 * 512


@dataclass(frozen=True, eq=False)
class _Guide:
    """What depends on the picture alone, at the reduced size (h, w), float64 where the device has it."""

    colours: torch.Tensor  # (3, h, w) in 0..1
    mean: torch.Tensor  # (3, h, w)
    inverse: torch.Tensor  # (3, 3, h, w), of the covariance of the colours plus eps


class GuidedFilter:
    """A guided filter for one picture."""

    def __init__(self, pixels: Pixels, settings: GuidedSettings, *, grid: Size | None = None) -> None:
        """Keeps the picture; see `make_refiner` for the arguments."""
        self._pixels = torch.from_numpy(pixels.copy())
        self._size = pixels.shape[0], pixels.shape[1]
        self._reduced = shrunk_size(self._size, pixels=settings.pixels)
        self._radii = _radii(self._reduced, grid, settings)
        self._settings = settings
        self._guides: dict[torch.device, _Guide] = {}

    def __call__(self, maps: torch.Tensor) -> torch.Tensor:
        """Refines maps (C, h, w) to (C, H, W) float32, one at a time to spare memory. Values may overshoot a little."""
        if maps.device not in self._guides:
            self._guides[maps.device] = self._guide(maps.device)
        refined = torch.empty(len(maps), *self._size, device=maps.device)
        for one, result in zip(maps, refined, strict=True):
            self._apply(self._coefficients(one, self._guides[maps.device]), result)
        return refined

    def _guide(self, device: torch.device) -> _Guide:
        colours = torch.from_numpy(resize(self._pixels.numpy(), self._reduced)).to(device)
        colours = colours.permute(2, 0, 1).to(_precision(device)) / 255  # (h, w, 3) -> (3, h, w)
        mean = _box_mean(colours, self._radii)
        products = (colours[:, None] * colours[None]).flatten(0, 1)  # (9, h, w)
        covariance = _box_mean(products, self._radii).view(3, 3, *self._reduced) - mean[:, None] * mean[None]
        ridge = self._settings.eps * torch.eye(3, dtype=colours.dtype, device=device)[:, :, None, None]
        return _Guide(colours, mean, _inverse(covariance + ridge))

    def _coefficients(self, one: torch.Tensor, guide: _Guide) -> torch.Tensor:
        """The paper's a and b for a map (h, w), averaged over the windows that hold a pixel: (4, h, w) float32, reduced size."""
        target = upsample(one[None], self._reduced).to(guide.mean.dtype)
        mean = _box_mean(target, self._radii)
        covariance = _box_mean(guide.colours * target, self._radii) - guide.mean * mean
        slope = torch.einsum("ijhw,jhw->ihw", guide.inverse, covariance)
        offset = mean - (slope * guide.mean).sum(0, keepdim=True)
        return _box_mean(torch.cat((slope, offset)), self._radii).float()

    def _apply(self, coefficients: torch.Tensor, result: torch.Tensor) -> None:
        """Writes a . colour + b at the full size into `result` (H, W), colour by colour to spare memory."""
        result.copy_(upsample(coefficients[3:], self._size)[0])
        for channel in range(3):
            colour = self._pixels[..., channel].to(result.device).float() / 255
            result.addcmul_(upsample(coefficients[channel : channel + 1], self._size)[0], colour)


def _precision(device: torch.device) -> torch.dtype:
    """Box sums are differences of long running sums, hence float64; Apple's GPUs lack it."""
    return torch.float32 if device.type == "mps" else torch.float64


def _radii(size: Size, grid: Size | None, settings: GuidedSettings) -> Size:
    """The window's half height and width in pixels of `size`, at least 1."""
    side = (size[0] * size[1]) ** 0.5 / settings.grid
    cell = (size[0] / grid[0], size[1] / grid[1]) if grid else (side, side)
    return max(1, round(settings.radius * cell[0])), max(1, round(settings.radius * cell[1]))


def _box_mean(planes: torch.Tensor, radii: Size) -> torch.Tensor:
    """Means of planes (N, h, w) over windows that are cut off at the border."""
    return _running_mean(_running_mean(planes, radii[1]).mT, radii[0]).mT


def _running_mean(planes: torch.Tensor, radius: int) -> torch.Tensor:
    """Means along the rows: differences of the running sum, which takes a tenth of the time along the last axis."""
    length = planes.shape[-1]
    radius = min(radius, length)
    sums = functional.pad(planes, (radius + 1, radius)).cumsum(-1)
    at = torch.arange(length, device=planes.device)
    count = (at + radius + 1).clamp_max(length) - (at - radius).clamp_min(0)
    return (sums[..., 2 * radius + 1 :] - sums[..., :length]) / count.to(planes.dtype)


def _inverse(matrices: torch.Tensor) -> torch.Tensor:
    """Inverses of symmetric matrices (3, 3, h, w), by cross products: far faster on many small ones than a solver."""
    rows = matrices.unbind(0)
    adjugate = torch.stack([torch.linalg.cross(rows[i - 2], rows[i - 1], dim=0) for i in range(3)])
    return adjugate / (rows[0] * adjugate[0]).sum(0)
