"""`maskwright benchmark-scenes`: the mean IoU of a method on the bundled scenes."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from maskwright.cli import options
from maskwright.cli.engine import CLIP_FILTERS, Engine, choose, describe
from maskwright.cli.environment import prepare
from maskwright.cli.guard import guarded, say
from maskwright.cli.output import print_json
from maskwright.cli.progress import progress_bar

if TYPE_CHECKING:
    from maskwright.evaluation.scenes import Asked, BenchmarkResult, SceneScore
    from maskwright.segmenter import Segmenter

SPLITS, ASKED = ("benchmark", "benchmark-fine", "tuning"), ("caption", "absent", "family", "all")


@guarded
def benchmark_scenes(
    method: options.Method = "diffsegmenter",
    settings: options.Settings = None,
    model: options.Model = "sticker",
    prompting: options.Prompting = None,
    limit: Annotated[int, typer.Option(metavar="NUMBER", help="Only the first scenes.", min=1)] = 200,
    scenes: Annotated[str, typer.Option(metavar="scenes|scenes-full|FILE", help="Which scenes: a word list.")] = "scenes",
    split: Annotated[
        str, typer.Option(metavar="benchmark|benchmark-fine|tuning", help="benchmark-fine: hard to tell apart, side by side.")
    ] = "benchmark",
    labels: Annotated[
        str, typer.Option(metavar="caption|absent|family|all", help="Ask for a scene's words; these and others, or their families; all.")
    ] = "caption",
    refine: options.Refine = "none",
    flip: options.Flip = False,
    category_filter: Annotated[
        str, typer.Option("--filter", metavar="none|clip|clip+crops", help="Let only labels compete that fit the picture.")
    ] = "none",
    clip: options.Clip = "",
    seed: options.Seed = 0,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    batch: options.Batch = "auto",
    offline: options.Offline = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object per scene and one of the whole.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the figures.")] = False,
) -> None:
    """Measure a method on the bundled scenes, whose masks are exact.

    Mean IoU over the words that occur, pixels summed over all scenes first.
    """
    prepare(offline=offline)
    choose("split", split, SPLITS)
    choose("labels", labels, ASKED)
    choose("filter", category_filter, CLIP_FILTERS)
    from maskwright.datasets.scenes import open_scenes

    open_scenes(scenes)  # refused before a model is loaded
    engine = Engine(
        model=model, method=method, settings=settings or (), prompting=prompting, refine=refine, flip=flip, seed=seed, device=device,
        dtype=dtype, batch=batch, offline=offline, category_filter=category_filter, clip=clip,
        background="none",  # every pixel of a scene belongs to a word
    )  # fmt: skip
    segmenter = engine.load()
    from maskwright.evaluation.scenes import run_benchmark

    if not quiet:
        say(describe(segmenter))
    with progress_bar(limit, unit="scenes", quiet=quiet) as bar:

        def tell(score: "SceneScore") -> None:
            bar.advance()
            if as_json:
                print_json(dataclasses.asdict(score))

        result = run_benchmark(
            segmenter, limit=limit, split=split, labels=cast("Asked", labels), scenes=scenes, on_scene=tell
        )  # fmt: skip
    if as_json:
        print_json(_document(result, segmenter, scenes, split))
    else:
        _print(result, quiet=quiet)


def _document(result: "BenchmarkResult", segmenter: "Segmenter", scenes: str, split: str) -> dict[str, Any]:
    from maskwright.versions import package_versions

    info, backbone = segmenter.backbone.info, segmenter.backbone
    return {
        **dataclasses.asdict(result),
        "set": scenes,
        "split": split,
        "method": segmenter.method.name,
        "settings": dataclasses.asdict(segmenter.method),
        "refine": segmenter.refine,
        "category_filter": segmenter.category_filter.settings if segmenter.category_filter else None,
        "model": info.source,
        "revision": info.revision or None,
        "seed": segmenter.seed,
        "device": str(backbone.device),
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "versions": package_versions(),
    }


def _print(result: "BenchmarkResult", *, quiet: bool) -> None:
    from rich.columns import Columns
    from rich.console import Console
    from rich.text import Text

    from maskwright.evaluation.scenes import ASK

    console = Console(highlight=False)
    if not quiet:
        ranked = sorted(result.words.items(), key=lambda item: -item[1])
        longest = max(map(len, result.words))
        console.print(Columns([Text(f"{word:<{longest}} {iou:.3f}") for word, iou in ranked], padding=(0, 3), column_first=True))
    figures = f"mIoU {result.miou:.4f}, pixel accuracy {result.accuracy:.4f}"
    print(f"{figures} ({result.scenes} scenes, asked for {ASK[result.labels]}, {result.seconds:.3f} s each)")
