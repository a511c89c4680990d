"""`maskwright synthesize`: words in, a labelled data set out."""

import dataclasses
import re
import shlex
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast

import typer

from maskwright.cli import options
from maskwright.cli.engine import FilterOptions, describe_model
from maskwright.cli.environment import prepare
from maskwright.cli.guard import FAILED, INTERRUPTED, guarded, say
from maskwright.cli.labels import read_labels
from maskwright.cli.output import print_json
from maskwright.cli.progress import Bar, progress_bar
from maskwright.errors import SettingsError
from maskwright.methods import DISCOVERY_METHODS, Methods

if TYPE_CHECKING:
    from maskwright.discovery.pairs import Drawn
    from maskwright.discovery.store import PairStore
    from maskwright.discovery.synthesis import Synthesizer
    from maskwright.vocabulary import Vocabulary

UNQUOTED = ("resume", "out", "offline", "as_json", "quiet")  # options that a data card does not repeat
LARGEST = 1_000_000  # numbers that --only takes stay below


@dataclass(frozen=True, kw_only=True)
class SynthesisOptions(FilterOptions):
    """The options that say what is drawn, and how.

    Attributes:
        steps, guidance, side: of the sampler and its pictures, None for what suits the model.
        attempts: at a pair, at most.
        prompts, templates: files, None for none.
        objects: labels in a scene, "2" or "1-3".
    """

    methods: ClassVar[Methods] = DISCOVERY_METHODS
    filters: ClassVar[Sequence[str]] = ("none", "clip")

    method: str = "attentioncut"
    refine: str = "guided"
    steps: int | None = None
    guidance: float | None = None
    side: int | None = None
    attempts: int = 5
    prompts: Path | None = None
    templates: Path | None = None
    objects: str = "1"

    def __post_init__(self) -> None:
        super().__post_init__()
        read_span(self.objects)  # refuses what is none
        if self.prompts is not None and (self.templates is not None or self.objects != "1"):
            raise SettingsError("--prompts says all that is drawn: leave --templates and --objects out")

    def load(self, vocabulary: "Vocabulary") -> "Synthesizer":
        """Checks what needs torch to be checked, then loads the model.

        Raises:
            SettingsError: settings, files, device or dtype that cannot be used.
            VocabularyError: more labels than a mask can hold.
            ModelError: a model that cannot be loaded.
        """
        from maskwright.discovery.masks import MaskSettings
        from maskwright.discovery.prompts import LabelPrompts, ListedPrompts, Prompts
        from maskwright.discovery.recognition import Recogniser
        from maskwright.discovery.synthesis import SynthesisSettings, Synthesizer, refuse_many
        from maskwright.discovery.templates import Templates, read_lines

        refuse_many(vocabulary)
        given = {"steps": self.steps, "guidance": self.guidance, "side": self.side, "attempts": self.attempts}
        SynthesisSettings.suited({}, **given)  # a wrong value is told before a model is loaded
        lines = read_lines(self.prompts, "prompts") if self.prompts else []
        templates = Templates.from_file(self.templates) if self.templates else None
        settings, backbone = self.read_settings(), self.load_backbone()

        def fits(prompt: str) -> bool:
            return backbone.text.count_tokens(prompt) <= backbone.text.room

        synthesis, seed = backbone.info.synthesis, self.seed
        prompts: Prompts
        if lines:
            prompts = ListedPrompts(vocabulary, lines, seed=seed, fits=fits)
        else:
            templates = templates or Templates.suited(synthesis)
            prompts = LabelPrompts(vocabulary, templates, objects=read_span(self.objects), seed=seed, fits=fits)
        drawing = SynthesisSettings.suited(synthesis, **given, masks=MaskSettings(refine=cast(Any, self.refine)))
        recogniser = None
        if self.category_filter != "none":
            place = self.helper_place(backbone)
            recogniser = Recogniser.for_model(backbone.info, vocabulary, most=prompts.most, clip=self.clip or None, **place)
        return Synthesizer(
            backbone, prompts, self.method, settings=drawing, method_settings=settings, recogniser=recogniser, seed=seed,
            batch=self.pictures,
        )  # fmt: skip


