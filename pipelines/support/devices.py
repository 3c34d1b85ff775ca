"""Where PyTorch computes, and the random generators there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError


def resolve_device(device: torch.device | str | None) -> torch.device:
    """A device that is there; None takes a CUDA device where there is one, else the CPU.

    Raises:
        ArgumentError: no device, or one that PyTorch does not see.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise ArgumentError("device", f"'{device}' is no device; 'cpu', 'cuda' or 'cuda:1' would be") from error
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise ArgumentError(
            "device", f"'{device}' was asked for, PyTorch sees {torch.cuda.device_count()} CUDA devices"
        )
    return place


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds the CPU's generator and `device`'s; restores both."""
    cuda = [torch.cuda.current_device() if device.index is None else device.index] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        for index in cuda:
            torch.cuda.default_generators[index].manual_seed(seed)
        yield


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the CPU on a device, without waiting for what the device does."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def exact_arithmetic() -> AbstractContextManager[None]:
    """Repeatable kernels in full float32 on CUDA, whose TF32 default would round what comparisons turn on."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def lay_out(model: nn.Module, layout: torch.memory_format) -> None:
    """The order in memory of the convolutions' weights; `Module.to` fails where weights of bands have five axes."""
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)
