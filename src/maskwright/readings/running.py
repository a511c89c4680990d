"""Reading a model while it draws: what was read at each step is folded into a mean at once, so that nothing piles up over the steps."""

from collections.abc import Sequence

from torch import Tensor

from maskwright.errors import SettingsError
from maskwright.readings.attention import LayerMaps, SelfAttention
from maskwright.readings.keys import TextKeys
from maskwright.readings.reading import Reading


class RunningReading:
    """Means over a sampler's steps: each picture's maps of its own words, and its self-attention.

    Args:
        keys: for each picture of the batch the words to follow, as tokens of its own prompt.
    """

    def __init__(self, keys: Sequence[TextKeys]) -> None:
        self.keys = tuple(keys)
        self.steps = 0
        self._maps: list[dict[int, LayerMaps]] = [{} for _ in keys]
        self._self: dict[int, tuple[Tensor, tuple[int, int], int]] = {}

    def add(self, step: int, reading: Reading) -> None:
        """Adds the reading of one step (its number does not matter: all steps count the same).

        Raises:
            SettingsError: a reading of another number of pictures.
        """
        if reading.pictures != len(self.keys):
            raise SettingsError(f"a reading of {reading.pictures} pictures cannot join one of {len(self.keys)}: read the same batch")
        share = 1 / (self.steps + 1)
        for picture, (keys, held) in enumerate(zip(self.keys, self._maps, strict=True)):
            for layer in reading.picture(picture).cross_attention.maps(keys) if reading.cross_layers else ():
                before = held[layer.factor].maps if self.steps else layer.maps
                held[layer.factor] = LayerMaps(layer.factor, layer.layers, before + share * (layer.maps - before))
        for factor in reading.self_factors:
            operator = reading.self_attention_at(factor)
            if self.steps:
                self._self[factor][0].lerp_(operator.dense(), share)
            else:
                self._self[factor] = (operator.dense().clone(), operator.grid, operator.count)
        self.steps += 1

    def maps(self, picture: int) -> list[LayerMaps]:
        """Maps of one picture's words, (1, labels, h, w) for each grid, finest first."""
        return [layer for _, layer in sorted(self._maps[picture].items())]

    def self_attention(self, picture: int, factor: int) -> SelfAttention:
        """The mean self-attention of one picture at one grid.

        Raises:
            SettingsError: nothing was read there.
        """
        if factor not in self._self:
            raise SettingsError(f"no self-attention at factor {factor}: this reading holds {sorted(self._self)}")
        mean, grid, count = self._self[factor]
        return SelfAttention(grid=grid, mean=mean[picture : picture + 1], count=count)
