"""How metrics are written: their names in tables, their units, and which way is better."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class MetricTitle:
    """How a metric is shown.

    Attributes:
        title: heading of its column.
        percent: a share that is written as a percentage, as the field does; otherwise the plain value.
        decimals: that are shown.
        higher: whether more is better.
    """

    title: str
    percent: bool = True
    decimals: int = 1
    higher: bool = True

    @property
    def heading(self) -> str:
        """The title with its unit."""
        return f"{self.title}, %" if self.percent else self.title

    def show(self, value: float | None, *, signed: bool = False) -> str:
        """A value in the metric's unit; an en dash where there is none.

        Args:
            value: as `summarise` gives it, shares in 0..1.
            signed: write a plus before gains.
        """
        if value is None or not math.isfinite(value):
            return "–"
        text = f"{100 * value if self.percent else value:{'+' if signed else ''}.{self.decimals}f}"
        return text.replace("-", "−") if float(text) else text.lstrip("-+")  # no sign before a zero


def find_title(name: str) -> MetricTitle:
    """How the metric of this name is shown; one that is not listed keeps its name and its plain value."""
    return TITLES.get(name, MetricTitle(name.replace("_", " "), percent=False, decimals=3))


def of_a_picture(kind: str) -> MetricTitle:
    """How the value of a single picture is shown, by the kind of its set."""
    return TITLES[{"foreground": "iou", "regions": "covering", "boxes": "box_iou"}.get(kind, "miou")]


def _fraction(title: str, *, higher: bool = True) -> MetricTitle:
    return MetricTitle(title, percent=False, decimals=3, higher=higher)


TITLES = {
    "miou": MetricTitle("mIoU"),
    "miou_best_threshold": MetricTitle("mIoU, best threshold"),
    "picture_miou": MetricTitle("mIoU, mean of pictures"),
    "picture_miou_best_threshold": MetricTitle("mIoU, mean of pictures, best threshold"),
    "pixel_accuracy": MetricTitle("pixel accuracy"),
    "mean_accuracy": MetricTitle("mean accuracy"),
    "frequency_weighted_iou": MetricTitle("frequency-weighted IoU"),
    "boundary_iou": MetricTitle("boundary IoU"),
    "calibration_error": MetricTitle("calibration error", higher=False),
    "iou": _fraction("IoU"),
    "accuracy": _fraction("accuracy"),
    "mae": _fraction("MAE", higher=False),
    "max_f_tokencut": _fraction("max F, β² = 0.3 (TokenCut)"),
    "max_f_selfmask": _fraction("max F, β² = 0.09 (SelfMask)"),
    "mean_f": _fraction("mean F"),
    "weighted_f": _fraction("weighted F"),
    "s_measure": _fraction("S-measure"),
    "max_e": _fraction("max E-measure"),
    "mean_e": _fraction("mean E-measure"),
    "adaptive_e": _fraction("adaptive E-measure"),
    "corloc": MetricTitle("CorLoc"),
    "box_iou": _fraction("box IoU"),
    "covering": _fraction("covering"),
    "covering_best": _fraction("covering, best annotator"),
    "covering_pooled": _fraction("covering, pooled"),
    "rand": _fraction("probabilistic Rand index"),
    "variation": _fraction("variation of information, bits", higher=False),
    "variation_best": _fraction("variation of information, best annotator, bits", higher=False),
    "region_iou": _fraction("matched IoU of regions"),
    "region_iou_best": _fraction("matched IoU of regions, best annotator"),
}
