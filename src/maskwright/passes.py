"""Runs a text plan on pictures: which passes of the model to make, in which chunks, and their scores put together."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maskwright.backbones.contract import Backbone
from maskwright.readings.probe import Probe
from maskwright.readings.reading import Reading
from maskwright.text.planning import TextPlan


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of a batch of pictures.

    Attributes:
        maps: (pictures, labels, h, w) float32.
        strength: (pictures, labels) for methods that can reject labels, else None.
    """

    maps: Tensor
    strength: Tensor | None

    def mean_with_mirrored(self, other: "Scored") -> "Scored":
        """The mean of these scores and of the same pictures' in a mirror, whose maps are turned back."""
        strength = None if self.strength is None or other.strength is None else (self.strength + other.strength) / 2
        return Scored((self.maps + other.maps.flip(-1)) / 2, strength)


@torch.inference_mode()
def score_reading(method: Any, reading: Reading, plan: TextPlan) -> Scored:
    """Scores all labels on a reading that serves them all."""
    strength = method.strength(reading, plan.keys) if getattr(method, "reject", 0) else None
    return Scored(method.score(reading, plan.keys).float(), strength)


@torch.inference_mode()
def run_passes(backbone: Backbone, latents: Tensor, method: Any, probe: Probe, plan: TextPlan, *, seed: int, chunk: int) -> Scored:
    """Makes the passes of a plan and scores them.

    Args:
        backbone: the model.
        latents: (pictures, channels, h, w).
        method: scores.
        probe: what to read.
        plan: one pass for all labels, or one per label.
        seed: of the noise.
        chunk: per-label passes that share one call of the U-Net; each is read, scored and dropped.
    """
    if len(plan.passes) == 1:
        reading = backbone.read(latents, probe, condition=plan.passes[0].condition, seed=seed)
        return score_reading(method, reading, plan)
    rows = [(picture, number) for picture in range(len(latents)) for number in range(len(plan.passes))]
    scored: list[Scored] = []
    for first in range(0, len(rows), chunk):
        part = rows[first : first + chunk]
        condition = torch.cat([plan.passes[number].condition for _, number in part])
        reading = backbone.read(latents[[picture for picture, _ in part]], probe, condition=condition, seed=seed)
        for row, (_, number) in enumerate(part):
            (label,) = plan.passes[number].labels
            own = TextPlan(plan.keys.label(label), plan.passes[number : number + 1])
            scored.append(score_reading(method, reading.picture(row), own))
    maps = torch.unflatten(torch.cat([one.maps for one in scored]), 0, (len(latents), -1)).squeeze(2)  # pictures labels h w
    strengths = [one.strength for one in scored if one.strength is not None]
    return Scored(maps, torch.cat(strengths).view(len(latents), -1) if strengths else None)
