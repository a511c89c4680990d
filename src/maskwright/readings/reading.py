"""What one probe returned for a batch of pictures."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from maskwright.errors import SettingsError
from maskwright.readings.attention import CrossAttention, CrossLayer, SelfAttention, SelfLayer
from maskwright.readings.probe import Probe


@dataclass(frozen=True, eq=False)
class Reading:
    """Queries, keys, folded attention and features of a batch of pictures; nothing else.

    Attributes:
        probe: what was asked for.
        latent_size: (h, w) of the latents.
        pictures: number of pictures in the batch.
        cross_layers: kept cross-attention layers.
        self_layers: kept self-attention layers.
        folded: by factor the mean self-attention (pictures, tokens, tokens) float32, and its grid.
        features: by site name (pictures, channels, h, w) float32, averaged over timesteps and samples.
    """

    probe: Probe
    latent_size: tuple[int, int]
    pictures: int
    cross_layers: tuple[CrossLayer, ...] = ()
    self_layers: tuple[SelfLayer, ...] = ()
    folded: Mapping[int, tuple[Tensor, tuple[int, int]]] = field(default_factory=dict)
    features: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def cross_attention(self) -> CrossAttention:
        """The operator over all kept cross-attention layers."""
        if not self.cross_layers:
            raise SettingsError("this reading holds no cross-attention: its probe did not ask for it")
        return CrossAttention(self.cross_layers, self.probe.repeats)

    @property
    def self_attention(self) -> SelfAttention:
        """The operator at the finest grid that was read."""
        factors = {layer.factor for layer in self.self_layers} | set(self.folded)
        if not factors:
            raise SettingsError("this reading holds no self-attention: its probe did not ask for it")
        finest = min(factors)
        if finest in self.folded:
            mean, grid = self.folded[finest]
            return SelfAttention(grid=grid, mean=mean)
        layers = tuple(layer for layer in self.self_layers if layer.factor == finest)
        return SelfAttention(grid=layers[0].grid, layers=layers, repeats=self.probe.repeats)

    def picture(self, index: int) -> "Reading":
        """The reading of one picture of the batch, as views."""
        rows = slice(index * self.probe.repeats, (index + 1) * self.probe.repeats)
        one = slice(index, index + 1)
        cross = tuple(
            CrossLayer(layer.name, layer.factor, layer.query[rows], layer.key_weight, layer.scale, layer.grid)
            for layer in self.cross_layers
        )
        selves = tuple(
            SelfLayer(layer.name, layer.factor, layer.query[rows], layer.key[rows], layer.scale, layer.grid) for layer in self.self_layers
        )
        folded = {factor: (mean[one], grid) for factor, (mean, grid) in self.folded.items()}
        features = {name: values[one] for name, values in self.features.items()}
        return Reading(self.probe, self.latent_size, 1, cross, selves, folded, features)

    def bytes(self) -> int:
        """Memory that the reading's tensors hold."""
        tensors = [layer.query for layer in self.cross_layers]
        tensors += [tensor for layer in self.self_layers for tensor in (layer.query, layer.key)]
        tensors += [mean for mean, _ in self.folded.values()] + list(self.features.values())
        return sum(tensor.nbytes for tensor in tensors)
