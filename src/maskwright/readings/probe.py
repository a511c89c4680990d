"""What a method wants read: timesteps, noise, and which layers, kept or folded."""

from dataclasses import dataclass, replace
from typing import Literal

from maskwright.errors import SettingsError

Stage = Literal["down", "mid", "up"]
Kind = Literal["self", "cross", "feature", "output", "level"]
STAGES: tuple[Stage, ...] = ("down", "mid", "up")


@dataclass(frozen=True)
class Select:
    """Which layers of one kind.

    Attributes:
        factors: latent side / layer side, e.g. (1, 2); None for all; "finest" for the smallest there is, "coarsest" for the largest.
        stages: where in the U-Net.
        last: of the layers chosen so, only the last one at each factor.
    """

    factors: tuple[int, ...] | Literal["finest", "coarsest"] | None = None
    stages: tuple[Stage, ...] = STAGES
    last: bool = False


Selection = Select | tuple[Select, ...] | None  # several mean all layers that any of them means


@dataclass(frozen=True)
class Probe:
    """One pass over a picture.

    Attributes:
        timesteps: read at each of these (0 to training steps - 1) and averaged, as a batch axis.
        samples: noise samples per timestep, averaged too.
        noise: False feeds the clean latent whatever the timestep.
        cross: cross-attention layers whose queries are kept.
        self_attention: self-attention layers.
        self_mode: "keep" stores queries and keys and leaves the model's output bit-identical; "fold" stores only the
            mean attention matrix over heads, layers and samples at each grid, accumulated while the layers run.
        features: decoder layers whose input (after skip concatenation) is kept.
        outputs: self-attention layers whose output is kept.
        levels: decoder levels of which is kept what they hand on, before their upsampler; the last one: before the output layers.
    """

    timesteps: tuple[int, ...] = (100,)
    samples: int = 1
    noise: bool = True
    cross: Selection = None
    self_attention: Selection = None
    self_mode: Literal["keep", "fold"] = "fold"
    features: Selection = None
    outputs: Selection = None
    levels: Selection = None

    def __post_init__(self) -> None:
        """Refuses what no model could read."""
        if not self.timesteps or min(self.timesteps) < 0:
            raise SettingsError(f"timesteps must be one or more non-negative integers, not {self.timesteps}")
        if self.samples < 1:
            raise SettingsError(f"samples must be at least 1, not {self.samples}")
        if self.self_mode not in ("keep", "fold"):
            raise SettingsError(f"self_mode must be 'keep' or 'fold', not {self.self_mode!r}")

    @property
    def repeats(self) -> int:
        """U-Net rows per picture: timesteps x noise samples."""
        return len(self.timesteps) * self.samples

    def compatible(self, other: "Probe") -> bool:
        """Whether one pass can serve both: the same timesteps and noise."""
        return (self.timesteps, self.samples, self.noise) == (other.timesteps, other.samples, other.noise)

    def union(self, other: "Probe") -> "Probe":
        """The probe of one pass that serves both; self-attention is kept where either wants it kept, for from that it can be folded.

        Raises:
            SettingsError: they need two passes.
        """
        if not self.compatible(other):
            raise SettingsError(f"these two probes need two passes: {self} and {other}")
        modes = {probe.self_mode for probe in (self, other) if probe.self_attention is not None}
        return replace(
            self, cross=_either(self.cross, other.cross), self_attention=_either(self.self_attention, other.self_attention),
            self_mode="keep" if "keep" in modes else "fold", features=_either(self.features, other.features),
            outputs=_either(self.outputs, other.outputs), levels=_either(self.levels, other.levels),
        )  # fmt: skip


def selects(selection: Selection) -> tuple[Select, ...]:
    """The parts of a selection, none for None."""
    if selection is None:
        return ()
    return (selection,) if isinstance(selection, Select) else selection


def _either(one: Selection, other: Selection) -> Selection:
    parts = tuple(dict.fromkeys((*selects(one), *selects(other))))
    return parts[0] if len(parts) == 1 else parts or None
