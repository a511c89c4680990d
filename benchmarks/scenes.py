"""The table of the README: mean IoU of every method and prompting mode on the bundled benchmark, beside control and ceiling.

Command: `python benchmarks/scenes.py` (two cores: about seven minutes). `--scenes scenes-full --model sticker-full` is the full set,
with one column more: on the split benchmark-fine the words of a scene and their families compete. The control is the model's own
networks with random weights: what a method scores there it owes to the scenes' geometry, not to what was learned. The ceiling is the
truth itself, reduced to the latent grid. `--refine none,pamr` adds rows in which all score maps, those of the control and the ceiling too,
are drawn to the picture's edges before they compete. `--filter clip` lets only words compete that the model's CLIP finds in the picture,
as DiffSegmenter was published, and says how well it finds them; the control then has the trained CLIP and an untrained model.

Methods that ask the network again for every label are left out unless `--methods` names them: `--methods diffusion-classifier --modes
shared --no-control` takes an hour and a half for the full set, on one core.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from maskwright.backbones.loading import load_backbone
from maskwright.backbones.unet import UNetBackbone
from maskwright.cli.engine import CLIP_FILTERS
from maskwright.datasets.scenes import open_scenes
from maskwright.evaluation.confusion import count_pixels, mean_iou
from maskwright.evaluation.scenes import Asked, BenchmarkResult, compare_drawings
from maskwright.methods import METHODS, READ_ONCE
from maskwright.refine import REFINERS, make_refiner
from maskwright.segmenter import Segmenter
from maskwright.text.filtering import CategoryFilter
from maskwright.text.wording import PROMPTINGS
from maskwright.vocabulary import Vocabulary


def randomise(backbone: UNetBackbone, seed: int) -> None:
    """Gives U-Net and text encoder fresh weights by their layers' own initialisation; the autoencoder stays as it is."""
    torch.manual_seed(seed)
    for network in (backbone.unet, backbone.text.encoder):
        for module in network.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    backbone.text.forget()


def ceiling(scenes: str, split: str, limit: int, grid: int, refine: str) -> float:
    """Mean IoU in per cent of the true masks after averaging them on a grid and going back up, as every method must."""
    drawn = open_scenes(scenes)
    classes = len(drawn.words.all)
    counts = np.zeros((classes, classes + 1), dtype=np.int64)
    for scene in drawn.scenes(limit, split=split):
        one_hot = torch.nn.functional.one_hot(torch.from_numpy(scene.labels).long(), classes).permute(2, 0, 1).float()
        coarse = torch.nn.functional.adaptive_avg_pool2d(one_hot, grid)
        restored = make_refiner(refine, scene.image, grid=(grid, grid))(coarse)
        counts += count_pixels(scene.labels, restored.argmax(0).numpy(), classes=classes)
    return 100 * mean_iou(counts)


def columns(scenes: str, wanted: str = "") -> dict[str, tuple[str, Asked]]:
    """Title, split and competing words of each column, of those that are wanted."""
    fine: dict[str, tuple[str, Asked]] = {"family": ("benchmark-fine", "family")} if open_scenes(scenes).words.rivals else {}
    found: dict[str, tuple[str, Asked]] = {
        "caption": ("benchmark", "caption"), "absent": ("benchmark", "absent"), "all": ("benchmark", "all"), **fine
    }  # fmt: skip
    titles = wanted.split(",") if wanted else ["caption", "all", "family"]
    return {title: place for title, place in found.items() if title in titles}


def told_apart(chosen: CategoryFilter, scenes: str, limit: int) -> str:
    """How well a filter finds the words of the benchmark's scenes among all."""
    names = [word.name for word in open_scenes(scenes).words.all]
    vocabulary = Vocabulary.parse(names)
    right = kept = shown = 0
    for scene in open_scenes(scenes).scenes(limit):
        found = {name for name, keep in zip(names, chosen.keep(scene.image, vocabulary).kept, strict=True) if keep}
        right, kept, shown = right + len(found & set(scene.words)), kept + len(found), shown + len(scene.words)
    return f"filter, all words asked: precision {right / kept:.3f}, recall {right / shown:.3f}, F1 {2 * right / (kept + shown):.3f}"


