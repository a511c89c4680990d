"""`maskwright-recipe`: trains a model like the bundled one, on the bundled words or on your own."""

import json
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from maskwright.cli.environment import prepare
from maskwright.cli.guard import guarded
from maskwright.cli.options import Refine
from maskwright.errors import SettingsError
from maskwright_recipes import NOTO

app = typer.Typer(name="maskwright-recipe", no_args_is_help=True, add_completion=False)

Words = Annotated[str, typer.Option(metavar="FILE", help="Word list: a TOML file, or scenes, scenes-full.")]
Out = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Folder of the training. (runs/NAME.)")]
SizeName = Annotated[str | None, typer.Option("--size", metavar="NAME", help="small, medium, deep or full. (By the side of the scenes.)")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda.")]
Workers = Annotated[int, typer.Option(metavar="NUMBER", help="Threads that paint scenes, or processes that plan them.", min=0)]
Compose = Annotated[str, typer.Option(metavar="auto|device|painter", help="Where batches are made: on a GPU, or by the renderer.")]
Font = Annotated[Path, typer.Option(metavar="FILE", help="Noto Color Emoji, for glyphs.")]
Side = Annotated[int | None, typer.Option(metavar="PIXELS", help="Begin cheaply, on close-ups of this side.", min=16)]
Skip = Annotated[int, typer.Option(metavar="NUMBER", help="Leave out the first scenes: those that the model of --init saw.", min=0)]
Pooled = Annotated[int, typer.Option("--pool", metavar="NUMBER", help="Paint so many scenes once, and repeat them.", min=0)]
Minutes = Annotated[float | None, typer.Option(metavar="NUMBER", help="Stop training after so many.", min=0)]
Init = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Start from this model, as far as it fits.")]


@app.callback()
def begin() -> None:
    """Train a model like the bundled one, on the bundled words or on your own. Nothing is downloaded."""
    prepare(offline=True)


@app.command()
@guarded
def atlas(words: Words = "scenes", font: Font = NOTO) -> None:
    """Draw the artwork of a word list into its atlas."""
    from maskwright_recipes.atlas import draw_atlas

    drawn = draw_atlas(words, font=font)
    print(f"{drawn}: {drawn.stat().st_size // 1024} KB")


@app.command()
@guarded
def autoencoder(
    words: Words = "scenes", out: Out = None, size: SizeName = None, init: Init = None,
    steps: Annotated[int, typer.Option(metavar="NUMBER", min=1)] = 4000, batch: Annotated[int, typer.Option(metavar="NUMBER", min=1)] = 24,
    device: Device = "auto", workers: Workers = 1, compose: Compose = "auto", font: Font = NOTO,
) -> None:  # fmt: skip
    """Train the autoencoder; goes on where it was stopped."""
    from maskwright_recipes.steps import make_plan, run_autoencoder
    from maskwright_recipes.training import choose_device

    plan = make_plan(words, out=out, size=size, device=choose_device(device), font=font, workers=workers, compose=compose)
    run_autoencoder(plan, steps=steps, batch=batch, init=init)


@app.command()
@guarded
def clip(
    words: Words = "scenes", out: Out = None, size: SizeName = None, init: Init = None,
    samples: Annotated[int, typer.Option(metavar="NUMBER", help="To see in all; the learning rate ends there.", min=1)] = 200_000,
    batch: Annotated[int, typer.Option(metavar="NUMBER", help="Samples in a step.", min=2)] = 64,
    rate: Annotated[float, typer.Option(metavar="NUMBER", help="Learning rate.", min=0)] = 2e-3,
    minutes: Minutes = None, side: Side = None, skip: Skip = 0, pool: Pooled = 0, device: Device = "auto", workers: Workers = 1,
    font: Font = NOTO,
) -> None:  # fmt: skip
    """Train the CLIP that comes with a model, for `segment --filter clip` and for `train --align`; goes on where it was stopped."""
    from maskwright_recipes.clip_training import ClipCourse
    from maskwright_recipes.steps import make_plan, run_clip
    from maskwright_recipes.training import choose_device

    plan = make_plan(
        words, out=out, size=size, device=choose_device(device), font=font, workers=workers, compose="painter", side=side, skip=skip,
        pool=pool,
    )  # fmt: skip
    print(f"clip: {run_clip(plan, ClipCourse(samples, batch, rate, minutes), init=init)}")


@app.command()
@guarded
def train(
    words: Words = "scenes", out: Out = None, size: SizeName = None, init: Init = None,
    samples: Annotated[int, typer.Option(metavar="NUMBER", help="To see in all; the learning rate ends there.", min=1)] = 380_000,
    batch: Annotated[int | None, typer.Option(metavar="NUMBER", help="Samples in a step. (By size.)", min=1)] = None,
    rate: Annotated[float | None, typer.Option(metavar="NUMBER", help="Learning rate. (By size.)", min=0)] = None,
    average: Annotated[float | None, typer.Option(metavar="NUMBER", help="Decay of the averaged weights. (By size.)", min=0, max=1)] = None,
    autoencoder_steps: Annotated[int, typer.Option(metavar="NUMBER", help="Of the autoencoder, where there is none.", min=1)] = 4000,
    minutes: Minutes = None,
    align: Annotated[float, typer.Option(metavar="NUMBER", help="Weight of the alignment with the CLIP of `clip`.", min=0)] = 0.0,
    attend: Annotated[float, typer.Option(metavar="NUMBER", help="Weight of telling attention which words a picture shows.", min=0)] = 0.0,
    teach: Annotated[bool, typer.Option("--teach", help="With --attend: let its own average tell attention edges.")] = False,
    portraits: Annotated[
        float, typer.Option(metavar="NUMBER", help="Share of steps on portraits of half the side, which teach shapes.", min=0, max=1)
    ] = 0.0,
    side: Side = None, skip: Skip = 0, pool: Pooled = 0,
    compiled: Annotated[bool, typer.Option("--compile", help="torch.compile: slow at the start, then faster.")] = False,
    device: Device = "auto", workers: Workers = 1, compose: Compose = "auto", font: Font = NOTO,
) -> None:  # fmt: skip
    """Train a model: atlas and autoencoder where there are none, then the text-to-image model; goes on where it was stopped."""
    from maskwright_recipes.steps import make_plan, run_training
    from maskwright_recipes.text_to_image import Course
    from maskwright_recipes.training import choose_device

    plan = make_plan(
        words, out=out, size=size, device=choose_device(device), font=font, workers=workers, compose=compose, side=side, skip=skip,
        pool=pool, portraits=portraits,
    )  # fmt: skip
    course = Course(
        samples, batch or plan.size.batch, plan.size.rate if rate is None else rate,
        plan.size.average if average is None else average, compiled=compiled, minutes=minutes, align=align, attend=attend,
        teach=teach,
    )  # fmt: skip
    print(f"model: {run_training(plan, course, init=init, autoencoder_steps=autoencoder_steps)}")


@app.command()
@guarded
def publish(
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the model goes; one that is there is replaced.")],
    words: Words = "scenes", out: Out = None, size: SizeName = None,
    settings: Annotated[Path | None, typer.Option(metavar="FILE", help="JSON: settings that suit the model, by method.")] = None,
    blend: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Another training or model of one origin: publish the mean.")
    ] = None,
    sidecar_only: Annotated[bool, typer.Option("--sidecar-only", help="Only rewrite maskwright.json.")] = False,
) -> None:  # fmt: skip
    """Export the averaged weights of the last checkpoint, with the words and settings that maskwright reads."""
    from maskwright_recipes.sidecar import write_sidecar

    if not sidecar_only:
        from maskwright.datasets.scenes import open_scenes
        from maskwright_recipes.export import export_checkpoint
        from maskwright_recipes.networks import choose_size
        from maskwright_recipes.steps import folder_of

        side = open_scenes(words).list.side
        seen = export_checkpoint(out or folder_of(words), to, choose_size(size, side), side, blend=blend)
        print(f"{seen} samples seen")
    revision = write_sidecar(to, words, settings=settings)
    megabytes = sum(file.stat().st_size for file in to.rglob("*") if file.is_file()) / 1e6
    print(f"{to}: {megabytes:.1f} MB, revision {revision}")


