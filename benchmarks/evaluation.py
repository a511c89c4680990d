"""What an evaluation costs beyond the methods that it measures: wall time of `maskwright evaluate`'s runner over that of the bare methods.

Command: `python benchmarks/evaluation.py` (one core: two minutes; `--data DATA` adds coco100). Both walk through the same
pictures of the same set with the same model in one run, in turn: opening the picture and asking the method is the floor; truth, counting,
statistics and the line on the disk come on top.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from maskwright.datasets.contract import EvaluationSet
from maskwright.datasets.registry import open_dataset
from maskwright.evaluation.crews import Choice
from maskwright.evaluation.protocol import Protocol
from maskwright.evaluation.runner import Part, Runner
from maskwright.grouping import Grouper
from maskwright.methods import METHODS
from maskwright.segmenter import Segmenter
from maskwright.vocabulary import Vocabulary

TARGET = 1.10


def bare(dataset: EvaluationSet, method: str, limit: int, reader: Any) -> float:
    """Seconds to open the pictures and ask the method."""
    worker: Any = Segmenter(reader, method, background="none", batch=1) if method in METHODS else Grouper(reader, method, batch=1)
    vocabulary = Vocabulary(dataset.classes)
    began = time.perf_counter()
    for item in dataset.items[:limit]:
        if method in METHODS:
            worker.segment(item.open(), vocabulary)
        else:
            worker.regions(item.open())
    return time.perf_counter() - began


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--limit", type=int, default=40)
    options = parser.parse_args()
    sets = [open_dataset("scenes"), *([open_dataset(f"folder:{options.data / 'coco100'}")] if options.data else [])]
    protocol = Protocol(background="none")
    for dataset in sets:
        for method in ("diffsegmenter", "maskdiffusion", "diffcut", "kmeans"):
            runner = Runner(dataset, [Choice(method, method)], protocol, part=Part(limit=options.limit))
            seconds = {"bare": 0.0, "evaluated": 0.0}
            for turn in range(3):  # the first one warms up
                with tempfile.TemporaryDirectory() as folder:
                    began = time.perf_counter()
                    runner.run(Path(folder) / "run", resume=False)
                    evaluated = time.perf_counter() - began
                floor = bare(dataset, method, options.limit, runner.reader.backbone)
                if turn:
                    seconds["bare"] += floor
                    seconds["evaluated"] += evaluated
            ratio = seconds["evaluated"] / seconds["bare"]
            verdict = "met" if ratio <= TARGET else f"missed by {ratio / TARGET - 1:.0%}"
            each = seconds["bare"] / 2 / options.limit
            print(
                f"{dataset.name:10s} {method:15s} {each:.3f} s a picture, evaluated / bare {ratio:.2f} (target {TARGET}: {verdict})",
                flush=True,
            )


if __name__ == "__main__":
    main()
