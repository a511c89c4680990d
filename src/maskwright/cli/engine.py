"""What the options say about model and method: checked while nothing heavy is imported, then loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from maskwright.backbones.devices import DTYPES
from maskwright.backbones.hub import identify
from maskwright.cli.settings import parse_settings
from maskwright.errors import SettingsError
from maskwright.methods import METHODS
from maskwright.text.wording import PROMPTINGS, Prompting

if TYPE_CHECKING:
    from maskwright.segmenter import Segmenter

# Named again here because their own modules import numpy or torch; tests compare them.
REFINERS, TILINGS, FILTERS = ("none", "guided", "pamr"), ("none", "auto"), ("none", "clip", "clip+caption")


@dataclass(frozen=True, kw_only=True)
class Engine:
    """The options, as they were typed.

    Attributes:
        model: catalogue name, hub id or folder.
        method, prompting, refine, tile, seed, device, dtype, offline: as for `Segmenter`.
        settings: KEY=VALUE texts for the method.
        background: threshold, word, "none" or "auto".
        batch: a number as text, or "auto".
        category_filter: "none", "clip" or "clip+caption".
        caption: whether prompts are continued with a caption.
        clip, blip: folders or hub ids, "" for the usual ones.

    Raises:
        SettingsError: a value that is not among the choices, or two options that do not go together.
        ModelError: neither a folder, nor a name of the catalogue, nor a hub id.
    """

    model: str = "sticker"
    method: str = "diffsegmenter"
    settings: Sequence[str] = ()
    prompting: str | None = None
    background: float | str = "auto"
    refine: str = "none"
    tile: str = "none"
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    batch: str = "auto"
    offline: bool = False
    category_filter: str = "none"
    caption: bool = False
    clip: str = ""
    blip: str = ""

    def __post_init__(self) -> None:
        choose("method", self.method, tuple(METHODS))
        choose("prompting", self.prompting, PROMPTINGS)
        choose("refine", self.refine, REFINERS)
        choose("tile", self.tile, TILINGS)
        choose("filter", self.category_filter, FILTERS)
        choose("dtype", self.dtype, ("auto", *DTYPES))
        if not 0 <= self.seed < 2**63:
            raise SettingsError(f"--seed is {self.seed}: give a number from 0 to {2**63 - 1}")
        if self.batch != "auto" and not (self.batch.isascii() and self.batch.isdigit() and int(self.batch) > 0):
            raise SettingsError(f"--batch is {self.batch!r}: give a number of at least 1, or auto")
        if self.clip and self.category_filter == "none":
            raise SettingsError("--clip names the model of a filter: add --filter clip or --filter clip+caption")
        if self.blip and not (self.caption or self.category_filter == "clip+caption"):
            raise SettingsError("--blip names the model that writes captions: add --caption or --filter clip+caption")
        if not Path(self.model).expanduser().is_dir():
            identify(self.model)  # refuses an unknown name, and lists the known ones

    def load(self) -> "Segmenter":
        """Checks what needs torch to be checked, then loads the models.

        Raises:
            SettingsError: settings, device or dtype that cannot be used.
            ModelError: a model that cannot be loaded.
        """
        from maskwright.backbones.devices import choose_device, choose_dtype
        from maskwright.backbones.loading import load_backbone
        from maskwright.methods import make_method

        settings = parse_settings(self.method, self.settings)
        make_method(self.method, settings).wording()  # a wrong value is told before a model is loaded
        choose_dtype(self.dtype, choose_device(self.device), parameters=0)
        backbone = load_backbone(self.model, device=self.device, dtype=self.dtype, offline=self.offline)
        from maskwright.segmenter import Segmenter

        segmenter = Segmenter(
            backbone, self.method, settings=settings, prompting=cast(Prompting | None, self.prompting),
            background=self.background, refine=cast(Any, self.refine), tile=cast(Any, self.tile), seed=self.seed,
            batch="auto" if self.batch == "auto" else int(self.batch), offline=self.offline,
        )  # fmt: skip
        self._add_helpers(segmenter)
        return segmenter

    def _add_helpers(self, segmenter: "Segmenter") -> None:
        """Loads filter and captioner; last, because only now the method's prompting is known."""
        from maskwright.text.captioning import Captioner
        from maskwright.text.filtering import CategoryFilter

        if self.caption and segmenter.method.prompting == "joint":
            raise SettingsError("--caption continues the prompt of each label, but this prompts jointly: add --prompting shared")
        place: dict[str, Any] = {"device": str(segmenter.backbone.device), "offline": self.offline}
        if self.caption or self.category_filter == "clip+caption":
            captioner = Captioner.from_pretrained(self.blip or None, **place)
            segmenter.captioner = captioner if self.caption else None
        else:
            captioner = None
        if self.category_filter != "none":
            mode = cast(Literal["clip", "clip+caption"], self.category_filter)
            segmenter.category_filter = CategoryFilter.from_pretrained(mode, clip=self.clip or None, captioner=captioner, **place)


def describe(segmenter: "Segmenter") -> str:
    """One line: model, device, format and method."""
    info, backbone = segmenter.backbone.info, segmenter.backbone
    name = info.name if info.source in ("", info.name) else f"{info.name} ({info.source})"
    revision = f" at {info.revision[:8]}" if info.revision else ""
    number = str(backbone.dtype).removeprefix("torch.")
    return f"{name}{revision} on {backbone.device} in {number}; {segmenter.method.name}, {segmenter.method.prompting} prompting"


def choose(option: str, value: str | None, choices: Sequence[str]) -> None:
    """Refuses a value that is not among the choices; None is no value."""
    if value is not None and value not in choices:
        raise SettingsError(f"unknown {option} {value!r}: choose one of {', '.join(choices)}")