@guarded
def synthesize(
    context: typer.Context,
    labels: Annotated[
        list[str] | None, typer.Option("--labels", "-l", metavar="WORDS", help='For instance "dog, red apple, cat|kitten".')
    ] = None,
    labels_file: options.LabelsFile = None,
    count: Annotated[int, typer.Option("--count", "-n", metavar="NUMBER", help="Pairs.")] = 100,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="A new folder, or with --resume the old one.")] = Path(
        "maskwright-pairs"
    ),
    prompts: Annotated[Path | None, typer.Option(metavar="FILE", help="One prompt a line; the labels that it names are masked.")] = None,
    templates: Annotated[
        Path | None, typer.Option(metavar="FILE", help="One a line, as in: a {} in the rain", show_default="the model's or our own")
    ] = None,
    objects: Annotated[str, typer.Option(metavar="NUMBER|FROM-TO", help="Labels in a scene.")] = "1",
    steps: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Of the sampler.", show_default="what suits the model, else 25")
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(metavar="NUMBER", help="How closely prompts are followed.", show_default="what suits the model, else 7.5"),
    ] = None,
    side: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="Of the pictures.", show_default="what suits the model, else its native one")
    ] = None,
    method: Annotated[str, typer.Option(metavar="|".join(DISCOVERY_METHODS), help="How masks are cut out.")] = "attentioncut",
    settings: options.Settings = None,
    model: options.Model = "sticker",
    refine: options.Refine = "guided",
    category_filter: Annotated[
        str, typer.Option("--filter", metavar="none|clip", help="Keep only pictures that CLIP takes for what they should show.")
    ] = "none",
    clip: options.Clip = "",
    formats: Annotated[str, typer.Option("--format", metavar="coco,voc,yolo", help="Forms for other programs.")] = "coco",
    attempts: Annotated[int, typer.Option(metavar="NUMBER", help="How often a pair is tried until the filters keep it.")] = 5,
    only: Annotated[str | None, typer.Option(metavar="NUMBERS", help="Make just these pairs, as in 3,17,20-29.")] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="NUMBER", help="Of the whole data set.")] = 0,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    batch: options.Batch = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the data set in --out.")] = False,
    offline: options.Offline = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per attempt and nothing else.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a labelled data set from words: the model draws, and what it attends to is cut into masks.

    Writes images/, masks/, pairs.jsonl, annotations.json (COCO), README.md and preview.png.
    """
    prepare(offline=offline)
    chosen = SynthesisOptions(
        model=model, method=method, settings=settings or (), refine=refine, seed=seed, device=device, dtype=dtype, batch=batch,
        offline=offline, steps=steps, guidance=guidance, side=side, attempts=attempts, prompts=prompts, templates=templates,
        objects=objects, category_filter=category_filter, clip=clip,
    )  # fmt: skip
    if count < 1:
        raise SettingsError(f"--count is {count}: give a number of at least 1")
    places: Collection[int] = range(count) if only is None else read_numbers(only)
    vocabulary = read_labels(labels or (), labels_file, background="none")
    from maskwright.discovery.finish import finish
    from maskwright.discovery.formats import read_formats
    from maskwright.discovery.store import PairStore

    forms = read_formats(formats)
    synthesizer = chosen.load(vocabulary)
    report = Report(as_json=as_json, quiet=quiet)
    with PairStore.open(out, synthesizer.decisive(), vocabulary, resume=resume) as store:
        _run(synthesizer, store, places, report)
        finish(
            store, formats=forms, command=quote(context), again=quote(context, only=store.kept[0].number) if store.kept else None,
            licence=synthesizer.backbone.info.licence or None,
        )  # fmt: skip
        kept = report.summarise(store, places)
    if not kept:
        raise typer.Exit(FAILED)


def _run(synthesizer: "Synthesizer", store: "PairStore", places: Collection[int], report: "Report") -> None:
    steps = f"{synthesizer.settings.steps} steps, attention read at {len(synthesizer.read_at)}"
    report.note(f"{describe_model(synthesizer.backbone)}; {synthesizer.method.name}, {steps}, guidance {synthesizer.settings.guidance:g}")
    began, last = time.perf_counter(), synthesizer.settings.attempts - 1
    try:
        with progress_bar(len(places) - _count(store, places), unit="pairs", quiet=report.quiet) as report.bar:
            for drawn in synthesizer.run(places, store):
                report.tell(drawn, store, settled=drawn.pair.kept or drawn.pair.attempt == last)
    except KeyboardInterrupt:
        kept = _count(store, places)
        say(f"interrupted, {kept} of {len(places)} pairs are kept: what is written is whole, and --resume goes on from here")
        raise typer.Exit(INTERRUPTED) from None
    report.seconds = time.perf_counter() - began


class Report:
    """Tells what becomes of the attempts of one run.

    Attributes:
        kept: pairs that this run has kept.
        seconds: that drawing them took.
        bar: shown meanwhile.
    """

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        """Prints JSON lines or, unless `quiet`, notes."""
        self.as_json, self.quiet = as_json, quiet
        self.kept, self.seconds = 0, 0.0
        self.bar = Bar()

    def note(self, text: str) -> None:
        """Something worth knowing that is no warning."""
        if not self.quiet:
            say(text)

    def tell(self, drawn: "Drawn", store: "PairStore", *, settled: bool) -> None:
        """An attempt that is in the store; `settled` when its place is full or given up."""
        pair = drawn.pair
        self.kept += pair.kept
        if self.as_json:
            files = {"image": str(store.image_path(pair)), "mask": str(store.mask_path(pair))}
            with self.bar.aside():
                print_json({**dataclasses.asdict(pair), **(files if pair.kept else dict.fromkeys(files))})
        if settled:
            self.bar.advance()

    def summarise(self, store: "PairStore", places: Collection[int]) -> int:
        """What was kept, what was not and why, and how long a pair took. Returns how many of the places are filled."""
        from maskwright.discovery.filters import count_reasons

        kept, rejected = _count(store, places), [pair for pair in store.pairs if not pair.kept]
        counts = count_reasons(reason for pair in rejected for reason in pair.reasons)
        reasons = f" ({', '.join(f'{reason} {count}' for reason, count in counts.items())})" if counts else ""
        attempts = "1 attempt" if len(rejected) == 1 else f"{len(rejected)} attempts"
        pace = f", {self.seconds / self.kept:.2f} s a kept pair" if self.kept else ""
        self.note(f"{kept} of {len(places)} pairs kept, {attempts} rejected{reasons}{pace}, in {store.folder}")
        if missing := len(places) - kept:
            line = f"no attempt at {missing} of {len(places)} pairs passed the filters"
            say(f"{'note' if kept else 'error'}: {line}: try other words, another --guidance, or more --attempts with --resume")
        return kept


def read_numbers(text: str) -> frozenset[int]:
    """Numbers of pairs from "3,17,20-29".

    Raises:
        SettingsError: anything else.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, last = _read_range(part) or (1, 0)
        if not first <= last < LARGEST:
            raise SettingsError(f"--only is {text!r}: give numbers below {LARGEST}, as in 3,17,20-29")
        found |= set(range(first, last + 1))
    return frozenset(found)


