"""Segments without names against true classes or regions: one-to-one by Hungarian matching.

Two protocols, which belong in two columns. Per picture (DiffSeg): each picture's segments are matched by themselves, and
`matched_counts` of the pictures are added up. Over the data set (STEGO): segment k means the same thing in every picture;
`count_overlaps` with a fixed number of segments is added up, and `matched_counts` of the sum matches once.

Segments beyond the classes are where published numbers differ most; `spare` says what becomes of them.
"wrong": a segment is matched only to a class that it overlaps; all others have no class.
"published": as in the published code of DiffSeg (google/diffseg, `hungarian_matching`), which DiffCut shares: every class gets
    a segment as long as there are some, also a class that the picture lacks. Such a class takes one of the spare segments,
    which one is up to the solver, and its pixels lower the IoU of that class. Only segments beyond the number of classes have
    no class.
"background": the many-to-one background of DiffCut (PaulCouairon/DiffCut, `eval_diffcut.py`) for VOC with 21, Context with 60
    and COCO-Object with 81 classes; per picture only. Segments are first matched to the other classes, on their pixels alone;
    those that no class of the picture has taken are merged into one, and then all classes, the background with them, are
    matched as in "published". The code does this before PAMR and scores the pixels that a set ignores as background; both
    are for the caller to repeat or not.
"stego": the extra clusters of STEGO (mhamilton723/STEGO, `UnsupervisedMetrics`), over the data set: every class gets a cluster
    as in "published". The published code counts only pixels whose cluster number is below the number of classes, whatever
    the number of clusters, and puts what is left over into one more class of IoU 0: `mean_iou(counts,
    only_predicted="zero", spare_class=True)`. To count the pixels of all clusters, use "published" with the same mean.
"""

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from maskwright.errors import SettingsError
from maskwright.evaluation.confusion import Counts

Spare = Literal["wrong", "published", "background", "stego"]


def count_overlaps(
    truth: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer], *, classes: int, segments: int | None = None
) -> Counts:
    """Pixels that each class shares with each segment, (classes, segments + 1) int64; additive for a fixed `segments`.

    Args:
        truth: class of each pixel, 0..classes - 1; anything else is ignored, as in `confusion.count_pixels`.
        predicted: segment of each pixel, of the same shape; a negative one is in no segment and counts in the last column.
        classes: how many there are.
        segments: how many there are; the largest number in `predicted` decides if None.

    Raises:
        SettingsError: different shapes, or a segment number that is not below `segments`.
    """
    _refuse_shapes(truth, predicted)
    largest = int(predicted.max(initial=-1)) + 1
    count = largest if segments is None else segments
    if largest > count:
        raise SettingsError(f"a segment has the number {largest - 1} where {count} segments are expected: raise `segments`")
    valid = (truth >= 0) & (truth < classes)
    rows, columns = truth[valid].astype(np.int64), predicted[valid].astype(np.int64)
    columns[columns < 0] = count
    return np.bincount(rows * (count + 1) + columns, minlength=classes * (count + 1)).reshape(classes, count + 1)


def assign_segments(overlaps: Counts, *, spare: Spare = "wrong", background: int | None = None) -> npt.NDArray[np.int64]:
    """The class of each segment, (segments,); the number of classes stands for none.

    No class gets two segments (but the merged ones of "background"), and the sum of the pixels that match is the largest
    possible. Where several assignments reach it, the order of the segments decides.

    Args:
        overlaps: (classes, segments + 1) of `count_overlaps`, of one picture or summed over a set.
        spare: what becomes of segments beyond those that are matched, see the top of this module.
        background: the class of the background, needed with spare="background" only.

    Raises:
        SettingsError: an unknown `spare`, or "background" without a class.
    """
    classes, segments = len(overlaps), overlaps.shape[1] - 1
    if spare not in get_args(Spare):
        raise SettingsError(f"spare must be one of {', '.join(get_args(Spare))}, not {spare!r}")
    if spare == "background" and (background is None or not 0 <= background < classes):
        raise SettingsError(f'spare="background" needs the class of the background, 0..{classes - 1}: set `background`')
    shared = _counted(overlaps, spare)[:, :segments]
    if background is not None and spare == "background":
        return _match_with_background(shared, background)
    if spare != "wrong":
        return _match_all(shared)
    rows, columns = linear_sum_assignment(shared, maximize=True)
    overlap = shared[rows, columns] > 0
    assigned = np.full(segments, classes, dtype=np.int64)
    assigned[columns[overlap]] = rows[overlap]
    return assigned


