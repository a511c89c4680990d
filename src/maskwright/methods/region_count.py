"""What methods without words share: how many regions to make, when there is only one, and labels as maps."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from maskwright.errors import SettingsError
from maskwright.methods.contract import Regions
from maskwright.projection import FLAT
from maskwright.solvers.spectral import eigengap, leading_eigenvectors


def check_regions(regions: Regions) -> None:
    """Refuses what is neither a number of regions nor a word for one."""
    if regions in ("auto", "oracle"):
        return
    if isinstance(regions, bool) or not isinstance(regions, int) or regions < 1:
        raise SettingsError(f'regions must be a whole number of at least 1, "auto" or "oracle", not {regions!r}')


def check_bounds(least: int, most: int) -> None:
    """Refuses bounds between which "auto" could not choose."""
    if not 1 <= least <= most:
        raise SettingsError(f"the bounds of auto need 1 <= least <= most, not least={least} and most={most}")


def wanted_counts(regions: Regions, oracle: Sequence[int] | None, *, pictures: int) -> list[int | None]:
    """The number of regions wanted of each picture; None leaves it to the method's own rule.

    Args:
        regions: the method's setting.
        oracle: for each picture the number in its ground truth; looked at only where `regions` is "oracle".
        pictures: how many there are.

    Raises:
        SettingsError: "oracle" without ground truth, or with that of other pictures.
    """
    if regions == "auto":
        return [None] * pictures
    if regions != "oracle":
        return [regions] * pictures
    if oracle is None:
        raise SettingsError('regions="oracle" needs the number of regions of each picture: give it ground truth, or use "auto" or a number')
    if len(oracle) != pictures or min(oracle, default=1) < 1:
        raise SettingsError(f"oracle needs one number of at least 1 for each of {pictures} pictures, not {list(oracle)}")
    return [int(count) for count in oracle]


def eigengap_count(affinity: Tensor, *, least: int, most: int, seed: int = 0) -> int:
    """The number of regions at the largest eigengap of an affinity (N, N), within bounds that a small grid narrows.

    Args:
        affinity: (N, N), symmetric and not negative.
        least: fewest regions.
        most: most regions.
        seed: of the eigenvectors' start.
    """
    pixels = len(affinity)
    if pixels <= least:
        return pixels
    most = min(most, pixels - 1)
    values, _ = leading_eigenvectors(affinity, most + 1, seed=seed)
    return eigengap(values, least=least, most=most)


def is_flat(features: Tensor) -> bool:
    """Whether unit features (N, C) are the same at all pixels but for rounding, so that nothing tells one pixel from another."""
    return float((features - features[:1]).abs().amax()) <= FLAT


def label_maps(labels: Tensor, grid: tuple[int, int], *, regions: int | None = None) -> Tensor:
    """Labels (N,) of a grid's pixels as memberships (regions, h, w) float32, 1 in a pixel's own region and 0 elsewhere."""
    regions = int(labels.max()) + 1 if regions is None else regions
    return torch.unflatten(functional.one_hot(labels, regions).T.to(torch.float32), -1, grid)  # regions h w
