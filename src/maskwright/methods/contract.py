"""What a method of each kind is: settings, a probe, and one step of mathematics. Nothing here knows which model is read."""

from collections.abc import Sequence
from typing import ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from maskwright.methods.foreground import Foreground
from maskwright.readings.attention import LayerMaps, SelfAttention
from maskwright.readings.keys import TextKeys
from maskwright.readings.probe import Probe
from maskwright.readings.reading import Reading
from maskwright.text.wording import Prompting, Wording


class TextDrivenMethod(Protocol):
    """A frozen dataclass of settings with the two steps of a method.

    Attributes:
        name: as on the command line.
        meaning: what a score is, for the record.
        stretch: "label" when each full-size map is stretched to 0..1 before labels compete, else "none".
        background: the method's own default: a threshold, or None when every pixel takes a label.
        prompting: the default mode.
        squash: read pictures at the model's square instead of their own aspect ratio (parity with published code).

    A method with a `reject` setting also has `absent`, the baseline word, and `strength(reading, keys)`, (pictures, labels).
    """

    name: ClassVar[str]
    meaning: ClassVar[str]
    stretch: ClassVar[Literal["label", "none"]]
    background: ClassVar[float | None]

    @property
    def prompting(self) -> Prompting: ...  # noqa: D102
    @property
    def squash(self) -> bool: ...  # noqa: D102

    def wording(self) -> Wording:
        """How labels become prompts."""
        ...

    def probe(self) -> Probe:
        """What must be read; the same for all labels, so that a stored reading serves labels that are asked for later."""
        ...

    def score(self, reading: Reading, keys: TextKeys) -> Tensor:
        """Label maps of each picture, (pictures, labels, h, w) float32 on the method's working grid."""
        ...


Regions = int | Literal["auto", "oracle"]


class RegionMethod(Protocol):
    """A frozen dataclass of settings that parts a picture into regions without words.

    Attributes:
        name: as on the command line.
        meaning: what a membership is, for the record.
        regions: how many regions: a number, "auto" for the method's own rule, "oracle" for the number in the ground truth, which an
            evaluation hands over; without it "oracle" is an error.
        squash: as for text-driven methods.
    """

    name: ClassVar[str]
    meaning: ClassVar[str]

    @property
    def regions(self) -> Regions: ...  # noqa: D102
    @property
    def squash(self) -> bool: ...  # noqa: D102

    def probe(self) -> Probe:
        """What must be read, under the empty prompt."""
        ...

    def group(self, reading: Reading, *, seed: int = 0, oracle: Sequence[int] | None = None) -> list[Tensor]:
        """Soft regions of each picture.

        Args:
            reading: of a batch of pictures; it may hold more layers than the method's own probe asked for.
            seed: of whatever is drawn at random.
            oracle: for each picture the number of regions in its ground truth.

        Returns:
            For each picture (regions, h, w) float32; after upsampling, a pixel belongs to the region with the largest value.
        """
        ...


class DiscoveryMethod(Protocol):
    """A frozen dataclass of settings that finds where words stand out in a picture, one mask a word.

    Attributes:
        name: as on the command line.
        meaning: what a probability is, for the record.
        squash: as for text-driven methods.
        grid_factor: latent side / side of the grid whose self-attention is used, None for a method without.
    """

    name: ClassVar[str]
    meaning: ClassVar[str]

    @property
    def squash(self) -> bool: ...  # noqa: D102
    @property
    def grid_factor(self) -> int | None: ...  # noqa: D102

    def wording(self) -> Wording:
        """How a word becomes the prompt under which a given picture is read."""
        ...

    def probe(self) -> Probe:
        """What must be read, of a given picture in one noised pass or at the chosen steps of a sampler."""
        ...

    def foreground(
        self, maps: Sequence[LayerMaps], attention: SelfAttention | None, pixels: npt.NDArray[np.uint8], *, seed: int = 0
    ) -> Foreground:
        """Masks of one picture's words on the working grid, each word by itself.

        Args:
            maps: cross-attention of the words, (1, labels, h, w) for each grid.
            attention: self-attention of that picture at `grid_factor`, None for a method without.
            pixels: (H, W, 3) uint8, the picture.
            seed: of whatever is drawn at random.
        """
        ...
