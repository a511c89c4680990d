"""Masks without words: every region method on the bundled benchmark and on folders of photographs, beside an untrained control.

Command: `python benchmarks/regions.py` for the bundled scenes, `--scenes scenes-full --model sticker-full` for the full set; `--data
DATA` adds coco100 (classes) and bsds100 (several annotators) from that folder. All methods read one pass of the model.
"matched" is mean IoU over the classes of the set after Hungarian matching in each picture (DiffSeg's protocol; segments that match
nothing are wrong); "pictures" is the mean over pictures of their own regions' matched IoU. "oracle" is told the number of regions in
the truth and is no method.
"""

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from scenes import randomise

from maskwright.backbones.loading import load_backbone
from maskwright.backbones.unet import UNetBackbone
from maskwright.datasets.contract import IGNORE, EvaluationSet
from maskwright.datasets.registry import open_dataset
from maskwright.evaluation.confusion import mean_iou
from maskwright.evaluation.covering import region_agreement, region_scores
from maskwright.evaluation.matching import contingency, count_overlaps, matched_counts, matched_mean_iou
from maskwright.grouping import Grouper
from maskwright.images import Picture
from maskwright.methods import REGION_METHODS
from maskwright.refine import REFINERS
from maskwright.segmentation import Segmentation

CLASSES_HEADING = "| method | regions | matched | pictures | found |\n|---|---|---|---|---|"
ANNOTATORS_HEADING = "| method | covering | best annotator | Rand | IoU, best annotator | VI |\n|---|---|---|---|---|---|"


def group_all(grouper: Grouper, pictures: EvaluationSet, limit: int) -> Iterator[tuple[dict[str, Segmentation], Picture, int]]:
    """Results of all methods, the picture and its position, for the first pictures of a set."""
    oracle = any(method.regions == "oracle" for method in grouper.methods.values())
    for number, item in enumerate(islice(pictures.items, limit)):
        picture = item.open()
        count = len(set(np.unique(item.labels(picture)).tolist()) - {IGNORE}) if oracle else None
        yield grouper.by_method(picture, oracle=count), picture, number


def classes_table(backbone: UNetBackbone, pictures: EvaluationSet, limit: int, *, regions: str, refine: str, note: str = "") -> None:
    """Rows of a set with classes."""
    grouper = Grouper(backbone, list(REGION_METHODS), regions=regions, refine=refine)  # type: ignore[arg-type]
    counts = dict.fromkeys(REGION_METHODS, np.zeros((len(pictures.classes), len(pictures.classes) + 1), dtype=np.int64))
    own: dict[str, list[float]] = {name: [] for name in REGION_METHODS}
    found: dict[str, list[int]] = {name: [] for name in REGION_METHODS}
    for results, picture, number in group_all(grouper, pictures, limit):
        truth = pictures.items[number].labels(picture)
        for name, result in results.items():
            segments = result.label_map.astype(np.int64) - 1
            counts[name] = counts[name] + matched_counts(count_overlaps(truth, segments, classes=len(pictures.classes)))
            own[name].append(matched_mean_iou(contingency(truth, segments, ignore=IGNORE)))
            found[name].append(len(result.names))
    for name in REGION_METHODS:
        figures = f"{100 * mean_iou(counts[name]):.1f} | {100 * np.nanmean(own[name]):.1f} | {np.mean(found[name]):.1f}"
        print(f"| {name}{note} | {regions} | {figures} |", flush=True)


def annotators_table(backbone: UNetBackbone, pictures: EvaluationSet, limit: int, *, refine: str, note: str = "") -> None:
    """Rows of a set with several annotators."""
    grouper = Grouper(backbone, list(REGION_METHODS), regions="auto", refine=refine)  # type: ignore[arg-type]
    agreements: dict[str, list] = {name: [] for name in REGION_METHODS}
    for results, picture, number in group_all(grouper, pictures, limit):
        truth = pictures.items[number].regions(picture)
        for name, result in results.items():
            agreements[name].append(region_agreement(truth, result.label_map))
    for name, rows in agreements.items():
        scores = region_scores(rows)
        shares = " | ".join(f"{100 * value:.1f}" for value in (scores.covering, scores.covering_best, scores.rand, scores.iou_best))
        print(f"| {name}{note} | {shares} | {scores.variation:.2f} |", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder that holds coco100/ and bsds100/")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--model", default="sticker")
    parser.add_argument("--scenes", default="scenes")
    parser.add_argument("--refine", default="none", choices=REFINERS, help="of all regions")
    parser.add_argument("--oracle", action=argparse.BooleanOptionalAction, default=True, help="rows told the number of regions")
    parser.add_argument("--control", action=argparse.BooleanOptionalAction, default=True, help="rows of untrained networks")
    options = parser.parse_args()
    refine = options.refine
    backbone = load_backbone(options.model)
    named = {options.scenes: open_dataset(options.scenes)}
    if options.data:
        named["coco100"] = open_dataset(f"folder:{options.data / 'coco100'}")
    annotated = open_dataset(f"folder:{options.data / 'bsds100'}") if options.data else None
    for title, pictures in named.items():
        print(f"\n{title}, refine {refine}\n{CLASSES_HEADING}", flush=True)
        for regions in ("auto", "oracle") if options.oracle else ("auto",):
            classes_table(backbone, pictures, options.limit, regions=regions, refine=refine)
    if annotated:
        print(f"\nbsds100, refine {refine}\n{ANNOTATORS_HEADING}", flush=True)
        annotators_table(backbone, annotated, options.limit, refine=refine)
    if not options.control:
        return
    randomise(backbone, 0)
    print("\nuntrained networks", flush=True)
    for title, pictures in named.items():
        print(f"\n{title}, refine {refine}\n{CLASSES_HEADING}", flush=True)
        classes_table(backbone, pictures, options.limit, regions="auto", refine=refine, note=", untrained")
    if annotated:
        print(f"\nbsds100, refine {refine}\n{ANNOTATORS_HEADING}", flush=True)
        annotators_table(backbone, annotated, options.limit, refine=refine, note=", untrained")


if __name__ == "__main__":
    main()
