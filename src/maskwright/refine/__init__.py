"""Refiners: score maps drawn to the edges of the picture."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from maskwright.decoding import Pixels
from maskwright.errors import SettingsError
from maskwright.images import Size, upsample

if TYPE_CHECKING:
    import torch

    from maskwright.refine.guided import GuidedSettings
    from maskwright.refine.pamr import PamrSettings

Refiner: TypeAlias = "Callable[[torch.Tensor], torch.Tensor]"

REFINERS = ("none", "guided", "pamr")


def make_refiner(
    name: str, pixels: Pixels, *, grid: Size | None = None, settings: "GuidedSettings | PamrSettings | None" = None
) -> Refiner:
    """The refiner of one picture. What depends on the picture alone is computed at its first call and kept.

    Args:
        name: "none" (plain bilinear upsampling), "guided" (guided filter) or "pamr" (pixel-adaptive mask refinement).
        pixels: (H, W, 3) uint8 RGB, the picture.
        grid: (h, w) of the score maps before they were brought to the picture's size: the guided filter's reach is in its
            cells. None leaves it to the settings.
        settings: the refiner's own settings, None for its defaults.

    Returns:
        A function of maps (C, h, w) float32, at the picture's size or coarser, that returns (C, H, W) float32. It is linear in
        the maps, treats each alone, and leaves a constant map as it is.

    Raises:
        SettingsError: an unknown name, or settings of another refiner.
    """
    size = pixels.shape[0], pixels.shape[1]
    if name == "none" and settings is None:
        return lambda maps: upsample(maps, size)
    if name == "guided":
        from maskwright.refine.guided import GuidedFilter, GuidedSettings

        if isinstance(settings, GuidedSettings | None):
            return GuidedFilter(pixels, settings or GuidedSettings(), grid=grid)
    if name == "pamr":
        from maskwright.refine.pamr import Pamr, PamrSettings

        if isinstance(settings, PamrSettings | None):
            return Pamr(pixels, settings or PamrSettings())
    if name in REFINERS:
        raise SettingsError(f"{type(settings).__name__} is not for the refiner {name!r}: leave the settings out or give its own")
    raise SettingsError(f"there is no refiner {name!r}: choose one of {', '.join(REFINERS)}")
