"""What a method returns: one score map per label, on the model's small grid."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from maskwright.errors import NumberError


@dataclass(frozen=True, eq=False)
class ScoreMaps:
    """One map per vocabulary entry, background entries included.

    Attributes:
        maps: (C, h, w) float32 on any device; the maps of labels that are not kept are never looked at.
        stretch: "label": each map is stretched to 0..1 by its own extremes at full size (DiffSegmenter, step 8).
            "none": the values are scores as they are, for example cosines in -1..1.
        kept: for each label whether it competes; False for what a category filter threw out.
        meaning: what a value is, in a few words.

    Raises:
        ValueError: a method returned another shape or dtype.
        NumberError: a kept map holds NaN or infinity.
    """

    maps: Tensor
    stretch: Literal["label", "none"]
    kept: tuple[bool, ...]
    meaning: str

    def __post_init__(self) -> None:
        if self.maps.ndim != 3 or 0 in self.maps.shape[1:] or self.maps.dtype != torch.float32:
            raise ValueError(f"score maps are (C, h, w) float32, not {tuple(self.maps.shape)} {self.maps.dtype}")
        if len(self.kept) != len(self.maps):
            raise ValueError(f"{len(self.maps)} score maps, but {len(self.kept)} entries in kept")
        if self.stretch not in ("label", "none"):
            raise ValueError(f"stretch is 'label' or 'none', not {self.stretch!r}")
        kept = [index for index, keep in enumerate(self.kept) if keep]
        check_finite(self.maps[kept], "the score maps hold")

    def __len__(self) -> int:
        return len(self.maps)


def check_finite(values: Tensor, what: str) -> None:
    """Refuses what a model's half precision spoils. Ask before a solver does, which would blame its own arguments.

    Args:
        values: of any shape.
        what: beginning of the message, for instance "the score maps hold".

    Raises:
        NumberError: there is NaN or infinity.
    """
    if not torch.isfinite(values).all():
        raise NumberError(f"{what} NaN or infinity, as half precision overflows do: use dtype float32")
