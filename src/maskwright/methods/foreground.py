"""What a discovery method returns: where each word stands out, on the working grid."""

from dataclasses import dataclass

import torch
from torch import Tensor

from maskwright.score_maps import check_finite


@dataclass(frozen=True, eq=False)
class Foreground:
    """One probability and one mask a label, each label by itself, so that masks may overlap.

    Attributes:
        probability: (labels, h, w) float32 in 0..1, to be upsampled and refined.
        mask: (labels, h, w) bool, on the same device: exactly where the probability is above 0.5.

    Raises:
        ValueError: a method returned another shape, dtype or range, or a mask that its probability contradicts.
        NumberError: a probability is NaN or infinite.
    """

    probability: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        if self.probability.ndim != 3 or 0 in self.probability.shape[1:] or self.probability.dtype != torch.float32:
            raise ValueError(f"a probability is (labels, h, w) float32, not {tuple(self.probability.shape)} {self.probability.dtype}")
        if self.mask.shape != self.probability.shape or self.mask.dtype != torch.bool:
            raise ValueError(f"a mask is {tuple(self.probability.shape)} bool, not {tuple(self.mask.shape)} {self.mask.dtype}")
        check_finite(self.probability, "the foreground holds")
        if ((self.probability < 0) | (self.probability > 1)).any():
            raise ValueError("a probability lies in 0..1")
        if not torch.equal(self.mask, self.probability > 0.5):
            raise ValueError("a mask is where the probability is above 0.5")

    def __len__(self) -> int:
        return len(self.mask)
