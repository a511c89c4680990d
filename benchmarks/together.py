"""What several methods cost on one picture, whose reading they share, against the dearest of them alone.

Command: `python benchmarks/together.py` (two cores, 8 GB of memory, about three minutes). A full-size Stable Diffusion 1.5 with random
weights, 512 px, all methods at one timestep. Medians of a few runs, interleaved; encoding the picture is part of every figure.
"""

import argparse
from typing import Any

import numpy as np
import torch
from reading import measure
from stable_diffusion import random_stable_diffusion

from maskwright.backbones.unet import UNetBackbone
from maskwright.grouping import Grouper, share_passes
from maskwright.methods import METHODS, REGION_METHODS, make_method
from maskwright.passes import score_reading
from maskwright.text.planning import TextPlan, plan_text
from maskwright.vocabulary import Vocabulary

SHARED: dict[str, Any] = {"timesteps": (100,), "noise": True}
LABELS = Vocabulary.parse(
    "dog, cat, horse, sheep, cow, bird, person, car, bus, train, grass, sky, road, tree, house, water, sand, snow, wall, sofa"
)
TARGET = 1.3


def without_words(backbone: UNetBackbone, names: list[str], pixels: np.ndarray) -> Any:
    """The region methods, regions at the picture's own size."""
    return Grouper(backbone, names, settings={**SHARED, "regions": 8}).by_method(pixels)


def with_words(backbone: UNetBackbone, names: list[str], pixels: np.ndarray) -> Any:
    """The text-driven methods on one reading, in shared prompting, up to their score maps."""
    settings = {"diffsegmenter": {"timesteps": (100,)}, "maskdiffusion": {**SHARED, "prompting": "shared"}}
    methods = {name: make_method(name, settings[name]) for name in names}
    (shared,) = share_passes(methods)
    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
    plans: dict[str, TextPlan] = {name: plan_text(backbone.text, LABELS, method.wording(), "shared") for name, method in methods.items()}
    reading = backbone.read(backbone.encode_image(batch), shared.probe, condition=next(iter(plans.values())).passes[0].condition)
    return [score_reading(method, reading, plans[name]) for name, method in methods.items()]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2)
    options = parser.parse_args()
    backbone = random_stable_diffusion()
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    for title, names, run in (("without words", list(REGION_METHODS), without_words), ("with words", list(METHODS), with_words)):
        jobs = {name: (lambda name=name, run=run: run(backbone, [name], pixels)) for name in names}
        jobs["together"] = lambda names=names, run=run: run(backbone, names, pixels)
        seconds = measure(jobs, runs=options.runs)
        for name, value in seconds.items():
            print(f"{title:14s} {name:28s} {value:.2f} s")
        ratio = seconds["together"] / max(seconds[name] for name in names)
        verdict = "met" if ratio <= TARGET else f"missed by {ratio / TARGET - 1:.0%}"
        print(f"{title:14s} together / the dearest alone {ratio:.2f} (target {TARGET}: {verdict})")


if __name__ == "__main__":
    main()
