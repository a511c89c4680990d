"""`maskwright distill`: a labelled data set in, a small segmentation network that stands alone out."""

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskwright.cli import options
from maskwright.cli.environment import prepare
from maskwright.cli.guard import INTERRUPTED, guarded, say
from maskwright.cli.output import print_json
from maskwright.cli.progress import Bar, progress_bar
from maskwright.errors import SettingsError

if TYPE_CHECKING:
    from maskwright.students.distill import Distiller
    from maskwright.training.loop import Progress

TITLES = {"mean_iou": "mean IoU", "accuracy": "accuracy"}


@guarded
def distill(
    data: Annotated[Path, typer.Argument(metavar="DIR", help="Of `maskwright synthesize`, or with images/, masks/ and labels.txt.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="A new folder, or with --resume the old one.")] = Path(
        "maskwright-student"
    ),
    student: Annotated[
        str, typer.Option(metavar="FOLDER|ID", help="A network to begin with.", show_default="a new SegFormer of the shape of B0")
    ] = "",
    size: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", help="Shorter side at which pictures are read.", show_default="the data set's, 128 to 512"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(metavar="NUMBER", show_default="30, or 10 with --student")] = None,
    batch: Annotated[int | None, typer.Option(metavar="NUMBER", help="Pictures in a step.", show_default="16")] = None,
    rate: Annotated[float | None, typer.Option(metavar="NUMBER", help="Of learning.", show_default="1e-3, or 1e-4 with --student")] = None,
    validation: Annotated[float | None, typer.Option(metavar="SHARE", help="Held back to measure on.", show_default="0.1")] = None,
    onnx: Annotated[bool, typer.Option("--onnx/--no-onnx", help="Write model.onnx.")] = True,
    seed: Annotated[int, typer.Option("--seed", metavar="NUMBER", help="Of weights, order and variations.")] = 0,
    device: options.Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the training in --out.")] = False,
    offline: options.Offline = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per epoch, then student.json, and nothing else.")] = False,
    quiet: options.Quiet = False,
) -> None:  # fmt: skip
    """Train a small segmentation network on a data set, and export it as ONNX.

    Writes the layout of transformers, model.onnx, labels.txt, student.json, curve.jsonl, curve.png and README.md.
    """
    prepare(offline=offline)
    if not 0 <= seed < 2**63:
        raise SettingsError(f"--seed is {seed}: give a number from 0 to {2**63 - 1}")
    from maskwright.students.export import refuse_missing
    from maskwright.students.settings import StudentSettings

    settings = StudentSettings(size=size, checkpoint=student)
    refuse_missing(onnx=onnx)
    from maskwright.students.distill import Distiller, suited_training
    from maskwright.training.examples import ExampleSet

    training = suited_training(settings, epochs=epochs, batch=batch, rate=rate, validation=validation, seed=seed)
    distiller = Distiller(ExampleSet.open(data), settings, training, device=device, offline=offline, onnx=onnx)
    report = Report(as_json=as_json, quiet=quiet)
    steps = distiller.run(out, resume=resume)
    report.note(describe(distiller))
    try:
        report.follow(steps)
        report.note("writing " + ("model.onnx and the rest" if onnx else "its files"))
        report.summarise(distiller.finish(out), out)
    except KeyboardInterrupt:
        say("interrupted: what was trained up to the last checkpoint is kept, and --resume goes on from there")
        raise typer.Exit(INTERRUPTED) from None


def describe(distiller: "Distiller") -> str:
    """One line: the network, what it learns from, and how."""
    training, begin = distiller.training, distiller.settings.checkpoint
    network = f"{distiller.kind} of {distiller.parameters / 1e6:.2f} million parameters" + (f" from {begin}" if begin else "")
    examples = f"{len(distiller.examples)} examples of {len(distiller.examples.labels)} labels"
    how = f"{training.epochs} epochs of batches of {training.batch}, rate {training.rate:g}, on {distiller.network.mean.device}"
    return f"{network}, reading {distiller.side} pixels; {examples}; {how}"


class Report:
    """Tells of the training.

    Attributes:
        as_json: print JSON lines.
        quiet: print no notes.
    """

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        """Has nothing to tell yet."""
        self.as_json, self.quiet = as_json, quiet

    def note(self, text: str) -> None:
        """Something worth knowing that is no warning."""
        if not self.quiet:
            say(text)

    def follow(self, steps: "Iterator[Progress]") -> None:
        """A bar over the steps, a line for every epoch."""
        bar, began = Bar(), time.perf_counter()
        with ExitStack() as stack:
            for place, progress in enumerate(steps):
                if not place:
                    bar = stack.enter_context(progress_bar(progress.steps - progress.step + 1, unit="steps", quiet=self.quiet))
                if progress.validation is None:
                    bar.advance()
                else:
                    with bar.aside():
                        self._epoch(progress, time.perf_counter() - began)

    def summarise(self, record: Mapping[str, Any], out: Path) -> None:
        """What came of it: figures, size, speed."""
        if self.as_json:
            print_json({"student": json.loads(json.dumps(record)), "folder": str(out)})
        fastest: dict[str, float] = {}
        for row in record["speed"]:
            fastest[row["engine"]] = max(row["pictures_per_second"], fastest.get(row["engine"], 0.0))
        sizes = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in record["bytes"].items())
        paces = ", ".join(f"{pace:.0f} with {engine}" for engine, pace in fastest.items())
        figures = tell_figures(record["figures"])
        self.note(f"{figures + '; ' if figures else ''}{sizes}; pictures a second: {paces}; in {out}")

    def _epoch(self, progress: "Progress", seconds: float) -> None:
        figures = dict(progress.validation or {})
        if self.as_json:
            known = {name: value if value == value else None for name, value in figures.items()}  # JSON has no NaN
            print_json({**dataclasses.asdict(progress), "validation": known})
        told = tell_figures(figures)
        self.note(f"epoch {progress.epoch} of {progress.epochs}: loss {progress.loss:.4f}{', ' + told if told else ''} ({seconds:.0f} s)")


def tell_figures(figures: Mapping[str, float | None]) -> str:
    """Validation figures in words, empty where there are none."""
    return ", ".join(f"{TITLES.get(name, name)} {'unknown' if value is None else f'{value:.1%}'}" for name, value in figures.items())
