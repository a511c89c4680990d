"""What a method wants read: timesteps, noise, and which layers, kept or folded."""

from dataclasses import dataclass, replace
from typing import Literal

from maskwright.errors import SettingsError

Stage = Literal["down", "mid", "up"]
Kind = Literal["self", "cross", "feature"]
STAGES: tuple[Stage, ...] = ("down", "mid", "up")


@dataclass(frozen=True)
class Select:
    """Which layers of one kind.

    Attributes:
        factors: latent side / layer side, e.g. (1, 2); None for all; "finest" for the smallest there is.
        stages: where in the U-Net.
        last: of the layers chosen so, only the last one at each factor.
    """

    factors: tuple[int, ...] | Literal["finest"] | None = None
    stages: tuple[Stage, ...] = STAGES
    last: bool = False


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
    """

    timesteps: tuple[int, ...] = (100,)
    samples: int = 1
    noise: bool = True
    cross: Select | None = None
    self_attention: Select | None = None
    self_mode: Literal["keep", "fold"] = "fold"
    features: Select | None = None

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
        """Whether one pass can serve both: same timesteps and noise, and no two views of the same kind of layer."""
        same_pass = (self.timesteps, self.samples, self.noise) == (other.timesteps, other.samples, other.noise)
        pairs = [(self.cross, other.cross), (self.self_attention, other.self_attention), (self.features, other.features)]
        agree = all(mine is None or theirs is None or mine == theirs for mine, theirs in pairs)
        both_self = self.self_attention is not None and other.self_attention is not None
        return same_pass and agree and (not both_self or self.self_mode == other.self_mode)

    def union(self, other: "Probe") -> "Probe":
        """The probe of one pass that serves both."""
        if not self.compatible(other):
            raise SettingsError(f"these two probes need two passes: {self} and {other}")
        mode = self.self_mode if self.self_attention else other.self_mode
        return replace(
            self, cross=self.cross or other.cross, self_attention=self.self_attention or other.self_attention,
            self_mode=mode, features=self.features or other.features,
        )  # fmt: skip
