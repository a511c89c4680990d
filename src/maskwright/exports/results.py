"""What exporters take: a Segmentation, or whatever can be seen as one, such as a Discovery."""

from typing import Protocol

from maskwright.segmentation import Segmentation


class Segmented(Protocol):
    """A result of another kind that gives itself as a segmentation."""

    @property
    def segmentation(self) -> Segmentation:
        """The same as a segmentation."""


Result = Segmentation | Segmented


def as_segmentation(result: Result) -> Segmentation:
    """A result as a Segmentation: itself, or the one that a Discovery gives with its words as the one label."""
    return result if isinstance(result, Segmentation) else result.segmentation
