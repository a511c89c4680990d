"""What a student learns, for the training loop: the class of each pixel."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from maskwright.evaluation.confusion import Counts, count_pixels, mean_iou, pixel_accuracy
from maskwright.images import upsample
from maskwright.students.network import StudentNetwork
from maskwright.students.pictures import reading_size, to_pixels
from maskwright.training.examples import Example
from maskwright.training.losses import semantic_loss


@dataclass(frozen=True)
class StudentTask:
    """A task for `training.loop.train`, for a module that is a `StudentNetwork`.

    Attributes:
        side: shorter side at which pictures are read.
        any_shape: whether the network reads other shapes than squares.
    """

    side: int
    any_shape: bool = True

    def loss(self, module: nn.Module, batch: Sequence[Example]) -> Tensor:
        """Cross-entropy and Dice at the size of the examples, which they all have."""
        device = _network(module).mean.device
        pixels = torch.from_numpy(np.stack([example.image for example in batch])).to(device)
        truth = torch.from_numpy(np.stack([example.mask for example in batch])).to(device)
        return semantic_loss(module(pixels), truth)

    def measure(self, module: nn.Module, batch: Sequence[Example]) -> Counts:
        """Confusion counts (classes, classes + 1) at the pictures' own size, read as `Student` reads them."""
        network, size = _network(module), batch[0].size
        pixels = to_pixels([example.image for example in batch], reading_size(size, side=self.side, any_shape=self.any_shape))
        logits = network.coarse(pixels.to(network.mean.device))
        counts = np.zeros((network.classes, network.classes + 1), dtype=np.int64)
        for example, own in zip(batch, logits, strict=True):
            counts += count_pixels(example.mask, upsample(own, size).argmax(0).cpu().numpy(), classes=network.classes)
        return counts

    def figures(self, counts: Sequence[Counts]) -> dict[str, float]:
        """Mean IoU over the classes that occur, the background among them, and the share of right pixels, both in 0..1."""
        total: Counts = sum(counts[1:], counts[0])
        return {"mean_iou": mean_iou(total), "accuracy": pixel_accuracy(total)}


def _network(module: nn.Module) -> StudentNetwork:
    if not isinstance(module, StudentNetwork):
        raise TypeError(f"a StudentTask trains a StudentNetwork, not a {type(module).__name__}")
    return module
