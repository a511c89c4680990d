"""What one probe returned for a batch of pictures."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from maskwright.errors import SettingsError
from maskwright.readings.attention import CrossAttention, CrossLayer, SelfAttention, SelfLayer
from maskwright.readings.denoising import Denoiser
from maskwright.readings.probe import Kind, Probe, Selection
from maskwright.readings.sites import Site, choose


@dataclass(frozen=True, eq=False)
class Reading:
    """Queries, keys, folded attention and features of a batch of pictures; nothing else.

    Attributes:
        probe: what was asked for.
        latent_size: (h, w) of the latents.
        pictures: number of pictures in the batch.
        cross_layers: kept cross-attention layers.
        self_layers: kept self-attention layers.
        folded: by factor the mean self-attention (pictures, tokens, tokens) float32, its grid, and how many layers are in it.
        features: by site name (pictures, channels, h, w) float32, averaged over timesteps and samples.
        outputs: likewise, of self-attention layers.
        levels: likewise, of decoder levels.
        sites: the layers that were read, so that a method finds its own among those of others.
        denoiser: asks the network again about these pictures; None where the pictures were drawn, not given.
    """

    probe: Probe
    latent_size: tuple[int, int]
    pictures: int
    cross_layers: tuple[CrossLayer, ...] = ()
    self_layers: tuple[SelfLayer, ...] = ()
    folded: Mapping[int, tuple[Tensor, tuple[int, int], int]] = field(default_factory=dict)
    features: Mapping[str, Tensor] = field(default_factory=dict)
    outputs: Mapping[str, Tensor] = field(default_factory=dict)
    levels: Mapping[str, Tensor] = field(default_factory=dict)
    sites: tuple[Site, ...] = ()
    denoiser: Denoiser | None = None

    @property
    def cross_attention(self) -> CrossAttention:
        """The operator over all kept cross-attention layers."""
        if not self.cross_layers:
            raise SettingsError("this reading holds no cross-attention: its probe did not ask for it")
        return CrossAttention(self.cross_layers, self.probe.repeats)

    def cross_attention_of(self, selection: Selection) -> CrossAttention:
        """The operator over the selected layers of those that were kept."""
        names = self._names("cross", selection)
        return CrossAttention(tuple(layer for layer in self.cross_layers if layer.name in names), self.probe.repeats)

    @property
    def self_factors(self) -> tuple[int, ...]:
        """Factors at which self-attention was read, finest grid first."""
        return tuple(sorted({layer.factor for layer in self.self_layers} | set(self.folded)))

    @property
    def self_attention(self) -> SelfAttention:
        """The operator at the finest grid that was read."""
        if not self.self_factors:
            raise SettingsError("this reading holds no self-attention: its probe did not ask for it")
        return self.self_attention_at(self.self_factors[0])

    def self_attention_at(self, factor: int) -> SelfAttention:
        """The operator at one grid, over all its layers that were read.

        Raises:
            SettingsError: nothing was read there.
        """
        if factor in self.folded:
            mean, grid, count = self.folded[factor]
            return SelfAttention(grid=grid, mean=mean, count=count)
        layers = tuple(layer for layer in self.self_layers if layer.factor == factor)
        if not layers:
            raise SettingsError(f"no self-attention at factor {factor}: this reading holds {list(self.self_factors)}")
        return SelfAttention(grid=layers[0].grid, layers=layers, repeats=self.probe.repeats)

    def features_of(self, selection: Selection) -> dict[str, Tensor]:
        """The selected decoder inputs of those that were kept, in running order: (pictures, channels, h, w) float32."""
        return {name: self.features[name] for name in self._names("feature", selection)}

    def outputs_of(self, selection: Selection) -> dict[str, Tensor]:
        """The selected self-attention outputs of those that were kept, in running order: (pictures, channels, h, w) float32."""
        return {name: self.outputs[name] for name in self._names("output", selection)}

    def levels_of(self, selection: Selection) -> dict[str, Tensor]:
        """What the selected decoder levels of those that were kept hand on, coarsest first: (pictures, channels, h, w) float32."""
        return {name: self.levels[name] for name in self._names("level", selection)}

    def _names(self, kind: Kind, selection: Selection) -> tuple[str, ...]:
        return tuple(site.name for site in choose(self.sites, kind, selection))

    def picture(self, index: int) -> "Reading":
        """The reading of one picture of the batch, as views."""
        rows = slice(index * self.probe.repeats, (index + 1) * self.probe.repeats)
        one = slice(index, index + 1)
        cross = tuple(
            CrossLayer(layer.name, layer.factor, layer.query[rows], layer.key_weight, layer.scale, layer.grid)
            for layer in self.cross_layers
        )
        selves = tuple(replace(layer, query=layer.query[rows], key=layer.key[rows]) for layer in self.self_layers)
        folded = {factor: (mean[one], grid, count) for factor, (mean, grid, count) in self.folded.items()}
        features = {name: values[one] for name, values in self.features.items()}
        outputs = {name: values[one] for name, values in self.outputs.items()}
        levels = {name: values[one] for name, values in self.levels.items()}
        denoiser = self.denoiser and self.denoiser.picture(index)
        return Reading(self.probe, self.latent_size, 1, cross, selves, folded, features, outputs, levels, self.sites, denoiser)

    def bytes(self) -> int:
        """Memory that the reading's tensors hold."""
        tensors = [layer.query for layer in self.cross_layers]
        tensors += [tensor for layer in self.self_layers for tensor in (layer.query, layer.key)]
        tensors += [mean for mean, _, _ in self.folded.values()] + [*self.features.values(), *self.outputs.values(), *self.levels.values()]
        return sum(tensor.nbytes for tensor in tensors)