def read_span(text: str) -> tuple[int, int]:
    """The least and the most labels of a scene from "2" or "1-3".

    Raises:
        SettingsError: anything else.
    """
    first, last = _read_range(text) or (0, 0)
    if not 1 <= first <= last:
        raise SettingsError(f"--objects is {text!r}: give a number of at least 1, or a range as in 1-3")
    return first, last


def _read_range(text: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"\s*(\d{1,18})(?:\s*-\s*(\d{1,18}))?\s*", text, re.ASCII)
    return (int(match[1]), int(match[2] or match[1])) if match else None


def quote(context: typer.Context, *, only: int | None = None) -> str:
    """The command line of this run as its data card quotes it: without paths of this machine.

    Args:
        context: of the command.
        only: to quote the one that makes this pair again.
    """
    words = ["maskwright", "synthesize"]
    dropped = {*UNQUOTED, *(("count", "only") if only is not None else ())}
    for parameter in context.command.params:
        name: str = parameter.name or ""
        value: Any = context.params.get(name)
        source = context.get_parameter_source(name)
        if name in dropped or source is None or source.name != "COMMANDLINE":
            continue
        for item in value if isinstance(value, list) else [value]:
            is_path = isinstance(item, Path) or (name in ("model", "clip") and Path(item).expanduser().is_dir())
            words += [parameter.opts[0], Path(item).name if is_path else str(item)]
    return shlex.join([*words, *(("--only", str(only)) if only is not None else ()), "--out", "DIR"])


def _count(store: "PairStore", places: Collection[int]) -> int:
    """How many of the places are filled."""
    return sum(pair.number in places for pair in store.kept)