@app.command()
@guarded
def tune(
    words: Words = "scenes", model: Annotated[str, typer.Option(metavar="MODEL")] = "sticker",
    method: Annotated[str, typer.Option(metavar="NAME")] = "diffsegmenter",
    tries: Annotated[list[str] | None, typer.Option("--try", metavar="KEY=[VALUES]", help="Values of a setting.")] = None,
    limit: Annotated[int, typer.Option(metavar="NUMBER", min=1)] = 60, split: Annotated[str, typer.Option()] = "tuning",
    refine: Refine = "none",
) -> None:  # fmt: skip
    """Measure settings of a method on tuning scenes: mean IoU with the caption's words, and with all words competing."""
    from maskwright.cli.engine import choose
    from maskwright.datasets.scenes import SPLITS
    from maskwright.refine import REFINERS
    from maskwright_recipes.tune import measure, parse_tries

    choose("split", split, tuple(SPLITS))
    choose("refine", refine, REFINERS)
    rows = []
    for row in measure(model, method, parse_tries(tries or []), words=words, limit=limit, split=split, refine=cast(Any, refine)):
        rows.append(row)
        print(f"{row.given:.3f} {row.competing:.3f} {json.dumps(row.settings)}", flush=True)
    print("\ncaption   all   (best first by their sum)")
    for row in sorted(rows, key=lambda row: -(row.given + row.competing))[:10]:
        print(f"  {row.given:.3f}  {row.competing:.3f}  {json.dumps(row.settings)}")


