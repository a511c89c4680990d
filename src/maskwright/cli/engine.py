"""What the options say about model and method: checked while nothing heavy is imported, then loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from maskwright.backbones.devices import DTYPES
from maskwright.backbones.hub import identify
from maskwright.cli.settings import parse_settings
from maskwright.errors import SettingsError
from maskwright.methods import METHODS, Methods
from maskwright.text.wording import PROMPTINGS, Prompting

if TYPE_CHECKING:
    from maskwright.backbones.contract import Backbone, DrawingBackbone
    from maskwright.segmenter import Segmenter

# Named again here because their own modules import numpy or torch; tests compare them.
REFINERS, TILINGS = ("none", "guided", "pamr"), ("none", "auto")
CLIP_FILTERS = ("none", "clip", "clip+crops")  # those that need no captions
FILTERS = (*CLIP_FILTERS, "clip+caption")


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The options of every command that reads pictures, as they were typed.

    Attributes:
        methods: the methods that the command has.
        model: catalogue name, hub id or folder.
        method, refine, seed, device, dtype, offline: as for `Segmenter`.
        settings: KEY=VALUE texts for the method.
        batch: a number as text, or "auto".

    Raises:
        SettingsError: a value that is not among the choices.
        ModelError: neither a folder, nor a name of the catalogue, nor a hub id.
    """

    methods: ClassVar[Methods]

    model: str = "sticker"
    method: str
    settings: Sequence[str] = ()
    refine: str = "none"
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    batch: str = "auto"
    offline: bool = False

    def __post_init__(self) -> None:
        choose("method", self.method, tuple(self.methods))
        choose("refine", self.refine, REFINERS)
        choose("dtype", self.dtype, ("auto", *DTYPES))
        if not 0 <= self.seed < 2**63:
            raise SettingsError(f"--seed is {self.seed}: give a number from 0 to {2**63 - 1}")
        if self.batch != "auto" and not (self.batch.isascii() and self.batch.isdigit() and int(self.batch) > 0):
            raise SettingsError(f"--batch is {self.batch!r}: give a number of at least 1, or auto")
        if not Path(self.model).expanduser().is_dir():
            identify(self.model)  # refuses an unknown name, and lists the known ones

    @property
    def pictures(self) -> int | Literal["auto"]:
        """How many share a call of the model."""
        return "auto" if self.batch == "auto" else int(self.batch)

    def read_settings(self) -> dict[str, Any]:
        """The method's settings. A wrong value is told here, before a model is loaded.

        Raises:
            SettingsError: settings that cannot be used.
        """
        from maskwright.methods import make_method

        settings = parse_settings(self.method, self.settings, among=self.methods)
        make_method(self.method, settings, among=self.methods)
        return settings

    def load_backbone(self) -> "DrawingBackbone":
        """Checks what needs torch to be checked, then loads the model.

        Raises:
            SettingsError: a device or dtype that cannot be used.
            ModelError: a model that cannot be loaded.
        """
        from maskwright.backbones import loading
        from maskwright.backbones.devices import choose_device, choose_dtype

        choose_dtype(self.dtype, choose_device(self.device), parameters=0)
        return loading.load_backbone(self.model, device=self.device, dtype=self.dtype, offline=self.offline)


@dataclass(frozen=True, kw_only=True)
class FilterOptions(ModelOptions):
    """Options of commands in which a CLIP may look at pictures.

    Attributes:
        filters: that the command has, "none" first.
        category_filter: one of them.
        clip: folder or hub id, "" for the usual one.

    Raises:
        SettingsError: as above, or a CLIP for no filter.
    """

    filters: ClassVar[Sequence[str]]

    category_filter: str = "none"
    clip: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("filter", self.category_filter, self.filters)
        if self.clip and self.category_filter == "none":
            *others, last = self.filters[1:]
            names = f"{', '.join(others)} or {last}" if others else last
            raise SettingsError(f"--clip names the model of a filter: add --filter {names}")

    def helper_place(self, backbone: "Backbone") -> dict[str, Any]:
        """Where models beside the main one are loaded."""
        return {"device": str(backbone.device), "offline": self.offline}


