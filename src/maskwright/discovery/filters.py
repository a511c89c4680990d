"""Which pairs are worth keeping: measurements of each label, and limits on them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from maskwright.discovery.masks import FullMask
from maskwright.errors import SettingsError
from maskwright.solvers.components import component_share

UNKNOWN = "not recognised"
SMALL, LARGE, PARTS, CORNERS, CONTRAST = "too small", "too large", "in pieces", "touches corners", "little contrast"


@dataclass(frozen=True)
class FilterSettings:
    """Limits of what is kept, for each label of a picture.

    Attributes:
        least: the smallest part of the picture that it covers, 0..1.
        most: the largest.
        component: how much of it its largest connected piece must be, 0..1.
        corners: of the picture's four corners the most that it may cover.
        contrast: least difference between its mean probability inside and outside of its mask, 0..1.
    """

    least: float = 0.03
    most: float = 0.70
    component: float = 0.70
    corners: int = 2
    contrast: float = 0.30

    def __post_init__(self) -> None:
        """Refuses limits that no mask or every mask would meet by mistake."""
        if not 0 <= self.least <= self.most <= 1:
            raise SettingsError(f"least and most are parts of a picture, 0 <= least <= most <= 1, not {self.least} and {self.most}")
        if not 0 <= self.component <= 1 or not 0 <= self.contrast <= 1 or self.corners < 0:
            raise SettingsError(
                f"component and contrast lie in 0..1 and corners is 0 or more, not {self.component}, {self.contrast} and {self.corners}"
            )


def measure(full: FullMask, numbers: Sequence[int]) -> list[dict[str, float]]:
    """Measurements of each label's mask, rounded to four digits, as they are stored.

    Pixels that the mask leaves out as uncertain count for the label that they would go to.

    Args:
        full: masks of a picture.
        numbers: of the labels in the mask, in the order of their probabilities.

    Returns:
        For each label "area" (part of the picture), "component" (part of the mask in its largest piece), "corners" (that it covers)
        and "contrast" (mean probability inside minus outside, 0 where either is empty).
    """
    rows = []
    for number, probability in zip(numbers, full.probability, strict=True):
        mask = full.owner == number
        partial = bool(mask.any()) and not bool(mask.all())
        contrast = float(probability[mask].mean(dtype=np.float64) - probability[~mask].mean(dtype=np.float64)) if partial else 0.0
        values = {
            "area": float(mask.mean()), "component": component_share(mask),
            "corners": float(mask[[0, 0, -1, -1], [0, -1, 0, -1]].sum()), "contrast": contrast,
        }  # fmt: skip
        rows.append({name: round(value, 4) for name, value in values.items()})
    return rows


def reasons(scores: Mapping[str, Mapping[str, float]], *, settings: FilterSettings | None = None) -> tuple[str, ...]:
    """Why a pair is not kept: "cat: too small" for each limit that a label breaks, none for a good pair.

    Of a label without a pixel only that is told, and that it was not recognised.

    Args:
        scores: by label name what `measure` gives, and its "rank" where something ranks labels (`Recogniser`); only the first one passes.
        settings: None for the defaults.
    """
    limits = settings or FilterSettings()
    found = []
    for name, score in scores.items():
        broken = {
            SMALL: score["area"] < limits.least, LARGE: score["area"] > limits.most, PARTS: score["component"] < limits.component,
            CORNERS: score["corners"] > limits.corners, CONTRAST: score["contrast"] < limits.contrast,
        }  # fmt: skip
        codes = [code for code, is_broken in broken.items() if is_broken]
        found += [f"{name}: {UNKNOWN}"] if score.get("rank", 1) > 1 else []
        found += [f"{name}: {code}" for code in (codes if score["area"] else [SMALL])]
    return tuple(found)


def explain(reason: str, scores: Mapping[str, Mapping[str, float]]) -> str:
    """A reason with its measurement: "cat: too small (1.2 % of the picture)"."""
    name, _, code = reason.rpartition(": ")
    score = scores[name]
    detail = {
        UNKNOWN: f"{score.get('rank', 1):.0f}. of all words by fit", SMALL: f"{score['area']:.1%} of the picture",
        LARGE: f"{score['area']:.1%} of the picture", PARTS: f"its largest piece is {score['component']:.0%}",
        CORNERS: f"{score['corners']:.0f} of 4", CONTRAST: f"{score['contrast']:.2f}",
    }[code]  # fmt: skip
    return f"{reason} ({detail})"


def count_reasons(reasons: Iterable[str]) -> dict[str, int]:
    """How often each kind of reason occurs, whatever the label, the most frequent first."""
    return dict(Counter(reason.rpartition(": ")[2] for reason in reasons).most_common())
