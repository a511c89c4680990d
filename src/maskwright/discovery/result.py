"""What was discovered in a picture: one object, its mask and its box."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from maskwright.exports.coco import encode_mask
from maskwright.exports.document import encode
from maskwright.exports.files import write_files
from maskwright.exports.overlay import canvas_size, draw_overlay
from maskwright.exports.palette import colour
from maskwright.images import Picture
from maskwright.record import Record
from maskwright.segmentation import Segmentation
from maskwright.solvers.components import largest_component, tight_box
from maskwright.vocabulary import LONGEST, Label, Vocabulary

THRESHOLD = 0.5
Choice = Literal[
    "given", "best match of the given words", "best match of the model's words", "best match of the decoder's words", "generic word",
    "without words",
]  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class Discovery:
    """An object in a picture, at the picture's own size (H, W).

    Attributes:
        picture: the picture.
        words: what was looked for; several words mean all that they name together. Without words, what the object is called.
        choice: where the words come from.
        probability: (H, W) float32 in 0..1, that a pixel belongs to the object.
        record: how it was made.

    Raises:
        ValueError: a probability that does not fit the picture or is none.
    """

    picture: Picture
    words: tuple[str, ...]
    choice: Choice
    probability: npt.NDArray[np.float32]
    record: Record

    def __post_init__(self) -> None:
        if self.probability.shape != self.picture.size or self.probability.dtype != np.float32:
            raise ValueError(f"the probability is {self.probability.shape} {self.probability.dtype}, not {self.picture.size} float32")
        if not ((self.probability >= 0) & (self.probability <= 1)).all():
            raise ValueError("a probability lies in 0..1")
        if not self.words:
            raise ValueError("a discovery has at least one word")

    @cached_property
    def mask(self) -> npt.NDArray[np.bool_]:
        """(H, W) bool: where the probability is above 0.5."""
        return np.asarray(self.probability > THRESHOLD)

    @cached_property
    def box(self) -> tuple[int, int, int, int] | None:
        """(x, y, width, height) in pixels around the largest connected piece of the mask; None for an empty mask."""
        return tight_box(largest_component(self.mask))

    @cached_property
    def score(self) -> float:
        """Mean probability inside the mask, 0 for an empty one."""
        return float(self.probability[self.mask].mean(dtype=np.float64)) if self.mask.any() else 0.0

    @property
    def word(self) -> str:
        """The words as one name: "dog", "dog and cat"; the first of them "and others" where that is too long for a label."""
        name = " and ".join(self.words)
        return name if len(name) <= LONGEST else f"{self.words[0][: LONGEST - 11]} and others"

    @cached_property
    def segmentation(self) -> Segmentation:
        """The same as a segmentation with one label, for all that takes one."""
        confidence = np.where(self.mask, self.probability, np.float32(THRESHOLD))
        record = dataclasses.replace(self.record, background=THRESHOLD)
        labels = Vocabulary((Label(self.word),))
        return Segmentation(self.picture, labels, self.mask.astype(np.uint16), confidence, record, lambda _: self.probability)

    def overlay(self, *, box: bool = False) -> Image.Image:
        """The picture with the coloured object, its name and a legend, on demand also with its box."""
        sheet = draw_overlay(self.segmentation)
        if box and self.box is not None:
            height, width = canvas_size(self.picture.size)
            down, right = height / self.picture.size[0], width / self.picture.size[1]
            left = (sheet.width - width) // 2  # a narrow picture stands in the middle of its sheet
            x, y, wide, high = self.box
            first, last = (left + round(x * right), round(y * down)), (left + round((x + wide) * right) - 1, round((y + high) * down) - 1)
            corners = (first, (max(first[0], last[0]), max(first[1], last[1])))  # a reduced box still has a pixel
            line = max(2, max(height, width) // 250)
            draw = ImageDraw.Draw(sheet)
            draw.rectangle(corners, outline=(255, 255, 255), width=2 * line)
            draw.rectangle(corners, outline=colour(1), width=line)
        return sheet

    def document(self, *, box_drawn: bool = False) -> dict[str, Any]:
        """Everything but the probability, as plain JSON values in a fixed order.

        Args:
            box_drawn: whether the overlay shows the box.

        Returns:
            {"picture": name, source, height, width; "words"; "choice"; "score"; "area" in pixels; "share" 0..1; "box" [x, y, width,
            height] in pixels or null; "box_drawn"; "segmentation" as a COCO run-length mask; "record": how the result was made}.
        """
        height, width = self.picture.size
        return {
            "picture": {"name": self.picture.name, "source": self.picture.source, "height": height, "width": width},
            "words": list(self.words),
            "choice": self.choice,
            "score": self.score,
            "area": int(self.mask.sum()),
            "share": float(self.mask.mean()),
            "box": None if self.box is None else list(self.box),
            "box_drawn": box_drawn,
            "segmentation": encode_mask(self.mask),
            "record": self.record.as_dict(),
        }

    def save(self, folder: str | Path, *, stem: str | None = None, box: bool = False) -> tuple[Path, ...]:
        """Writes STEM.mask.png (0 and 255), STEM.overlay.png and STEM.json, the last one last and each of them whole.

        Args:
            folder: made if it is not there.
            stem: the picture's name unless given.
            box: draw the box into the overlay.

        Raises:
            OutputError: the files cannot be written.
        """
        return write_files(folder, stem or self.picture.name, {
            ".mask.png": lambda file: Image.fromarray(self.mask.astype(np.uint8) * 255).save(file, "PNG"),
            ".overlay.png": lambda file: self.overlay(box=box).save(file, "PNG"),
            ".json": lambda file: file.write(encode(self.document(box_drawn=box))),
        })  # fmt: skip

    def __repr__(self) -> str:
        height, width = self.picture.size
        where = "nothing" if self.box is None else f"{self.mask.mean():.1%}, box {self.box}"
        return f"Discovery({width} x {height} px: {self.word} {where})"