@dataclass(frozen=True, kw_only=True)
class HelpedOptions(FilterOptions):
    """Options of commands whose text-driven methods a category filter and a captioner may help.

    Attributes:
        caption: whether prompts are continued with a caption.
        blip: folder or hub id, "" for the usual one.

    Raises:
        SettingsError: as above, or two options that do not go together.
    """

    filters: ClassVar[Sequence[str]] = FILTERS

    caption: bool = False
    blip: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.blip and not self._captions:
            raise SettingsError("--blip names the model that writes captions: add --caption or --filter clip+caption")

    @property
    def _captions(self) -> bool:
        return self.caption or self.category_filter == "clip+caption"

    def load_helpers(self, backbone: "Backbone") -> dict[str, Any]:
        """Options of `Segmenter`: the filter and the captioner, where they are wanted."""
        from maskwright.text.captioning import Captioner
        from maskwright.text.filtering import CategoryFilter, Mode

        place = self.helper_place(backbone)
        captioner = Captioner.from_pretrained(self.blip or None, **place) if self._captions else None
        helpers: dict[str, Any] = {"captioner": captioner} if self.caption else {}
        if self.category_filter != "none":
            helpers["category_filter"] = CategoryFilter.for_model(
                backbone.info, cast(Mode, self.category_filter), clip=self.clip or None, captioner=captioner, **place
            )  # fmt: skip
        return helpers


@dataclass(frozen=True, kw_only=True)
class Engine(HelpedOptions):
    """The options of a text-driven method.

    Attributes:
        prompting, tile, flip: as for `Segmenter`.
        background: threshold, word, "none" or "auto".

    Raises:
        SettingsError: as above.
    """

    methods: ClassVar[Methods] = METHODS

    method: str = "diffsegmenter"
    prompting: str | None = None
    background: float | str = "auto"
    tile: str = "none"
    flip: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("prompting", self.prompting, PROMPTINGS)
        choose("tile", self.tile, TILINGS)

    def load(self) -> "Segmenter":
        """Checks what needs torch to be checked, then loads the models.

        Raises:
            SettingsError: settings, device or dtype that cannot be used.
            ModelError: a model that cannot be loaded.
        """
        settings, backbone = self.read_settings(), self.load_backbone()
        from maskwright.segmenter import Segmenter

        segmenter = Segmenter(
            backbone, self.method, settings=settings, prompting=cast(Prompting | None, self.prompting),
            background=self.background, refine=cast(Any, self.refine), tile=cast(Any, self.tile), flip=self.flip, seed=self.seed,
            batch=self.pictures, offline=self.offline,
        )  # fmt: skip
        self._add_helpers(segmenter)
        return segmenter

    def _add_helpers(self, segmenter: "Segmenter") -> None:
        """Loads filter and captioner; last, because only now the method's prompting is known."""
        if self.caption and segmenter.method.prompting == "joint":
            raise SettingsError("--caption continues the prompt of each label, but this prompts jointly: add --prompting shared")
        for name, helper in self.load_helpers(segmenter.backbone).items():
            setattr(segmenter, name, helper)


def describe(segmenter: "Segmenter") -> str:
    """One line: model, device, format and method."""
    return f"{describe_model(segmenter.backbone)}; {segmenter.method.name}, {segmenter.method.prompting} prompting"


def describe_model(backbone: "Backbone") -> str:
    """Model, device and format."""
    info = backbone.info
    name = info.name if info.source in ("", info.name) else f"{info.name} ({info.source})"
    revision = f" at {info.revision[:8]}" if info.revision else ""
    number = str(backbone.dtype).removeprefix("torch.")
    return f"{name}{revision} on {backbone.device} in {number}"


def choose(option: str, value: str | None, choices: Sequence[str]) -> None:
    """Refuses a value that is not among the choices; None is no value."""
    if value is not None and value not in choices:
        raise SettingsError(f"unknown {option} {value!r}: choose one of {', '.join(choices)}")
