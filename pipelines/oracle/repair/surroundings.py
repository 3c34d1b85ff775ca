"""What happens to a layer's output in the original network: a BatchNorm, a sum with another activation, a rectifier.

A BatchNorm takes away any constant, so a layer before one is fitted up to a constant. Where the output is then added to
an activation that is there already (a residual connection), the layer can make up for what that one lacks by now: it is
fitted to the sum, as in He et al. (ICCV 2017), section 3.2. What a rectifier then cuts off need
not be right. All this is told by watching the model's own code run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.hooks import RemovableHandle

from loopmorph.pipelines.support.hooks import hooked

_SUMS = frozenset({torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor})
_RELU = frozenset({torch.ops.aten.relu.default, torch.ops.aten.relu_.default})
_HARDTANH = frozenset({torch.ops.aten.hardtanh.default, torch.ops.aten.hardtanh_.default})


@dataclass(frozen=True)
class Place:
    """Where a tensor is met: what a module was given at a position, or gave (position 0)."""

    module: str
    side: Literal["in", "out"]
    position: int = 0


@dataclass(frozen=True)
class Surroundings:
    """What becomes of a layer's output.

    Attributes:
        norm: the BatchNorm with running statistics that it is given to; None for none.
        other: where the activation is met that it, or what `norm` makes of it, is added to; None for none. It is there
            before the layer runs.
        passed: what a rectifier lets through that is all that reads the output, what `norm` makes of it, or the sum;
            None where no rectifier does, or something else reads it too.
    """

    norm: str | None = None
    other: Place | None = None
    passed: tuple[float, float] | None = None


def surroundings(model: nn.Module, names: Container[str], inputs: Sequence[torch.Tensor]) -> dict[str, Surroundings]:
    """What becomes of the outputs of some modules.

    Args:
        model: the network, in eval mode; it is run once.
        names: the modules.
        inputs: its positional inputs, of any batch.
    """
    watch = _Watch(names)
    with torch.no_grad(), _hooked(model, watch), _OperationWatch(watch):
        model(*inputs)
    return watch.found


def offset_of(norm: nn.Module, like: torch.Tensor) -> torch.Tensor:
    """What a BatchNorm adds to each channel after scaling it, in eval mode, to be broadcast against its input.

    Raises:
        TypeError: a module without running statistics.
    """
    scale = scale_of(norm, like)
    if not isinstance(norm, _NormBase) or norm.running_mean is None:
        raise TypeError(f"a {type(norm).__name__} has no running statistics")
    offset = -scale * norm.running_mean.reshape(scale.shape)
    return offset if norm.bias is None else offset + norm.bias.reshape(scale.shape)


def scale_of(norm: nn.Module, like: torch.Tensor) -> torch.Tensor:
    """What a BatchNorm multiplies each channel with, in eval mode, to be broadcast against its input.

    Raises:
        TypeError: a module without running statistics.
    """
    if not isinstance(norm, _NormBase) or norm.running_var is None:
        raise TypeError(f"a {type(norm).__name__} has no running statistics")
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight
    return scale.reshape(1, -1, *[1] * (like.dim() - 2))


@contextmanager
def held(
    model: nn.Module, places: Container[Place], note: Callable[[Place, torch.Tensor], None] | None = None
) -> Iterator[dict[Place, torch.Tensor]]:
    """The tensors that are met at some places while the model runs, each as long as no later one is met there.

    Args:
        model: the network.
        places: where.
        note: told of each tensor when it is met.
    """
    found: dict[Place, torch.Tensor] = {}

    def keep(name: str, side: Literal["in", "out"], values: Sequence[Any]) -> None:
        for position, value in enumerate(values):
            place = Place(name, side, position)
            if place in places and isinstance(value, torch.Tensor):
                found[place] = value
                if note is not None:
                    note(place, value)

    with hooked(_watching(model, keep)):
        yield found


@dataclass
class _Watch:
    """What has been seen so far; tensors are known by their identity and kept, so that none is taken for another.

    Attributes:
        makers: tensor -> the layer that made it, perhaps through a BatchNorm.
        places: tensor -> where it was met first.
        clock: how many calls there were; `ran` and `met` say when.
        ends: tensor -> the layer whose output it is, or what its norm or its sum made of that.
        used: those of them that an operation has read.
    """

    names: Container[str]
    found: dict[str, Surroundings] = field(default_factory=dict)
    makers: dict[int, str] = field(default_factory=dict)
    places: dict[int, Place] = field(default_factory=dict)
    met: dict[int, int] = field(default_factory=dict)
    ran: dict[str, int] = field(default_factory=dict)
    clock: int = 0
    ends: dict[int, str] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    alive: list[Any] = field(default_factory=list)

    def see(self, name: str, side: Literal["in", "out"], values: Sequence[Any]) -> None:
        self.clock += 1
        if side == "in" and name in self.names:
            self.ran[name] = self.clock
        for position, value in enumerate(values):
            if isinstance(value, torch.Tensor) and id(value) not in self.places:
                self.alive.append(value)
                self.places[id(value)] = Place(name, side, position)
                self.met[id(value)] = self.clock

    def end(self, value: torch.Tensor, maker: str) -> None:
        """Takes note of what a layer's output has become."""
        self.alive.append(value)
        self.ends[id(value)] = maker
        self.used.discard(id(value))

    def operation(self, func: Any, args: Sequence[Any], result: Any) -> None:
        """Takes note of an operation on tensors, in place or not."""
        for value in args:
            maker = self.ends.get(id(value)) if isinstance(value, torch.Tensor) else None
            if maker is not None and maker in self.found:
                again = id(value) in self.used
                self.used.add(id(value))
                passed = None if again else _passed(func, args)
                self.found[maker] = replace(self.found[maker], passed=passed)
        if any(value is result for value in args):
            self.ends.pop(id(result), None)
        if func in _SUMS and all(isinstance(x, torch.Tensor) for x in args[:2]):
            self._sum(args[0], args[1], result)

    def _sum(self, a: torch.Tensor, b: torch.Tensor, result: torch.Tensor) -> None:
        for one, other in ((a, b), (b, a)):
            maker = self.makers.get(id(one))
            if maker is None or id(other) not in self.places or one.shape != other.shape:
                continue
            if self.met[id(other)] < self.ran[maker]:
                self.found[maker] = replace(self.found[maker], other=self.places[id(other)])
                self.end(result, maker)


