"""How near is equal, by dtype: one table for all tests of numbers."""

import torch
from torch import Tensor

TOLERANCES: dict[torch.dtype, dict[str, float]] = {
    torch.float64: {"rtol": 1e-9, "atol": 1e-10},
    torch.float32: {"rtol": 1e-4, "atol": 1e-5},
    torch.float16: {"rtol": 1e-2, "atol": 1e-2},
    torch.bfloat16: {"rtol": 5e-2, "atol": 5e-2},
}


def assert_close(actual: Tensor, expected: Tensor, *, dtype: torch.dtype | None = None) -> None:
    """Equal shapes and nearly equal values; `dtype` is the one in which they were computed, if not the tensor's own."""
    torch.testing.assert_close(actual.float(), expected.float(), **TOLERANCES[dtype or expected.dtype])
