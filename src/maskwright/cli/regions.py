"""`maskwright regions`: pictures in, regions out; no words, or words that name the regions afterwards."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

import typer

from maskwright.cli import options
from maskwright.cli.engine import ModelOptions, choose, describe_model
from maskwright.cli.environment import prepare
from maskwright.cli.guard import guarded
from maskwright.cli.labels import read_labels
from maskwright.cli.output import Reporter, show_segmentation
from maskwright.cli.resume import expected
from maskwright.cli.run import SEGMENTATION, Job, run
from maskwright.errors import SettingsError
from maskwright.methods import READ_ONCE, REGION_METHODS, Methods

if TYPE_CHECKING:
    from maskwright.grouping import Grouper

NO_TRUTH = "oracle is the number of regions in the ground truth, which only an evaluation has: give auto or a number"


@dataclass(frozen=True, kw_only=True)
class GroupingOptions(ModelOptions):
    """The options of a method that needs no words.

    Attributes:
        regions: a number of regions, "auto", or None for the method's own.
        naming: the text-driven method that names regions.

    Raises:
        SettingsError: a value that cannot be used.
    """

    methods: ClassVar[Methods] = REGION_METHODS

    method: str = "maskdiffusion-unsupervised"
    regions: int | Literal["auto"] | None = None
    naming: str = "maskdiffusion"

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("naming", self.naming, tuple(READ_ONCE))

    def load(self) -> "Grouper":
        """Checks what needs torch to be checked, then loads the model.

        Raises:
            SettingsError: settings, device or dtype that cannot be used.
            ModelError: a model that cannot be loaded.
        """
        settings = self.read_settings()
        if self.regions is not None and "regions" in settings:
            raise SettingsError("--regions and --set regions say the same: keep one of them")
        if settings.get("regions") == "oracle":
            raise SettingsError(f"--set regions=oracle: {NO_TRUTH}")
        backbone = self.load_backbone()
        from maskwright.grouping import Grouper

        return Grouper(
            backbone, self.method, settings=settings, regions=self.regions, naming=self.naming, refine=cast(Any, self.refine),
            seed=self.seed, batch=self.pictures, offline=self.offline,
        )  # fmt: skip


@guarded
def regions(
    inputs: options.Inputs,
    method: Annotated[str, typer.Option("--method", metavar="|".join(REGION_METHODS), help="How the picture is parted.")] = (
        "maskdiffusion-unsupervised"
    ),
    count: Annotated[
        str | None, typer.Option("--regions", metavar="auto|NUMBER", help="How many regions.", show_default="the method's own")
    ] = None,
    labels: Annotated[
        list[str] | None, typer.Option("--labels", "-l", metavar="WORDS", help='Words to name regions by, "dog, red apple, cat|kitten".')
    ] = None,
    labels_file: options.LabelsFile = None,
    naming: Annotated[
        str | None, typer.Option(metavar="|".join(READ_ONCE), help="How words are scored that name regions.", show_default="maskdiffusion")
    ] = None,
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
) -> None:
    """Part pictures into regions, without words.

    For each picture NAME: NAME.labels.png (pixel value = number of the region, 1 is the largest), NAME.overlay.png and NAME.json.
    """
    prepare(offline=offline)
    chosen = GroupingOptions(
        model=model, method=method, settings=settings or (), regions=read_count(count), naming=naming or "maskdiffusion", refine=refine,
        seed=seed, device=device, dtype=dtype, batch=batch, offline=offline,
    )  # fmt: skip
    named = bool(labels) or labels_file is not None
    if naming is not None and not named:
        raise SettingsError("--naming scores the words that name regions: add --labels 'dog, grass'")
    vocabulary = read_labels(labels or (), labels_file, background="none") if named else None
    report = Reporter(SEGMENTATION, lambda result: show_segmentation(result, scored=False), as_json=as_json, quiet=quiet)

    def load() -> Job:
        grouper = chosen.load()
        wanted: Mapping[str, Any] = expected(grouper.record(vocabulary=vocabulary), named=True)
        return Job(
            line=_describe(grouper, named=named), expected=wanted, save=lambda result: result.save(out),
            work=lambda pictures: grouper.regions_many(pictures, vocabulary),
        )  # fmt: skip

    run(inputs, out, load, report, resume=resume)


def read_count(text: str | None) -> int | Literal["auto"] | None:
    """What --regions says; None stays None.

    Raises:
        SettingsError: neither "auto" nor a number of at least 1.
    """
    if text is None:
        return None
    text = text.strip().lower()
    if text == "auto":
        return "auto"
    if text == "oracle":
        raise SettingsError(f"--regions oracle: {NO_TRUTH}")
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 2**16):
        raise SettingsError(f"--regions is {text!r}: give a number from 1 to {2**16 - 1}, or auto")
    return int(text)


def _describe(grouper: "Grouper", *, named: bool) -> str:
    """One line: model, device, format and method."""
    (method,) = grouper.methods.values()
    line = f"{describe_model(grouper.reader.backbone)}; {method.name}, {method.regions} regions"
    return f"{line}, named by {grouper.namer.method.name}" if named else line
