"""Layers that were rewritten and then scheduled: layouts and fused neighbours that PyTorch's modules cannot follow."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import loopmorph as lm
from loopmorph.pipelines.rewritten.nest_module import NestModule

BANDS = "morph-group{layer=LAYER iters=oh,ci factor=2}"


@pytest.fixture(scope="module")
def program() -> lm.Program:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
    return lm.import_model(model.eval(), (torch.randn(1, 8, 6, 6),))


def require_equal(p: lm.Program) -> nn.Module:
    model = p.to_module().eval()
    (x,) = p.example_inputs
    with torch.no_grad():
        torch.testing.assert_close(lm.compile(p)(x), model(x), rtol=1e-4, atol=1e-5)
    return model


@pytest.mark.parametrize(
    ("layer", "pack"),
    [
        ("2", "morph-pack{layer=2 operand=input axes=1 factors=4}"),
        ("2", "morph-pack{layer=2 operand=weight axes=0 factors=4}"),
        ("0", "morph-pack{layer=2 operand=input axes=1 factors=4}"),
        ("0", "morph-pack{layer=1 operand=output axes=1 factors=4}"),
    ],
)
def test_blocks_that_a_layer_does_not_share_are_its_own_affair(program: lm.Program, layer: str, pack: str) -> None:
    model = require_equal(program.apply(f"{BANDS.replace('LAYER', layer)},{pack}"))
    assert isinstance(model[int(layer)], NestModule)


@pytest.mark.parametrize(
    ("layer", "pack"),
    [
        ("0", "morph-pack{layer=0 operand=output axes=1 factors=4}"),
        ("2", "morph-pack{layer=1 operand=output axes=1 factors=4}"),
    ],
)
def test_blocks_between_two_layers_are_refused_by_name(program: lm.Program, layer: str, pack: str) -> None:
    p = program.apply(f"{BANDS.replace('LAYER', layer)},{pack}")
    with pytest.raises(lm.IllegalTransform, match=rf"layer '{layer}': morph-pack .* shares with '1' in blocks"):
        p.to_module()


def test_what_was_fused_from_other_layers_is_not_computed_twice(program: lm.Program) -> None:
    p = program.apply(f"{BANDS},morph-promote{{layer=LAYER}},morph-fuse-epilogue{{layer=LAYER}}".replace("LAYER", "0"))
    with pytest.raises(
        lm.IllegalTransform, match="layer '0': morph-fuse-epilogue has put into its nests what comes aft"
    ):
        p.to_module()


def test_a_fused_start_value_is_the_layers_own(program: lm.Program) -> None:
    p = program.apply(f"{BANDS},morph-promote{{layer=LAYER}},morph-fuse-epilogue{{layer=LAYER}}".replace("LAYER", "2"))
    require_equal(p)


@pytest.mark.parametrize(
    "steps",
    [
        "morph-promote{layer=LAYER}",
        "morph-vectorize{layer=LAYER iter=kw width=3}",
        "morph-interchange{layer=LAYER order=n,g,co,oh,ci,kh,kw,ow},morph-vectorize{layer=LAYER iter=ow width=4}",
    ],
)
def test_registers_and_vectors_show_what_a_layer_has_become(program: lm.Program, steps: str) -> None:
    grouped = "morph-group{layer=2 iters=co,ci factor=2}"
    model = require_equal(program.apply(f"{grouped},{steps.replace('LAYER', '2')}"))
    assert type(model[2]) is nn.Conv2d
    assert model[2].groups == 2


def test_a_sum_that_leaves_out_zeros_is_executed_as_it_is(program: lm.Program) -> None:
    text = "morph-group{layer=2 iters=co,ci factor=2},morph-promote{layer=2},morph-trim{layer=2 iter=kh}"
    model = require_equal(program.apply(text))
    assert isinstance(model[2], NestModule)


def test_a_layer_may_store_where_the_next_one_pads(program: lm.Program) -> None:
    model = require_equal(program.apply("morph-promote{layer=0},morph-fuse-epilogue{layer=0}"))
    assert [type(layer) for layer in model] == [nn.Conv2d, nn.ReLU, nn.Conv2d]
