"""README.md of a student: what it knows, how it is used, how it was made, and what it is not."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

TITLE = 6  # labels that the heading names
FRONT_MATTER = """\
---
license: other
library_name: transformers
pipeline_tag: image-segmentation
tags:
- semantic-segmentation
- synthetic
- onnx
- maskwright
---
"""
TRANSFORMERS = """\
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

picture = Image.open("picture.png").convert("RGB")
processor = AutoImageProcessor.from_pretrained({folder})
model = AutoModelForSemanticSegmentation.from_pretrained({folder}).eval()
with torch.inference_mode():
    outputs = model(**processor(images=picture, return_tensors="pt"))
labels = processor.post_process_semantic_segmentation(outputs, target_sizes=[picture.size[::-1]])[0]  # (H, W), 0 is the background
print({{model.config.id2label[number]: int((labels == number).sum()) for number in labels.unique().tolist()}})
"""
ONNX = """\
import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession({model})
picture = Image.open("picture.png").convert("RGB")
{size}
pixels = np.asarray(picture.resize(size, Image.Resampling.BICUBIC))
labels = session.run(["labels"], {{"pixels": pixels[None]}})[0][0]  # (height, width) uint8, 0 is the background
Image.fromarray(labels).resize(picture.size, Image.Resampling.NEAREST).save("labels.png")
"""
FREE, FIXED = "size = [round(side * {side} / min(picture.size)) for side in picture.size]", "size = ({side}, {side})"
GRAPH = """\
| | name | type | shape | what |
|---|---|---|---|---|
| input | `pixels` | uint8 | (batch, {height}, {width}, 3) | RGB as files have it; the normalisation is in the graph |
| output | `labels` | uint8 | (batch, {height}, {width}) | number of the class that wins each pixel |
| output | `logits` | float32 | (batch, {classes}, {height}, {width}) | of each class, before the softmax; seldom needed |
"""


def draw_up(record: Mapping[str, Any], *, folder: str) -> str:
    """The text of the card.

    Args:
        record: the content of student.json.
        folder: name of the student's folder, for the examples.
    """
    writers = (_introduction, _labels, partial(_use, folder=folder), _figures, _making, _files, _limits)
    return "\n".join([FRONT_MATTER, *(write(record) for write in writers)])


def _introduction(record: Mapping[str, Any]) -> str:
    names = [name for name, *_ in record["labels"]]
    rest = len(names) - TITLE
    title = ", ".join(names[:TITLE]) + (f" and {rest} more" if rest > 0 else "")
    network, millions = record["network"], record["network"]["parameters"] / 1e6
    drawn, count = record["examples"].get("model"), record["examples"]["count"]
    source = f"pictures that `{drawn}` drew, with masks cut from its attention, which nobody has marked" if drawn else "pictures with masks"
    return (
        f"# A segmenter of {_escape(title)}\n\n"
        f"A {network['kind']} of {millions:.2f} million parameters that gives each pixel of a picture one of {len(names)} labels or the"
        f" background. It learned from {count} examples: {source}.\n"
    )


def _labels(record: Mapping[str, Any]) -> str:
    rows: list[Sequence[object]] = [(0, _escape(record["classes"][0]), "")]
    rows += [(number, _escape(name), _escape(", ".join(others))) for number, (name, *others) in enumerate(record["labels"], start=1)]
    return "## Classes\n\n" + _table(("number", "label", "also called"), rows)


def _use(record: Mapping[str, Any], folder: str) -> str:
    side = record["size"]
    shape = f"with its shorter side {side} pixels long" if record["any_shape"] else f"squashed to {side} x {side} pixels"
    text = (
        f"## Use\n\nA picture is read {shape}; that is the size that the network was trained at, and the examples below resize to it.\n\n"
        "With transformers (`pip install transformers torch pillow`):\n\n"
        f"```python\n{TRANSFORMERS.format(folder=json.dumps(folder))}```\n\n"
    )
    if onnx := record["onnx"]:
        size = (FREE if onnx["any_size"] else FIXED).format(side=side)
        height, width = ("height", "width") if onnx["any_size"] else (side, side)
        graph = GRAPH.format(height=height, width=width, classes=len(record["classes"]))
        code = ONNX.format(model=json.dumps(f"{folder}/model.onnx"), size=size)
        text += f"With onnxruntime (`pip install onnxruntime pillow`):\n\n```python\n{code}```\n\n{graph}\n"
    return text + (
        "With maskwright, with masks, scores and overlays by name: "
        f"`from maskwright.students.student import Student; Student.load({json.dumps(folder)}).segment(\"picture.png\")`.\n"
    )


def _figures(record: Mapping[str, Any]) -> str:
    figures = record["figures"]
    text = "## Figures\n\n"
    if figures:
        share = record["training"]["validation"]
        values = ", ".join(f"{_title(name)} {_percent(value)}" for name, value in figures.items())
        warning = " **A model has drawn these, too**: on other pictures the student may do worse."
        text += f"On the {share:.0%} of the examples that were held back: {values}.{warning if record['examples'].get('model') else ''}\n\n"
    else:
        text += "Nothing was held back to measure on.\n\n"
    rows = [(row["engine"], row["device"], row["threads"], row["batch"], row["pictures_per_second"]) for row in record["speed"]]
    text += f"Pictures of {record['size']} x {record['size']} pixels per second, on the machine that trained it:\n\n"
    return text + _table(("engine", "device", "threads", "batch", "pictures per second"), rows)


def _making(record: Mapping[str, Any]) -> str:
    training, settings = record["training"], record["settings"]
    begin = f"beginning with {_code(settings['checkpoint'])}" if settings["checkpoint"] else "from random weights"
    return (
        "## How it was made\n\n"
        f"`maskwright distill` trained it {begin}: {training['epochs']} epochs ({training['steps']} steps of {training['batch']} examples),"
        f" AdamW, largest rate {training['rate']:g}, cross-entropy and Dice, seed {training['seed']}. student.json has all settings.\n\n"
        "![Loss and validation figures over the training](curve.png)\n"
    )


def _files(record: Mapping[str, Any]) -> str:
    sizes = record["bytes"]
    onnx = f"- `model.onnx`: {_megabytes(sizes['model.onnx'])}, opset {record['onnx']['opset']}\n" if record["onnx"] else ""
    return (
        "## Files\n\n"
        f"- `config.json`, `preprocessor_config.json`, `model.safetensors`: for transformers, {_megabytes(sizes['model.safetensors'])}\n"
        f"{onnx}"
        "- `labels.txt`: the label with number i in line i; number 0 is the background\n"
        "- `student.json`: settings, figures, speed and versions; `curve.jsonl` and `curve.png`: the training\n"
    )


def _limits(record: Mapping[str, Any]) -> str:
    drawn = record["examples"].get("model")
    gap = (
        f"It has seen only what `{drawn}` draws. Where your pictures look otherwise, measure it on some of yours, with masks that you"
        " trust, before you rely on it. What the drawing model did not know, or drew wrongly, the student has not learned either.\n\n"
        f"The licence of `{drawn}` may concern what is trained on its pictures: read it, and the card of the data set, before you pass the"
        " student on.\n"
        if drawn
        else "It knows what is in its examples and nothing else. The licence of the pictures may concern what is trained on them.\n"
    )
    own = record["settings"]["checkpoint"]
    return "## Limits and licence\n\n" + gap + (f"\nSo may the licence of {_code(own)}, from which its weights come.\n" if own else "")


def _title(name: str) -> str:
    return {"mean_iou": "mean IoU", "accuracy": "pixel accuracy"}.get(name, name)


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def _escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|~&$#" else letter for letter in text)


def _code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"
