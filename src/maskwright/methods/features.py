"""Internal features of the U-Net, joined on one grid (MaskDiffusion, step 5)."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from maskwright.methods.maps import resize_maps
from maskwright.readings.probe import Select
from maskwright.solvers.affinity import principal_features


def decoder_inputs(factors: tuple[int, ...]) -> Select:
    """The last decoder input, skip connection included, at each of these grids (latent side / grid side)."""
    return Select(factors=factors, stages=("up",), last=True)


def join_features(features: Mapping[str, Tensor], size: tuple[int, int], *, components: int = 0) -> Tensor:
    """Each layer normalised by itself, resized, concatenated, normalised again.

    Args:
        features: (pictures, channels, h, w) by layer.
        size: (h, w) of the working grid.
        components: PCA to so many dimensions before the last normalisation; 0 for none.

    Returns:
        (pictures, channels or components, h, w) float32, of unit norm at every pixel.
    """
    joined = torch.cat([resize_maps(F.normalize(values, dim=1), size) for values in features.values()], 1)
    if components:
        reduced = [principal_features(one.flatten(1).T, components).T for one in joined]  # components h*w
        joined = torch.unflatten(torch.stack(reduced), -1, size)
    return F.normalize(joined, dim=1)
