"""`maskwright evaluate`: methods on a data set, with the protocol beside every number."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast

import typer

from maskwright.cli import options
from maskwright.cli.choices import read_choices
from maskwright.cli.engine import HelpedOptions, describe_model
from maskwright.cli.environment import prepare
from maskwright.cli.guard import FAILED, INTERRUPTED, guarded, say
from maskwright.cli.labels import read_labels
from maskwright.cli.output import print_json
from maskwright.cli.progress import progress_bar
from maskwright.errors import SettingsError
from maskwright.methods import ALL_METHODS, DECODER_METHODS, METHODS, Methods

if TYPE_CHECKING:
    from maskwright.evaluation.crews import Choice
    from maskwright.evaluation.protocol import Protocol
    from maskwright.evaluation.run_folder import RunFolder
    from maskwright.evaluation.runner import Runner
    from maskwright.evaluation.task import Words

FEW = 4  # methods up to which every metric is printed


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(HelpedOptions):
    """The options of a model that all kinds of methods read."""

    methods: ClassVar[Methods] = ALL_METHODS

    method: str = "diffsegmenter"


@guarded
def evaluate(
    folders: Annotated[list[Path] | None, typer.Argument(metavar="[DIR]...", help="With --merge: the folders of the shards.")] = None,
    dataset: Annotated[str | None, typer.Option(metavar="NAME:FOLDER", help="A data set; `scenes` stands alone.")] = None,
    split: Annotated[str | None, typer.Option(metavar="NAME", help="Part of it.", show_default="the usual one")] = None,
    method: Annotated[list[str] | None, typer.Option(metavar="NAME,NAME", help="Methods to compare.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="[METHOD.]KEY=VALUE", help="A setting of the methods; can be repeated.")
    ] = None,
    sweep: Annotated[
        list[str] | None, typer.Option(metavar="[METHOD.]KEY=V1,V2", help="Each value, in each combination, is a method of its own.")
    ] = None,
    protocol: Annotated[
        str, typer.Option(metavar="NAME[,FIELD=VALUE]", help="What is counted and how; `list` prints them.")
    ] = "maskwright",
    model: options.Model = "sticker",
    labels: Annotated[
        list[str] | None,
        typer.Option("--labels", "-l", metavar="WORDS", help="Where the set names no classes; @name, @truth: each picture's own."),
    ] = None,
    refine: options.Refine = "none",
    category_filter: Annotated[
        str, typer.Option("--filter", metavar="none|clip|clip+crops|clip+caption", help="Of protocols with filtered labels.")
    ] = "none",
    clip: options.Clip = "",
    blip: Annotated[str, typer.Option(metavar="FOLDER|ID", help="The BLIP model of captions.")] = "",
    caption: Annotated[bool, typer.Option("--caption", help="Continue each label's prompt with a caption.")] = False,
    limit: Annotated[int | None, typer.Option(metavar="NUMBER", help="Only the first pictures.")] = None,
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="Every N-th picture from the I-th on, for --merge.")] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Put the folders of shards together.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="DIR", help="Where the results go.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the evaluation in --out.")] = False,
    overlays: Annotated[int, typer.Option(metavar="NUMBER", help="Best, middle and worst pictures to draw.", min=0)] = 3,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    offline: options.Offline = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object and nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the figures, warnings and errors.")] = False,
) -> None:
    """Measure methods on a data set.

    Writes evaluation.json, pictures.jsonl and overlays/, from which `maskwright report` makes a page.
    """
    prepare(offline=offline)
    from maskwright.evaluation.protocol import named_protocols, parse_protocol

    if protocol == "list":
        for one in named_protocols().values():
            print(f"{one.describe()}\n  {one.source}")
        return
    if out is None:
        raise SettingsError("--out is missing: name the folder of the results")
    if merge or folders:
        if not (merge and folders):
            raise SettingsError("--merge takes the folders of the shards: maskwright evaluate --merge DIR1 DIR2 --out DIR")
        from maskwright.evaluation.run_folder import merge_folders

        _tell(merge_folders(folders, out), as_json=as_json, quiet=quiet)
        return
    from maskwright.evaluation.run_folder import refuse_taken

    refuse_taken(out, resume=resume)
    wanted = parse_protocol(protocol)
    engine = EvaluationOptions(
        model=model, refine=refine, seed=seed, device=device, dtype=dtype, offline=offline, category_filter=category_filter,
        caption=caption, clip=clip, blip=blip,
    )  # fmt: skip
    if (category_filter != "none") != (wanted.labels == "filtered"):
        raise SettingsError("--filter goes with protocols whose labels are filtered, and only there: add --filter clip, or labels=all")
    choices = read_choices(method or ["diffsegmenter"], settings or (), sweep or ())
    part = (limit, _read_shard(shard))
    runner = _make_runner(dataset, split, choices, wanted, words=labels, part=part, engine=engine)
    if not quiet:
        say(f"{describe_model(runner.reader.backbone)}; {', '.join(choice.key for choice in runner.choices)}")
    try:
        with progress_bar(len(runner.numbers), unit="pictures", quiet=quiet) as bar:
            folder = runner.run(out, resume=resume, on_picture=bar.advance)
        if shard is None:  # what a merged folder shows is known later: --resume on it draws it
            _draw(runner, folder, each=overlays, quiet=quiet)
    except KeyboardInterrupt:
        say(f"interrupted: what is counted is safe; go on with: {_command()} --resume")
        raise typer.Exit(INTERRUPTED) from None
    _tell(folder, as_json=as_json, quiet=quiet)


def _make_runner(
    dataset: str | None, split: str | None, choices: Sequence["Choice"], protocol: "Protocol", *, words: Sequence[str] | None,
    part: tuple[int | None, tuple[int, int] | None], engine: EvaluationOptions,
) -> "Runner":  # fmt: skip
    """Checks what can be checked before a model is loaded, then loads it."""
    from maskwright.datasets.registry import open_dataset
    from maskwright.decoders.identity import open_decoder
    from maskwright.evaluation.runner import Part, Runner
    from maskwright.evaluation.task import Task

    if dataset is None:
        raise SettingsError("--dataset is missing: name one, for instance --dataset scenes or --dataset voc2012:FOLDER")
    pictures, which = open_dataset(dataset, split=split), Part(*part)
    vocabulary: Words = None
    if words:
        special = {"@name": "@name", "@truth": "@truth"}.get(words[0]) if len(words) == 1 else None
        vocabulary = cast("Words", special) or read_labels(words, None, background="none")
    task = Task(pictures, protocol, vocabulary)
    for choice in choices:
        task.refuse(choice.method)
        if choice.method in DECODER_METHODS:
            open_decoder(str(choice.settings.get("decoder", "bundled")), task="saliency" if choice.method == "diffusionseg" else "semantic")
    if not which.numbers(len(pictures)):
        raise SettingsError(f"this shard has no pictures: {len(pictures)} are there, and --limit may leave fewer")
    backbone = engine.load_backbone()
    segmenting = engine.load_helpers(backbone) if any(choice.method in METHODS for choice in choices) else {}
    return Runner(
        pictures, choices, protocol, model=backbone, words=vocabulary, part=which, refine=engine.refine, seed=engine.seed,
        segmenting=segmenting,
    )  # fmt: skip


def _draw(runner: "Runner", folder: "RunFolder", *, each: int, quiet: bool) -> None:
    """The overlays that a report shows."""
    from maskwright.evaluation.overlays import draw_overlays, wanted_overlays

    wanted = wanted_overlays(runner, folder, each=each)
    with progress_bar(len(wanted), unit="overlays", quiet=quiet) as bar:
        for number, keys in wanted.items():
            draw_overlays(runner, folder, number, keys)
            bar.advance()


def _read_shard(text: str | None) -> tuple[int, int] | None:
    """Raises SettingsError for anything but I/N."""
    if text is None:
        return None
    first, slash, last = text.partition("/")
    if not (slash and first.isascii() and first.isdigit() and last.isascii() and last.isdigit() and 1 <= int(first) <= int(last)):
        raise SettingsError(f"--shard is {text!r}: write I/N, for instance 1/4 to 4/4")
    return int(first), int(last)


def _tell(folder: "RunFolder", *, as_json: bool, quiet: bool) -> None:
    """Prints what a folder says; failed pictures are an error."""
    from maskwright.evaluation.summary import summarise

    summary = summarise(folder.evaluation, folder.lines)
    if as_json:
        print_json(summary)
    else:
        for line in describe_summary(summary):
            print(line)
        if not quiet:
            say(f"written to {folder.path}")
    failed = [(key, one) for key, method in summary["methods"].items() for one in method["failed"]]
    for key, one in failed:
        say(f"error: {one['picture']} ({key}): {one['reason']}")
    if failed:
        say(f"error: {len(failed)} results failed and are counted as wrong")
        raise typer.Exit(FAILED)


def describe_summary(summary: Mapping[str, Any]) -> list[str]:
    """The lines that a terminal shows of a summary: data set, protocol, metrics with their intervals, differences."""
    from maskwright.evaluation.protocol import Protocol

    dataset, methods = summary["dataset"], summary["methods"]
    part = f", shard {dataset['shard'][0]}/{dataset['shard'][1]}" if dataset["shard"] else ""
    evaluated = sorted({method["evaluated"] for method in methods.values()})
    counts = " to ".join(str(count) for count in dict.fromkeys((evaluated[0], evaluated[-1])))
    lines = [
        f"{dataset['name']}, {dataset['split']}: {counts} of {dataset['pictures']} pictures{part}; 95 % intervals over pictures",
        f"protocol {Protocol.from_dict(dict(summary['protocol'])).describe()}",
        "",
    ]
    wide = max(len(key) for key in methods)
    few = len(methods) <= FEW
    for key, method in methods.items():
        for name, metric in method["metrics"].items():
            if few or name.startswith(method["headline"]):
                note = f"  ({metric['note']})" if metric["note"] else ""
                lines.append(f"{key:<{wide}}  {name:<22}  {_number(metric['value'])}  {_range(metric)}{note}")
    headlines = {method["headline"] for method in methods.values()}
    pairs = [pair for pair in summary["pairs"] if pair["metric"] in headlines] if few else []
    return [*lines, *([""] if pairs else []), *(
        f"{pair['one']} - {pair['other']}  {pair['metric']}  {_number(pair['difference'], sign='+')}  {_range(pair, sign='+')}"
        for pair in pairs
    )]  # fmt: skip


def _number(value: float | None, *, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.4f}"


def _range(row: Mapping[str, Any], *, sign: str = "") -> str:
    return f"[{_number(row['low'], sign=sign)}, {_number(row['high'], sign=sign)}]"


def _command() -> str:
    """What was typed."""
    return shlex.join(["maskwright", *(argument for argument in sys.argv[1:] if argument != "--resume")])