def _passed(func: Any, args: Sequence[Any]) -> tuple[float, float] | None:
    """What a rectifier lets through; None for any other operation."""
    if func in _RELU:
        return 0.0, math.inf
    if func in _HARDTANH:
        ends = [-1.0, 1.0]
        ends[: len(args) - 1] = args[1:3]
        return ends[0], ends[1]
    return None


class _OperationWatch(TorchDispatchMode):
    """Tells of every operation on tensors."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._watch = watch

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._watch.operation(func, args if not kwargs else (*args, *kwargs.values()), result)
        return result


@contextmanager
def _hooked(model: nn.Module, watch: _Watch) -> Iterator[None]:
    modules = dict(model.named_modules())

    def see(name: str, side: Literal["in", "out"], values: Sequence[Any]) -> None:
        watch.see(name, side, values)
        if side == "in" and _measures(modules[name]) and id(values[0]) in watch.makers:
            maker = watch.makers[id(values[0])]
            watch.found[maker] = Surroundings(norm=name)
        if side == "out" and isinstance(values[0], torch.Tensor):
            if name in watch.names:
                watch.makers[id(values[0])] = name
                watch.found[name] = Surroundings()
                watch.end(values[0], name)
            else:
                maker = next((k for k, s in watch.found.items() if s.norm == name), "")
                if maker:
                    watch.makers[id(values[0])] = maker
                    watch.end(values[0], maker)

    with hooked(_watching(model, see)):
        yield


def _measures(module: nn.Module) -> bool:
    return isinstance(module, _NormBase) and module.running_var is not None


def _watching(model: nn.Module, see: Any) -> Iterator[RemovableHandle]:
    """Hooks that call `see(name, side, values)` with what each module is given and gives."""
    for name, module in model.named_modules():

        def before(_module: nn.Module, args: tuple[Any, ...], name: str = name) -> None:
            see(name, "in", args)

        def after(_module: nn.Module, _args: Any, output: Any, name: str = name) -> None:
            see(name, "out", (output,))

        yield module.register_forward_pre_hook(before)
        yield module.register_forward_hook(after)
