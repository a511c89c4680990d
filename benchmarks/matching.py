"""How often the word that the bundled model matches to a scene is really in it, out of all its 48 objects.

Command: `python benchmarks/matching.py` (one core: a minute). Scenes of the tuning split, the first 40 of which chose the measure; printed
are the share of right words and the seconds a scene.
"""

import argparse
import time
from collections.abc import Sequence

import torch

from maskwright.backbones.loading import load_backbone
from maskwright.datasets.scenes import Scene, render
from maskwright.discovery.matching import MatchSettings, best_words
from maskwright.images import to_tensor
from maskwright.text.wording import Wording
from maskwright.vocabulary import Vocabulary

WORDING = Wording(template="a photo of a {}")
MEASURES = {"attention alone": MatchSettings(shortlist=1), "attention, then denoising errors": MatchSettings()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, nargs=2, metavar=("FROM", "TO"), default=(40, 160))
    scenes = [render(seed, split="tuning") for seed in range(*parser.parse_args().scenes)]
    backbone = load_backbone("sticker")
    vocabulary = Vocabulary.parse(backbone.info.objects or ())
    latents = torch.cat([backbone.encode_image(to_tensor([scene.image])) for scene in scenes])
    print(f"{'a blind guess':34s} {sum(len(scene.words) - 1 for scene in scenes) / len(scenes) / len(vocabulary):.1%}")
    for title, settings in MEASURES.items():
        began = time.perf_counter()
        best = [best_words(backbone, one[None], vocabulary, WORDING, chunk=4, settings=settings)[0] for one in latents]
        seconds = (time.perf_counter() - began) / len(scenes)
        print(f"{title:34s} {accuracy(scenes, [vocabulary[index].name for index in best]):.1%} {seconds:.2f} s", flush=True)


def accuracy(scenes: Sequence[Scene], words: Sequence[str]) -> float:
    """Share of scenes that hold the word given to them."""
    return sum(word in scene.words for scene, word in zip(scenes, words, strict=True)) / len(scenes)


if __name__ == "__main__":
    main()
