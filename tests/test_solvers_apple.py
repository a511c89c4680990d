"""Solvers and methods without words on Apple's GPUs, which have no float64: the numbers are made on the CPU and come back."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from maskwright.methods import REGION_METHODS, make_method
from maskwright.readings.reading import Reading
from maskwright.solvers.affinity import cosine_affinity, principal_features
from maskwright.solvers.arrays import solving_device
from maskwright.solvers.kmeans import kmeans
from maskwright.solvers.kway import grouped_start, kway_cut
from maskwright.solvers.ncut import bipartition, recursive_cut
from maskwright.solvers.spectral import leading_eigenvectors, spectral_clusters
from tests.apple import MPS, AppleGpu, AppleTensor
from tests.clusterings import attending, coloured, folded, three_blobs
from tests.tiny import random

POINTS = random(500, 8) + 3 * torch.nn.functional.one_hot(torch.arange(500) % 5, 8)
AFFINITY = cosine_affinity(POINTS)
SOLVERS: dict[str, tuple[Callable[[Tensor], Any], Tensor]] = {
    "kmeans": (lambda points: kmeans(points, 5)[:2], POINTS),
    "principal_features": (lambda points: principal_features(points, 4), POINTS),
    "leading_eigenvectors": (lambda affinity: leading_eigenvectors(affinity, 4), AFFINITY),
    "leading_eigenvectors, dense": (lambda affinity: leading_eigenvectors(affinity, 4), AFFINITY[:100, :100]),
    "spectral_clusters": (lambda affinity: tuple(spectral_clusters(affinity, "eigengap")), AFFINITY),
    "bipartition": (lambda affinity: bipartition(affinity).mask, AFFINITY),
    "bipartition without affinity": (lambda affinity: bipartition(affinity).mask, torch.zeros(4, 4)),
    "recursive_cut": (lambda affinity: recursive_cut(affinity, regions=4, drop_zero=True), AFFINITY),
    "kway_cut": (lambda affinity: kway_cut(affinity, 5).labels, AFFINITY),
    "grouped_start": (lambda affinity: grouped_start(affinity, 5), AFFINITY),
}


def test_where_solvers_compute() -> None:
    assert solving_device(MPS) == torch.device("cpu")
    for name in ("cpu", "cuda:1"):
        assert solving_device(torch.device(name)) == torch.device(name)


def test_the_stand_in_refuses_what_the_gpu_lacks() -> None:
    with AppleGpu():
        there = torch.ones(3, 3).to(MPS)
        assert there.device == MPS and (there + 1).device == MPS and there.to("cpu").device.type == "cpu"
        assert torch.arange(3, device=MPS).device == MPS and there.to("cpu").double().dtype == torch.float64
        for wrong in (lambda: there.double(), lambda: there.cumsum(0, dtype=torch.float64), lambda: torch.linalg.qr(there)):
            with pytest.raises(TypeError):
                wrong()
        with pytest.raises(RuntimeError, match="mps and cpu"):
            _ = there + torch.ones(3)


@pytest.mark.parametrize("name", SOLVERS)
def test_results_are_those_of_the_cpu_and_lie_where_the_arguments_do(name: str) -> None:
    solve, argument = SOLVERS[name]
    with AppleGpu():
        found = solve(argument.to(MPS))
    expected = solve(argument)
    pairs = [(found, expected)] if isinstance(expected, Tensor) else list(zip(found, expected, strict=True))
    for one, other in pairs:
        assert isinstance(one, AppleTensor) and torch.equal(one.as_subclass(Tensor), other)


@pytest.mark.parametrize("name", REGION_METHODS)
@pytest.mark.parametrize("settings", [{"regions": "auto"}, {"regions": 3}, {"regions": 3, "solver": "kway"}], ids=str)
def test_methods_without_words(name: str, settings: dict[str, Any]) -> None:
    if "solver" in settings and name != "maskdiffusion-unsupervised":
        pytest.skip("has no choice of solvers")
    grids = {"kmeans": "feature_factors", "maskdiffusion-unsupervised": "feature_factors", "diffcut": "factors", "diffseg": "factors"}
    reduced = {"components": 8} if grids[name] == "feature_factors" else {}
    method = make_method(name, {**settings, **reduced, grids[name]: (1,)}, among=REGION_METHODS)
    where = three_blobs()
    reading = folded((attending(where), (8, 12), 1)) if name == "diffseg" else coloured(where)
    with AppleGpu():
        (found,) = method.group(moved(reading))
    assert isinstance(found, AppleTensor) and torch.equal(found.as_subclass(Tensor), method.group(reading)[0])


def moved(reading: Reading) -> Reading:
    """The reading on the GPU."""
    features, outputs = ({name: values.to(MPS) for name, values in held.items()} for held in (reading.features, reading.outputs))
    attention = {factor: (mean.to(MPS), grid, layers) for factor, (mean, grid, layers) in reading.folded.items()}
    return dataclasses.replace(reading, features=features, outputs=outputs, folded=attention)
