"""An original module's run, kept, so that many rewritten ones are fitted to it without running it again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from loopmorph.pipelines.oracle.repair.lockstep import LayerCall
from loopmorph.pipelines.oracle.repair.surroundings import Place, Surroundings, held, surroundings
from loopmorph.pipelines.support.devices import exact_arithmetic
from loopmorph.pipelines.support.hooks import hooked
from loopmorph.pipelines.support.tensor_memory import bytes_of

_MEMORY = 1 << 30  # bytes of the runs that are kept together


@dataclass(frozen=True)
class RecordedRun:
    """A run of a module of the original.

    Attributes:
        inputs: its positional inputs, (N, ...) each.
        calls: of its layers, without their inputs, and of its BatchNorms, in order.
        around: what becomes of each layer's output.
        given: the activations that these are added to.
    """

    inputs: tuple[torch.Tensor, ...]
    calls: tuple[LayerCall, ...]
    around: Mapping[str, Surroundings]
    given: dict[Place, torch.Tensor]

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        tensors = [*self.inputs, *self.given.values()]
        tensors += [x for call in self.calls for x in (*call.inputs, call.output)]
        return bytes_of(tensors)


class Replay:
    """A recorded run, handed out call by call as a `Lockstep` does.

    Args:
        run: it.
    """

    def __init__(self, run: RecordedRun) -> None:
        self._calls = iter(run.calls)

    def until(self, name: str) -> LayerCall | None:
        """The next call of a module; those before it are passed over. None where there is none."""
        return next((call for call in self._calls if call.name == name), None)


def record_run(
    source: nn.Module, layers: Collection[str], norms: Collection[str], inputs: tuple[torch.Tensor, ...]
) -> RecordedRun | None:
    """Runs a module of the original, and keeps what its layers give.

    Args:
        source: the module, in eval mode.
        layers, norms: the names of the layers in it that can be fitted, and of its BatchNorms.
        inputs: its positional inputs, (N, ...) each.

    Returns:
        None where the module itself changes in place what was to be kept, where a layer's output is added to what is
        met at a place twice (a ReLU that runs twice), or where it would be larger than what all may have together.
    """
    around = surroundings(source, layers, [x[:1] for x in inputs])
    watch = _Watch(layers, norms)
    places = {each.other for each in around.values() if each.other is not None}
    for each in inputs:
        watch.note(each)
    with held(source, places, watch.meet) as given, hooked(watch.hooks(source)), torch.no_grad(), exact_arithmetic():
        source(*inputs)
    return None if watch.is_spoilt else RecordedRun(inputs, tuple(watch.calls), around, given)


@dataclass
class _Watch:
    """What has been seen, and which version of each tensor it was; nothing any more once it is useless."""

    layers: Collection[str]
    norms: Collection[str]
    calls: list[LayerCall] = field(default_factory=list)
    versions: list[tuple[torch.Tensor, int]] = field(default_factory=list)
    met: dict[Place, torch.Tensor] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    useless: bool = False

    def note(self, value: torch.Tensor) -> None:
        if self.useless:
            return
        self.versions.append((value, value._version))
        self.sizes[value.data_ptr()] = value.nbytes
        if sum(self.sizes.values()) > _MEMORY:
            self._give_up()

    def meet(self, place: Place, value: torch.Tensor) -> None:
        if self.met.setdefault(place, value) is not value:
            self._give_up()
        self.note(value)

    def _give_up(self) -> None:
        self.useless = True
        for each in (self.calls, self.versions, self.met, self.sizes):
            each.clear()

    @property
    def is_spoilt(self) -> bool:
        return self.useless or any(value._version != version for value, version in self.versions)

    def hooks(self, model: nn.Module) -> Iterator[RemovableHandle]:
        for name, module in model.named_modules():
            if name in self.layers or name in self.norms:
                yield module.register_forward_hook(self._hook(name))

    def _hook(self, name: str) -> Callable[[nn.Module, Sequence[Any], Any], None]:
        def keep(_module: nn.Module, args: Sequence[Any], output: Any) -> None:
            inputs = tuple(x for x in args if isinstance(x, torch.Tensor)) if name in self.norms else ()
            result = output if name in self.layers else torch.empty(0)  # of a BatchNorm its input is wanted alone
            for each in (*inputs, result):
                self.note(each)
            if not self.useless:
                self.calls.append(LayerCall(name, inputs, result))

        return keep


class RecordedRuns:
    """Runs by the module's name, as many of the last ones as fit into memory."""

    def __init__(self) -> None:
        self._kept: dict[str, RecordedRun | None] = {}

    def of(self, path: str, make: Callable[[str], RecordedRun | None]) -> RecordedRun | None:
        """The run of a module.

        Args:
            path: its name.
            make: makes it where it is not kept; None where there can be none. It is no attribute: who keeps the runs
                makes them, and both would stay in memory until the garbage collector comes by.
        """
        found = self._kept.pop(path) if path in self._kept else make(path)
        self._kept[path] = found
        sizes = {name: run.size for name, run in self._kept.items() if run is not None}
        for name in [name for name in sizes if name != path]:  # the oldest first
            if sum(sizes.values()) > _MEMORY:
                del self._kept[name], sizes[name]
        return found
