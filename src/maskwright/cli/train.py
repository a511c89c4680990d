"""`maskwright train`: drawn pairs in, a decoder out that finds objects, or classes, in any picture."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast

import typer

from maskwright.cli import options
from maskwright.cli.engine import ModelOptions, choose, describe_model
from maskwright.cli.environment import prepare
from maskwright.cli.guard import INTERRUPTED, guarded, say
from maskwright.cli.output import print_json, start_table
from maskwright.cli.progress import Bar, progress_bar
from maskwright.cli.run import prepare_folder
from maskwright.methods import DISCOVERY_METHODS, Methods

if TYPE_CHECKING:
    from maskwright.decoders.self_training import SelfTrainingSettings
    from maskwright.decoders.settings import DecoderSettings
    from maskwright.decoders.training import DecoderTraining
    from maskwright.training.loop import Progress, TrainingSettings

# Named again here because their own modules import torch; a test compares them.
TASKS, INVERSIONS, PRIORS = ("saliency", "semantic"), ("none", "partial", "full"), ("empty", "match")


@dataclass(frozen=True, kw_only=True)
class TrainOptions(ModelOptions):
    """The options of a training, as they were typed.

    Attributes:
        folder, out: the data set, and where the decoder goes.
        task, inversion, prior: of the decoder, by name.
        timestep, inversion_steps, width, attention: of the decoder.
        epochs, examples, rate: of the training; `examples` are those of a step.
        self_train: folder of pictures without masks, None for none.
        resume: go on with the training in `out`.
    """

    methods: ClassVar[Methods] = DISCOVERY_METHODS

    method: str = "attentioncut"
    folder: Path
    out: Path
    task: str = "saliency"
    inversion: str = "partial"
    prior: str = "empty"
    timestep: int = 100
    inversion_steps: int = 5
    width: int = 256
    attention: bool = False
    epochs: int = 10
    examples: int = 32
    rate: float = 1e-4
    self_train: Path | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("task", self.task, TASKS)
        choose("inversion", self.inversion, INVERSIONS)
        choose("prior", self.prior, PRIORS)

    def decoder_settings(self) -> "DecoderSettings":
        """Raises SettingsError for values that cannot be used, or do not go together."""
        from maskwright.decoders.settings import DecoderSettings

        return DecoderSettings(
            task=cast(Any, self.task), inversion=cast(Any, self.inversion), timestep=self.timestep, steps=self.inversion_steps,
            width=self.width, prior=cast(Any, self.prior), attention=self.attention,
        )  # fmt: skip

    def training_settings(self) -> "TrainingSettings":
        """Raises SettingsError for values that cannot be used."""
        from maskwright.training.loop import TrainingSettings

        return TrainingSettings(epochs=self.epochs, batch=self.examples, rate=self.rate, seed=self.seed)

    def second_round(self) -> "SelfTrainingSettings | None":
        """Raises SettingsError or ImageError where it cannot be made."""
        if self.self_train is None:
            return None
        from maskwright.decoders.self_training import SelfTrainingSettings, identify_pictures

        settings = SelfTrainingSettings(self.self_train)
        identify_pictures(settings)
        return settings

    def load(self) -> "DecoderTraining":
        """Checks all that can be checked without the model, then loads it.

        Raises:
            MaskwrightError: a folder, settings, device, dtype or model that cannot be used.
        """
        decoder, training = self.decoder_settings(), self.training_settings()
        from maskwright.decoders.training import DecoderTraining, begun
        from maskwright.reader import Reader
        from maskwright.training.examples import ExampleSet
        from maskwright.training.loop import refuse_few

        examples, second = ExampleSet.open(self.folder), self.second_round()
        refuse_few(examples)
        if second is not None:
            second.refuse(decoder)
        begun(self.out, resume=self.resume)
        prepare_folder(self.out)
        reader = Reader(self.load_backbone(), batch=self.pictures)  # its noise stays that which `discover` adds, whatever the seed
        return DecoderTraining(
            reader, examples, self.out, settings=decoder, training=training, self_training=second, resume=self.resume
        )  # fmt: skip


@guarded
def train(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Data set: of `maskwright synthesize`, or images/, masks/, labels.txt.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="A new folder, or with --resume the old one.")] = Path(
        "maskwright-decoder"
    ),
    task: Annotated[
        str, typer.Option(metavar="|".join(TASKS), help="Find what stands out, or each of the labels.")
    ] = "saliency",
    model: options.Model = "sticker",
    inversion: Annotated[
        str, typer.Option(metavar="|".join(INVERSIONS), help="How a picture becomes noisy: noise, DDIM inversion, or all of the way.")
    ] = "partial",
    timestep: Annotated[int, typer.Option(metavar="NUMBER", help="At which features are read.")] = 100,
    inversion_steps: Annotated[int, typer.Option(metavar="NUMBER", help="Of the inversion up to there.")] = 5,
    prior: Annotated[
        str, typer.Option(metavar="|".join(PRIORS), help="The text beside a picture: none, or the word that the model finds best.")
    ] = "empty",
    attention: Annotated[bool, typer.Option("--attention", help="The word's attention as two more channels; with --prior match.")] = False,
    width: Annotated[int, typer.Option(metavar="NUMBER", help="Channels inside the decoder.")] = 256,
    epochs: Annotated[int, typer.Option(metavar="NUMBER", help="Passes over the pairs.")] = 10,
    batch: Annotated[int, typer.Option(metavar="NUMBER", help="Pairs in a step.")] = 32,
    rate: Annotated[float, typer.Option(metavar="NUMBER", help="Learning rate, at its largest; 0.001 for some hundred pairs.")] = 1e-4,
    self_train: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Pictures without masks, for a second round of 3 epochs; never those of a set that you will measure on.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="NUMBER", help="Of the whole training.")] = 0,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the training in --out.")] = False,
    offline: options.Offline = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per epoch and nothing else.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a decoder on drawn pairs: masks for pictures that nobody drew, with `discover --decoder` or `segment --decoder`.

    Writes decoder.safetensors, decoder.json, README.md, curve.jsonl and curve.png; checkpoint.safetensors until it is over.
    """
    prepare(offline=offline)
    chosen = TrainOptions(
        model=model, seed=seed, device=device, dtype=dtype, offline=offline, folder=folder, out=out, task=task, inversion=inversion,
        prior=prior, timestep=timestep, inversion_steps=inversion_steps, width=width, attention=attention, epochs=epochs, examples=batch,
        rate=rate, self_train=self_train, resume=resume,
    )  # fmt: skip
    training = chosen.load()
    report = TrainingReport(as_json=as_json, quiet=quiet)
    if training.is_over:
        report.note(f"{out} holds a decoder whose training is over: nothing is left to do")
    else:
        report.note(_describe(training))
    with report:
        for progress in training.run():
            report.tell(progress)
    report.finish(training.figures, out)


