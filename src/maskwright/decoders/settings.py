"""What a decoder reads and gives. Imports nothing heavy."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from maskwright.backbones.inversion import Inversion
from maskwright.errors import SettingsError

Task = Literal["saliency", "semantic"]
Prior = Literal["empty", "match"]


@dataclass(frozen=True)
class DecoderSettings:
    """Ma et al., "DiffusionSeg" (arXiv 2303.09813), stage 2; what the paper leaves open is a setting here.

    Attributes:
        task: "saliency" gives one probability of foreground, "semantic" one of background and of each label.
        inversion: how a picture becomes noisy latents: "none" adds noise once, "partial" is DDIM inversion up to `timestep`, "full" one
            up to the end of the schedule and back down.
        timestep: at which features are read.
        steps: of the inversion from 0 to `timestep`; not used by "none".
        levels: so many of the network's last resolutions are read; a model with fewer gives what it has.
        width: channels inside the decoder.
        prior: the text condition: the "empty" prompt, or the words of the picture. Training knows them; where nobody does, the word is
            taken that the model itself finds best ("match", discovery/matching.py).
        attention: A_c and r, the word's map and the map that it seeds, as two more channels of each level; for saliency with the
            prior "match" only.

    Raises:
        SettingsError: a value that cannot be used.
    """

    task: Task = "saliency"
    inversion: Inversion = "partial"
    timestep: int = 100
    steps: int = 5
    levels: int = 3
    width: int = 256
    prior: Prior = "empty"
    attention: bool = False

    def __post_init__(self) -> None:
        """Refuses what cannot be read or built."""
        for name, choices in (("task", Task), ("inversion", Inversion), ("prior", Prior)):
            if getattr(self, name) not in get_args(choices):
                raise SettingsError(f"{name} must be one of {', '.join(get_args(choices))}, not {getattr(self, name)!r}")
        for name, least in (("timestep", 0), ("steps", 1), ("levels", 1), ("width", 1)):
            value: Any = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise SettingsError(f"{name} must be a whole number of {least} or more, not {value!r}")
        if not isinstance(self.attention, bool):
            raise SettingsError(f"attention must be true or false, not {self.attention!r}")
        if self.attention and (self.prior, self.task) != ("match", "saliency"):
            raise SettingsError("attention is that to the picture's word: use it with the prior 'match' and the task 'saliency'")

    @property
    def extra_channels(self) -> int:
        """Channels that are joined to each level."""
        return 2 if self.attention else 0
