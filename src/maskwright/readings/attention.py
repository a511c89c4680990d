"""Attention as operators over stored queries and keys; arrays of heads x tokens x tokens are never kept."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from maskwright.errors import SettingsError
from maskwright.readings.folding import Upcast, fold_attention
from maskwright.readings.keys import TextKeys

Weighting = Literal["softmax", "exp"]
CELLS_ON_CPU, CELLS_ON_GPU = 1 << 19, 1 << 25  # logits held at a time when re-keying: 2 MB, 128 MB


@dataclass(frozen=True, eq=False)
class CrossLayer:
    """One cross-attention layer of a reading.

    Attributes:
        name: the site's name.
        factor: latent side / side of this layer's grid.
        query: (pictures * repeats, heads, tokens, dim).
        key_weight: (heads * dim, text width): the layer's own projection of text embeddings, shared with the model.
        scale: of the logits, usually dim ** -0.5.
        grid: (h, w) with h * w = tokens.
    """

    name: str
    factor: int
    query: Tensor
    key_weight: Tensor
    scale: float
    grid: tuple[int, int]

    def keys(self, embeddings: Tensor) -> Tensor:
        """(n, width) text embeddings to (heads, dim, n) float32 keys, scaled."""
        projected = F.linear(embeddings.to(self.key_weight), self.key_weight).float() * self.scale  # n heads*dim
        return torch.unflatten(projected, -1, (self.query.shape[1], -1)).permute(1, 2, 0)


@dataclass(frozen=True, eq=False)
class LayerMaps:
    """Label maps of one grid.

    Attributes:
        factor: latent side / side of the grid.
        layers: how many layers were averaged.
        maps: (pictures, labels, h, w) float32.
    """

    factor: int
    layers: int
    maps: Tensor


class CrossAttention:
    """How much each pixel attends to each label: any label, also one that the model did not read.

    Args:
        layers: the stored layers.
        repeats: consecutive rows per picture (timesteps x noise samples), averaged.
    """

    def __init__(self, layers: tuple[CrossLayer, ...], repeats: int) -> None:
        self.layers, self.repeats = layers, repeats

    def maps(self, keys: TextKeys, *, weighting: Weighting = "softmax", factors: tuple[int, ...] | None = None) -> list[LayerMaps]:
        """Label maps, averaged over samples, heads and the layers of each grid, coarsest grid last.

        Args:
            keys: texts and the labels' tokens in them; a label's map is the mean over its tokens.
            weighting: "softmax" is the attention itself, each text's tokens competing; "exp" keeps the exponentiated
                logits (MaskDiffusion), less each label's maximum over everything so that nothing overflows.
            factors: only layers at these factors; None for all.

        Raises:
            SettingsError: when the reading holds no layer at these factors.
        """
        layers = [layer for layer in self.layers if factors is None or layer.factor in factors]
        if not layers:
            held = sorted({layer.factor for layer in self.layers})
            raise SettingsError(f"no cross-attention at factors {factors}: this reading holds {held}")
        peak = self._peak(layers, keys) if weighting == "exp" else None
        sums: dict[int, tuple[Tensor, int]] = {}
        for layer in layers:
            flat = self._softmax(layer, keys) if peak is None else self._exp(layer, keys, peak)
            maps = torch.unflatten(torch.unflatten(flat, 0, (-1, self.repeats)).mean(1), -1, layer.grid)  # pictures labels h w
            total, count = sums.get(layer.factor, (torch.zeros_like(maps), 0))
            sums[layer.factor] = (total + maps, count + 1)
        return [LayerMaps(factor, count, total / count) for factor, (total, count) in sorted(sums.items())]

    def _softmax(self, layer: CrossLayer, keys: TextKeys) -> Tensor:
        """(rows, labels, tokens): mean over heads of the probability of each label's tokens.

        The part of the softmax that all texts share is one number per head and pixel. Pixels are taken so few at a time
        that their logits stay in the processor's cache.
        """
        own = keys.own
        most, texts = own.log_weight.shape
        rows, heads, tokens, _ = layer.query.shape
        device = layer.query.device
        key = layer.keys(own.embeddings.flatten(0, 1))  # heads dim most*texts
        common = layer.keys(keys.embeddings[0, : keys.shared])  # heads dim shared
        log_weight, weights = own.log_weight.flatten().to(device), keys.weights.to(device)
        columns = torch.tensor([place * texts + text for place, text in own.places], device=device)
        text_of = torch.tensor([text for _, text in own.places], device=device)
        result = torch.empty(rows, len(keys), tokens, device=device)
        cells = CELLS_ON_CPU if device.type == "cpu" else CELLS_ON_GPU
        block = max(16, cells // (heads * most * texts))
        for row in range(rows):
            for first in range(0, tokens, block):
                query = layer.query[row, :, first : first + block].float()
                logits = torch.matmul(query, key).add_(log_weight)  # heads pixels most*texts
                own_logits = torch.unflatten(logits, -1, (most, texts))
                elsewhere = torch.logsumexp(torch.matmul(query, common), -1, keepdim=True)  # heads pixels 1, -inf if nothing is shared
                peak = torch.maximum(own_logits.amax(-2), elsewhere)  # heads pixels texts
                own_logits.sub_(peak[..., None, :]).exp_()
                total = own_logits.sum(-2) + (elsewhere - peak).exp()
                probability = (logits[..., columns] / total[..., text_of]).mean(0)  # pixels columns
                result[row, :, first : first + block] = weights @ probability.T
        return result

    def _column_logits(self, layer: CrossLayer, keys: TextKeys) -> Iterator[tuple[int, Tensor]]:
        """For each row its logits of the labels' tokens: (heads, tokens, columns)."""
        texts, positions = ([token[part] for token in keys.tokens] for part in (0, 1))
        key = layer.keys(keys.embeddings[texts, positions])
        for row in range(len(layer.query)):
            yield row, torch.matmul(layer.query[row].float(), key)

    def _peak(self, layers: list[CrossLayer], keys: TextKeys) -> Tensor:
        """(pictures, labels): the largest logit of each label over layers, heads, pixels and samples."""
        elsewhere = keys.weights.to(layers[0].query.device) == 0
        peak = torch.full((len(layers[0].query), len(keys)), -torch.inf, device=elsewhere.device)
        for layer in layers:
            for row, logits in self._column_logits(layer, keys):
                largest = logits.amax((0, 1)).expand(len(keys), -1).masked_fill(elsewhere, -torch.inf).amax(1)
                peak[row] = torch.maximum(peak[row], largest)
        return torch.unflatten(peak, 0, (-1, self.repeats)).amax(1)

    def _exp(self, layer: CrossLayer, keys: TextKeys, peak: Tensor) -> Tensor:
        """(rows, labels, tokens): mean over heads of exp(logit - the label's peak)."""
        weights = keys.weights.to(layer.query.device)
        result = torch.empty(len(layer.query), len(keys), layer.query.shape[2], device=layer.query.device)
        for row, logits in self._column_logits(layer, keys):
            for label, places in enumerate(keys.members):
                own = list(places)
                raised = (logits[..., own] - peak[row // self.repeats, label]).exp().mean(0)  # tokens columns
                result[row, label] = raised @ weights[label, own]
        return result


@dataclass(frozen=True, eq=False)
class SelfLayer:
    """One kept self-attention layer: query and key (pictures * repeats, heads, tokens, dim) on a grid (h, w), and what it upcasts."""

    name: str
    factor: int
    query: Tensor
    key: Tensor
    scale: float
    grid: tuple[int, int]
    upcast: Upcast = "nothing"


class SelfAttention:
    """Which pixels belong together: the mean self-attention matrix A of one grid, rows summing to 1.

    Args:
        layers: kept layers of one grid, or none when `mean` is given.
        mean: (pictures, tokens, tokens) float32, folded while the layers ran.
        grid: (h, w) with h * w = tokens.
        repeats: consecutive rows per picture in `layers`, averaged.
        count: how many layers are in `mean`; with kept layers their number.
    """

    def __init__(
        self, *, grid: tuple[int, int], layers: tuple[SelfLayer, ...] = (), mean: Tensor | None = None, repeats: int = 1, count: int = 1
    ) -> None:
        if mean is None and not layers:
            raise SettingsError("a self-attention operator needs kept layers or a folded mean")
        self.grid, self.layers, self.repeats = grid, layers, repeats
        self.count = len(layers) or count
        self._mean = mean

    def dense(self) -> Tensor:
        """A itself, (pictures, tokens, tokens) float32; from kept layers it is made once, block by block.

        Sums over heads and layers are float32; what is summed was rounded to the model's format, as `fold_attention` tells.
        """
        if self._mean is None:
            tokens = self.grid[0] * self.grid[1]
            pictures = len(self.layers[0].query) // self.repeats
            mean = torch.zeros(pictures, tokens, tokens, device=self.layers[0].query.device)
            for layer in self.layers:
                for row, (query, key) in enumerate(zip(layer.query, layer.key, strict=True)):
                    share = 1 / (len(self.layers) * self.repeats)
                    nothing = query.new_zeros(len(query), tokens, 1)
                    fold_attention(query, key, nothing, layer.scale, total=mean[row // self.repeats], weight=share, upcast=layer.upcast)
            self._mean = mean
        return self._mean

    def sharpened(self, power: float) -> "SelfAttention":
        """A with each entry raised to a power, rows summing to 1 again: above 1 a pixel keeps more to what it attends to most.

        Args:
            power: 0 or more; 1 returns this operator itself.

        Raises:
            SettingsError: a negative power, or none.
        """
        if not power >= 0:
            raise SettingsError(f"self-attention is sharpened by a power of 0 or more, not {power}")
        if power == 1:
            return self
        raised = self.dense() / self.dense().amax(-1, keepdim=True)  # small numbers raised would vanish
        raised = raised.pow(power)
        return SelfAttention(grid=self.grid, mean=raised / raised.sum(-1, keepdim=True), count=self.count)

    def rows(self, points: Tensor) -> Tensor:
        """The attention of some pixels: (pictures, n) int64 token numbers, row by row of the grid, to (pictures, n, tokens)."""
        dense = self.dense()
        return torch.take_along_dim(dense, points[..., None].to(dense.device), 1)

    def complete(self, maps: Tensor, *, hops: int = 1) -> Tensor:
        """A @ maps, `hops` times: every pixel becomes the mean of what it attends to.

        Args:
            maps: (pictures, channels, h, w) on this operator's grid.
            hops: 0 returns the maps.

        Returns:
            (pictures, channels, h, w) float32.
        """
        flat = maps.flatten(2).transpose(1, 2).float()  # pictures tokens channels
        few = self._mean is None and flat.shape[-1] <= self.layers[0].query.shape[-1]
        for _ in range(hops):
            flat = self._through_values(flat) if few else torch.bmm(self.dense(), flat)
        return torch.unflatten(flat.transpose(1, 2), -1, self.grid)

    def _through_values(self, values: Tensor) -> Tensor:
        """A @ values without A: fused attention with the maps as values, (pictures, tokens, channels).

        Values are padded to the head's width, where fused kernels are fast.
        """
        channels = values.shape[-1]
        total = torch.zeros_like(values)
        for layer in self.layers:
            padded = F.pad(values, (0, layer.query.shape[-1] - channels)).to(layer.query)
            spread = padded.repeat_interleave(self.repeats, 0)[:, None].expand(-1, layer.query.shape[1], -1, -1)
            mixed = F.scaled_dot_product_attention(layer.query, layer.key, spread, scale=layer.scale)
            rows = mixed[..., :channels].float().mean(1)  # pictures*repeats tokens channels
            total += torch.unflatten(rows, 0, (-1, self.repeats)).mean(1)
        return total / len(self.layers)
