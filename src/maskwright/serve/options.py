"""What a request asks beside picture and labels. Plain values that can be compared: equal ones may share a pass of the model."""

from dataclasses import dataclass
from typing import Literal

from maskwright.text.wording import Prompting
from maskwright.vocabulary import Vocabulary

Refine = Literal["none", "guided", "pamr"]


@dataclass(frozen=True, kw_only=True)
class SegmentOptions:
    """How to segment by words.

    Attributes:
        method: None for the server's own.
        prompting: None for "shared", which asks a stored reading; the other modes make passes of their own for each list of labels.
        background: a threshold, a background word, "none", or "auto" for the method's own threshold.
        refine: name of the refiner.
    """

    method: str | None = None
    prompting: Prompting | None = None
    background: float | str | None = "auto"
    refine: Refine = "none"


@dataclass(frozen=True, kw_only=True)
class RegionOptions:
    """How to find regions.

    Attributes:
        method: None for "maskdiffusion-unsupervised".
        regions: a number, "auto" for the method's own rule, None for its setting.
        labels: words that name the regions, None for numbers.
        refine: name of the refiner.
    """

    method: str | None = None
    regions: int | Literal["auto"] | None = None
    labels: Vocabulary | None = None
    refine: Refine = "none"


@dataclass(frozen=True, kw_only=True)
class DiscoverOptions:
    """How to discover an object.

    Attributes:
        method: None for "attentioncut".
        labels: what to look for, None for whatever the model knows.
        match: look only for the one of the words that fits best.
        refine: name of the refiner.
    """

    method: str | None = None
    labels: Vocabulary | None = None
    match: bool = False
    refine: Refine = "none"
