"""The blocks of a network: the modules in which activations meet, as residual and dense blocks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.hooks import RemovableHandle

from loopmorph.pipelines.support.foreign import run_model
from loopmorph.pipelines.support.hooks import hooked
from loopmorph.pipelines.support.inference import switch_to_inference
from loopmorph.pipelines.support.module_paths import outermost

_LEAST_AXES = 3  # of an activation, (N, tokens, features) or (N, C, H, W); what has fewer is a vector for each sample


def find_blocks(model: nn.Module, images: torch.Tensor) -> list[str]:
    """The innermost modules in which activations join, in the order of the model's modules.

    A join in the root's own forward makes no block. Neither does one within a convolution: a rewritten convolution
    may concatenate slices of its output, and has to leave the probes of the network as they were.

    Args:
        model: in the mode in which it is to run; its parameters need no gradients. Left as it was.
        images: what the network takes, (N, ...); of integers, as tokens are, nothing is found.

    Raises:
        ArgumentError: the model's own code fails on them.
    """
    if not images.is_floating_point():
        return []
    model = copy.deepcopy(model)  # a forward pass in train mode changes BatchNorm's running statistics
    running: list[str] = []
    found: set[str] = set()
    convolutions = {name for name, module in model.named_modules() if is_convolution(module) or is_nests(module)}

    def on_join() -> None:
        if running and running[-1] and convolutions.isdisjoint(running):
            found.add(running[-1])

    with hooked(_watching(model, running)), _JoinWatch(on_join):
        # Two images show the structure as well as all of them; the copy of the leaf admits in-place operations.
        run_model(model, images[:2].requires_grad_(True).clone())
    return [name for name, _ in model.named_modules() if name in found]


def outer_blocks(model: nn.Module, images: torch.Tensor) -> list[str]:
    """Those blocks of a network, in inference form, that are in no others (see `find_blocks`)."""
    twin = switch_to_inference(copy.deepcopy(model)).requires_grad_(False)
    return outermost(find_blocks(twin, images))


def is_convolution(module: nn.Module) -> bool:
    """`is_convolution` marks a module that stands for a convolution, as those of a rewritten network do."""
    return isinstance(module, nn.Conv2d) or getattr(module, "is_convolution", False) is True


def is_nests(module: nn.Module) -> bool:
    """Whether a module runs nests of its own, which may add and concatenate whatever they like."""
    return getattr(module, "recipe", None) is not None


class _JoinWatch(TorchDispatchMode):
    """Calls `on_join` wherever two activations are added or concatenated.

    Only the network's input requires a gradient while this watches, so a tensor that does is an activation, and the
    parameter of a bias addition is none.
    """

    _JOINS = frozenset({torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor, torch.ops.aten.cat.default})

    def __init__(self, on_join: Callable[[], None]) -> None:
        super().__init__()
        self._on_join = on_join

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self._JOINS:
            operands = args[0] if isinstance(args[0], list | tuple) else args
            if sum(isinstance(x, torch.Tensor) and x.ndim >= _LEAST_AXES and x.requires_grad for x in operands) > 1:
                self._on_join()
        return func(*args, **(kwargs or {}))


def _watching(model: nn.Module, running: list[str]) -> Iterator[RemovableHandle]:
    """Keeps `running` at the modules that are running, outer ones first."""
    for name, module in model.named_modules():

        def enter(_module: nn.Module, _args: object, name: str = name) -> None:
            running.append(name)

        def leave(_module: nn.Module, _args: object, _output: object) -> None:
            running.pop()

        yield module.register_forward_pre_hook(enter)
        yield module.register_forward_hook(leave)
