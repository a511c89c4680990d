"""What lies in a student's folder beside the training: the layout of transformers, labels, record and card."""

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from maskwright.discovery.claim import SETTINGS
from maskwright.exports.document import encode
from maskwright.exports.files import explained, replacing
from maskwright.quiet import quiet
from maskwright.record import plain
from maskwright.students.card import draw_up
from maskwright.students.export import INPUT, MODEL, OUTPUTS, Exported
from maskwright.students.network import Normalisation, StudentNetwork, class_names
from maskwright.students.settings import StudentSettings
from maskwright.students.source import PROCESSOR, read_json
from maskwright.training.curve import CURVE, read_curve
from maskwright.training.examples import LABELS, ExampleSet
from maskwright.training.loop import TrainingSettings
from maskwright.versions import package_versions

RECORD, CARD = "student.json", "README.md"
FORMAT = "maskwright student 1"
BICUBIC = 3  # Pillow's number for it
ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


@dataclass(frozen=True, eq=False)
class Provenance:
    """What a student was made of, and how.

    Attributes:
        examples: the data set.
        settings, training: how.
        side, any_shape: how it reads pictures.
        decisive: all that decides the weights, plain JSON values, with "examples".
    """

    examples: ExampleSet
    settings: StudentSettings
    training: TrainingSettings
    side: int
    any_shape: bool
    decisive: Mapping[str, Any]


def write_student(
    network: StudentNetwork, out: Path, made: Provenance, *, exported: Exported | None, speed: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Writes everything but the ONNX file and the curve's picture; each file whole or not at all, student.json last.

    Args:
        network: trained.
        out: the folder, which holds the training's checkpoint and curve.
        made: how it was made.
        exported: what the ONNX file takes; None where there is none, and then one that lies there is removed.
        speed: what `measure_speed` gave.

    Returns:
        The content of student.json.

    Raises:
        OutputError: the files cannot be written.
    """
    names = made.examples.names
    with explained(out, "choose another folder with --out"):
        if exported is None:
            (out / MODEL).unlink(missing_ok=True)
        for name, content in _saved(network).items():
            _write(out / name, content)
        _write(out / PROCESSOR, encode(processor(network.normalisation, side=made.side, any_shape=made.any_shape)))
        _write(out / LABELS, "".join(f"{name}\n" for name in names).encode())
        record = _record(network, out, made, exported, speed)
        _write(out / CARD, draw_up(record, folder=out.resolve().name).encode("utf-8", "backslashreplace"))
        _write(out / RECORD, encode(record))
    return record


def processor(normalisation: Normalisation, *, side: int, any_shape: bool) -> dict[str, Any]:
    """The content of preprocessor_config.json: resized and normalised as in training, whatever the kind of network."""
    size = {"shortest_edge": side} if any_shape else {"height": side, "width": side}
    # The two processors do the same; only MobileViT's can put blue first.
    kind = {"image_processor_type": "MobileViTImageProcessor", "do_flip_channel_order": True, "do_center_crop": False}
    return {
        **(kind if normalisation.reverse else {"image_processor_type": "SegformerImageProcessor"}),
        "do_resize": True, "size": size, "resample": BICUBIC, "do_rescale": True, "rescale_factor": normalisation.scale,
        "do_normalize": True, "image_mean": list(normalisation.mean), "image_std": list(normalisation.std), "do_reduce_labels": False,
    }  # fmt: skip


def _saved(network: StudentNetwork) -> dict[str, bytes]:
    """config.json and model.safetensors as transformers writes them."""
    import transformers

    with tempfile.TemporaryDirectory() as place, quiet(transformers):
        network.model.save_pretrained(place, max_shard_size="100GB")
        return {name: Path(place, name).read_bytes() for name in ("config.json", "model.safetensors")}


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as file:
        file.write(content)


def _record(
    network: StudentNetwork, out: Path, made: Provenance, exported: Exported | None, speed: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The content of student.json; no path of this machine is in it."""
    lines = read_curve(out / CURVE)
    epochs = [line for line in lines if "validation" in line]
    files = ["model.safetensors", *([MODEL] if exported else [])]
    onnx = None if exported is None else {
        "input": INPUT, "outputs": list(OUTPUTS), "any_size": exported.any_size, "any_batch": True, "opset": exported.opset
    }  # fmt: skip
    settings = dataclasses.asdict(made.settings) | {"size": made.side, "checkpoint": _named(made.settings.checkpoint)}
    record: dict[str, Any] = plain({
        "format": FORMAT,
        "labels": [list(label.texts) for label in made.examples.labels],
        "classes": class_names(made.examples.names),
        "size": made.side,
        "any_shape": made.any_shape,
        "network": {"kind": network.model.config.model_type, "parameters": sum(p.numel() for p in network.parameters())},
        "settings": settings,
        "training": {**dataclasses.asdict(made.training), "steps": sum("rate" in line for line in lines)},
        "examples": {**made.decisive["examples"], **_drawn_by(made.examples.folder)},
        "loss": epochs[-1]["loss"] if epochs else None,
        "figures": epochs[-1]["validation"] if epochs else {},
        "onnx": onnx,
        "bytes": {name: (out / name).stat().st_size for name in files},
        "speed": list(speed),
        "versions": package_versions() | _versions(),
        "decisive": made.decisive,
    })  # fmt: skip
    return record


def _named(checkpoint: str) -> str:
    """A hub id as it is, a folder by its last name."""
    return Path(checkpoint).expanduser().resolve().name if Path(checkpoint).expanduser().is_dir() and checkpoint else checkpoint


def _drawn_by(folder: Path) -> dict[str, Any]:
    """The model and the method that drew the data set, where `synthesize` did."""
    settings = read_json(folder / SETTINGS).get("settings", {})
    return {key: settings[key] for key in ("model", "revision", "method") if settings.get(key)}


def _versions() -> dict[str, str]:
    found = {}
    for package in ONNX_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
