"""From a given picture to the noise it could have been drawn from: deterministic DDIM inversion.

Song et al., "Denoising Diffusion Implicit Models" (arXiv 2010.02502), equation 12 with eta 0, run upwards; guidance 1.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, get_args

from maskwright.backbones.contract import DrawingBackbone
from maskwright.errors import SettingsError
from maskwright.readings.probe import Probe

if TYPE_CHECKING:
    from torch import Tensor

Inversion = Literal["none", "partial", "full"]
INVERSIONS: tuple[Inversion, ...] = get_args(Inversion)


def invert(
    backbone: DrawingBackbone, latents: "Tensor", *, timestep: int, mode: Inversion, steps: int, condition: "Tensor", seed: int = 0
) -> "Tensor":
    """The noisy latents at a timestep, as the network is to read them there.

    Args:
        backbone: the model.
        latents: (pictures, channels, h, w) of clean pictures, which stand at timestep 0.
        timestep: where to arrive.
        mode: "none" adds noise once, the same to all pictures of one size; "partial" climbs from 0 to `timestep`; "full" climbs on
            to the end of the schedule and comes back down to `timestep`.
        steps: of the network from 0 to `timestep`; "full" goes on in steps of that length. Not looked at by "none".
        condition: (pictures or 1, tokens, width).
        seed: of the noise that "none" adds; the other two are deterministic.

    Returns:
        (pictures, channels, h, w), in the latents' number format.

    Raises:
        SettingsError: a timestep beyond the schedule, fewer steps than one, or an unknown mode.
    """
    route = path(timestep, mode=mode, steps=steps, beyond=len(backbone.scheduler.alphas_cumprod))
    if mode == "none":
        return backbone.noised(latents, Probe(timesteps=(timestep,)), seed=seed)[0]
    rows = latents
    for step in follow(backbone, latents, route, condition):
        rows = step
    return rows.to(latents)


def path(timestep: int, *, mode: Inversion, steps: int, beyond: int) -> tuple[int, ...]:
    """The timesteps that an inversion comes through, from 0 on; empty for "none".

    Args:
        timestep: where to arrive.
        mode: as for `invert`.
        steps: from 0 to `timestep`; where that is fewer than `steps`, each timestep between them is one.
        beyond: length of the schedule, usually 1000.

    Raises:
        SettingsError: as for `invert`.
    """
    if mode not in INVERSIONS:
        raise SettingsError(f"unknown inversion {mode!r}: use {', '.join(INVERSIONS)}")
    if not 0 <= timestep < beyond:
        raise SettingsError(f"timestep {timestep} is not in this model's schedule: use 0 to {beyond - 1}")
    if steps < 1:
        raise SettingsError(f"an inversion has at least 1 step, not {steps}")
    if mode == "none":
        return ()
    up = [round(number * timestep / steps) for number in range(steps + 1)]
    if mode == "partial":
        return tuple(dict.fromkeys(up))
    last = beyond - 1
    stride = (timestep or last) / steps
    on = [timestep + round(number * stride) for number in range(1, int((last - timestep) / stride) + 1)]
    rest = list(dict.fromkeys([timestep, *(min(one, last) for one in on), last]))
    return (*dict.fromkeys([*up, *rest]), *rest[-2::-1])


def follow(backbone: DrawingBackbone, rows: "Tensor", route: Sequence[int], condition: "Tensor") -> "Iterator[Tensor]":
    """DDIM steps along timesteps, upwards (inversion) as well as downwards (drawing).

    The network is told the noisier one of a step's two timesteps, as by diffusers' DDIMInverseScheduler and DDIMScheduler, so that a step
    down undoes a step up but for the place at which the network looked.

    Args:
        backbone: the model, of epsilon-, v- or sample-prediction.
        rows: (pictures, channels, h, w) at the first timestep of the route.
        route: timesteps.
        condition: (pictures or 1, tokens, width).

    Yields:
        (pictures, channels, h, w) float32 at each further timestep of the route.
    """
    schedule = backbone.scheduler.alphas_cumprod
    condition = condition.expand(len(rows), -1, -1)
    rows = rows.float()
    for here, there in pairwise(route):
        told = schedule.new_full((len(rows),), max(here, there)).long().to(rows.device)
        predicted = backbone.predict(rows, told, condition).float()
        clean, noise = _parts(rows, predicted, float(schedule[here]), backbone.info.prediction)
        rows = float(schedule[there]) ** 0.5 * clean + (1 - float(schedule[there])) ** 0.5 * noise
        yield rows


def _parts(rows: "Tensor", predicted: "Tensor", alpha: float, prediction: str) -> "tuple[Tensor, Tensor]":
    """Picture and noise in noisy rows, from what the network answered."""
    signal, spread = alpha**0.5, (1 - alpha) ** 0.5
    if prediction == "v_prediction":
        return signal * rows - spread * predicted, signal * predicted + spread * rows
    if prediction == "sample":
        return predicted, (rows - signal * predicted) / spread
    return (rows - spread * predicted) / signal, predicted
