"""Stands in for Apple's GPU on machines without one: tensors that say they lie on "mps", and can do there only what that device can."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

CPU, MPS = torch.device("cpu"), torch.device("mps")
LACKING = ("numpy", "linalg_qr", "linalg_eigh")
MAKERS = ("arange", "zeros", "ones", "full", "empty", "rand", "randn", "linspace", "tensor")


class AppleTensor(torch.Tensor):
    """A tensor of the CPU that poses as one of the GPU."""


class AppleGpu(TorchFunctionMode):
    """While it is on, tensors go to the GPU and back, and what the GPU lacks, or tensors of two devices in one call, are an error."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        there = any(isinstance(tensor, AppleTensor) for tensor in tensors)
        if func == torch.Tensor.device.__get__:
            return MPS if there else CPU
        if there and name in LACKING:
            raise TypeError(f"mps has no {name}")
        if there and name != "to" and any(tensor.ndim and not isinstance(tensor, AppleTensor) for tensor in tensors):
            raise RuntimeError(f"{name} gets tensors on mps and cpu")
        target = named_device(args[1:], kwargs) if name == "to" else named_device((), kwargs) if name in MAKERS else None
        on_gpu = name != "cpu" and (there if target is None else target == MPS)
        result = func(*map(honest, args), **{key: honest(value) for key, value in kwargs.items()})
        if on_gpu:
            return tree_map_only(torch.Tensor, posing, result)
        return tree_map_only(AppleTensor, lambda tensor: tensor.as_subclass(torch.Tensor), result)


def named_device(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.device | None:
    """The device that a call names, by itself or by a tensor that lies there."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Tensor):
            return MPS if isinstance(value, AppleTensor) else CPU
        if isinstance(value, torch.device) or (isinstance(value, str) and value in ("cpu", "mps")):
            return torch.device(value)
    return None


def honest(value: Any) -> Any:
    """An argument with the CPU in the GPU's place."""
    return CPU if isinstance(value, torch.device | str) and value in (MPS, "mps") else value


def posing(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, on the GPU."""
    if tensor.dtype == torch.float64:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
    return tensor.as_subclass(AppleTensor)
