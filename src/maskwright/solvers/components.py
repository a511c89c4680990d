"""The largest piece of a mask, and its box."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from maskwright.errors import SettingsError

Mask = npt.NDArray[np.bool_]


def largest_component(mask: Mask, *, connectivity: int = 4) -> Mask:
    """The connected piece with the most pixels.

    Args:
        mask: (H, W) bool.
        connectivity: 4 joins pixels that share a side, 8 also those that share a corner.

    Returns:
        (H, W) bool: of equally large pieces the one that comes first row by row; nothing for an empty mask.

    Raises:
        SettingsError: for another connectivity, or a mask that is not (H, W).
    """
    if connectivity not in (4, 8):
        raise SettingsError(f"connectivity must be 4 or 8, not {connectivity}")
    array = _checked(mask)
    pieces, count = ndimage.label(array, ndimage.generate_binary_structure(2, 1 if connectivity == 4 else 2))
    if count == 0:
        return np.zeros_like(array)
    sizes = np.bincount(pieces.ravel())[1:]
    return np.asarray(pieces == 1 + sizes.argmax())


def component_share(mask: Mask, *, connectivity: int = 4) -> float:
    """How much of a mask (H, W) is its largest component, 0..1; 0 for an empty mask."""
    total = int(np.count_nonzero(mask))
    return float(np.count_nonzero(largest_component(mask, connectivity=connectivity)) / total) if total else 0.0


def tight_box(mask: Mask) -> tuple[int, int, int, int] | None:
    """The smallest box around a mask.

    Args:
        mask: (H, W) bool.

    Returns:
        (x, y, width, height) in pixels, so that x + width and y + height are the first column and row beyond it; None for an empty mask.
    """
    array = _checked(mask)
    rows, columns = (np.flatnonzero(array.any(axis)) for axis in (1, 0))
    if len(rows) == 0:
        return None
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y


def _checked(mask: Mask) -> Mask:
    """The mask as a bool array, when it has two axes."""
    array = np.asarray(mask, dtype=bool)
    if array.ndim != 2:
        raise SettingsError(f"a mask is (H, W), not {array.shape}")
    return array
