"""The table of the README: mean IoU of every method and prompting mode on the bundled benchmark, beside control and ceiling.

Command: `python benchmarks/scenes.py` (two cores: about seven minutes). The control is the bundled model's own networks with random
weights: what a method scores there it owes to the scenes' geometry, not to what was learned. The ceiling is the truth itself, reduced
to the latent grid.
"""

import argparse

import numpy as np
import torch

from maskwright.backbones.loading import load_backbone
from maskwright.backbones.unet import UNetBackbone
from maskwright.datasets.scenes import benchmark, load_words
from maskwright.evaluation.confusion import count_pixels, mean_iou
from maskwright.evaluation.scenes import run_benchmark
from maskwright.images import upsample
from maskwright.methods import METHODS
from maskwright.segmenter import Segmenter
from maskwright.text.wording import PROMPTINGS


def randomise(backbone: UNetBackbone, seed: int) -> None:
    """Gives U-Net and text encoder fresh weights by their layers' own initialisation; the autoencoder stays as it is."""
    torch.manual_seed(seed)
    for network in (backbone.unet, backbone.text.encoder):
        for module in network.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()


def ceiling(limit: int, grid: int) -> float:
    """Mean IoU of the true masks after averaging them on a grid and going back up, as every method must."""
    classes = len(load_words().all)
    counts = np.zeros((classes, classes + 1), dtype=np.int64)
    for scene in benchmark(limit):
        one_hot = torch.nn.functional.one_hot(torch.from_numpy(scene.labels).long(), classes).permute(2, 0, 1).float()
        coarse = torch.nn.functional.adaptive_avg_pool2d(one_hot, grid)
        counts += count_pixels(scene.labels, upsample(coarse, scene.labels.shape).argmax(0).numpy(), classes=classes)
    return mean_iou(counts)


def row(backbone: UNetBackbone, method: str, prompting: str, limit: int) -> str:
    """The two figures of one method and mode, and its seconds per scene with the caption's words."""
    segmenter = Segmenter(backbone, method, prompting=prompting, background="none")  # type: ignore[arg-type]
    given = run_benchmark(segmenter, limit=limit, labels="caption")
    competing = run_benchmark(segmenter, limit=limit, labels="all")
    return f"{100 * given.miou:.1f} | {100 * competing.miou:.1f} | {given.seconds:.3f}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--model", default="sticker")
    options = parser.parse_args()
    backbone = load_backbone(options.model)
    print("| method | prompting | caption | all | s / scene |\n|---|---|---|---|---|", flush=True)
    for method in METHODS:
        for prompting in PROMPTINGS:
            print(f"| {method} | {prompting} | {row(backbone, method, prompting, options.limit)} |", flush=True)
    grid = backbone.info.native // backbone.vae_factor
    print(f"| *ceiling of the {grid} x {grid} grid* | | {100 * ceiling(options.limit, grid):.1f} | | |", flush=True)
    randomise(backbone, 0)
    for method in METHODS:
        print(f"| *{method}, untrained networks* | shared | {row(backbone, method, 'shared', options.limit)} |", flush=True)


if __name__ == "__main__":
    main()
