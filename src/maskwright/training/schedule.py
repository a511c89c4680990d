"""How large a step is: linear warm-up, then half a cosine down to zero (Loshchilov & Hutter, "SGDR", arXiv 1608.03983, no restarts)."""

from math import cos, pi


def cosine_rate(step: int, *, steps: int, peak: float, warmup: int = 0) -> float:
    """The learning rate of one step.

    Args:
        step: from 0 to steps - 1.
        steps: of the whole training.
        peak: the largest rate, reached with the last step of the warm-up.
        warmup: steps of the warm-up; 0 for none.

    Returns:
        peak * (step + 1) / warmup while it warms up, then peak * (1 + cos(pi * progress)) / 2, which after the last step would be 0.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (1 + cos(pi * (step - warmup) / max(1, steps - warmup))) / 2
