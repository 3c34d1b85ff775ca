"""The roles of iterators, read off access maps whatever the iterators are called."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_mlir import ir

import loopmorph as lm
from loopmorph.passes import marks
from loopmorph.passes.address import find_nest
from loopmorph.passes.analysis.roles import channels, loops_of, role_of
from loopmorph.passes.nest import Nest
from loopmorph.passes.neural.bottleneck import Bottleneck
from loopmorph.passes.neural.depthwise import Depthwise
from loopmorph.passes.neural.group import Group
from loopmorph.pipelines.network import copy_module

CONV = {
    "n": "batch",
    "co": "output",
    "oh": "spatial",
    "ow": "spatial",
    "ci": "reduction",
    "kh": "window",
    "kw": "window",
}


def imported(model: nn.Module, x: torch.Tensor) -> lm.Program:
    return lm.import_model(nn.Sequential(model).eval(), (x,))


def main_nest(module: ir.Module) -> Nest:
    with module.context:
        return find_nest(module.operation, "0")


IMAGE = torch.zeros(2, 8, 6, 6)


@pytest.mark.parametrize(
    ("model", "x", "roles"),
    [
        (nn.Conv2d(8, 4, 3, padding=1), IMAGE, CONV),
        (nn.Conv2d(8, 4, 1, stride=2), IMAGE, CONV),
        (nn.Conv2d(8, 4, 3, groups=2), IMAGE, {**CONV, "g": "group"}),
        (
            nn.Conv2d(8, 8, 3, groups=8),
            IMAGE,
            {name: role for name, role in CONV.items() if name not in ("co", "ci")} | {"c": "group"},
        ),
        (nn.Linear(8, 4), torch.zeros(2, 8), {"n": "batch", "co": "output", "ci": "reduction"}),
    ],
    ids=["dense", "pointwise", "grouped", "depthwise", "linear"],
)
def test_roles_of_layers(model: nn.Module, x: torch.Tensor, roles: dict[str, str]) -> None:
    program = imported(model, x)
    nest = main_nest(program.module)
    with nest.root.context:
        assert {loop.iterator: role_of(nest, loop) for loop in nest.loops} == roles


def renamed(module: ir.Module) -> ir.Module:
    """The program with all iterators of the layer's nest called by letters that say nothing."""
    copy = copy_module(module)
    with copy.context:
        for letter, loop in zip("zyxwvut", main_nest(copy).loops, strict=True):
            loop.op.attributes[marks.ITER] = ir.StringAttr.get(letter)
    return copy


def test_names_do_not_matter_to_the_search_space() -> None:
    program = imported(nn.Conv2d(8, 8, 3, padding=1), IMAGE)
    module = renamed(program.module)
    nest, other = main_nest(program.module), main_nest(module)
    names = dict(zip(nest.iterators, other.iterators, strict=True))
    with module.context:
        assert [loop.iterator for loop in channels(other)] == [names["co"], names["ci"]]
        assert {s.iter for s in Bottleneck.space(other)} == {names[s.iter] for s in Bottleneck.space(nest)}
        groups = {tuple(names[i] for i in s.iters) for s in Group.space(nest)}
        assert {s.iters for s in Group.space(other)} == groups
        assert len(Depthwise.space(other)) == len(Depthwise.space(nest)) == 1
        assert [loop.iterator for loop in loops_of(other, "window")] == [names["kh"], names["kw"]]
