"""What a labelled pair costs over drawing its picture alone, on the bundled model.

Command: `python benchmarks/synthesis.py` (two cores, about two minutes). Every picture is drawn twice, in turn: by `backbone.generate`,
and by a synthesizer that reads, cuts and stores it. Ratios are totals over totals, measured in one run; absolute seconds are printed for
orientation only. A kept pair bears the cost of the attempts that were rejected on the way to it.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from maskwright.backbones.loading import load_backbone
from maskwright.backbones.unet import UNetBackbone
from maskwright.discovery.prompts import LabelPrompts
from maskwright.discovery.store import PairStore
from maskwright.discovery.synthesis import Synthesizer
from maskwright.discovery.templates import Templates
from maskwright.methods import DISCOVERY_METHODS
from maskwright.vocabulary import Vocabulary

LABELS = "dog, cat, fox, red apple, car, whale, tree, owl, banana, house, sunflower, penguin"
GOAL = 1.10


@dataclass
class Cost:
    """Seconds and counts of one method."""

    plain: float = 0.0
    pairs: float = 0.0
    drawn: int = 0
    kept: int = 0


class Timed:
    """A synthesizer whose attempts are each followed by the plain generation of the same picture."""

    def __init__(self, backbone: UNetBackbone, method: str, folder: Path) -> None:
        vocabulary = Vocabulary.parse(LABELS)
        prompts = LabelPrompts(vocabulary, Templates.suited(backbone.info.synthesis))
        self.synthesizer = Synthesizer(backbone, prompts, method, batch=1)
        self.store = PairStore.open(folder, self.synthesizer.decisive(), vocabulary, resume=False)
        self.cost = Cost()

    def fill(self, place: int) -> None:
        """One place of the data set, whatever it takes."""
        attempts = self.synthesizer.run([place], self.store)
        while True:
            began = time.perf_counter()
            drawn = next(attempts, None)
            if drawn is None:
                return
            self.cost.pairs += time.perf_counter() - began
            self.cost.plain += self.plain(drawn.pair.prompt, drawn.pair.seed)
            self.cost.drawn += 1
            self.cost.kept += drawn.pair.kept

    def plain(self, prompt: str, seed: int) -> float:
        """Seconds of drawing a picture and nothing else."""
        settings = self.synthesizer.settings
        began = time.perf_counter()
        self.synthesizer.backbone.generate([prompt], steps=settings.steps, guidance=settings.guidance, seed=seed)
        return time.perf_counter() - began


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=24)
    options = parser.parse_args()
    backbone = load_backbone("sticker")
    with tempfile.TemporaryDirectory() as folder:
        timed = {name: Timed(backbone, name, Path(folder) / name) for name in DISCOVERY_METHODS}
        for one in timed.values():
            one.synthesizer.make(10**6)  # warms up
        for place in range(options.pairs):
            for one in timed.values():
                one.fill(place)
        for one in timed.values():
            one.store.close()
    print(f"{'method':14s} {'plain':>8s} {'pair':>8s} {'ratio':>6s}  {'goal':>5s}  {'kept':>9s} {'a kept pair / plain picture':>28s}")
    for name, one in timed.items():
        cost = one.cost
        ratio, whole = cost.pairs / cost.plain, cost.pairs / max(1, cost.kept) / (cost.plain / cost.drawn)
        seconds = f"{cost.plain / cost.drawn:6.3f} s {cost.pairs / cost.drawn:6.3f} s"
        print(f"{name:14s} {seconds} {ratio:6.3f}  {GOAL:5.2f}  {f'{cost.kept} of {cost.drawn}':>9s} {whole:28.3f}")


if __name__ == "__main__":
    main()
