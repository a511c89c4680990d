"""What the solvers share: memory for large matrices, products with them, checks of arguments."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from maskwright.errors import SettingsError


def solving_device(device: torch.device) -> torch.device:
    """Where a solver computes what lies on a device: there, or on the CPU for Apple's GPUs, which have neither float64 nor all of linalg.

    Results go back to the device that the arguments came from.
    """
    return torch.device("cpu") if device.type == "mps" else device


def empty_matrix(rows: int, columns: int, device: torch.device) -> Tensor:
    """Uninitialised (rows, columns) float32.

    On the CPU the memory is numpy's, which asks Linux for huge pages: touching 64 MB for the first time takes 5 ms that way and 28 ms
    in pages of 4 KB, as much as the product that fills them.
    """
    if device.type == "cpu":
        return torch.from_numpy(np.empty((rows, columns), np.float32))
    return torch.empty(rows, columns, device=device)


def submatrix(affinity: Tensor, indices: Tensor) -> Tensor:
    """Rows and columns of a square matrix: (n, n) for n indices."""
    if len(indices) == len(affinity):
        return affinity
    count = len(indices)
    rows = torch.index_select(affinity, 0, indices, out=empty_matrix(count, len(affinity), affinity.device))
    return torch.index_select(rows, 1, indices, out=empty_matrix(count, count, affinity.device))


def sum_rows(rows: Tensor, labels: Tensor, count: int) -> Tensor:
    """Sums the rows (n, N) of each label (n,): (count, N). One pass over memory on the CPU, a third of a product with one-hot columns."""
    if rows.device.type == "cpu":
        return torch.zeros(count, rows.shape[1], dtype=rows.dtype).index_add_(0, labels, rows)
    return functional.one_hot(labels, count).T.to(rows.dtype) @ rows  # index_add adds in no fixed order there


def checked_affinity(affinity: Tensor) -> Tensor:
    """The affinity as (N, N) float32 on its `solving_device`; refuses what is not a square matrix."""
    if affinity.ndim != 2 or affinity.shape[0] != affinity.shape[1] or not len(affinity):
        raise SettingsError(f"an affinity is a square matrix, (pixels, pixels), not {tuple(affinity.shape)}")
    return affinity.to(solving_device(affinity.device), torch.float32)


def check_count(name: str, value: int, most: int) -> None:
    """Refuses a number of clusters, regions or eigenvectors that is not 1...`most`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise SettingsError(f"{name} must be a whole number from 1 to the number of pixels, {most}, not {value!r}")


def seeded_normal(shape: tuple[int, ...], seed: int, device: torch.device) -> Tensor:
    """Standard normal float32 numbers, the same on every device."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)
