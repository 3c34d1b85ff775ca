"""Grouped 3x3 convolutions go through Winograd when a network is compiled, and it computes what PyTorch does."""

from __future__ import annotations

import functools

import pytest
import torch
from networks import randomized
from torch import nn

from loopmorph.passes import marks
from loopmorph.passes.address import find_nest
from loopmorph.passes.lowering.to_llvm import layout_passes
from loopmorph.passes.marks import recorded_steps
from loopmorph.passes.nest import nest_roots
from loopmorph.passes.scheduling.algorithm import winograd_tile
from loopmorph.passes.scheduling.default_schedule import DefaultSchedule
from loopmorph.passes.target.detect import native_target
from loopmorph.pipelines.compile import compile
from loopmorph.pipelines.network import copy_module
from loopmorph.pipelines.program import Program, import_model
from loopmorph.pipelines.zoo import ZOO

NETWORK = "resnext29_2x64d"
PLAIN = [f"layer{stage}.{block}.conv2" for stage in (1, 2, 3) for block in (0, 1, 2) if block or stage == 1]
STRIDED = ["layer2.0.conv2", "layer3.0.conv2"]


@pytest.fixture(scope="module")
def network() -> Program:
    torch.manual_seed(0)
    model = randomized(ZOO[NETWORK].factory())
    return import_model(model, (torch.randn(1, *ZOO[NETWORK].input_shape),))


def test_its_grouped_convolutions_become_transforms_and_products(network):
    module, target = copy_module(network.module), native_target()
    for step in layout_passes(target):
        step.run(module.operation)
    with module.context:
        tiles = {layer: winograd_tile(find_nest(module.operation, layer), target) for layer in (*PLAIN, *STRIDED)}
    DefaultSchedule(target=str(target)).run(module.operation)
    steps = recorded_steps(module.operation)
    with module.context:
        roles = {(marks.get_text(r, marks.LAYER), marks.get_text(r, marks.ROLE)) for r in nest_roots(module.operation)}
    for layer in (*PLAIN, *STRIDED):
        parts = {role for name, role in roles if name == layer and role.endswith("-transform")}
        transforms = {marks.FILTER_TRANSFORM, marks.INPUT_TRANSFORM, marks.OUTPUT_TRANSFORM}
        pays = tiles[layer] is not None
        assert pays or layer in STRIDED, layer
        assert parts == (transforms if pays else set()), layer
        assert any(s.startswith(f"morph-winograd{{layer={layer}") for s in steps) == pays, layer


@functools.cache
def small(channels: int, groups: int) -> Program:
    torch.manual_seed(0)
    grouped = nn.Conv2d(channels, channels, 3, padding=1, groups=groups)
    model = nn.Sequential(nn.Conv2d(3, channels, 1), grouped, nn.ReLU(), nn.Conv2d(channels, 5, 1)).eval()
    return import_model(model, (torch.randn(2, 3, 13, 16),))


@pytest.mark.parametrize(("channels", "groups"), [(32, 2), (64, 4), (128, 2), (32, 4)])
@pytest.mark.parametrize("threads", [1, 2])
def test_small_networks_of_groups(channels, groups, threads):
    program = small(channels, groups)
    (x,) = program.example_inputs
    with torch.no_grad():
        torch.testing.assert_close(compile(program, threads=threads)(x), program.model(x), rtol=0, atol=1e-4)
