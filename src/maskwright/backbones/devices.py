"""Chooses device, number format and memory layout."""

from typing import TYPE_CHECKING

from maskwright.errors import SettingsError

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "float16", "bfloat16")
LARGE = 100_000_000  # parameters from which a CPU with bfloat16 instructions is worth the shorter format


def choose_device(name: str = "auto") -> "torch.device":
    """The device of a name; "auto" is the first CUDA device, else Apple's, else the CPU.

    Raises:
        SettingsError: for a device that this machine lacks.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise SettingsError(f"unknown device {name!r}: use auto, cpu, cuda, cuda:1 or mps") from None
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device.type, False):
        raise SettingsError(f"this machine has no {device.type} device that torch can use: use --device cpu or auto")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingsError(f"there is no {name}: this machine has {torch.cuda.device_count()} CUDA device(s)")
    return device


def choose_dtype(name: str, device: "torch.device", *, parameters: int) -> "torch.dtype":
    """The format of a name; "auto" is float16 on a GPU, bfloat16 for a large model on a CPU that computes in it, else float32.

    Raises:
        SettingsError: for an unknown name, or float16 on a CPU.
    """
    import torch

    if name == "auto":
        if device.type == "cuda":
            return torch.float16
        fast = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
        return torch.bfloat16 if fast and parameters >= LARGE else torch.float32
    if name not in DTYPES:
        raise SettingsError(f"unknown dtype {name!r}: use auto, {', '.join(DTYPES)}")
    if name == "float16" and device.type == "cpu":
        raise SettingsError("float16 is slow and inexact on a CPU: use --dtype bfloat16 or float32")
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def choose_layout(device: "torch.device") -> "torch.memory_format":
    """Channels last, which makes convolutions several times faster on CPUs and faster on GPUs; Apple's get the plain order."""
    import torch

    return torch.contiguous_format if device.type == "mps" else torch.channels_last