def measure(
    backbone: UNetBackbone, method: str, prompting: str, scenes: str, limit: int, places: Iterable[tuple[str, Asked]], *,
    refines: Sequence[str] = ("none",), category_filter: CategoryFilter | None = None, flip: bool = False,
) -> list[list[BenchmarkResult]]:  # fmt: skip
    """What one method and mode reaches on each of some splits, with the words that compete there: by place, then by refiner."""
    common: dict[str, Any] = {"prompting": prompting, "background": "none", "category_filter": category_filter, "flip": flip}
    segmenters = [Segmenter(backbone, method, refine=refine, **common) for refine in refines]  # type: ignore[arg-type]
    return [compare_drawings(segmenters, limit=limit, split=split, labels=labels, scenes=scenes) for split, labels in places]


def rows(
    backbone: UNetBackbone, method: str, prompting: str, scenes: str, limit: int, titles: dict[str, tuple[str, Asked]],
    refines: Sequence[str], category_filter: CategoryFilter | None = None, flip: bool = False,
) -> Iterator[tuple[str, str]]:  # fmt: skip
    """For each refiner its name, and the figures of one method and mode in all columns with the seconds per scene in the first."""
    places = titles.values()
    found = measure(backbone, method, prompting, scenes, limit, places, refines=refines, category_filter=category_filter, flip=flip)
    for place, refine in enumerate(refines):
        figures = [f"{100 * results[place].miou:.1f}" for results in found]
        yield refine, " | ".join([*figures, f"{found[0][place].seconds:.3f}"])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--model", default="sticker")
    parser.add_argument("--scenes", default="scenes")
    parser.add_argument("--modes", default=",".join(PROMPTINGS), help="prompting modes; per-label takes a pass for every label")
    parser.add_argument("--methods", default=",".join(READ_ONCE), help=f"of {', '.join(METHODS)}")
    parser.add_argument("--columns", default="", help="of caption, absent, all, family; all but absent unless given")
    parser.add_argument("--control", action=argparse.BooleanOptionalAction, default=True, help="untrained networks, in the first mode")
    parser.add_argument("--refine", default="none", help=f"of {', '.join(REFINERS)}; several share a reading")
    parser.add_argument("--filter", default="none", choices=CLIP_FILTERS, help="only words compete that the model's CLIP finds")
    parser.add_argument("--flip", action="store_true", help="read every scene in a mirror as well")
    options = parser.parse_args()
    refines = options.refine.split(",")
    if strange := set(refines) - set(REFINERS):
        parser.error(f"--refine {', '.join(strange)}: choose from {', '.join(REFINERS)}")
    backbone, scenes, limit = load_backbone(options.model), options.scenes, options.limit
    if options.filter != "none" and not backbone.info.clip:
        parser.error(f"{options.model} brings no CLIP: choose --model sticker-full, or --filter none")
    chosen = CategoryFilter.for_model(backbone.info, options.filter, offline=True) if options.filter != "none" else None
    titles, methods, modes = columns(scenes, options.columns), options.methods.split(","), options.modes.split(",")
    if chosen is not None:
        print(told_apart(chosen, scenes, limit), flush=True)
    print(f"| method | prompting | refine | {' | '.join(titles)} | s / scene |\n{'|---' * (len(titles) + 4)}|", flush=True)
    for method in methods:
        for prompting in modes:
            for refine, figures in rows(backbone, method, prompting, scenes, limit, titles, refines, chosen, options.flip):
                print(f"| {method} | {prompting} | {refine} | {figures} |", flush=True)
    grid = open_scenes(scenes).list.side // backbone.vae_factor
    for refine in refines:
        most = " | ".join(f"{ceiling(scenes, split, limit, grid, refine):.1f}" for split, _ in titles.values())
        print(f"| *ceiling of the {grid} x {grid} grid* | | {refine} | {most} | |", flush=True)
    if not options.control:
        return
    randomise(backbone, 0)
    for method in methods:
        for refine, figures in rows(backbone, method, modes[0], scenes, limit, titles, refines, chosen, options.flip):
            print(f"| *{method}, untrained networks* | {modes[0]} | {refine} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