def _describe(training: "DecoderTraining") -> str:
    settings, examples = training.settings, training.examples
    parameters = sum(parameter.numel() for parameter in training.network.parameters())
    learned, held = examples.split(training.training.validation, training.training.seed)
    return (
        f"{describe_model(training.reader.backbone)}; {settings.task} decoder of {parameters / 1e6:.1f} million parameters,"
        f" {settings.inversion} inversion, timestep {settings.timestep}; {len(learned)} pairs to train on, {len(held)} to validate on"
    )


class TrainingReport:
    """Tells how a training goes: a bar and a line an epoch on stderr, or JSON lines on stdout; a table at the end."""

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        """Prints JSON lines or, unless `quiet`, notes and a table."""
        self.as_json, self.quiet = as_json, quiet
        self._last: Progress | None = None
        self._bar = Bar()
        self._bars = contextlib.ExitStack()

    def note(self, text: str) -> None:
        """Something worth knowing that is no warning."""
        if not self.quiet:
            say(text)

    def tell(self, progress: "Progress") -> None:
        """A step, or with validation figures an epoch, is done and, as for an epoch, on the disk."""
        if self._last is None or self._last.round != progress.round:
            self._bars.close()
            left = progress.steps - progress.step + 1
            self._bar = self._bars.enter_context(progress_bar(left, unit="steps", quiet=self.quiet or self.as_json))
        self._last = progress
        if progress.validation is None:
            self._bar.advance()
            return
        with self._bar.aside():
            if self.as_json:
                print_json(_to_json(progress))
            else:
                second = ", second round" if progress.round > 1 else ""
                figures = "".join(f", {name} {value:.3f}" for name, value in progress.validation.items())
                self.note(f"epoch {progress.epoch} of {progress.epochs}{second}: loss {progress.loss:.4f}{figures}")

    def finish(self, figures: Mapping[str, float | None], out: Path) -> None:
        """The figures of the decoder that stands in the folder."""
        if self.as_json or self.quiet:
            return
        from rich.console import Console

        table = start_table("validation", "")
        for name, value in figures.items():
            table.add_row(name, "" if value is None else f"{value:.4f}")
        if figures:
            Console().print(table)
        self.note(f"the decoder is in {out}")

    def __enter__(self) -> "TrainingReport":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._bars.close()
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            where = f" in epoch {self._last.epoch} of {self._last.epochs}" if self._last else ""
            say(f"interrupted{where}: what is written is whole, and --resume goes on from the last checkpoint")
            raise typer.Exit(INTERRUPTED) from None


def _to_json(progress: "Progress") -> dict[str, Any]:
    figures = progress.validation or {}
    return {
        "round": progress.round, "epoch": progress.epoch, "epochs": progress.epochs, "step": progress.step, "steps": progress.steps,
        "loss": progress.loss, "rate": progress.rate,
        "validation": {name: value if value == value else None for name, value in figures.items()},
    }  # fmt: skip
