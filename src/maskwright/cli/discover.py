"""`maskwright discover`: pictures in, the mask and the box of their object out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from maskwright.cli import options
from maskwright.cli.decoding import read_decoder
from maskwright.cli.engine import ModelOptions, describe_model
from maskwright.cli.environment import prepare
from maskwright.cli.guard import guarded
from maskwright.cli.labels import read_background, read_labels
from maskwright.cli.output import Reporter, start_table
from maskwright.cli.resume import expected
from maskwright.cli.run import Job, run
from maskwright.errors import SettingsError
from maskwright.methods import DECODER_METHODS, DISCOVERY_METHODS, Methods

if TYPE_CHECKING:
    from rich.console import RenderableType

    from maskwright.decoders.discoverer import DecoderDiscoverer
    from maskwright.discovery.discoverer import Discoverer
    from maskwright.discovery.result import Discovery
    from maskwright.vocabulary import Vocabulary

FILES = ("mask", "overlay", "json")
BY_DECODER = "diffusionseg"
FINDERS: Methods = {**DISCOVERY_METHODS, BY_DECODER: DECODER_METHODS[BY_DECODER]}
UNSAID = ("given", "without words")  # choices of words that a table need not explain


@dataclass(frozen=True, kw_only=True)
class DiscoveryOptions(ModelOptions):
    """The options of a method that finds what stands out.

    Attributes:
        decoder: folder of a trained one, or "bundled"; "" for none.

    Raises:
        SettingsError: as in every command, or a decoder beside another method or settings.
    """

    methods: ClassVar[Methods] = FINDERS

    method: str = "attentioncut"
    decoder: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decoder and self.method != BY_DECODER:
            raise SettingsError(f"--decoder is for --method {BY_DECODER}, not for {self.method}: leave one of them out")
        if self.method == BY_DECODER and self.settings:
            raise SettingsError("--set has nothing to set: what a decoder reads was settled when it was trained; name another by --decoder")

    def load(self) -> "Discoverer | DecoderDiscoverer":
        """Checks what needs torch to be checked, then loads the model.

        Raises:
            SettingsError: settings, device or dtype that cannot be used.
            ModelError: a model or decoder that cannot be loaded, or two that do not belong together.
        """
        common: dict[str, Any] = {"refine": self.refine, "seed": self.seed, "batch": self.pictures, "offline": self.offline}
        if self.method == BY_DECODER:
            from maskwright.decoders.discoverer import DecoderDiscoverer
            from maskwright.decoders.identity import open_decoder

            decoder = open_decoder(self.decoder or "bundled", task="saliency")
            return DecoderDiscoverer(self.load_backbone(), decoder, **common)
        settings, backbone = self.read_settings(), self.load_backbone()
        from maskwright.discovery.discoverer import Discoverer

        return Discoverer(backbone, self.method, settings=settings, **common)


@guarded
def discover(
    inputs: options.Inputs,
    method: Annotated[
        str | None,
        typer.Option(
            "--method", metavar="|".join(FINDERS), help="How the object is cut out.",
            show_default=f"attentioncut, or {BY_DECODER} with --decoder",
        ),
    ] = None,
    decoder: Annotated[
        str | None, typer.Option(metavar="FOLDER|bundled", help=f"A decoder of `maskwright train`, for {BY_DECODER}; it needs no words.")
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--labels", "-l", metavar="WORDS", help="What to look for; several words mean all of them together.",
            show_default="the model's own object that fits best, else 'object'",
        ),
    ] = None,
    labels_file: options.LabelsFile = None,
    match: Annotated[bool, typer.Option("--match", help="Look only for the one of these words that fits the picture best.")] = False,
    background: Annotated[
        str | None, typer.Option(metavar="WORDS", help="What lies behind: words that stand in the prompt too and take what is theirs.")
    ] = None,
    boxes: Annotated[bool, typer.Option("--boxes", help="Draw the object's box into the overlay, and print it.")] = False,
    settings: options.Settings = None,
    model: options.Model = "sticker",
    refine: options.Refine = "none",
    out: options.Out = Path("maskwright-out"),
    seed: options.Seed = 0,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    batch: options.Batch = "auto",
    resume: options.Resume = False,
    offline: options.Offline = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:  # fmt: skip
    """Find the object of each picture: its mask and its box.

    For each picture NAME: NAME.mask.png (255 = object), NAME.overlay.png and NAME.json.
    """
    prepare(offline=offline)
    decoder = "" if decoder is None else read_decoder(decoder)
    chosen = DiscoveryOptions(
        model=model, method=method or (BY_DECODER if decoder else "attentioncut"), decoder=decoder, settings=settings or (),
        refine=refine, seed=seed, device=device, dtype=dtype, batch=batch, offline=offline,
    )  # fmt: skip
    if chosen.method == BY_DECODER and background is not None:
        raise SettingsError("--background stands in the prompts of other methods: a decoder knows the background itself, leave it out")
    vocabulary = _read_words(labels or (), labels_file, background)
    report = Reporter(FILES, lambda result: show_discovery(result, box=boxes), as_json=as_json, quiet=quiet)

    def load() -> Job:
        discoverer = chosen.load()
        quest = discoverer.quest(vocabulary, match=match)  # refuses words for a decoder that was trained without any
        wanted = expected(discoverer.record(quest), named=True)
        return Job(
            line=f"{describe_model(discoverer.reader.backbone)}; {discoverer.method.name}, {quest.choice}",
            expected={**wanted, "box_drawn": boxes}, save=lambda result: result.save(out, box=boxes),
            work=lambda pictures: discoverer.discover_many(pictures, vocabulary, match=match),
        )  # fmt: skip

    run(inputs, out, load, report, resume=resume)


def _read_words(texts: Sequence[str], file: Path | None, background: str | None) -> "Vocabulary | None":
    """What to look for and what lies behind it; None for whatever the model knows."""
    if not texts and file is None:
        if background is not None:
            raise SettingsError("--background names what lies behind the words of --labels: give these, too")
        return None
    if background is not None and not isinstance(read_background(background), str):
        raise SettingsError(f"--background {background} is a number: give the word of what lies behind, for instance grass")
    return read_labels(texts, file, background="none" if background is None else background)


def show_discovery(result: "Discovery", *, box: bool) -> "Iterator[RenderableType]":
    """Word, share, score and on demand the box of what was found, and where the word comes from unless it was given."""
    from rich.text import Text

    table = start_table("word", "share", "mean score", *(["box (x, y, width, height)"] if box else []))
    share = result.mask.mean()
    score = f"{result.score:.3f}" if result.box else ""
    where = ", ".join(map(str, result.box)) if result.box else "none"
    table.add_row(Text(result.word), f"{share:.1%}", score, *([where] if box else []))
    yield table
    if result.choice not in UNSAID:
        yield Text(f"the word: {result.choice}", style="dim")
