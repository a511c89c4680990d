"""Confusion counts of many pictures, as little of each as the bootstrap needs: hits, true and predicted pixels of each class."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from maskwright.evaluation.bootstrap import ratio
from maskwright.evaluation.confusion import Counts
from maskwright.evaluation.means import Floats
from maskwright.evaluation.protocol import Protocol


@dataclass(frozen=True, eq=False)
class Tally:
    """Counts of a set of pictures.

    The functions below take sums of rows, (draws, 3 classes + 1), and give one value each, (draws,), which is that of the
    function of the same meaning in `confusion`; of the rows themselves they give the values of the pictures.

    Attributes:
        rows: (pictures, 3 classes + 1) float64 of whole numbers: hits, true and predicted pixels of each class, pixels in no class.
        total: (classes, classes + 1) counts of all pictures.
    """

    rows: Floats
    total: Counts

    @classmethod
    def of(cls, tables: Iterable[Counts], classes: int) -> "Tally":
        """Of (classes, classes + 1) counts of each picture; they are looked at one after the other."""
        total, rows = np.zeros((classes, classes + 1), dtype=np.int64), []
        for table in tables:
            total += table
            rows.append(np.concatenate([table.diagonal(), table.sum(1), table.sum(0)]))
        return cls(np.array(rows, dtype=np.float64).reshape(len(rows), 3 * classes + 1), total)

    @property
    def unread(self) -> npt.NDArray[np.bool_]:
        """(pictures,) those of which nothing at all was counted."""
        return np.asarray(~self.rows.any(1))

    @staticmethod
    def miou(sums: Floats, protocol: Protocol, *, over_set: bool = False) -> Floats:
        """Mean over the classes of their intersection over union, NaN where none enters it; also of boundary counts.

        Args:
            sums: as above, or without the last column.
            protocol: which classes enter the mean.
            over_set: pixels in no class may form a class of their own (STEGO's published code).
        """
        hits, true, predicted = _parts(sums)
        union = true + predicted - hits
        entering = true > 0 if protocol.only_predicted == "skip" else union > 0
        ious, count = np.where(entering, hits / np.where(union > 0, union, 1), 0).sum(1), entering.sum(1)
        if over_set and protocol.spare == "stego":
            count = count + (sums[:, -1] > 0)
        return ratio(ious, count)

    @staticmethod
    def pixel_accuracy(sums: Floats) -> Floats:
        """Share of the pixels with the right class."""
        hits, true, _ = _parts(sums)
        return ratio(hits.sum(1), true.sum(1))

    @staticmethod
    def mean_accuracy(sums: Floats) -> Floats:
        """Mean over the classes of the share of their pixels that is found."""
        hits, true, _ = _parts(sums)
        return ratio((hits / np.where(true > 0, true, 1)).sum(1), (true > 0).sum(1))

    @staticmethod
    def frequency_weighted_iou(sums: Floats) -> Floats:
        """Intersection over union of the classes, each weighed by its true pixels."""
        hits, true, predicted = _parts(sums)
        union = true + predicted - hits
        return ratio((true * hits / np.where(union > 0, union, 1)).sum(1), true.sum(1))


def _parts(sums: Floats) -> tuple[Floats, Floats, Floats]:
    """Hits, true and predicted pixels, (draws, classes) each."""
    classes = sums.shape[1] // 3
    return sums[:, :classes], sums[:, classes : 2 * classes], sums[:, 2 * classes : 3 * classes]
