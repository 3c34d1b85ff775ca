"""What a network's modules are given and give on a minibatch, and the gradients there: one pass serves all rewrites.

The minibatch goes through in chunks, so that no graph of all of it is held. Activations that several modules share (one
block's output, the next one's input) are kept once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from loopmorph.pipelines.support.devices import exact_arithmetic
from loopmorph.pipelines.support.foreign import run_model
from loopmorph.pipelines.support.hooks import hooked
from loopmorph.pipelines.support.tensor_memory import bytes_of

CHUNK = 32  # images

Tensors = tuple[torch.Tensor, ...]


@dataclass
class ModuleRecord:
    """One module on one minibatch; the lists have an element for each chunk.

    Attributes:
        inputs: its positional inputs, (n, ...) each.
        outputs: what it gave, (n, ...).
        gradients: of the loss at its output.
        started, ended: when its call began and ended, as numbers that grow.
        replayable: whether it runs once, on tensors by position, and gives one tensor: then others can stand for it.
    """

    inputs: list[Tensors] = field(default_factory=list)
    outputs: list[torch.Tensor] = field(default_factory=list)
    gradients: list[torch.Tensor] = field(default_factory=list)
    started: int = 0
    ended: int = 0
    replayable: bool = True


@dataclass
class Recording:
    """A network's modules on a minibatch.

    Attributes:
        inputs: the network's own, in chunks.
        outputs: what it gives, in the same chunks.
        modules: qualified name -> the module's record, for those that ran.
    """

    inputs: list[Tensors]
    outputs: list[Any]
    modules: Mapping[str, ModuleRecord]

    @property
    def size(self) -> int:
        """Bytes of what the modules were given and gave; what several of them share counts once."""
        kept = [x for each in self.modules.values() for x in (*itertools.chain(*each.inputs), *each.outputs)]
        return bytes_of(kept)


def record(model: nn.Module, inputs: Sequence[torch.Tensor], names: Collection[str]) -> Recording:
    """Runs a network and keeps what some of its modules are given and give.

    Args:
        model: the network, in eval mode.
        inputs: its positional inputs, (N, ...) each, on its device.
        names: the modules.

    Raises:
        ArgumentError: the network's own code fails.
    """
    found: dict[str, ModuleRecord] = {}
    outputs, chunks = [], in_chunks(inputs)
    with torch.no_grad(), exact_arithmetic():
        for number, chunk in enumerate(chunks):
            with hooked(_watching(model, names, _Watch(found, number))):
                outputs.append(run_model(model, *chunk))
    return Recording(chunks, outputs, found)


def add_gradients(
    model: nn.Module, recording: Recording, at_outputs: Sequence[torch.Tensor], names: Collection[str]
) -> None:
    """Adds the loss's gradients at the outputs of some modules.

    Args:
        model: the network that was recorded, in eval mode; its parameters need no gradients.
        recording: of it.
        at_outputs: the loss's gradient at the network's output, in the recording's chunks.
        names: the modules; of those that the loss does not depend on the gradient is 0.
    """
    modules = dict(model.named_modules())
    for number, (chunk, gradient) in enumerate(zip(recording.inputs, at_outputs, strict=True)):
        found: dict[str, torch.Tensor] = {}
        hooks = (modules[name].register_forward_hook(_gradient_hook(name, found)) for name in names)
        with hooked(hooks), torch.enable_grad():
            given = [x.detach().requires_grad_(x.is_floating_point()).clone() for x in chunk]
            run_model(model, *given).backward(gradient)
        for name in names:
            output = recording.modules[name].outputs[number]
            recording.modules[name].gradients.append(found.get(name, torch.zeros_like(output)))


def in_chunks(inputs: Sequence[torch.Tensor]) -> list[Tensors]:
    """A minibatch as smaller ones."""
    return list(zip(*(x.split(CHUNK) for x in inputs), strict=True))


def _gradient_hook(name: str, found: dict[str, torch.Tensor]) -> Callable[[nn.Module, Any, Any], None]:
    def on_forward(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.requires_grad:
            output.register_hook(lambda gradient: found.__setitem__(name, gradient.detach()))

    return on_forward


class _Watch:
    """What is seen in one chunk; a tensor is known by its identity, and held so that no other one takes that."""

    def __init__(self, found: dict[str, ModuleRecord], number: int) -> None:
        self._found, self._number = found, number
        self._clock = 0
        self._kept: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] = {}

    def before(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._clock += 1
        found = self._found.setdefault(name, ModuleRecord())
        plain = not kwargs and all(isinstance(x, torch.Tensor) for x in args)
        if not plain or len(found.inputs) != self._number:
            found.replayable = False
        if not found.replayable:
            found.inputs, found.outputs = [], []
            return
        found.started = self._clock
        found.inputs.append(tuple(map(self._copy, args)))

    def after(self, name: str, output: Any) -> None:
        self._clock += 1
        found = self._found[name]
        found.ended = self._clock
        if not isinstance(output, torch.Tensor):
            found.replayable = False
        if found.replayable:
            found.outputs.append(self._copy(output))
        else:
            found.inputs, found.outputs = [], []

    def _copy(self, value: torch.Tensor) -> torch.Tensor:
        """The values, safe from whoever changes them in place."""
        key = id(value), value._version
        if key not in self._kept:
            self._kept[key] = value, value.clone()
        return self._kept[key][1]


def _watching(model: nn.Module, names: Collection[str], watch: _Watch) -> Iterator[RemovableHandle]:
    for name, module in model.named_modules():
        if name in names:

            def before(_module: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
                watch.before(name, args, kwargs)

            def after(_module: nn.Module, _args: Any, output: Any, name: str = name) -> None:
                watch.after(name, output)

            yield module.register_forward_pre_hook(before, with_kwargs=True)
            yield module.register_forward_hook(after)


def run_from(model: nn.Module, recording: Recording, number: int, path: str, output: torch.Tensor) -> Any:
    """What the network gives for one chunk where a module gives something else than it did.

    Only what comes after the module runs: modules that had ended before it give what they gave, and those within are
    not called.

    Args:
        model: the network that was recorded, in eval mode.
        recording: of it.
        number: of the chunk.
        path: the module; "" for the network itself.
        output: what it gives now.

    Raises:
        ArgumentError: the network's own code fails on that.
    """
    if not path:
        return output
    begin = recording.modules[path].started
    earlier = {n: each for n, each in recording.modules.items() if each.replayable and each.ended < begin}
    given = {name: each.outputs[number] for name, each in earlier.items()}
    with _giving(model, {**given, path: output}), torch.no_grad(), exact_arithmetic():
        return run_model(model, *recording.inputs[number])


@contextmanager
def _giving(model: nn.Module, given: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """With modules that give some tensors, whatever they are given."""
    modules = {name: module for name, module in model.named_modules() if name in given}
    own = {name: module.__dict__.get("forward") for name, module in modules.items()}

    def replay(value: torch.Tensor) -> Callable[..., torch.Tensor]:
        return lambda *_args, **_kwargs: value.clone()  # whoever comes next may work in place

    for name, module in modules.items():
        module.forward = replay(given[name])
    try:
        yield
    finally:
        for name, module in modules.items():
            if own[name] is None:
                del module.forward
            else:
                module.forward = own[name]
