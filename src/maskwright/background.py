"""What a user means by background: a threshold, a word, nothing, or whatever the method has."""

import math

from maskwright.errors import SettingsError

Background = float | str | None  # threshold, background word, "none", or "auto" for the method's own


def read_background(background: Background, default: float | None) -> tuple[float | None, str | None]:
    """Threshold and word; one of them, or neither, is set.

    Args:
        background: as above; a text that is a number is a threshold.
        default: the method's own threshold.

    Raises:
        SettingsError: a threshold that is no finite number.
    """
    if background == "auto":
        return default, None
    if background is None or background == "none":
        return None, None
    if isinstance(background, str):
        try:
            threshold = float(background)
        except ValueError:
            return None, background
    else:
        threshold = float(background)
    if not math.isfinite(threshold):
        raise SettingsError(f"the background threshold is {threshold}: give a number such as 0.5, a word, or 'none'")
    return threshold, None
