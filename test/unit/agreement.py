"""What compiled code, and the module of a program, compute, next to PyTorch; for tests of whole kinds of layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

import loopmorph as lm


class Of(nn.Module):
    """A network of some modules and a function that is called with them and the arguments."""

    def __init__(self, function: Callable[..., object], *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*self.parts, *args, **kwargs)


def require_agreement(model: nn.Module, *inputs: torch.Tensor, module: bool = False) -> lm.Program:
    """Compiles a network and compares all outputs with PyTorch's; NaN equals NaN.

    Args:
        model: the network; it is put into eval mode.
        inputs: its inputs.
        module: whether to compare what `to_module` of the unchanged program computes, too.
    """
    program = lm.import_model(model.eval(), inputs)
    _require_close(lm.compile(program)(*inputs), model, inputs)
    if module:
        with torch.no_grad():
            _require_close(program.to_module().eval()(*inputs), model, inputs)
    return program


def require_rewrite(program: lm.Program, text: str) -> lm.Program:
    """Rewrites a program and compares what is compiled with the rewritten module."""
    rewritten = program.apply(text)
    _require_close(lm.compile(rewritten)(*program.example_inputs), rewritten.to_module().eval(), program.example_inputs)
    return rewritten


def _require_close(outputs: object, model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    with torch.no_grad():
        expected = tree_leaves(model(*inputs))
    got = tree_leaves(outputs)
    assert [x.shape for x in got] == [x.shape for x in expected]
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4, equal_nan=True)
