"""Foreground first beside the published text-driven methods, by how many words compete that are not in the scene.

Command: `python benchmarks/foreground_first.py` (one core: about two minutes). Columns are mean IoU over all words on the bundled
scenes: the words of each scene; these and two to four absent ones, drawn by the scene's number; all words. Rows without a mode have
the method's own. `--split tuning` chose the settings. The control has the model's own networks with random weights.
"""

import argparse
import random
from collections.abc import Callable, Sequence

import numpy as np
from scenes import randomise

from maskwright.backbones.loading import load_backbone
from maskwright.backbones.unet import UNetBackbone
from maskwright.datasets.scenes import Scene, SceneSet, open_scenes
from maskwright.evaluation.confusion import count_pixels, mean_iou
from maskwright.segmenter import Segmenter

Ask = Callable[[int, Scene, Sequence[str]], list[str]]
ROWS = (("diffsegmenter", "joint"), ("maskdiffusion", "joint"), ("maskdiffusion", "shared"), ("foreground-first", "shared"))


def present(number: int, scene: Scene, names: Sequence[str]) -> list[str]:
    """The words of a scene, in the order of the list."""
    return [name for name in names if name in scene.words]


def with_absent(number: int, scene: Scene, names: Sequence[str]) -> list[str]:
    """The words of a scene and two to four others, in the order of the list."""
    rng = random.Random(number)
    others = rng.sample([name for name in names if name not in scene.words], rng.randint(2, 4))
    return [name for name in names if name in scene.words or name in others]


def everything(number: int, scene: Scene, names: Sequence[str]) -> list[str]:
    """All words."""
    return list(names)


def miou(segmenter: Segmenter, drawn: SceneSet, scenes: Sequence[Scene], ask: Ask) -> float:
    """Mean IoU in per cent over the words that occur, pixels summed over all scenes first."""
    names = [word.name for word in drawn.words.all]
    counts = np.zeros((len(names), len(names) + 1), dtype=np.int64)
    for number, scene in enumerate(scenes):
        result = segmenter.segment(scene.image, ask(number, scene, names))
        lookup = np.array([-1, *(names.index(name) for name in result.names)], dtype=np.int64)
        counts += count_pixels(scene.labels, lookup[result.label_map], classes=len(names))
    return 100 * mean_iou(counts)


def row(backbone: UNetBackbone, method: str, prompting: str, drawn: SceneSet, scenes: Sequence[Scene]) -> str:
    """The three figures of a method."""
    segmenter = Segmenter(backbone, method, prompting=prompting, background="none")  # type: ignore[arg-type]
    return " | ".join(f"{miou(segmenter, drawn, scenes, ask):.1f}" for ask in (present, with_absent, everything))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--split", default="benchmark")
    parser.add_argument("--model", default="sticker")
    parser.add_argument("--scenes", default="scenes")
    options = parser.parse_args()
    backbone, drawn = load_backbone(options.model), open_scenes(options.scenes)
    scenes = list(drawn.scenes(options.limit, split=options.split))
    print("| method | prompting | words given | and 2-4 absent | all words |\n|---|---|---|---|---|", flush=True)
    for method, prompting in ROWS:
        print(f"| {method} | {prompting} | {row(backbone, method, prompting, drawn, scenes)} |", flush=True)
    randomise(backbone, 0)
    print(f"| *foreground-first, untrained networks* | shared | {row(backbone, 'foreground-first', 'shared', drawn, scenes)} |", flush=True)


if __name__ == "__main__":
    main()
