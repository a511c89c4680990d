"""Whether CLIP takes a drawn picture for what it should show: the one filter that looks at contents, where the others measure masks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maskwright.backbones.contract import ModelInfo
from maskwright.errors import SettingsError
from maskwright.text.clip import Clip
from maskwright.text.filter_rules import best_of_labels, label_texts, refuse_damaged
from maskwright.text.filtering import PROMPT, suited_clip
from maskwright.text.nouns import contains
from maskwright.vocabulary import Label, Vocabulary


class Recogniser:
    """Ranks what a picture should show among all that it may show instead.

    The rivals of a picture's labels are the other labels of the data set and the objects that the model knows, where its list is closed.
    An object that is called like a label, or is a kind of one by its name ("police car" beside the label "car"), is no rival.

    Args:
        clip: tells how well words fit a picture.
        vocabulary: the labels of the data set.
        objects: that the model knows, synonyms joined by |.
        most: labels that one picture shows, at most.

    Raises:
        SettingsError: such a picture would leave no rival.
    """

    def __init__(self, clip: Clip, vocabulary: Vocabulary, objects: Sequence[str] = (), *, most: int = 1) -> None:
        self.clip = clip
        others = [label for label in Vocabulary.parse(list(objects)) if not _is_kind(label, vocabulary)] if objects else []
        self.known = Vocabulary((*vocabulary.foreground, *others))
        if len(self.known) <= most:
            why = f"filter 'clip' tells the {most} of a picture from others, and there are none"
            raise SettingsError(f"{why}: name more labels, or leave it out")
        texts, self._owners = label_texts(self.known)
        self._prompts = [PROMPT.format(label=text) for text in texts]

    @classmethod
    def for_model(
        cls, info: ModelInfo, vocabulary: Vocabulary, *, most: int = 1, clip: str | Path | None = None, device: str = "cpu",
        offline: bool = False,
    ) -> "Recogniser":  # fmt: skip
        """With the CLIP that comes with a model, or that is named, else openai/clip-vit-large-patch14.

        Args:
            info: of the model that draws.
            vocabulary: the labels of the data set.
            most: as for the class.
            clip: folder or hub id.
            device: a torch device.
            offline: never ask the network.

        Raises:
            ModelError: it cannot be found or loaded.
            SettingsError: as for the class.
        """
        return cls(suited_clip(info, clip, device=device, offline=offline), vocabulary, info.objects or (), most=most)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the ranks beside the labels and the model, as plain JSON values."""
        return {"filter": "clip", "clip": self.clip.checkpoint.source, "clip_revision": self.clip.checkpoint.revision}

    def ranks(self, picture: npt.NDArray[np.uint8], labels: Sequence[str]) -> list[int]:
        """For each label that a picture should show 1 if no rival fits the picture better, else 1 more than rivals do.

        Args:
            picture: (H, W, 3) uint8 RGB.
            labels: their names; they are no rivals of each other.

        Raises:
            ModelError: CLIP's similarities are not finite.
            VocabularyError: a name that is no label.
        """
        fits, shown, rivals = self._fits(picture, labels)
        return [1 + int((rivals > fits[place]).sum()) for place in shown]

    def margins(self, picture: npt.NDArray[np.uint8], labels: Sequence[str]) -> list[float]:
        """For each label how much better it fits a picture than the best rival does, a difference of cosines; negative where it does not.

        Of several pictures for the same words the one with the largest margin shows them most clearly. Arguments and errors as for `ranks`.
        """
        fits, shown, rivals = self._fits(picture, labels)
        best = float(rivals.max(initial=-1.0))
        return [float(fits[place]) - best for place in shown]

    def _fits(
        self, picture: npt.NDArray[np.uint8], labels: Sequence[str]
    ) -> tuple[npt.NDArray[np.float32], list[int], npt.NDArray[np.float32]]:
        """The cosine of each known label's best text, the places of those that should be there, and the cosines of the others."""
        values = self.clip.similarities(picture, self._prompts)
        refuse_damaged(values)
        fits = best_of_labels(values, self._owners)
        shown = [self.known.index(name) for name in labels]
        return fits, shown, np.delete(fits, shown)


def _is_kind(one: Label, vocabulary: Vocabulary) -> bool:
    """Whether a text of an object has one of a label in it, word for word."""
    return any(contains(text, known) for text in one.texts for label in vocabulary.foreground for known in label.texts)
