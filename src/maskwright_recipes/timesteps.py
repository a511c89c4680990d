"""Which timesteps a training draws, and which of two pictures of different size hide as much of them."""

import torch

# Mean and standard deviation. Pictures of USUAL_SIDE are read at 100 to 400, and captions matter most to drawing at 600.
READ = (480, 250)  # of pictures that shall be read as well
DRAWN = (560, 220)  # of those that shall only be drawn
USUAL_SIDE = 64  # pixels
SHIFTED_RATE = 0.25


def shift_timesteps(alphas: torch.Tensor, area: float) -> torch.Tensor:
    """For each timestep, the one that hides as much of a picture of `area` times as many pixels.

    The larger a picture, the more pixels show the same thing, and the more noise it takes to hide it: the signal-to-noise ratio of the
    same difficulty falls with the area (Esser et al. 2403.03206, section 5.3.2; Hoogeboom et al. 2301.11093).

    Args:
        alphas: (steps,) cumulative products of the schedule, falling.
        area: over 1 for a larger picture, below for a smaller one.

    Returns:
        (steps,) int64; the last timestep where none hides enough.
    """
    ratio = alphas / (1 - alphas)
    return torch.searchsorted(-ratio, -ratio / area).clamp(max=len(alphas) - 1)


def draw_timesteps(count: int, shifted: torch.Tensor, generator: torch.Generator, *, normal: tuple[int, int] = READ) -> torch.Tensor:
    """Integers in 0..999 from a normal, cut at the ends; a quarter of these is replaced by those that suit the size of the pictures.

    Without that the shapes of large pictures, which are decided while their textures cannot be seen yet, are hardly trained.

    Args:
        count: how many.
        shifted: (1000,) as `shift_timesteps` gives them.
        generator: whose device is theirs.
        normal: its mean and standard deviation.
    """
    mean, deviation = normal
    drawn = torch.randn(count, generator=generator, device=generator.device) * deviation + mean
    usual = drawn.round().clamp(0, 999).long()
    chosen = torch.rand(count, generator=generator, device=generator.device) < SHIFTED_RATE
    return torch.where(chosen, shifted[usual], usual)
