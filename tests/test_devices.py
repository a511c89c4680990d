"""Devices and number formats. Whether CPU and GPU tensors ever meet is tried with a model on torch's "meta" device, which has shapes,
formats and a device but no values, so that a machine without a GPU finds the mistake too, and any waiting for a GPU's values."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from maskwright.backbones.devices import LARGE, choose_device, choose_dtype, choose_layout
from maskwright.backbones.unet import UNetBackbone
from maskwright.errors import SettingsError
from maskwright.methods.diffsegmenter.method import DiffSegmenter
from maskwright.methods.maskdiffusion.method import MaskDiffusion
from maskwright.passes import run_passes
from maskwright.text.planning import plan_text
from maskwright.text.wording import PROMPTINGS
from maskwright.tiled import _match_range
from maskwright.vocabulary import Vocabulary
from tests.tiny import build_backbone, build_parts

CPU = torch.device("cpu")


class TestChoices:
    def test_devices(self) -> None:
        assert choose_device("cpu") == CPU
        assert choose_device().type in ("cuda", "mps", "cpu")
        for name in ("gpu", "cuda:x", ""):
            with pytest.raises(SettingsError, match="unknown device"):
                choose_device(name)
        for name in ("meta", "xpu"):
            with pytest.raises(SettingsError, match=f"has no {name} device"):
                choose_device(name)
        with pytest.raises(SettingsError, match=r"CUDA device|no cuda device"):
            choose_device("cuda:99")

    def test_number_formats(self) -> None:
        assert choose_dtype("auto", torch.device("cuda"), parameters=1) == torch.float16
        assert choose_dtype("auto", torch.device("mps"), parameters=LARGE) == torch.float32
        assert choose_dtype("auto", CPU, parameters=LARGE - 1) == torch.float32
        assert choose_dtype("auto", CPU, parameters=LARGE) in (torch.bfloat16, torch.float32)
        assert choose_dtype("bfloat16", CPU, parameters=1) == torch.bfloat16
        assert choose_dtype("float16", torch.device("cuda"), parameters=1) == torch.float16
        with pytest.raises(SettingsError, match="unknown dtype 'half': use auto, float32"):
            choose_dtype("half", CPU, parameters=1)
        with pytest.raises(SettingsError, match="slow and inexact"):
            choose_dtype("float16", CPU, parameters=1)

    def test_layouts(self) -> None:
        assert choose_layout(CPU) == choose_layout(torch.device("cuda")) == torch.channels_last
        assert choose_layout(torch.device("mps")) == torch.contiguous_format


class OneDevice(TorchDispatchMode):
    """Fails where an operator gets tensors of two devices, as CUDA's would."""

    MOVES = (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        if func not in self.MOVES:
            tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
            if func is torch.ops.aten.index.Tensor and tensors[0].device.type != "cpu":
                tensors = tensors[:1]  # a list of numbers on the CPU may index a tensor elsewhere
            devices = {tensor.device.type for tensor in tensors if tensor.ndim or tensor.device.type != "cpu"}
            assert len(devices) <= 1, f"{func} gets tensors on {devices}"
        return func(*args, **(kwargs or {}))


@pytest.fixture
def elsewhere() -> Iterator[UNetBackbone]:
    """A model on another device than the CPU; under its eyes, every operator is checked."""
    parts = build_parts()
    for part in ("unet", "vae", "text_encoder"):
        parts[part].to("meta")
    backbone = build_backbone(**parts)
    assert backbone.device.type == "meta"
    with OneDevice():
        yield backbone


def test_the_watch_sees_two_devices() -> None:
    there = torch.zeros(3, device="meta")
    with OneDevice(), torch.inference_mode():
        _ = there + torch.zeros(3).to(there) + 1, there[torch.tensor([0, 1])]
        with pytest.raises(AssertionError, match="gets tensors on"):
            _ = there * torch.zeros(3)


@pytest.mark.parametrize("prompting", PROMPTINGS)
@pytest.mark.parametrize(
    "method",
    [
        DiffSegmenter(reject=1.0),
        DiffSegmenter(keep=True, timesteps=(50, 100), padding="exact"),
        MaskDiffusion(attention_factors=(1, 2), feature_factors=(2, 1)),
        MaskDiffusion(attention_factors=(1, 2), feature_factors=(2, 1), attention="softmax", noise=True),
    ],
    ids=lambda method: method.name,
)
def test_cpu_and_gpu_tensors_never_meet(elsewhere: UNetBackbone, method: Any, prompting: str) -> None:
    latents = elsewhere.encode_image(torch.zeros(2, 3, 16, 24))
    assert latents.device.type == "meta"
    plan = plan_text(elsewhere.text, Vocabulary.parse("dog, cat|owl"), method.wording(), prompting)
    scored = run_passes(elsewhere, latents, method, method.probe(), plan, seed=0, chunk=3)
    assert scored.maps.device.type == "meta" and scored.maps.shape == (2, 2, 8, 12)
    assert scored.strength is None or scored.strength.device.type == "meta"
    assert _match_range(scored.maps[0], scored.maps[1]).device.type == "meta"
