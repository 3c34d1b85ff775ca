"""Networks of the tests as programs, and the check that a transformed program, its module and its code agree."""

from __future__ import annotations

import functools

import torch
from networks import OwnParameter, image, randomized
from torch import nn

import loopmorph as lm
from loopmorph.pipelines.program import Program


def imported(model: nn.Module, x: torch.Tensor | None = None) -> Program:
    """The model, with weights and statistics drawn from one seed, as a program."""
    torch.manual_seed(0)
    return lm.import_model(randomized(model), (image() if x is None else x,))


@functools.cache
def network(model: type[nn.Module], size: int = 8, batch: int = 1) -> Program:
    """One of the test networks for (batch, 3, size, size) images; imported once, so nobody may change it."""
    return imported(model(), image(batch, size))


def own_parameter() -> tuple[Program, str]:
    """A program with a layer that is no module, and that layer's name."""
    program = imported(OwnParameter(), torch.randn(1, 4, 6, 6))
    return program, next(layer.name for layer in program.layers if layer.macs and layer.name != "head")


def agrees(program: Program) -> None:
    """The compiled program computes what its module does, and the module can be trained."""
    module = program.to_module().eval()
    expected = module(*program.example_inputs)
    difference = (lm.compile(program)(*program.example_inputs) - expected).abs().max() / expected.abs().max()
    assert difference < 1e-4
    expected.sum().backward()
    assert all(p.grad is not None for p in module.parameters())


def check(before: Program, text: str, same: bool = True, compiled: bool = False) -> Program:
    """The transformed program, once its module and, where asked for, compiled code and the original agree."""
    after = before.apply(text)
    (x,) = after.example_inputs
    module = after.to_module().eval()
    result = module(x)
    if compiled:
        torch.testing.assert_close(lm.compile(after)(x), result, rtol=1e-4, atol=1e-5)
    if same:
        torch.testing.assert_close(result, before.model(x), rtol=1e-4, atol=1e-5)
    result.sum().backward()
    assert all(p.grad is not None for p in module.parameters())
    return after
