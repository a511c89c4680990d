"""Reads queries, keys, attention and features while a U-Net runs, and leaves the network as it was.

The only code that touches attention processors. Kept layers are read by forward hooks on their projections, so the
network computes exactly what it computes without a recorder. Folded layers run under `FoldingProcessor`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from maskwright.errors import ModelError
from maskwright.readings.folding import FoldingProcessor
from maskwright.readings.sites import Site


class _ReadEnough(Exception):
    """Leaves the forward pass after the last site."""


@dataclass
class Recording:
    """What a recorder saw, by site name.

    Attributes:
        queries: (rows, tokens, heads * dim), kept layers.
        keys: the same for kept self-attention layers.
        grids: (h, w) of each attention site.
        features: (rows, channels, h, w).
        outputs: (rows, tokens, channels) of self-attention layers.
        levels: (rows, channels, h, w) that decoder levels hand on.
        folded: by factor, the sum over folded layers of the mean attention over heads, (rows, tokens, tokens) float32,
            and the number of layers in it.
    """

    queries: dict[str, Tensor] = field(default_factory=dict)
    keys: dict[str, Tensor] = field(default_factory=dict)
    grids: dict[str, tuple[int, int]] = field(default_factory=dict)
    features: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    levels: dict[str, Tensor] = field(default_factory=dict)
    folded: dict[int, tuple[Tensor, int]] = field(default_factory=dict)


SKIPPING = ("cache", "fbc_", "pyramid_attention_broadcast", "layer_skip")  # in the names of diffusers' hooks that leave layers out


class Recorder:
    """Installs itself on a U-Net for the time of one forward pass.

    Args:
        unet: the network.
        kept: attention, feature, output and level sites to keep.
        folded: self-attention sites to fold.
        rows_per_picture: so many consecutive rows are samples of one picture; folding averages them.
        stop: leave the network after the last site (its output is then not computed).

    Raises:
        ModelError: for a network whose blocks may be skipped.
    """

    def __init__(
        self, unet: nn.Module, *, kept: tuple[Site, ...], folded: tuple[Site, ...], rows_per_picture: int = 1, stop: bool = True
    ) -> None:
        if skipping := _skipping_hooks(unet):
            raise ModelError(f"this U-Net skips layers ({', '.join(skipping)}), which a reading would miss: load it anew without them")
        self.unet, self.kept, self.folded = unet, kept, folded
        self.rows_per_picture, self.stop = rows_per_picture, stop
        self.recording = Recording()
        self._waiting: set[str] = set()

    def run(self, forward: Callable[[], Any]) -> Any:
        """Calls `forward` under the recorder; returns its value, or None when it was left early.

        Raises:
            ModelError: when a site was not reached or its attention is computed in a way that hides queries and keys.
        """
        self._waiting = {site.name for site in (*self.kept, *self.folded)}
        with self._installed():
            try:
                value = forward()
            except _ReadEnough:
                value = None
        if self._waiting:
            missing = ", ".join(sorted(self._waiting))
            raise ModelError(f"these layers were not read: {missing}. Unfuse the projections (unfuse_qkv_projections) and read again")
        return value

    def _done(self, site: Site) -> None:
        self._waiting.discard(site.name)
        if self.stop and not self._waiting:
            raise _ReadEnough

    @contextmanager
    def _installed(self) -> Iterator[None]:
        handles: list[Any] = []
        processors: list[tuple[Any, Any]] = []
        try:
            keep = {
                "feature": self._keep_input, "level": self._keep_input, "output": self._keep_output, "self": self._keep_attention,
                "cross": self._keep_attention,
            }  # fmt: skip
            for site in self.kept:
                handles += keep[site.kind](site)
            for site in self.folded:
                handles.append(self._watch_grid(site))
                attention: Any = self.unet.get_submodule(site.path)
                processors.append((attention, attention.processor))
                attention.set_processor(
                    FoldingProcessor(attention, partial(self._sum_of, site), partial(self._folded, site), self.rows_per_picture)
                )
            yield
        finally:
            for attention, processor in processors:
                attention.set_processor(processor)
            for handle in handles:
                handle.remove()

    def _watch_grid(self, site: Site) -> Any:
        def note(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            hidden = inputs[0] if inputs else named["hidden_states"]
            self.recording.grids[site.name] = (int(hidden.shape[-2]), int(hidden.shape[-1]))

        return self.unet.get_submodule(site.grid_path).register_forward_pre_hook(note, with_kwargs=True)

    def _keep_input(self, site: Site) -> list[Any]:
        """What a module gets: a decoder layer, or for a level whatever takes what it hands on."""
        held, name = (self.recording.features, "input_tensor") if site.kind == "feature" else (self.recording.levels, "hidden_states")

        def note(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            held[site.name] = inputs[0] if inputs else named[name]
            self._done(site)

        return [self.unet.get_submodule(site.path).register_forward_pre_hook(note, with_kwargs=True)]

    def _keep_output(self, site: Site) -> list[Any]:
        def note(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            self.recording.outputs[site.name] = output
            self._done(site)

        return [self._watch_grid(site), self.unet.get_submodule(site.path).register_forward_hook(note)]

    def _keep_attention(self, site: Site) -> list[Any]:
        attention = self.unet.get_submodule(site.path)
        _refuse_unusual(attention, site)

        def note_query(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            self.recording.queries[site.name] = output
            if site.kind == "cross":
                self._done(site)

        def note_key(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            self.recording.keys[site.name] = output
            self._done(site)

        handles = [self._watch_grid(site), attention.to_q.register_forward_hook(note_query)]  # type: ignore[union-attr]
        if site.kind == "self":
            handles.append(attention.to_k.register_forward_hook(note_key))  # type: ignore[union-attr]
        return handles

    def _sum_of(self, site: Site, pictures: int, tokens: int, device: torch.device) -> Tensor:
        """The sum that the layers of one grid share."""
        if site.factor not in self.recording.folded:
            self.recording.folded[site.factor] = (torch.zeros(pictures, tokens, tokens, device=device), 0)
        return self.recording.folded[site.factor][0]

    def _folded(self, site: Site) -> None:
        total, layers = self.recording.folded[site.factor]
        self.recording.folded[site.factor] = (total, layers + 1)
        self._done(site)


def _skipping_hooks(unet: nn.Module) -> list[str]:
    """Names of the hooks of diffusers on this network that leave out layers (they are found on modules, not in the config)."""
    registries = (getattr(module, "_diffusers_hook", None) for module in unet.modules())
    names = {name for registry in registries for name in getattr(registry, "hooks", ())}
    return sorted(name for name in names if any(part in name for part in SKIPPING))


def _refuse_unusual(attention: Any, site: Site) -> None:
    """Refuses attention that is more than softmax(q k^T / sqrt(d)) with plain projections, which operators could not redo."""
    if getattr(attention, "norm_q", None) is not None or getattr(attention, "norm_k", None) is not None:
        raise ModelError(f"{site.name} normalises queries or keys, which this reader does not know: use an SD 1.x or 2.x model")
    if site.kind == "cross" and (type(attention.to_k) is not nn.Linear or attention.to_k.bias is not None):
        raise ModelError(f"the keys of {site.name} are more than a plain projection (a LoRA?): call fuse_lora, then unload_lora_weights")


def split_heads(projected: Tensor, heads: int) -> Tensor:
    """(rows, tokens, heads * dim) to (rows, heads, tokens, dim)."""
    return torch.unflatten(projected, -1, (heads, -1)).transpose(1, 2)
