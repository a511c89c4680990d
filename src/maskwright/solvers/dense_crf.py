"""A dense conditional random field of two labels on a small grid, by exact mean field (Krähenbühl, Koltun, NeurIPS 2011).

At a few thousand pixels the Gaussian kernels over all pairs are plain matrices: no lattice, no approximate filtering.
"""

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from maskwright.errors import SettingsError

Array = npt.NDArray[np.float64]
SURE = 1e-9  # probabilities are kept so far from 0 and 1


def dense_crf(
    probability: npt.ArrayLike, image: npt.ArrayLike, *, appearance: float = 4.0, colour: float = 13.0, distance: float = 5.0,
    smoothness: float = 3.0, width: float = 1.0, iterations: int = 10,
) -> Array:  # fmt: skip
    """Sharpens a foreground probability with the picture: alike pixels that are near each other should agree.

    Args:
        probability: (h, w) in 0..1, of the foreground.
        image: (h, w, channels).
        appearance: weight of the kernel over place and colour together.
        colour: its standard deviation over colours, in the image's unit; the default is for 0..255.
        distance: its standard deviation over places, in cells of the grid.
        smoothness: weight of the kernel over places alone.
        width: its standard deviation, in cells.
        iterations: of mean field, all pixels at once.

    Returns:
        (h, w) float64 in 0..1; with both weights 0 the input, kept 1e-9 away from 0 and 1.

    Raises:
        SettingsError: for negative weights or iterations, deviations that are not positive, probabilities out of range, or an image
            of another size.
    """
    if min(appearance, smoothness, iterations) < 0 or min(colour, distance, width) <= 0:
        raise SettingsError("dense_crf needs weights and iterations of 0 or more and standard deviations above 0")
    chance, picture = np.asarray(probability, dtype=np.float64), np.asarray(image, dtype=np.float64)
    if chance.ndim != 2 or picture.ndim != 3 or picture.shape[:2] != chance.shape:
        raise SettingsError(f"dense_crf needs (h, w) and (h, w, channels), not {chance.shape} and {picture.shape}")
    if not ((chance >= 0) & (chance <= 1)).all():
        raise SettingsError("dense_crf needs probabilities in 0..1")
    height, across = chance.shape
    places = np.indices((height, across)).reshape(2, -1).T.astype(np.float64)  # h*w 2
    colours = picture.reshape(height * across, -1)
    links = np.zeros((height * across, height * across))
    if appearance > 0:
        links += appearance * _kernel(np.concatenate([places / distance, colours / colour], axis=1))
    if smoothness > 0:
        links += smoothness * _kernel(places / width)
    chance = np.clip(chance.ravel(), SURE, 1 - SURE)
    evidence = np.log(chance) - np.log1p(-chance)
    belief = chance
    for _ in range(iterations):
        belief = expit(evidence + links @ (2 * belief - 1))
    return np.clip(belief, SURE, 1 - SURE).reshape(height, across)


def _kernel(features: Array) -> Array:
    """(N, N) exp(-|f_p - f_q|^2 / 2) of features (N, C), zero diagonal, normalised as D^-1/2 K D^-1/2."""
    squares = np.square(features).sum(1)
    apart = np.maximum(squares[:, None] + squares - 2 * features @ features.T, 0)
    kernel = np.exp(-apart / 2)
    np.fill_diagonal(kernel, 0)
    total = np.maximum(kernel.sum(1), SURE)  # a pixel unlike all others is linked to none
    return np.asarray(kernel / np.sqrt(total[:, None] * total))
