"""What a decoder learns, for the training loop: its loss on a batch, and what is counted where it is validated."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maskwright.decoders.features import FeatureReader
from maskwright.discovery.pairs import BACKGROUND, IGNORE
from maskwright.evaluation.confusion import count_pixels, mean_iou, pixel_accuracy
from maskwright.evaluation.saliency import SaliencyCounts, count_saliency, join_counts, saliency_scores
from maskwright.images import Picture, Size, upsample
from maskwright.training.examples import Example
from maskwright.training.losses import saliency_loss, semantic_loss


class DecoderTask:
    """Saliency, or classes, from the frozen model's features; the words of an example are known to the model (prior "match").

    Args:
        features: of the frozen model; what it is asked for decides whether it is saliency or classes.
        classes: background and labels; used for classes only.
    """

    def __init__(self, features: FeatureReader, *, classes: int) -> None:
        self.features, self.classes = features, classes
        self.is_saliency = features.settings.task == "saliency"

    def loss(self, module: nn.Module, batch: Sequence[Example]) -> Tensor:
        """Cross-entropy and Dice at the masks' own size."""
        logits = self._logits(module, batch)
        masks = torch.from_numpy(np.stack([example.mask for example in batch])).to(logits.device)
        return saliency_loss(logits, masks) if self.is_saliency else semantic_loss(logits, masks)

    def measure(self, module: nn.Module, batch: Sequence[Example]) -> Any:
        """Counts of the project's own metrics; pixels marked as uncertain are left out."""
        logits = self._logits(module, batch)
        if self.is_saliency:
            probability = logits[:, 0].sigmoid().cpu().numpy()
            return join_counts(_count(one, example.mask) for one, example in zip(probability, batch, strict=True) if _is_known(example))
        predicted = logits.argmax(1).cpu().numpy()
        return sum(
            count_pixels(_truth(example), one, classes=self.classes) for one, example in zip(predicted, batch, strict=True)
        )  # fmt: skip

    def figures(self, counts: Sequence[Any]) -> dict[str, float]:
        """Of saliency IoU, accuracy, mean absolute error and both maximal F, means over pictures; of classes mean IoU and accuracy."""
        if not self.is_saliency:
            total = sum(counts[1:], counts[0])
            return {"mean_iou": mean_iou(total), "accuracy": pixel_accuracy(total)}
        scores = saliency_scores(join_counts(counts))
        names = ("iou", "accuracy", "mae", "max_f_tokencut", "max_f_selfmask")
        return {name: getattr(scores, name) for name in names}

    def _logits(self, module: nn.Module, batch: Sequence[Example]) -> Tensor:
        """(pictures, outputs, H, W) at the masks' size; a gradient reaches the decoder only."""
        pictures = [Picture(example.image, "example", "example") for example in batch]
        logits: Tensor = module(self.features.read(pictures, words=[example.words for example in batch]))
        return upsample_all(logits, batch[0].size)


def upsample_all(maps: Tensor, size: Size) -> Tensor:
    """Maps (pictures, C, h, w) at the size (H, W), as `images.upsample`."""
    return upsample(maps.flatten(0, 1), size).reshape(*maps.shape[:2], *size)  # (pictures * C, H, W) -> (pictures, C, H, W)


def _is_known(example: Example) -> bool:
    return bool((example.mask != IGNORE).any())


def _count(probability: Any, mask: Any) -> SaliencyCounts:
    """Of the pixels that are not uncertain, as a picture of one row: the metrics do not look at places."""
    known = mask != IGNORE
    return count_saliency(probability[known][None], (mask[known] != BACKGROUND)[None])


def _truth(example: Example) -> Any:
    """Class numbers, with uncertain pixels outside of all classes."""
    return np.where(example.mask == IGNORE, -1, example.mask.astype(np.int64))
