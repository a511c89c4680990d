"""`maskwright segment`: pictures and words in, or pictures and a trained decoder; masks out."""

from pathlib import Path
from typing import Annotated

import typer

from maskwright.cli import options
from maskwright.cli.decoding import DecoderOptions, refuse_beside_decoder
from maskwright.cli.engine import Engine, describe
from maskwright.cli.environment import prepare
from maskwright.cli.guard import guarded
from maskwright.cli.labels import read_background, read_labels
from maskwright.cli.output import Reporter, show_segmentation
from maskwright.cli.resume import expected
from maskwright.cli.run import SEGMENTATION, Job, run
from maskwright.methods import METHODS


@guarded
def segment(
    inputs: options.Inputs,
    labels: Annotated[
        list[str] | None, typer.Option("--labels", "-l", metavar="WORDS", help='For instance "dog, red apple, cat|kitten".')
    ] = None,
    labels_file: options.LabelsFile = None,
    decoder: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="A semantic decoder of `maskwright train`: its classes, or those of --labels, compete."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(metavar="|".join(METHODS), help="How the model is read.", show_default="diffsegmenter"),
    ] = None,
    settings: options.Settings = None,
    model: options.Model = "sticker",
    prompting: options.Prompting = None,
    background: Annotated[
        str | None,
        typer.Option(metavar="NUMBER|WORD|none|auto", help="Threshold or word; auto: the method's own.", show_default="auto"),
    ] = None,
    refine: options.Refine = "none",
    tile: Annotated[str, typer.Option(metavar="none|auto", help="auto: read large pictures also in tiles.")] = "none",
    flip: options.Flip = False,
    category_filter: options.Filter = "none",
    clip: options.Clip = "",
    caption: Annotated[bool, typer.Option("--caption", help="Continue each label's prompt with a caption.")] = False,
    blip: Annotated[str, typer.Option(metavar="FOLDER|ID", help="The BLIP model that writes captions.")] = "",
    out: options.Out = Path("maskwright-out"),
    seed: options.Seed = 0,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    batch: options.Batch = "auto",
    resume: options.Resume = False,
    offline: options.Offline = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Segment pictures by words.

    For each picture NAME: NAME.labels.png (pixel value = label number, 0 = background), NAME.overlay.png and NAME.json.
    """
    prepare(offline=offline)
    report = Reporter(SEGMENTATION, show_segmentation, as_json=as_json, quiet=quiet)
    if decoder is not None:
        refuse_beside_decoder({
            "--method": method, "--set": settings, "--prompting": prompting, "--background": background, "--tile": tile != "none",
            "--flip": flip, "--filter": category_filter != "none", "--clip": clip, "--caption": caption, "--blip": blip,
        })  # fmt: skip
        chosen = DecoderOptions(
            model=model, decoder=decoder, refine=refine, seed=seed, device=device, dtype=dtype, batch=batch, offline=offline
        )  # fmt: skip
        subset = read_labels(labels or (), labels_file, background="none") if labels or labels_file else None
        run(inputs, out, lambda: chosen.job(subset, out), report, resume=resume)
        return
    ground = "auto" if background is None else background
    engine = Engine(
        model=model, method=method or "diffsegmenter", settings=settings or (), prompting=prompting, background=read_background(ground),
        refine=refine, tile=tile, flip=flip, category_filter=category_filter, clip=clip, caption=caption, blip=blip, seed=seed,
        device=device, dtype=dtype, batch=batch, offline=offline,
    )  # fmt: skip
    vocabulary = read_labels(labels or (), labels_file, background=ground)

    def load() -> Job:
        segmenter = engine.load()
        return Job(
            line=describe(segmenter), expected=expected(segmenter.record(vocabulary), vocabulary=vocabulary),
            work=lambda pictures: segmenter.segment_many(pictures, vocabulary), save=lambda result: result.save(out),
        )  # fmt: skip

    run(inputs, out, load, report, resume=resume)
