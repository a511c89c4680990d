"""Writes the tables of docs/results.md with `maskwright evaluate`: every method on the bundled scenes and on folders of photographs.

Command: `python benchmarks/results.py --data DATA` (one core: about half an hour; without `--data` the bundled scenes
only, ten minutes). Each table is one run of `maskwright evaluate` into runs/results/, which goes on where it was stopped; the command
stands above the table. The text of docs/results.md between the lines `<!-- begin NAME -->` and `<!-- end NAME -->` is replaced.
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path("docs/results.md")
NAMES = {
    "miou": "mIoU", "miou_best_threshold": "mIoU, threshold chosen on the ground truth",
    "picture_miou": "mean of pictures", "pixel_accuracy": "pixel accuracy", "boundary_iou": "boundary IoU", "iou": "IoU",
    "accuracy": "accuracy", "max_f_tokencut": "max F (.3)", "max_f_selfmask": "max F (.09)", "s_measure": "S", "max_e": "max E",
    "mae": "MAE", "corloc": "box hit",
    "covering": "covering", "covering_best": "covering, best annotator", "rand": "Rand", "variation": "VI (bits)",
}  # fmt: skip
REGIONS = "maskdiffusion-unsupervised,diffseg,diffcut,kmeans"
WORDS = "diffsegmenter,maskdiffusion"


@dataclass(frozen=True)
class Table:
    """One run and the columns that are shown of it.

    Attributes:
        options: of `maskwright evaluate`; {data} stands for the folder of `--data`.
        metrics: columns.
    """

    options: str
    metrics: tuple[str, ...]


TABLES = {
    "words-present": Table(
        f"--dataset scenes --method {WORDS} --sweep prompting=shared,per-label,joint --protocol maskwright,labels=present,background=none",
        ("miou", "picture_miou", "pixel_accuracy", "boundary_iou"),
    ),
    "words-all": Table(
        f"--dataset scenes --method {WORDS} --sweep prompting=shared,joint --protocol maskwright,background=none",
        ("miou", "picture_miou", "pixel_accuracy"),
    ),
    "regions-scenes": Table(f"--dataset scenes --method {REGIONS}", ("miou", "picture_miou", "pixel_accuracy")),
    "words-coco": Table(
        f"--dataset folder:{{data}}/coco100 --method {WORDS} --protocol maskwright,labels=present,background=none",
        ("miou", "picture_miou", "pixel_accuracy"),
    ),
    "regions-coco": Table(f"--dataset folder:{{data}}/coco100 --method {REGIONS}", ("miou", "picture_miou", "pixel_accuracy")),
    "regions-bsds": Table(f"--dataset folder:{{data}}/bsds100 --method {REGIONS}", ("covering", "covering_best", "rand", "variation")),
    "discovery-horses": Table(
        "--dataset folder:{data}/horses --method attentioncut,daam",
        ("iou", "accuracy", "max_f_tokencut", "max_f_selfmask", "s_measure", "corloc"),
    ),
    "discovery-davis": Table(
        "--dataset folder:{data}/davis --method attentioncut,daam",
        ("iou", "accuracy", "max_f_tokencut", "max_f_selfmask", "s_measure", "corloc"),
    ),
    "sweep-timesteps": Table(
        f"--dataset scenes --split tuning --limit 80 --method {WORDS} --sweep timesteps=50,100,200,300,500"
        " --protocol maskwright,labels=present,background=none",
        ("miou", "pixel_accuracy"),
    ),
    "sweep-layers": Table(
        "--dataset scenes --split tuning --limit 80 --method maskdiffusion --sweep attention_factors=[1],[2],[1,2]"
        " --sweep feature_factors=[1],[2],[2,1] --protocol maskwright,labels=present,background=none",
        ("miou", "pixel_accuracy"),
    ),
    "sweep-fusion": Table(
        "--dataset scenes --split tuning --limit 80 --method diffsegmenter --sweep hops=0,1,2"
        " --sweep fusion=[[1,1]],[[2,1]],[[1,0.9],[2,0.1]] --protocol maskwright,labels=present,background=none",
        ("miou", "pixel_accuracy"),
    ),
    "sweep-background": Table(
        f"--dataset folder:{{data}}/horses --labels cow --method {WORDS} --protocol maskwright,background=best",
        ("miou", "miou_best_threshold"),
    ),
}  # fmt: skip


def run(name: str, table: Table, data: Path | None) -> tuple[str, dict[str, Any]]:
    """The command as a reader would type it, and its summary."""
    options = table.options.format(data=data)
    command = f"maskwright evaluate {options} --out runs/results/{name}"
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(command), "--resume", "--overlays", "3", "--json"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{command}\n{done.stderr}")
    return command.replace(str(data), "DATA"), json.loads(done.stdout)


def write_table(command: str, summary: dict[str, Any], table: Table) -> str:
    """The command, the protocol and a row for each method, as Markdown."""
    titles = " | ".join(NAMES[name] for name in table.metrics)
    lines = [f"`{command}`", "", f"| method | {titles} |", "|---" * (len(table.metrics) + 1) + "|"]
    for key, found in summary["methods"].items():
        cells = [write_cell(name, found["metrics"].get(name)) for name in table.metrics]
        failed = f" ({len(found['failed'])} failed)" if found["failed"] else ""
        lines.append(f"| {key}{failed} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_cell(name: str, metric: dict[str, Any] | None) -> str:
    """Value and 95 % interval, in per cent but for bits."""
    if metric is None or metric["value"] is None:
        return "-"
    factor, digits = (1, 2) if name == "variation" else (100, 1)
    value, low, high = (f"{factor * metric[part]:.{digits}f}" for part in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder that holds coco100/, bsds100/, horses/ and davis/")
    parser.add_argument("--only", help="names of tables, with commas")
    options = parser.parse_args()
    for name, table in TABLES.items():
        if (options.only and name not in options.only.split(",")) or ("{data}" in table.options and options.data is None):
            continue
        text = write_table(*run(name, table, options.data), table)
        page = PAGE.read_text(encoding="utf-8")
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        if begin not in page:
            raise SystemExit(f"{PAGE} has no place for {name}: add the lines {begin} and {end}")
        PAGE.write_text(re.sub(f"{begin}.*?{end}", lambda _, new=f"{begin}\n{text}\n{end}": new, page, flags=re.DOTALL), encoding="utf-8")
        print(f"{name}\n{text}\n", flush=True)


if __name__ == "__main__":
    main()
