"""How many pictures a second a student reads, with PyTorch and with onnxruntime."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskwright.students.export import Deployed, open_session, run_onnx
from maskwright.students.network import StudentNetwork

BATCHES = (1, 8)
SECONDS, RUNS = 0.5, 3  # of each measurement, at least


def measure_speed(network: StudentNetwork, model: Path | None, *, side: int) -> list[dict[str, Any]]:
    """Pixels of side x side to label numbers: PyTorch on the network's device, onnxruntime on the CPU with as many threads.

    Args:
        network: in eval mode.
        model: the ONNX file, None to leave onnxruntime out.
        side: of the pictures.

    Returns:
        {"engine", "device", "threads", "batch", "pictures_per_second"} for each engine and batch.
    """
    device, threads = network.mean.device, torch.get_num_threads()
    deployed = Deployed(network)

    def with_torch(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        with torch.inference_mode():
            deployed(torch.from_numpy(pixels).to(device))[0].cpu()

    engines: dict[str, tuple[str, Callable[[Any], object]]] = {"torch": (str(device), with_torch)}
    if model is not None:
        session = open_session(model, threads=threads)
        engines["onnxruntime"] = ("cpu", lambda pixels: run_onnx(session, pixels))
    rows = []
    for engine, (place, work) in engines.items():
        for batch in BATCHES:
            pace = round(_pace(work, batch, side), 2)
            rows.append({"engine": engine, "device": place, "threads": threads, "batch": batch, "pictures_per_second": pace})
    return rows


def _pace(work: Callable[[Any], object], batch: int, side: int) -> float:
    """Pictures per second at the median of several runs."""
    pixels = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), dtype=np.uint8)
    work(pixels)  # the first run is never like the others
    times: list[float] = []
    while len(times) < RUNS or sum(times) < SECONDS:
        began = time.perf_counter()
        work(pixels)
        times.append(time.perf_counter() - began)
    return batch / float(np.median(times))
