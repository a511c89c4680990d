"""Results as the bytes of an answer."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from maskwright.discovery.result import Discovery
from maskwright.errors import SettingsError
from maskwright.exports import draw_overlay, to_coco, to_document, to_png
from maskwright.exports.document import encode
from maskwright.exports.palette import colour
from maskwright.images import Picture
from maskwright.projection import FloatMap
from maskwright.segmentation import Segmentation

JSON, PNG = "application/json", "image/png"
LEVEL = 1  # of compression: who waits for a picture would rather have it sooner than smaller
VEIL = 0.65  # opacity of a heat map over its picture where it is highest
# Magma of matplotlib (CC0), every 32nd colour: even steps in lightness, and readable without colour.
HEAT = ("000004", "1d1147", "51127c", "832681", "b73779", "e75263", "fc8961", "fec488", "fcfdbf")


@dataclass(frozen=True)
class Rendered:
    """An answer's body.

    Attributes:
        content: the bytes.
        media_type: what they are.
        headers: what belongs to them.
    """

    content: bytes
    media_type: str
    headers: Mapping[str, str] = field(default_factory=dict)


def render_segmentation(seg: Segmentation, form: str) -> Rendered:
    """A segmentation as "json", "labels", "overlay" or "coco"."""
    draw: Callable[[Segmentation], Rendered] = _pick(SEGMENTATION_FORMS, form)
    return draw(seg)


def render_discovery(found: Discovery, form: str, *, box: bool = False) -> Rendered:
    """A discovery as "json", "mask", "overlay" (with its box on demand) or "coco"."""
    draw: Callable[[Discovery, bool], Rendered] = _pick(DISCOVERY_FORMS, form)
    return draw(found, box)


def render_heat(scores: FloatMap, picture: Picture, form: str) -> Rendered:
    """A score map (H, W) as "map", "overlay" or "grey", from its own lowest to its own highest score; a constant map is dark.

    The headers X-Score-Low and X-Score-High tell the scores that the darkest and the brightest value stand for.
    """
    draw: Callable[[FloatMap, Picture], Image.Image] = _pick(HEAT_FORMS, form)
    finite = np.isfinite(scores)
    low, high = (float(scores[finite].min()), float(scores[finite].max())) if finite.any() else (0.0, 0.0)
    shares = np.where(finite, (scores - low) / (high - low), 0) if high > low else np.zeros(scores.shape)
    headers = {"X-Score-Low": f"{low:.6g}", "X-Score-High": f"{high:.6g}"}
    return Rendered(_png(draw(shares.astype(np.float32), picture)), PNG, headers)


def render_point(seg: Segmentation, x: int, y: int) -> Rendered:
    """What a segmentation says of one pixel: the label, and the score of every label.

    Raises:
        SettingsError: a place outside the picture.
    """
    height, width = seg.picture.size
    if not (x < width and y < height):
        raise SettingsError(f"there is no pixel ({x}, {y}): this picture has {width} x {height}")
    number = int(seg.label_map[y, x])
    values = [float(seg.score_source(index)[y, x]) for index in range(len(seg.vocabulary))]
    scores = [
        {"label": label.name, "number": place, "score": value if np.isfinite(value) else None}
        for label, place, value in zip(seg.vocabulary, seg.vocabulary.numbers, values, strict=True)
    ]
    answer = {
        "x": x, "y": y, "number": number, "label": seg.names[number - 1] if number else None, "confidence": float(seg.confidence[y, x]),
        "scores": scores,
    }  # fmt: skip
    return Rendered(encode(answer), JSON)


def _document(seg: Segmentation) -> Rendered:
    """`to_document`, with the colour of each label in overlays and label maps."""
    document = to_document(seg)
    for label in document["labels"]:
        label["colour"] = _hex(label["number"])
    return Rendered(encode(document), JSON)


def _discovery_document(found: Discovery, box: bool) -> Rendered:
    return Rendered(encode({**found.document(box_drawn=box), "colour": _hex(1)}), JSON)


def _mask(found: Discovery) -> Rendered:
    return Rendered(_png(Image.fromarray(found.mask.astype(np.uint8) * np.uint8(255))), PNG)


def _heat_map(shares: FloatMap, picture: Picture) -> Image.Image:
    return Image.fromarray(heat_colours(shares))


def _heat_over(shares: FloatMap, picture: Picture) -> Image.Image:
    """Laid over the picture, the more opaque the higher the score."""
    opacity = VEIL * shares[..., None]
    return Image.fromarray(np.rint(picture.pixels * (1 - opacity) + heat_colours(shares) * opacity).astype(np.uint8))


def _heat_grey(shares: FloatMap, picture: Picture) -> Image.Image:
    return Image.fromarray(np.rint(shares * 255).astype(np.uint8))


def heat_colours(shares: FloatMap) -> npt.NDArray[np.uint8]:
    """(H, W) in 0..1 to (H, W, 3) uint8 colours from dark to bright."""
    stops = np.array([tuple(bytes.fromhex(one)) for one in HEAT], dtype=np.float64)
    places = np.linspace(0, 1, len(stops))
    steps = np.linspace(0, 1, 256)
    table = np.rint(np.stack([np.interp(steps, places, stops[:, channel]) for channel in range(3)], 1)).astype(np.uint8)
    return table[np.rint(shares * 255).astype(np.uint8)]


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=LEVEL)
    return stream.getvalue()


def _hex(number: int) -> str:
    return "#" + bytes(colour(number)).hex()


def _pick(forms: Mapping[str, Any], form: str) -> Any:
    if form not in forms:
        raise SettingsError(f"unknown format {form[:30]!r}: choose one of {', '.join(forms)}")
    return forms[form]


SEGMENTATION_FORMS: Mapping[str, Callable[[Segmentation], Rendered]] = {
    "json": _document,
    "labels": lambda seg: Rendered(_png(to_png(seg)), PNG),
    "overlay": lambda seg: Rendered(_png(draw_overlay(seg)), PNG),
    "coco": lambda seg: Rendered(encode(to_coco(seg)), JSON),
}
DISCOVERY_FORMS: Mapping[str, Callable[[Discovery, bool], Rendered]] = {
    "json": _discovery_document,
    "mask": lambda found, box: _mask(found),
    "overlay": lambda found, box: Rendered(_png(found.overlay(box=box)), PNG),
    "coco": lambda found, box: Rendered(encode(to_coco(found.segmentation)), JSON),
}
HEAT_FORMS: Mapping[str, Callable[[FloatMap, Picture], Image.Image]] = {"map": _heat_map, "overlay": _heat_over, "grey": _heat_grey}
