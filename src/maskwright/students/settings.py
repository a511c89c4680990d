"""What a student is before it is trained. Imports nothing heavy."""

from dataclasses import dataclass

from maskwright.errors import SettingsError

STEP = 32  # the coarsest stride of a SegFormer; a side that is no multiple of it loses pixels at the border
LEAST, MOST = 128, 512  # sides that are chosen where none is given
HEAD = 32  # channels of an attention head, as in all published SegFormers


@dataclass(frozen=True)
class StudentSettings:
    """A network and the size at which it reads pictures.

    The default shape is that of SegFormer B0 (Xie et al., "SegFormer", arXiv 2105.15203, table 6): 3.7 million parameters.

    Attributes:
        size: shorter side in pixels at which pictures are read, a multiple of 32; None for `side_for` of the data set.
        checkpoint: folder or hub id of a network for semantic segmentation to begin with; "" for random weights.
        channels, layers: of each stage, at most four; only for random weights.
        width: channels of the decoder; only for random weights.

    Raises:
        SettingsError: a value that cannot be used.
    """

    size: int | None = None
    checkpoint: str = ""
    channels: tuple[int, ...] = (32, 64, 160, 256)
    layers: tuple[int, ...] = (2, 2, 2, 2)
    width: int = 256

    def __post_init__(self) -> None:
        """Refuses what cannot be built."""
        if self.size is not None and (self.size < STEP or self.size % STEP):
            near = max(STEP, round(self.size / STEP) * STEP)
            raise SettingsError(f"the size is {self.size}: give a multiple of {STEP}, for instance {near}")
        if not 1 <= len(self.channels) <= 4 or len(self.layers) != len(self.channels) or min(*self.channels, *self.layers, self.width) < 1:
            shape = f"{self.channels}, {self.layers} and {self.width}"
            raise SettingsError(f"a SegFormer has up to four stages of at least one channel and one layer each, not {shape}")
        if any(count > HEAD and count % HEAD for count in self.channels):
            raise SettingsError(f"channels {self.channels}: give numbers up to {HEAD}, or multiples of it")

    @property
    def heads(self) -> tuple[int, ...]:
        """Attention heads of each stage."""
        return tuple(max(1, count // HEAD) for count in self.channels)


def side_for(shorter: int) -> int:
    """The side at which a student reads pictures of a data set, unless another one is asked for.

    A SegFormer gives a class to cells of 4 x 4 pixels. Read as they are, pictures of 64 pixels would have masks of 16 x 16 cells;
    enlarged to 128 before they are read, of 32 x 32, with four times the pixels (docs/words-to-model.md has the measurement).

    Args:
        shorter: shorter side of the data set's pictures, in pixels.

    Returns:
        The next multiple of 32, at least 128 and at most 512.
    """
    return min(max(-(-shorter // STEP) * STEP, LEAST), MOST)
