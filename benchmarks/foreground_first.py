"""Foreground first beside the published text-driven methods, by how many words compete that are not in the scene.

Command: `python benchmarks/foreground_first.py` (one core: about two minutes). Columns are mean IoU over all words on the bundled
scenes: the words of each scene; these and two to four absent ones, drawn by the scene's number; all words. Rows without a mode have
the method's own. `--split tuning` chose the settings. The control has the model's own networks with random weights.
"""

import argparse

from scenes import measure, randomise

from maskwright.backbones.loading import load_backbone
from maskwright.backbones.unet import UNetBackbone
from maskwright.evaluation.scenes import Asked

ROWS = (("diffsegmenter", "joint"), ("maskdiffusion", "joint"), ("maskdiffusion", "shared"), ("foreground-first", "shared"))
COLUMNS: tuple[Asked, ...] = ("caption", "absent", "all")


def row(backbone: UNetBackbone, method: str, prompting: str, options: argparse.Namespace) -> str:
    """The three figures of a method."""
    places = [(options.split, labels) for labels in COLUMNS]
    found = measure(backbone, method, prompting, options.scenes, options.limit, places)
    return " | ".join(f"{100 * result.miou:.1f}" for (result,) in found)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--split", default="benchmark")
    parser.add_argument("--model", default="sticker")
    parser.add_argument("--scenes", default="scenes")
    options = parser.parse_args()
    backbone = load_backbone(options.model)
    print("| method | prompting | words given | and 2-4 absent | all words |\n|---|---|---|---|---|", flush=True)
    for method, prompting in ROWS:
        print(f"| {method} | {prompting} | {row(backbone, method, prompting, options)} |", flush=True)
    randomise(backbone, 0)
    print(f"| *foreground-first, untrained networks* | shared | {row(backbone, 'foreground-first', 'shared', options)} |", flush=True)


if __name__ == "__main__":
    main()
