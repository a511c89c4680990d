"""model.onnx: the student for everybody who has no PyTorch. Pixels in, label numbers out, everything in between inside the graph."""

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from maskwright.errors import MissingExtraError, ModelError, brief
from maskwright.exports.files import explained, replacing
from maskwright.students.network import StudentNetwork

MODEL = "model.onnx"
INPUT, OUTPUTS = "pixels", ("labels", "logits")
AXES = ("batch", "height", "width")
OPSET = 20  # what torch.onnx writes by itself; Resize and Gelu are single operators in it
CLOSE = 1e-3  # by which logits may differ, as a share of the largest
CHATTY = ("torch.onnx", "torch.export", "torch.__trace", "onnxscript", "onnx_ir")

Labels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Exported:
    """What an ONNX file takes.

    Attributes:
        any_size: whether height and width are free; if not, both are the student's size. The batch is free always.
        opset: version of the operators.
    """

    any_size: bool
    opset: int = OPSET


class Deployed(nn.Module):
    """What is exported: (n, H, W, 3) uint8 RGB to label numbers (n, H, W) uint8 and logits (n, classes, H, W) float32."""

    def __init__(self, network: StudentNetwork) -> None:
        """Wraps a network."""
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """A tie goes to the lower number."""
        logits: Tensor = self.network(pixels)
        return logits.argmax(1).to(torch.uint8), logits


def refuse_missing(*, onnx: bool) -> None:
    """Tells what training would miss at its end.

    Raises:
        MissingExtraError: a package is not installed.
    """
    wanted = {"matplotlib": "drawing the training curve"}
    if onnx:
        wanted |= dict.fromkeys(("onnx", "onnxscript", "onnxruntime"), "writing model.onnx (which --no-onnx leaves out)")
    for package, purpose in wanted.items():
        if util.find_spec(package) is None:
            raise MissingExtraError(package, purpose=purpose, extra="train")


def export_onnx(network: StudentNetwork, path: Path, *, side: int, names: Sequence[str], any_shape: bool = True) -> Exported:
    """Writes the ONNX file after a check that onnxruntime finds in it what PyTorch finds in the network.

    Height and width are free where the network reads any shape and its graph can be written so; otherwise they are fixed.

    Args:
        network: on the CPU, in eval mode.
        path: of the file.
        side: at which the network was trained; told in the file's metadata.
        names: of the classes 0, 1, ...; told in the metadata as a JSON list.
        any_shape: whether the network reads other shapes than squares.

    Raises:
        ModelError: the network cannot be exported.
        OutputError: the file cannot be written.
    """
    failure: Exception | None = None
    for free in (True, False) if any_shape else (False,):
        try:
            content = _convert(network, side, names, free)
            _compare(network, content, side, free)
        except Exception as error:  # noqa: BLE001 - the exporter has a hundred errors, and the next try may do
            failure = error
            continue
        with explained(path.parent, "choose another folder with --out"), replacing(path) as file:
            file.write(content)
        return Exported(any_size=free)
    raise ModelError(f"this network cannot be written as ONNX ({brief(failure or ValueError())}): leave it out by --no-onnx") from failure


def run_onnx(session: Any, pixels: npt.NDArray[np.uint8]) -> tuple[Labels, Logits]:
    """Label numbers (n, H, W) uint8 and logits (n, classes, H, W) float32 of pixels (n, H, W, 3) uint8."""
    labels, logits = session.run(list(OUTPUTS), {INPUT: pixels})
    return labels, logits


def open_session(model: bytes | Path, *, threads: int = 0) -> Any:
    """An onnxruntime session on the CPU.

    Args:
        model: the file, or its content.
        threads: that it may use, 0 for all.
    """
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    given = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])


def _convert(network: StudentNetwork, side: int, names: Sequence[str], free: bool) -> bytes:
    """The content of the file."""
    import onnx

    # Sizes that differ in all axes, and none of which is 1: the exporter takes what is equal or 1 for a constant.
    shape = (2, side, side + 32, 3) if free else (2, side, side, 3)
    axis = torch.export.Dim.DYNAMIC
    with _hushed(), torch.no_grad():
        program = torch.onnx.export(
            Deployed(network).eval(), (torch.zeros(shape, dtype=torch.uint8),), dynamo=True, verbose=False, opset_version=OPSET,
            input_names=[INPUT], output_names=list(OUTPUTS), dynamic_shapes={INPUT: dict.fromkeys((0, 1, 2) if free else (0,), axis)},
        )  # fmt: skip
    if program is None:
        raise ModelError("the exporter gave nothing")
    model = program.model_proto
    _tidy(model)
    model.producer_name = "maskwright"
    told = {"labels": json.dumps(list(names), ensure_ascii=False), "size": str(side), "input": "uint8 RGB, (batch, height, width, 3)"}
    onnx.helper.set_model_props(model, told)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _tidy(model: Any) -> None:
    """Readable names for the free axes; no notes of the exporter, which hold paths of this machine."""
    graph = model.graph
    axes = {}
    for place, name in enumerate(AXES):
        if symbol := graph.input[0].type.tensor_type.shape.dim[place].dim_param:
            axes[symbol] = name
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = axes.get(dimension.dim_param, dimension.dim_param)
    for part in (model, graph, *graph.input, *graph.output, *graph.node, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]


def _compare(network: StudentNetwork, content: bytes, side: int, free: bool) -> None:
    """Refuses a file that says something else than the network."""
    session, chance = open_session(content), np.random.default_rng(0)
    shapes = ((1, side, side), (3, side + 7, side + 32), (1, 2 * side, side)) if free else ((1, side, side), (3, side, side))
    for shape in shapes:
        pixels = chance.integers(0, 256, (*shape, 3), dtype=np.uint8)
        with torch.no_grad():
            wanted = network(torch.from_numpy(pixels)).numpy()
        found = run_onnx(session, pixels)[1]
        error = float(np.abs(found - wanted).max() / max(1e-6, np.abs(wanted).max()))
        if not error <= CLOSE:
            raise ModelError(f"its logits differ by {error:.1e} of the largest for pictures of {shape[1]} x {shape[2]}")


@contextmanager
def _hushed() -> Iterator[None]:
    """Keeps the exporter's warnings and logs from the user; every setting is left as it was."""
    loggers = [logging.getLogger(name) for name in CHATTY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
