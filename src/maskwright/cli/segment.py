"""`maskwright segment`: pictures and words in, masks out."""

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwright.cli import options
from maskwright.cli.engine import Engine, describe
from maskwright.cli.environment import prepare
from maskwright.cli.guard import FAILED, INTERRUPTED, guarded, say
from maskwright.cli.labels import read_background, read_labels
from maskwright.cli.output import Reporter
from maskwright.cli.progress import progress_bar
from maskwright.cli.resume import differences, expected, output_paths, read_done
from maskwright.cli.sources import Source, find_sources
from maskwright.errors import ImageError, OutputError

if TYPE_CHECKING:
    from maskwright.images import Picture
    from maskwright.segmenter import Segmenter
    from maskwright.vocabulary import Vocabulary


@guarded
def segment(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT", help="Files, folders (with all below), patterns; - for standard input.")
    ],
    labels: Annotated[
        list[str] | None, typer.Option("--labels", "-l", metavar="WORDS", help='For instance "dog, red apple, cat|kitten".')
    ] = None,
    labels_file: Annotated[Path | None, typer.Option(metavar="FILE", help="One label a line, or a JSON list.")] = None,
    method: options.Method = "diffsegmenter",
    settings: options.Settings = None,
    model: options.Model = "sticker",
    prompting: options.Prompting = None,
    background: Annotated[str, typer.Option(metavar="NUMBER|WORD|none|auto", help="Threshold or word; auto: the method's own.")] = "auto",
    refine: options.Refine = "none",
    tile: Annotated[str, typer.Option(metavar="none|auto", help="auto: read large pictures also in tiles.")] = "none",
    category_filter: Annotated[
        str, typer.Option("--filter", metavar="none|clip|clip+caption", help="Let only labels compete that fit the picture.")
    ] = "none",
    clip: Annotated[str, typer.Option(metavar="FOLDER|ID", help="The CLIP model of --filter.")] = "",
    caption: Annotated[bool, typer.Option("--caption", help="Continue each label's prompt with a caption.")] = False,
    blip: Annotated[str, typer.Option(metavar="FOLDER|ID", help="The BLIP model that writes captions.")] = "",
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where the results go.")] = Path("maskwright-out"),
    seed: options.Seed = 0,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    batch: options.Batch = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Keep the results of an earlier run that asked for the same.")] = False,
    offline: options.Offline = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per picture and nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only warnings and errors.")] = False,
) -> None:
    """Segment pictures by words.

    For each picture NAME: NAME.labels.png (pixel value = label number, 0 = background), NAME.overlay.png and NAME.json.
    """
    prepare(offline=offline)
    engine = Engine(
        model=model, method=method, settings=settings or (), prompting=prompting, background=read_background(background),
        refine=refine, tile=tile, category_filter=category_filter, clip=clip, caption=caption, blip=blip, seed=seed,
        device=device, dtype=dtype, batch=batch, offline=offline,
    )  # fmt: skip
    vocabulary = read_labels(labels or (), labels_file, background=background)
    report = Reporter(as_json=as_json, quiet=quiet)
    sources = find_sources(inputs, refuse=report.refuse)
    if sources:
        prepare_folder(out)
        _run(engine, sources, vocabulary, out, report, resume=resume)
    seen = report.done + report.kept + report.failed
    if report.failed and seen > 1:
        say(f"error: {report.failed} of {seen} pictures failed")
    elif seen > 1:
        report.note(f"{seen} pictures done{f' ({report.kept} by an earlier run)' if report.kept else ''}, in {out}")
    if report.failed:
        raise typer.Exit(FAILED)


def prepare_folder(folder: Path) -> None:
    """Makes the folder, and tries whether it can be written into, before anything takes long.

    Raises:
        OutputError: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"cannot write into {str(folder)!r} ({reason}): choose another folder with --out") from error


def _run(
    engine: Engine, sources: Sequence[Source], vocabulary: "Vocabulary", out: Path, report: Reporter, *, resume: bool
) -> None:
    pictures, refused = _open_all(sources, report), report.failed
    if not resume:  # opens the first already: a lone picture that is none should not wait for the model
        first = next(pictures, None)
        if first is None:
            return
        pictures = chain([first], pictures)
    segmenter = engine.load()
    report.note(describe(segmenter))
    if resume:
        sources = _without_done(segmenter, sources, vocabulary, out, report)
        pictures = _open_all(sources, report)
    try:
        with progress_bar(len(sources) - (report.failed - refused), unit="pictures", quiet=report.quiet) as report.bar:
            for result in segmenter.segment_many(pictures, vocabulary) if sources else ():
                report.finish(result, result.save(out))
    except KeyboardInterrupt:
        left = len(sources) - report.done - (report.failed - refused)
        say(f"interrupted, {left} pictures to go: what is written is whole, and --resume goes on from here")
        raise typer.Exit(INTERRUPTED) from None


def _open_all(sources: Sequence[Source], report: Reporter) -> Iterator["Picture"]:
    """The pictures that can be opened; of the others one line each."""
    for source in sources:
        try:
            yield source.open()
        except ImageError as error:
            report.refuse(error)


def _without_done(
    segmenter: "Segmenter", sources: Sequence[Source], vocabulary: "Vocabulary", out: Path, report: Reporter
) -> list[Source]:
    """The pictures that are not done, or were done in another way."""
    wanted, todo, reasons = expected(segmenter, vocabulary), [], Counter[str]()
    for source in sources:
        document = None if source.piped else read_done(out, source)
        different = [] if document is None else differences(document, source, wanted)
        if document is None or different:
            todo.append(source)
            reasons.update(different)
        else:
            report.keep(document, output_paths(out, source.name))
    if reasons:
        report.note(f"note: earlier results that differ in {', '.join(reasons)} are made again")
    return todo
