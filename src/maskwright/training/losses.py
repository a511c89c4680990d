"""What networks are trained by: cross-entropy and Dice, together, with pixels marked as uncertain left out."""

import torch
import torch.nn.functional as F
from torch import Tensor

from maskwright.discovery.pairs import BACKGROUND, IGNORE

SMOOTH = 1.0  # pixel that is added to both sides of Dice, so that nothing predicted where nothing is true is right


def saliency_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Binary cross-entropy, mean over pixels, plus one minus Dice, mean over pictures (Milletari et al., "V-Net", arXiv 1606.04797).

    Args:
        logits: (pictures, 1, H, W) of the foreground.
        masks: (pictures, H, W) integers: 0 background, 255 left out, anything else foreground.

    Returns:
        A scalar; 0 where every pixel is left out.
    """
    valid = masks != IGNORE
    weight, target = valid.float(), ((masks != BACKGROUND) & valid).float()
    logits = logits[:, 0]
    entropy = F.binary_cross_entropy_with_logits(logits, target, weight, reduction="sum") / weight.sum().clamp_min(1)
    probability = logits.sigmoid() * weight
    both, either = (probability * target).sum((1, 2)), (probability + target).sum((1, 2))
    return entropy + (1 - (2 * both + SMOOTH) / (either + SMOOTH)).mean()


def semantic_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy, mean over pixels, plus one minus Dice, mean over the classes that the batch has.

    A class counts over the batch together: in one picture most classes are not there at all.

    Args:
        logits: (pictures, classes, H, W), the background first.
        masks: (pictures, H, W) integers: the class of each pixel, 255 left out.

    Returns:
        A scalar; 0 where every pixel is left out.
    """
    valid = masks != IGNORE
    target = masks.long()
    entropy = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="sum") / valid.sum().clamp_min(1)
    probability = logits.softmax(1) * valid[:, None]
    numbers = target[valid]
    right = probability.gather(1, target.where(valid, 0)[:, None])[:, 0][valid]
    true = torch.bincount(numbers, minlength=logits.shape[1])
    both = torch.zeros_like(probability[0, :, 0, 0]).index_add(0, numbers, right)
    either = probability.sum((0, 2, 3)) + true
    dice = (2 * both + SMOOTH) / (either + SMOOTH)
    there = true > 0
    return entropy + (1 - dice[there]).sum() / there.sum().clamp_min(1)
