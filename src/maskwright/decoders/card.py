"""README.md of a trained decoder: what it was trained on, its figures, and how to use it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskwright.decoders.decoder import Decoder
from maskwright.discovery.writing import explained, write_whole
from maskwright.record import flat
from maskwright.training.curve import PICTURE

TITLES = {
    "iou": "IoU of the foreground at 0.5, mean over pictures", "accuracy": "share of right pixels", "mae": "mean absolute error",
    "max_f_tokencut": "maximal F, beta squared 0.3, of the mean curve", "max_f_selfmask": "maximal F, beta squared 0.09, mean of pictures",
    "mean_iou": "mean IoU over classes, background included",
}  # fmt: skip
MOST_NAMES = 60  # labels that are listed


def write_card(decoder: Decoder, folder: Path) -> None:
    """Writes README.md.

    Raises:
        OutputError: it cannot be written.
    """
    with explained(folder):
        write_whole(folder / "README.md", draw_up(decoder, curve=(folder / PICTURE).exists()).encode("utf-8", "backslashreplace"))


def draw_up(decoder: Decoder, *, curve: bool = True) -> str:
    """The text of the card.

    Args:
        decoder: with the record of its training.
        curve: whether the picture of its curve lies beside it.
    """
    training = decoder.training
    parts = (
        _introduction(decoder),
        "![Loss and validation figures over the training](curve.png)\n" if curve else "",
        _figures(training),
        _labels(decoder),
        _use(decoder),
        _making(training),
    )
    return "\n".join(part for part in parts if part)


def _introduction(decoder: Decoder) -> str:
    model = decoder.model
    finds = "what stands out in a picture" if decoder.settings.task == "saliency" else f"{len(decoder.labels)} classes"
    return (
        f"# Decoder on `{model.get('name')}`: {finds}\n\n"
        f"A small network that reads features of the frozen text-to-image model `{model.get('source')}`{_at(model)} and finds {finds}."
        f" {_learned_from(decoder.training)}\n"
    )


def _learned_from(training: Mapping[str, Any]) -> str:
    """Where pictures and masks come from; that no human drew a mask is said only where it is known."""
    origin, second = training.get("origin"), training.get("self_training")
    text = f"It was trained on {training.get('trained_on')} pictures with masks (data set `{training.get('data_set')}`)"
    if origin:
        text += f", drawn by the model `{origin.get('model')}`{_at(origin)},"
        text += f" the masks cut from its own attention by `{origin.get('method')}`"
    text += "."
    if second:
        text += (
            f" A second round took {second['pictures']} pictures without masks beside them; the decoder's own mask replaced that of"
            f" AttentionCut in {second['replaced']} of them."
        )
    return text + (" No human mask was used; the frozen models have seen captions." if origin else "")


def _at(model: Mapping[str, Any]) -> str:
    return f" at revision `{model['revision']}`" if model.get("revision") else ""


def _figures(training: Mapping[str, Any]) -> str:
    figures = {name: value for name, value in training.get("figures", {}).items() if value is not None}
    if not figures:
        return ""
    rows = "".join(f"| {TITLES.get(name, name)} | {value:.4f} |\n" for name, value in figures.items())
    caution = (
        " Their masks come from attention, too: the figures tell that it has learned, not how good it is on real pictures."
        if training.get("origin")
        else ""
    )
    held = f"On {training.get('validated_on')} pairs of the data set that were kept from it.{caution}"
    return f"## Figures\n\n{held}\n\n| figure | value |\n| --- | --- |\n{rows}"


def _labels(decoder: Decoder) -> str:
    if decoder.settings.task == "saliency":
        return ""
    names = [label.name for label in decoder.labels]
    rest = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"## Classes\n\n{', '.join(names[:MOST_NAMES])}{rest}.\n"


def _use(decoder: Decoder) -> str:
    command = "discover" if decoder.settings.task == "saliency" else "segment"
    return (
        "## Use\n\n"
        f"```\nmaskwright {command} PICTURES --model {decoder.model.get('name')} --decoder FOLDER\n```\n\n"
        "It works with the model that it was trained on, at the same revision, and with no other.\n"
    )


def _making(training: Mapping[str, Any]) -> str:
    rows = "".join(f"| `{key}` | `{json.dumps(value)}` |\n" for key, value in flat(training.get("decisive", {})).items())
    return f"## How it was made\n\n| setting | value |\n| --- | --- |\n{rows}"
