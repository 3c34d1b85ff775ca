"""Layers that differ in where their results go share one schedule, and nothing of it shows but the time."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_mlir import ir

import loopmorph as lm
from loopmorph.passes.address import find_nest
from loopmorph.passes.lowering.to_llvm import layout_passes, plan_functions
from loopmorph.passes.scheduling import layer_group as groups
from loopmorph.passes.scheduling.default_schedule import DefaultSchedule
from loopmorph.passes.target.detect import native_target
from loopmorph.pipelines.network import copy_module

LANES = native_target().lanes
N_LAYERS = 4


class Dense(nn.Module):
    """Each layer adds channels to those before it; the layers `grow` are equal but for where these go.

    The first one's start values are filled in at another place of the program.
    """

    def __init__(self, n_layers: int, kernel: int) -> None:
        super().__init__()
        widths = [LANES * (k + 1) for k in range(n_layers)]
        self.narrow = nn.ModuleList(nn.Conv2d(width, LANES, 1) for width in widths)
        self.grow = nn.ModuleList(nn.Conv2d(LANES, LANES, kernel, padding=kernel // 2) for _ in widths)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for narrow, grow in zip(self.narrow, self.grow, strict=True):
            x = torch.cat([grow(torch.relu(narrow(x))), x], 1)
        return x.mean((2, 3))


def dense(kernel: int = 3) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return Dense(N_LAYERS, kernel).eval(), torch.randn(1, LANES, 8, 8)


def texts(module: ir.Module) -> list[str]:
    for each in layout_passes(native_target()):
        each.run(module.operation)
    with module.context:
        mains = [find_nest(module.operation, f"grow.{k}").root.operation for k in range(N_LAYERS)]
        found = [groups.layer_group(f"grow.{k}", main) for k, main in enumerate(mains)]
    return [group.text for group in found if group is not None]


def test_layers_that_write_to_other_channels_have_equal_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = dense()
    program = lm.import_model(model, (x,))
    assert len(set(texts(copy_module(program.module))[1:])) == 1
    monkeypatch.setattr(groups, "_place", lambda *_: None)
    assert len(set(texts(copy_module(program.module))[1:])) == N_LAYERS - 1


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_module_is_that_of_layers_that_share_nothing(kernel: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = dense(kernel)
    program = lm.import_model(model, (x,))
    shared, alone = copy_module(program.module), copy_module(program.module)
    plan_functions(shared, native_target())
    monkeypatch.setattr(groups, "_place", lambda *_: None)
    plan_functions(alone, native_target())
    assert str(shared) == str(alone)


def test_the_steps_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    steps = DefaultSchedule.steps
    model, x = dense()
    module = copy_module(lm.import_model(model, (x,)).module)

    def counted(self: DefaultSchedule, module: ir.Operation, layer: str, target: object) -> object:
        asked.append(layer)
        return steps(self, module, layer, target)  # type: ignore[arg-type]

    monkeypatch.setattr(DefaultSchedule, "steps", counted)
    plan_functions(module, native_target())
    assert sum(layer.startswith("grow.") for layer in asked) == 1
    assert sum(layer.startswith("narrow.") for layer in asked) == N_LAYERS


def test_the_numbers_are_those_of_the_model() -> None:
    model, x = dense()
    torch.testing.assert_close(lm.compile(model, (x,))(x), model(x).detach(), rtol=1e-4, atol=1e-4)