def matched_counts(overlaps: Counts, *, spare: Spare = "wrong", background: int | None = None) -> Counts:
    """Confusion counts after matching, (classes, classes + 1) int64, for the functions of `confusion`; they add up.

    Pixels of segments without a class, and pixels in no segment, are in the last column: wrong for their true class, and no
    other class suffers. With spare="stego" the pixels that the published code leaves out are nowhere.

    Args:
        overlaps: (classes, segments + 1) of `count_overlaps`.
        spare: as in `assign_segments`.
        background: as in `assign_segments`.
    """
    classes = len(overlaps)
    counts = np.zeros((classes, classes + 1), dtype=np.int64)
    assigned = assign_segments(overlaps, spare=spare, background=background)
    np.add.at(counts.T, np.append(assigned, classes), _counted(overlaps, spare).T)
    return counts


def _counted(overlaps: Counts, spare: Spare) -> Counts:
    """The overlaps without the pixels that STEGO leaves out: in no segment, or in one numbered past the classes."""
    if spare != "stego":
        return overlaps
    numbers = np.arange(overlaps.shape[1])
    return np.where((numbers < len(overlaps)) & (numbers < len(numbers) - 1), overlaps, 0)


def _match_all(shared: Counts) -> npt.NDArray[np.int64]:
    """The class of each segment, (segments,), from overlaps (classes, segments): every class has one as long as there are some."""
    classes, segments = shared.shape
    padded = np.pad(shared, ((0, 0), (0, max(classes - segments, 0))))  # as published: it decides how the solver breaks ties
    rows, columns = linear_sum_assignment(padded, maximize=True)
    assigned = np.full(padded.shape[1], classes, dtype=np.int64)
    assigned[columns] = rows
    return assigned[:segments]


def _match_with_background(shared: Counts, background: int) -> npt.NDArray[np.int64]:
    """The class of each segment, (segments,), after all segments that no other class of the picture took became one."""
    classes = len(shared)
    others = np.delete(np.arange(classes), background)
    present = shared[others].any(1)
    taken = np.append(present, False)[_match_all(shared[others])]  # (segments,)
    merged = np.column_stack([np.where(taken, shared, 0), shared[:, ~taken].sum(1)])  # (classes, segments + 1)
    order = np.append(others, background)  # the background is the last class and the merged segment the last one, as published
    own = np.append(order, classes)[_match_all(merged[order])]
    return np.where(taken, own[:-1], own[-1])


def contingency(truth: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer], *, ignore: int | None = None) -> Counts:
    """Pixels that each true region shares with each segment, (regions, segments) int64, for maps whose numbers mean nothing.

    Args:
        truth: region of each pixel, any integers.
        predicted: segment of each pixel, any integers, of the same shape; each value is a segment, 0 and negative ones as well.
        ignore: a value of `truth` whose pixels are left out.

    Raises:
        SettingsError: different shapes.
    """
    _refuse_shapes(truth, predicted)
    valid = np.ones(truth.shape, dtype=np.bool_) if ignore is None else truth != ignore
    regions, rows = np.unique(truth[valid], return_inverse=True)
    segments, columns = np.unique(predicted[valid], return_inverse=True)
    shape = len(regions), len(segments)
    return np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1]).reshape(shape)


def matched_mean_iou(table: Counts) -> float:
    """Mean over the true regions of one picture of the IoU with their own segment, for sets without class names.

    The one-to-one assignment is the one with the largest mean IoU; a region without a segment has 0.

    Args:
        table: (regions, segments) of `contingency`.

    Returns:
        In 0..1; NaN where no pixel counts.
    """
    if not table.size:
        return float("nan")
    ious = pairwise_iou(table)
    return float(ious[linear_sum_assignment(ious, maximize=True)].sum() / len(ious))


def pairwise_iou(table: Counts) -> npt.NDArray[np.float64]:
    """Intersection over union of each true region with each segment, (regions, segments)."""
    ious: npt.NDArray[np.float64] = table / (table.sum(1)[:, None] + table.sum(0) - table)
    return ious


def _refuse_shapes(truth: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer]) -> None:
    if truth.shape != predicted.shape:
        raise SettingsError(f"truth {truth.shape} and prediction {predicted.shape} differ in shape: resize the prediction first")
