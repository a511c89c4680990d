"""DiffusionSeg: which trained decoder looks at the frozen model's features. The decoders themselves are in `maskwright.decoders`."""

from dataclasses import dataclass
from typing import ClassVar

from maskwright.errors import SettingsError


@dataclass(frozen=True)
class DiffusionSeg:
    """Ma et al., arXiv 2303.09813, stage 2: what stands out, by a decoder that was trained on drawn pictures. See README.md.

    Attributes:
        decoder: folder of `maskwright train`, or "bundled" for the one in the package. All else was settled when it was trained.
    """

    name: ClassVar[str] = "diffusionseg"
    meaning: ClassVar[str] = "probability of foreground, of a decoder trained on drawn pictures"

    decoder: str = "bundled"

    def __post_init__(self) -> None:
        """Refuses a name that is none."""
        if not self.decoder.strip():
            raise SettingsError("decoder is empty: name the folder of a trained decoder, or 'bundled'")


@dataclass(frozen=True)
class DiffusionSegSemantic(DiffusionSeg):
    """The same for named classes: a decoder with one output for the background and one for each label."""

    name: ClassVar[str] = "diffusionseg-semantic"
    meaning: ClassVar[str] = "probability of a class, of a decoder trained on drawn pictures"
