"""The run of every command that takes pictures: find them, load a model, skip what is done, work, report."""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from maskwright.cli.guard import FAILED, INTERRUPTED, say
from maskwright.cli.output import Reporter
from maskwright.cli.progress import progress_bar
from maskwright.cli.resume import differences, output_paths, read_done, refuse_other_command
from maskwright.cli.salvage import work_through
from maskwright.cli.sources import Source, find_sources
from maskwright.errors import ImageError, OutputError

if TYPE_CHECKING:
    from maskwright.images import Picture

SEGMENTATION = ("labels", "overlay", "json")  # the files of a Segmentation


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a command does with pictures, once its model is loaded.

    Attributes:
        line: model and method, to be told before the work.
        expected: what the JSON of a result says, as far as it decides the result (`cli.resume.expected`).
        work: pictures to results, in their order; a result has its `picture`.
        save: writes the files of a result, the JSON last.
    """

    line: str
    expected: Mapping[str, Any]
    work: Callable[[Iterator["Picture"]], Iterator[Any]]
    save: Callable[[Any], tuple[Path, ...]]


def run(inputs: Sequence[str], out: Path, load: Callable[[], Job], report: Reporter, *, resume: bool) -> None:
    """Does a job on all pictures that the inputs name, one line on stderr for each that cannot be used.

    Args:
        inputs: files, folders, patterns, or "-".
        out: folder of the results.
        load: loads the model; not called where there is no picture to work on.
        report: is told what happens.
        resume: keep the results of an earlier run that asked for the same.

    Raises:
        OutputError: the folder cannot be written into, or holds what another command made of these pictures.
        typer.Exit: a picture failed, or the user interrupted.
    """
    sources = find_sources(inputs, refuse=report.refuse)
    if sources:
        prepare_folder(out)
        _work(sources, out, load, report, resume=resume)
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


def _work(sources: Sequence[Source], out: Path, load: Callable[[], Job], report: Reporter, *, resume: bool) -> None:
    pictures, refused = _open_all(sources, report), report.failed
    if not resume:  # opens the first already: a lone picture that is none should not wait for the model
        first = next(pictures, None)
        if first is None:
            return
        pictures = chain([first], pictures)
    job = load()
    report.note(job.line)
    refuse_other_command(job.expected, sources, out)
    if resume:
        sources = _without_done(job.expected, sources, out, report)
        pictures = _open_all(sources, report)
    try:
        with progress_bar(len(sources) - (report.failed - refused), unit="pictures", quiet=report.quiet) as report.bar:
            for result in work_through(job.work, pictures, refuse=report.refuse) if sources else ():
                report.finish(result, job.save(result))
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


def _without_done(wanted: Mapping[str, Any], sources: Sequence[Source], out: Path, report: Reporter) -> list[Source]:
    """The pictures that are not done, or were done in another way."""
    todo, reasons = [], Counter[str]()
    for source in sources:
        paths = output_paths(out, source.name, report.kinds)
        document = None if source.piped else read_done(paths)
        different = [] if document is None else differences(document, paths[-1], source, wanted)
        if document is None or different:
            todo.append(source)
            reasons.update(different)
        else:
            report.keep(document, paths)
    if reasons:
        report.note(f"note: earlier results that differ in {', '.join(reasons)} are made again")
    return todo
