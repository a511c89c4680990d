"""How a method puts labels into words and reads words back out of attention."""

from dataclasses import dataclass
from typing import Literal, get_args

from maskwright.errors import SettingsError

Prompting = Literal["shared", "per-label", "joint"]
PROMPTINGS: tuple[Prompting, ...] = get_args(Prompting)
LABELS = "{}"  # where a template takes the label or labels


@dataclass(frozen=True)
class Wording:
    """Settings of the text side.

    Attributes:
        template: holds "{}" once, for one label or for labels joined by `joiner`.
        joiner: between the labels of a joint prompt.
        emphasis: w of e' = e0 + w (e - e0) on all tokens of the label's name, e0 the empty prompt's embedding there; 1 for none.
        tokens: "all" of a label's tokens make its map, or the "last" one only (as DiffSegmenter's published code).
        participle: a following word in "-ing" belongs to the label's map (matters with captions only).
        padding: "exact" keeps every padding token in the softmax of a re-keyed prompt; "merged" lets one token stand for all.
        neutral: what the U-Net is told in shared mode.
    """

    template: str = LABELS
    joiner: str = " and "
    emphasis: float = 1.0
    tokens: Literal["all", "last"] = "all"
    participle: bool = False
    padding: Literal["exact", "merged"] = "merged"
    neutral: str = ""

    def __post_init__(self) -> None:
        """Refuses a template that would lose the label, and unknown choices."""
        if self.template.count(LABELS) != 1:
            raise SettingsError(f"the template {self.template!r} must hold {{}} exactly once, where the label goes")
        if self.tokens not in ("all", "last"):
            raise SettingsError(f"tokens must be 'all' or 'last', not {self.tokens!r}")
        if self.padding not in ("exact", "merged"):
            raise SettingsError(f"padding must be 'exact' or 'merged', not {self.padding!r}")

    def write(self, labels: str) -> str:
        """The prompt."""
        return self.template.replace(LABELS, labels)

    @property
    def before(self) -> str:
        """The words of the template that stand before every label, as tokens of their own: "a photograph of a "."""
        head = self.template[: self.start]
        return head if head.endswith(" ") else head[: head.rfind(" ") + 1]

    @property
    def start(self) -> int:
        """Character at which the labels begin in a prompt."""
        return self.template.index(LABELS)
