"""What stands out: AttentionCut, its four comparators and DAAM on the bundled benchmark and on photographs, beside an untrained control.

Command: `python benchmarks/discovery.py` for the bundled scenes; `--scenes scenes-full --model sticker-full` for the full set; `--data
DATA` adds horses and davis from there. Scenes: the objects' words are given together, the ground's word stands in the prompt
beside them and takes what is its own; the truth is all objects.
Photographs: the best-matching word of the model's own (it knows no horse). Mean over pictures of the foreground's IoU and accuracy, mean
absolute error, both maximal F of the literature (never comparable with each other), and the share of pictures whose box hits an object at
IoU 0.5.
"""

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scenes import randomise

from maskwright.backbones.loading import load_backbone
from maskwright.backbones.unet import UNetBackbone
from maskwright.datasets.registry import open_dataset
from maskwright.datasets.scenes import open_scenes
from maskwright.discovery.discoverer import Discoverer
from maskwright.discovery.result import Discovery
from maskwright.evaluation.bootstrap import draw_weights, interval
from maskwright.evaluation.boxes import corloc, is_hit, label_boxes
from maskwright.evaluation.saliency import count_saliency, foreground_iou, join_counts, saliency_scores
from maskwright.refine import REFINERS
from maskwright.vocabulary import Vocabulary

Truth = tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]  # the foreground, and boxes (n, 4)
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "attentioncut": ("attentioncut", {}),
    "attentioncut, merge as published": ("attentioncut", {"merge": "rows", "seed_share": 0.05, "refined_weight": 1.0}),
    **{f"its maps, {solver}": ("attentioncut", {"solver": solver}) for solver in ("threshold", "kmeans", "ncut", "crf")},
    "daam": ("daam", {}),
}
METHODS = ("attentioncut", "daam")  # of these rows, those that are no comparators
HEADING = "| method | IoU | accuracy | MAE | max F (.3, TokenCut) | max F (.09, SelfMask) | box hit |\n|---|---|---|---|---|---|---|"


def scenes(discoverer: Discoverer, name: str, limit: int) -> Iterator[tuple[Discovery, Truth]]:
    """The bundled scenes, asked for their objects together."""
    words, objects = open_scenes(name).words.all, len(open_scenes(name).words.objects)
    for item in islice(open_dataset(name).items, limit):
        picture = item.open()
        labels = item.labels(picture)
        present = [words[number].name for number in np.unique(labels)]
        vocabulary = Vocabulary.parse(present, background=present[-1])
        boxes = label_boxes(labels, leave_out=range(objects, len(words)))
        yield discoverer.discover(picture, vocabulary), (labels < objects, np.array(list(boxes.values())))


def photographs(discoverer: Discoverer, folder: Path, limit: int, words: dict[str, Vocabulary]) -> Iterator[tuple[Discovery, Truth]]:
    """A folder of photographs with one foreground each, asked for nothing; the first method's choice of a word serves all (`words`)."""
    own = {label.name: label for label in discoverer.quest().words}
    for item in islice(open_dataset(f"folder:{folder}").items, limit):
        picture = item.open()
        mask = item.foreground(picture)
        found = discoverer.discover(picture, words.get(item.name))
        words.setdefault(item.name, Vocabulary((own[found.word],)))
        yield found, (mask, np.array(list(label_boxes(mask).values())))


def row(found: Iterator[tuple[Discovery, Truth]]) -> str:
    """The figures of one method on one set."""
    counts, hits = [], []
    for discovery, (mask, boxes) in found:
        counts.append(count_saliency(discovery.probability, mask))
        hits.append(is_hit(discovery.box, boxes))
    joined = join_counts(counts)
    scores, ious = saliency_scores(joined), foreground_iou(joined)
    low, high = interval(draw_weights(len(ious)) @ ious / len(ious))
    figures = (scores.accuracy, scores.mae, scores.max_f_tokencut, scores.max_f_selfmask, corloc(hits))
    return f"{100 * scores.iou:.1f} [{100 * low:.1f}, {100 * high:.1f}] | " + " | ".join(f"{100 * figure:.1f}" for figure in figures)


def table(
    backbone: UNetBackbone, rows: dict[str, tuple[str, dict[str, Any]]], name: str, data: Path | None, limit: int, refine: Any
) -> None:  # fmt: skip
    """All rows on all sets."""
    print(f"\n{name}, refine {refine}\n{HEADING}", flush=True)
    for title, (method, settings) in rows.items():
        print(f"| {title} | {row(scenes(Discoverer(backbone, method, settings=settings, refine=refine), name, limit))} |", flush=True)
    for folder in ("horses", "davis") if data else ():
        print(f"\n{folder}, refine {refine}\n{HEADING}", flush=True)
        words: dict[str, Vocabulary] = {}
        for title, (method, settings) in rows.items():
            discoverer = Discoverer(backbone, method, settings=settings, refine=refine)
            print(f"| {title} | {row(photographs(discoverer, data / folder, limit, words))} |", flush=True)  # type: ignore[operator]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder that holds horses/ and davis/")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--model", default="sticker")
    parser.add_argument("--scenes", default="scenes")
    parser.add_argument("--refine", default="none", choices=REFINERS, help="of all probabilities")
    parser.add_argument("--comparators", action=argparse.BooleanOptionalAction, default=True, help="rows of other merges and solvers")
    parser.add_argument("--control", action=argparse.BooleanOptionalAction, default=True, help="rows of untrained networks")
    options = parser.parse_args()
    backbone = load_backbone(options.model)
    rows = ROWS if options.comparators else {title: ROWS[title] for title in METHODS}
    table(backbone, rows, options.scenes, options.data, options.limit, options.refine)
    if not options.control:
        return
    randomise(backbone, 0)
    print("\nuntrained networks", flush=True)
    controls = {f"{title}, untrained": ROWS[title] for title in METHODS}
    table(backbone, controls, options.scenes, options.data, options.limit, options.refine)


if __name__ == "__main__":
    main()
