"""Where a U-Net can be read: its attention layers, decoder inputs and decoder levels, in the order in which they run."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from maskwright.errors import ModelError
from maskwright.readings.probe import Kind, Select, Selection, Stage, selects


@dataclass(frozen=True)
class Site:
    """One place that a recorder can read.

    Attributes:
        name: stable name, e.g. "up.3.1.cross": stage, block, position in the block, kind.
        kind: "self", "cross", "feature" (the input of a decoder layer, skip connection included), "output" (of a self-attention layer)
            or "level" (what a decoder level hands on: the input of its upsampler, of the last one that of the output layers).
        stage: part of the U-Net.
        factor: latent side / side of this layer's grid.
        path: the module's path inside the U-Net.
        grid_path: path of the module whose (rows, channels, h, w) input has this layer's grid.
    """

    name: str
    kind: Kind
    stage: Stage
    factor: int
    path: str
    grid_path: str


def _attention_sites(block: nn.Module, position: int, stage: Stage, label: str, path: str, factor: int) -> list[Site]:
    """The self- and cross-attention layers of one Transformer2DModel, if the block has one at this position."""
    attentions: Any = getattr(block, "attentions", None) or ()
    if position >= len(attentions):
        return []
    inside = f"{path}.attentions.{position}"
    found = []
    for depth, transformer in enumerate(getattr(attentions[position], "transformer_blocks", ())):
        suffix = f".{depth}" if depth else ""
        for attribute, kinds in (("attn1", ("self", "output")), ("attn2", ("cross",))):
            if getattr(transformer, attribute, None) is not None:
                module = f"{inside}.transformer_blocks.{depth}.{attribute}"
                name = f"{label}.{position}{suffix}"
                found += [Site(f"{name}.{kind}", kind, stage, factor, module, inside) for kind in kinds]  # type: ignore[arg-type]
    return found


def _level_site(number: int, factor: int, taker: str) -> Site:
    """What a decoder level hands on, read where the module that takes it begins."""
    return Site(f"up.{number}.level", "level", "up", factor, taker, taker)


def unet_sites(unet: nn.Module) -> tuple[Site, ...]:
    """All sites of a UNet2DConditionModel in running order.

    Raises:
        ModelError: for a network that is not built of down, mid and up blocks.
    """
    if not all(hasattr(unet, part) for part in ("down_blocks", "mid_block", "up_blocks")):
        raise ModelError(f"{type(unet).__name__} is not a Stable-Diffusion-like U-Net: use an SD 1.x or 2.x model")
    sites: list[Site] = []
    factor = 1
    for number, block in enumerate(unet.down_blocks):  # type: ignore[arg-type]
        for position in range(len(block.resnets)):
            sites += _attention_sites(block, position, "down", f"down.{number}", f"down_blocks.{number}", factor)
        if getattr(block, "downsamplers", None):
            factor *= 2
    if unet.mid_block is not None:
        middle: Any = unet.mid_block
        for position in range(len(getattr(middle, "attentions", None) or ())):
            sites += _attention_sites(middle, position, "mid", "mid", "mid_block", factor)
    for number, block in enumerate(unet.up_blocks):  # type: ignore[arg-type]
        path = f"up_blocks.{number}"
        for position in range(len(block.resnets)):
            entrance = f"{path}.resnets.{position}"
            sites.append(Site(f"up.{number}.{position}.input", "feature", "up", factor, entrance, entrance))
            sites += _attention_sites(block, position, "up", f"up.{number}", path, factor)
        if getattr(block, "upsamplers", None):
            sites.append(_level_site(number, factor, f"{path}.upsamplers.0"))
            factor //= 2
    exit_path = "conv_norm_out" if getattr(unet, "conv_norm_out", None) is not None else "conv_out"
    sites.append(_level_site(len(unet.up_blocks) - 1, factor, exit_path))  # type: ignore[arg-type]
    return tuple(sites)


def choose(sites: tuple[Site, ...], kind: Kind, selection: Selection) -> tuple[Site, ...]:
    """The sites of one kind that a selection means, in running order.

    Raises:
        ModelError: when a part of the selection means none of this model's layers.
    """
    wanted = {site.name for select in selects(selection) for site in _choose_one(sites, kind, select)}
    return tuple(site for site in sites if site.kind == kind and site.name in wanted)


def _choose_one(sites: tuple[Site, ...], kind: Kind, select: Select) -> list[Site]:
    here = [site for site in sites if site.kind == kind and site.stage in select.stages]
    factors = select.factors
    if isinstance(factors, str):
        edge = min if factors == "finest" else max
        factors = (edge((site.factor for site in here), default=1),)
    if factors is not None:
        here = [site for site in here if site.factor in factors]
    if select.last:
        here = list({site.factor: site for site in here}.values())
    if not here:
        there = sorted({site.factor for site in sites if site.kind == kind})
        raise ModelError(f"this model has no {kind} layer for {select}: its {kind} layers are at 1/{there} of the latent side")
    return here