@app.command()
@guarded
def sheet(
    to: Annotated[Path, typer.Argument(metavar="PICTURE")],
    model: Annotated[Path, typer.Option(metavar="FOLDER", help="A pipeline folder.")],
    words: Words = "scenes", count: Annotated[int, typer.Option(metavar="NUMBER", min=1)] = 16,
    most: Annotated[int | None, typer.Option(metavar="NUMBER", help="Objects in a scene at most. (By the list.)", min=1)] = None,
    portraits: Annotated[bool, typer.Option("--portraits", help="Single objects, in pictures of half the side.")] = False,
    attempts: Annotated[
        int, typer.Option(metavar="NUMBER", help="Draw each portrait so often; keep what the model's CLIP finds clearest.", min=1)
    ] = 1,
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="Of the noise, and of the words of portraits.", min=0)] = 0,
    device: Device = "auto",
) -> None:  # fmt: skip
    """Let a model draw the captions of the first benchmark scenes, or portraits."""
    if attempts > 1 and not portraits:
        raise SettingsError("--attempts is for --portraits, which show one object each: add it, or leave --attempts out")
    from maskwright.datasets.scenes import open_scenes
    from maskwright_recipes.sheets import draw_sheet, portrait_captions, recogniser_of
    from maskwright_recipes.training import choose_device

    scenes = open_scenes(words)
    named = portrait_captions(scenes, count, seed=seed) if portraits else [("", scene.caption) for scene in scenes.scenes(count, most=most)]
    margins = draw_sheet(
        model, [caption for _, caption in named], to, device=choose_device(device), side=scenes.list.side // 2 if portraits else None,
        seed=seed, shown=[name for name, _ in named], attempts=attempts, recogniser=recogniser_of(model, scenes) if attempts > 1 else None,
    )  # fmt: skip
    for (_, caption), margin in zip(named, margins or [0.0] * count, strict=True):
        print(caption + (" (not recognised)" if margin < 0 else ""))


@app.command()
@guarded
def decoder(
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the decoder goes; one that is there is replaced.")],
    model: Annotated[str, typer.Option(metavar="MODEL", help="That draws the pairs.")] = "sticker",
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the run.")] = Path("runs/decoder"),
    pairs: Annotated[int, typer.Option(metavar="NUMBER", help="To draw; the filters keep most.", min=2)] = 1120,
    epochs: Annotated[int, typer.Option(metavar="NUMBER", min=1)] = 10,
) -> None:  # fmt: skip
    """Draw pairs of a model's own words and train the saliency decoder that comes with it; goes on where it was stopped."""
    from maskwright_recipes.decoder import DecoderPlan, train_bundled

    trained = train_bundled(DecoderPlan(model, out, pairs, epochs=epochs), to)
    megabytes = sum(file.stat().st_size for file in to.iterdir()) / 1e6
    print(f"{to}: {megabytes:.1f} MB, trained on {trained.training['trained_on']} pairs")


def main() -> None:
    """Console entry."""
    app(prog_name="maskwright-recipe")
