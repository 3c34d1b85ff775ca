"""Networks of the tests as programs, and the check that a transformed program, its module and its code agree."""

from __future__ import annotations

import torch
from networks import Plain, Residual, image, randomized
from torch import nn

import loopmorph as lm
from loopmorph.pipelines.program import Program


def imported(model: nn.Module, x: torch.Tensor | None = None) -> Program:
    """The model, with weights and statistics drawn from one seed, as a program."""
    torch.manual_seed(0)
    return lm.import_model(randomized(model), (image() if x is None else x,))


def residual() -> Program:
    return imported(Residual())


def plain() -> Program:
    return imported(Plain())


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
