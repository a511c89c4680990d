"""Segmentations as Label Studio's predictions, and what an annotator pointed at."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from maskwright.discovery.formats.outlines import polygons
from maskwright.segmentation import Segmentation
from maskwright.serve.brush_rle import encode_brush
from maskwright.serve.label_config import PROMPTS, Answer, ImageQuestion

Mask = npt.NDArray[np.bool_]

SPECK = 0.01  # pieces with less of a label's pixels than this get no polygon or rectangle
FINEST, RELATIVE = 0.5, 1 / 1000  # an outline moves by so many pixels at most, or by this part of the longer side


@dataclass(frozen=True)
class Prompt:
    """A point or a rectangle that an annotator gave.

    Attributes:
        written: the label that was chosen for it.
        box: (left, top, right, bottom) in per cent of the picture; a point has no extent.
    """

    written: str
    box: tuple[float, float, float, float]


def read_prompts(context: object) -> tuple[Prompt, ...]:
    """Points and rectangles of an interactive request; what is not one of these, or has no label, is passed over.

    Args:
        context: of the request, {"result": [region, ...], ...}.
    """
    regions = context.get("result") if isinstance(context, Mapping) else None
    found = []
    for region in regions if isinstance(regions, list) else []:
        value = region.get("value") if isinstance(region, Mapping) else None
        kind = next((kind for kind in PROMPTS if isinstance(value, Mapping) and isinstance(value.get(kind), list)), None)
        if kind is None or not isinstance(value, Mapping):
            continue
        numbers = [value.get(name, 0) for name in ("x", "y", "width", "height")]
        if not all(isinstance(number, int | float) and 0 <= number <= 100 for number in numbers):
            continue
        x, y, width, height = (float(number) for number in numbers)
        box = (x, y, x, y) if kind == "keypointlabels" else (x, y, x + width, y + height)
        found += [Prompt(written, box) for written in value[kind] if isinstance(written, str)]
    return tuple(found)


def write_results(
    seg: Segmentation, question: ImageQuestion, *, prompts: Sequence[Prompt] | None = None
) -> tuple[list[dict[str, Any]], list[float]]:
    """Regions in Label Studio's format.

    Args:
        seg: the result for the question's vocabulary.
        question: what was asked.
        prompts: only labels that were pointed at, and of these the connected piece under a point or what is inside a rectangle;
            None for all labels.

    Returns:
        Regions, and the scores of the labels that have one, in 0..1. A label without pixels has none.
    """
    regions: list[dict[str, Any]] = []
    scores = []
    for answer in question.answers:
        number = seg.number(answer.label.name)
        mask: Mask = np.equal(seg.label_map, number)
        if number and prompts is not None:
            mask &= _pointed_at(mask, [prompt.box for prompt in prompts if prompt.written == answer.written])
        if not number or not mask.any():
            continue
        score = float(np.clip(seg.confidence[mask].mean(dtype=np.float64), 0, 1))
        digest = hashlib.blake2b(np.packbits(mask).tobytes())
        for place, value in enumerate(_values(mask, answer)):
            regions.append(_region(seg, question, answer, value, score) | {"id": _identity(digest.copy(), question, answer, place)})
        scores.append(score)
    return regions, scores


def _region(seg: Segmentation, question: ImageQuestion, answer: Answer, value: dict[str, Any], score: float) -> dict[str, Any]:
    height, width = seg.picture.size
    return {
        "from_name": answer.control,
        "to_name": question.name,
        "type": answer.kind,
        "image_rotation": 0,
        "original_width": width,
        "original_height": height,
        "score": score,
        "value": {**value, answer.kind: [answer.written]},
    }


def _identity(digest: "hashlib.blake2b", question: ImageQuestion, answer: Answer, place: int) -> str:
    """The same for the same region; another for another mask, so that what is pointed at twice in a picture can be kept twice."""
    digest.update("\0".join((question.name, answer.control, answer.written, str(place))).encode("utf-8", "replace"))
    return digest.hexdigest()[:10]


def _values(mask: Mask, answer: Answer) -> Iterator[dict[str, Any]]:
    """One brush mask, or one polygon or rectangle for each piece, the largest first."""
    if answer.kind == "brushlabels":
        yield {"format": "rle", "rle": encode_brush(mask)}
    elif answer.kind == "polygonlabels":
        for points in polygons(mask, tolerance=max(FINEST, RELATIVE * max(mask.shape)), speck=SPECK):
            yield {"points": (points / mask.shape[::-1] * 100).tolist(), "closed": True}
    else:
        for x, y, width, height in _boxes(mask):
            yield {"x": x, "y": y, "width": width, "height": height, "rotation": 0}


def _boxes(mask: Mask) -> Iterator[tuple[float, float, float, float]]:
    """(x, y, width, height) in per cent around each connected piece, the largest piece first."""
    pieces, count = ndimage.label(mask)
    areas = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    windows = ndimage.find_objects(pieces)
    down, right = 100 / mask.shape[0], 100 / mask.shape[1]
    for place in np.argsort(-areas, kind="stable"):
        if areas[place] >= SPECK * areas.sum():
            rows, columns = windows[place]
            width, height = columns.stop - columns.start, rows.stop - rows.start
            yield columns.start * right, rows.start * down, width * right, height * down


def _pointed_at(mask: Mask, boxes: Sequence[tuple[float, float, float, float]]) -> Mask:
    """The pieces of a mask under points, and its pixels inside rectangles; (left, top, right, bottom) in per cent."""
    height, width = mask.shape
    chosen = np.zeros_like(mask)
    pieces, _ = ndimage.label(mask)
    for left, top, right, bottom in boxes:
        column, row = min(int(left * width / 100), width - 1), min(int(top * height / 100), height - 1)
        if (left, top) == (right, bottom):
            chosen |= (pieces == pieces[row, column]) & mask
        else:
            chosen[row : -int(-bottom * height // 100), column : -int(-right * width // 100)] = True
    return chosen
