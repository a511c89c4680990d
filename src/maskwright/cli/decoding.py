"""`maskwright segment --decoder`: what the options say, and the job that a trained decoder does."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from maskwright.cli.engine import ModelOptions, describe_model
from maskwright.cli.resume import expected
from maskwright.cli.run import Job
from maskwright.errors import SettingsError
from maskwright.methods import DECODER_METHODS, Methods

if TYPE_CHECKING:
    from maskwright.decoders.segmenter import DecoderSegmenter
    from maskwright.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class DecoderOptions(ModelOptions):
    """The options of a decoder that finds classes.

    Attributes:
        decoder: folder of `maskwright train`.

    Raises:
        SettingsError: as in every command, or an empty name.
    """

    methods: ClassVar[Methods] = DECODER_METHODS

    method: str = "diffusionseg-semantic"
    decoder: str

    def __post_init__(self) -> None:
        super().__post_init__()
        read_decoder(self.decoder)

    def load(self) -> "DecoderSegmenter":
        """Opens the decoder, then loads the model.

        Raises:
            SettingsError: a saliency decoder, or a device or dtype that cannot be used.
            ModelError: a model or decoder that cannot be loaded, or two that do not belong together.
        """
        from maskwright.decoders.identity import open_decoder
        from maskwright.decoders.segmenter import DecoderSegmenter

        decoder = open_decoder(self.decoder, task="semantic")
        common: dict[str, Any] = {"refine": self.refine, "seed": self.seed, "batch": self.pictures, "offline": self.offline}
        return DecoderSegmenter(self.load_backbone(), decoder, **common)

    def job(self, labels: "Vocabulary | None", out: Path) -> Job:
        """Loads all, and segments into a folder; labels are those of the decoder that compete, None for all."""
        segmenter = self.load()
        vocabulary = segmenter.vocabulary(labels)
        names, model = vocabulary.foreground, describe_model(segmenter.reader.backbone)
        return Job(
            line=f"{model}; {self.method}, {len(names)} of {len(segmenter.decoder.labels)} classes compete",
            expected=expected(segmenter.record(vocabulary), vocabulary=vocabulary),
            work=lambda pictures: segmenter.segment_many(pictures, names), save=lambda result: result.save(out),
        )  # fmt: skip


def read_decoder(text: str) -> str:
    """What --decoder says.

    Raises:
        SettingsError: an empty name.
    """
    if not text.strip():
        raise SettingsError("--decoder is empty: name the folder that `maskwright train` wrote")
    return text


def refuse_beside_decoder(given: Mapping[str, object]) -> None:
    """Raises SettingsError for options that a decoder has no use for.

    Args:
        given: by name of the option its value, None, "" or False where it was not given.
    """
    if useless := [name for name, value in given.items() if value]:
        raise SettingsError(f"{', '.join(useless)}: a decoder was settled when it was trained, leave this or --decoder out")
