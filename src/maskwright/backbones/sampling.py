"""Generating pictures with classifier-free guidance, and reading the model while it draws them."""

import inspect
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from maskwright.backbones.contract import DrawingBackbone
from maskwright.errors import SettingsError
from maskwright.readings.probe import Probe
from maskwright.readings.reading import Reading

OnReading = Callable[[int, Reading], None]


def chosen_steps(steps: int, share: tuple[float, float], count: int) -> tuple[int, ...]:
    """Numbers of timesteps, evenly spread over a part of the trajectory, for instance the middle of the schedule.

    Args:
        steps: how many timesteps the network is asked at (`evaluations`), numbered from 0 at pure noise.
        share: first and last place of the part, 0..1 of the trajectory.
        count: how many at most; 0 for every step of the part.

    Raises:
        SettingsError: a share that is none.
    """
    first, last = share
    if not 0 <= first <= last <= 1 or count < 0:
        raise SettingsError(f"steps to read are a part of 0..1 and a number of at least 0, not {share} and {count}")
    low, high = round(first * (steps - 1)), round(last * (steps - 1))
    if not count or count > high - low:
        return tuple(range(low, high + 1))
    if count == 1:
        return ((low + high) // 2,)
    return tuple(dict.fromkeys(low + round(n * (high - low) / (count - 1)) for n in range(count)))


def evaluations(backbone: DrawingBackbone, steps: int) -> int:
    """At how many timesteps a model's sampler asks the network in so many steps: N of most, N + 1 of PNDM, 2 N - 1 of Heun and KDPM2."""
    return len(_scheduler(backbone, steps).timesteps)


def drawn_shape(backbone: DrawingBackbone, side: int | None) -> tuple[int, int, int]:
    """Shape of the latents, (channels, h, w), of square pictures of so many pixels a side; None for the model's native side.

    Raises:
        SettingsError: a side that the model cannot draw.
    """
    info = backbone.info
    if side is None:
        return backbone.latent_shape
    if side < 1 or side % info.multiple:
        raise SettingsError(f"side is {side}: {info.name} draws sides that are multiples of {info.multiple}, best {info.native}")
    channels, height, width = backbone.latent_shape
    return channels, height * side // info.native, width * side // info.native


@torch.inference_mode()
def sample(
    backbone: DrawingBackbone, prompts: Sequence[str], *, steps: int, guidance: float, seeds: Sequence[int], side: int | None = None,
    probe: Probe | None = None, read_at: Collection[int] = (), on_reading: OnReading | None = None,
    progress: Callable[[int], None] | None = None,
) -> Tensor:  # fmt: skip
    """Pictures for prompts, read on their way.

    At the timesteps that are read, the conditional half runs alone under a recorder and is the half that is then used, so that reading
    costs no pass of its own. Whether one is read changes its output by rounding only.

    Args:
        backbone: the model; its own kind of scheduler is used.
        prompts: one a picture.
        steps: of the sampler.
        guidance: weight of classifier-free guidance; 1 leaves the empty prompt out.
        seeds: of each picture's starting noise.
        side: of the pictures, in pixels; None for the model's native one.
        probe: what to read; its timesteps and noise have no meaning here.
        read_at: numbers of the timesteps to read, from 0 to `evaluations` - 1.
        on_reading: gets the number of the timestep and the reading of all pictures' conditional halves.
        progress: gets the number of steps that are done, after each timestep; at last `steps`.

    Returns:
        (prompts, 3, side, side) float32 in 0..1.

    Raises:
        SettingsError: not one seed a prompt, timesteps that do not exist, or a side that the model cannot draw.
    """
    if len(seeds) != len(prompts):
        raise SettingsError(f"{len(seeds)} seeds for {len(prompts)} prompts: give one a prompt")
    scheduler = _scheduler(backbone, steps)
    count = len(scheduler.timesteps)
    if wrong := [number for number in read_at if not 0 <= number < count]:
        raise SettingsError(f"timesteps {wrong} cannot be read: there are {count} in {steps} steps, numbered from 0")
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    shape = drawn_shape(backbone, side)
    noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    latents = noise.to(backbone.device, backbone.dtype) * scheduler.init_noise_sigma
    draws = "generator" in inspect.signature(scheduler.step).parameters  # a sampler that adds noise on its way
    extra: dict[str, Any] = {"generator": generators} if draws else {}
    empty = backbone.text.encode([""] * len(prompts)).embeddings.to(latents)
    text = backbone.text.encode(prompts).embeddings.to(latents)
    for number, timestep in enumerate(scheduler.timesteps):
        rows = scheduler.scale_model_input(latents, timestep).to(backbone.dtype)
        if probe is not None and on_reading is not None and number in read_at:
            guided, reading = backbone.read_rows(rows, timestep, text, probe)
            on_reading(number, reading)
            plain = backbone.predict(rows, timestep, empty) if guidance != 1 else guided
        elif guidance == 1:
            plain = guided = backbone.predict(rows, timestep, text)
        else:
            plain, guided = backbone.predict(torch.cat([rows, rows]), timestep, torch.cat([empty, text])).chunk(2)
        latents = scheduler.step(plain + guidance * (guided - plain), timestep, latents, **extra, return_dict=False)[0]
        if progress:
            progress((number + 1) * steps // count)
    return backbone.decode(latents)


def _scheduler(backbone: DrawingBackbone, steps: int) -> Any:
    """A fresh scheduler of the model's own kind and settings, with its timesteps."""
    scheduler = type(backbone.scheduler).from_config(backbone.scheduler.config)
    scheduler.set_timesteps(steps, device=backbone.device)
    return scheduler
