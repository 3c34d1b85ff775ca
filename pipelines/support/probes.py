"""Inputs to compare a network on: its example, random ones, and values at the edge of what floats can hold."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

Kind = Literal["example", "random", "negative", "zero", "large", "NaN", "infinite"]
_LARGE = 1e4
_LARGE_HALF = 1e2  # float16 ends at 65504


@dataclass(frozen=True)
class Probe:
    """One set of inputs.

    Attributes:
        kind: what is special about them.
        tensors: the inputs.
    """

    kind: Kind
    tensors: tuple[torch.Tensor, ...]

    @property
    def name(self) -> str:
        """As a message has it."""
        names = {"example": "the example inputs", "NaN": "inputs with one NaN", "infinite": "inputs with one infinity"}
        return names.get(self.kind, f"{self.kind} inputs")


def probes(example: Sequence[torch.Tensor], *, seed: int = 0, wild: bool = True) -> Iterator[Probe]:
    """Inputs of the shapes and types of some example, which come first.

    Integers and booleans stay within the example's range, since they may be indices; where no input holds floats, there
    are only the example and random ones.

    Args:
        example: the example.
        seed: of the random ones.
        wild: whether large, NaN and infinite ones are wanted.
    """
    example = tuple(x.detach() for x in example)
    generator = torch.Generator().manual_seed(seed)
    yield Probe("example", example)
    random = tuple(_random(x, generator) for x in example)
    yield Probe("random", random)
    if not any(x.is_floating_point() and x.numel() for x in example):
        return

    def floats(change: Callable[[torch.Tensor], torch.Tensor]) -> tuple[torch.Tensor, ...]:
        return tuple(change(x) if x.is_floating_point() else x for x in random)

    yield Probe("negative", floats(lambda x: -x.abs()))
    yield Probe("zero", floats(torch.zeros_like))
    if wild:
        yield Probe("large", floats(lambda x: x * (_LARGE_HALF if x.dtype == torch.float16 else _LARGE)))
        first = next(k for k, x in enumerate(random) if x.is_floating_point() and x.numel())
        values: dict[Kind, float] = {"NaN": math.nan, "infinite": math.inf}
        for kind, value in values.items():
            one = _with_one(random[first], value, generator)
            yield Probe(kind, (*random[:first], one, *random[first + 1 :]))


def nearby(probe: Probe, count: int) -> Iterator[tuple[torch.Tensor, ...]]:
    """The inputs of a probe, each finite float of them changed by about a hundred thousandth of the largest."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        yield tuple(_changed(x, generator) for x in probe.tensors)


def nearby_module(module: nn.Module, seed: int) -> nn.Module:
    """A copy whose parameters and buffers differ in their last digits; the module itself where it cannot be copied."""
    try:
        copied = copy.deepcopy(module)
    except Exception:  # the user's own code
        return module
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*copied.parameters(), *copied.buffers()):
            if tensor.is_floating_point() and tensor.numel():
                noise = 2 * torch.rand(tensor.shape, generator=generator).to(tensor.device, tensor.dtype) - 1
                tensor.mul_(1 + 8 * torch.finfo(tensor.dtype).eps * noise)
    return copied


def _random(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if x.is_floating_point():
        made = torch.randn(x.shape, generator=generator, dtype=torch.float32)
    elif not x.numel():
        return x
    else:
        low, high = int(x.min()), int(x.max())
        made = torch.randint(low, min(high + 1, 2**63 - 1), x.shape, generator=generator) if high > low else x
    return made.to(x.device, x.dtype)


def _with_one(x: torch.Tensor, value: float, generator: torch.Generator) -> torch.Tensor:
    changed = x.clone(memory_format=torch.contiguous_format)
    if x.numel():
        changed.view(-1)[int(torch.randint(x.numel(), (), generator=generator))] = value
    return changed


def _changed(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if not x.is_floating_point() or not x.numel():
        return x
    finite = x[x.isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 0.0
    step = max(1e-5, 4 * torch.finfo(x.dtype).eps) * (scale or 1e-2)
    noise = (2 * torch.rand(x.shape, generator=generator) - 1) * step
    return x + noise.to(x.device, x.dtype)
