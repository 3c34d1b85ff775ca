"""Nests of a layer in one, chunks of images in Winograd's nests, and how many images the model takes at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from jit import run_affine
from torch import nn
from torch_mlir import ir
from winograd_programs import Conv

from loopmorph.passes.address import find_nest, layer_nests
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.loop.fuse_nests import FuseNests
from loopmorph.passes.loop.parallelize import Parallelize
from loopmorph.passes.loop.split import Split
from loopmorph.passes.loop.winograd import WinogradFiltering
from loopmorph.passes.marks import recorded_steps
from loopmorph.passes.pipeline import run_pipeline
from loopmorph.passes.scheduling.algorithm import winograd_samples
from loopmorph.passes.scheduling.choose import Choose
from loopmorph.passes.scheduling.default_schedule import DefaultSchedule
from loopmorph.passes.target.target import parse_target
from loopmorph.pipelines.compile import compile
from loopmorph.pipelines.network import copy_module
from loopmorph.pipelines.program import import_model

pytestmark = pytest.mark.usefixtures("context")

ROOMY = "zen4+l2=1M+l3=1G"
SMALL = "zen4+l2=64K+l3=128K"


def check(conv: Conv, module: ir.Module, bound: float = 1e-4) -> None:
    assert module.operation.verify()
    arrays = conv.arrays()
    *_, got = run_affine(module.operation, arrays)
    wanted = conv.expected(arrays)
    assert np.abs(got - wanted).max() <= bound * np.abs(wanted).max()


def addresses(module: ir.Module) -> list[str]:
    names = [nest.role for nest in layer_nests(module.operation, "net")]
    numbered = [f"net#{role}.{names[:k].count(role)}" for k, role in enumerate(names)]
    return [a for a, role in zip(numbered, names, strict=True) if role != "filter-transform"]


def shapes(module: ir.Module) -> set[tuple[int, ...]]:
    function = module.body.operations[0]
    ops = (op.operation for op in function.entry_block.operations)
    return {tuple(ir.MemRefType(op.results[0].type).shape) for op in ops if op.name == "memref.alloc"}


@pytest.mark.parametrize("samples", [1, 2, 3])
@pytest.mark.parametrize("tile", [2, 4])
@pytest.mark.parametrize(
    "conv",
    [
        Conv(batch=6),
        Conv(batch=6, height=7, width=5, start="bias"),
        Conv(batch=6, start="given", offset=1),
        Conv(batch=6, inputs=8, outputs=8, lanes=4),
        Conv(batch=6, groups=2, inputs=4, outputs=4),
    ],
    ids=str,
)
def test_chunks_of_images_compute_the_same_fused_or_not(conv: Conv, tile: int, samples: int) -> None:
    module = ir.Module.parse(conv.text)
    WinogradFiltering("net", tile, samples).apply(module.operation)
    check(conv, module)
    name = find_nest(module.operation, "net").iterators[0]
    FuseNests("net", (name,)).apply(module.operation)
    assert "input-transform" not in {nest.role for nest in layer_nests(module.operation, "net")}
    assert find_nest(module.operation, "net").loops[0].extent == 6 // samples
    check(conv, module)


def test_memory_between_the_nests_is_that_of_one_chunk() -> None:
    module = ir.Module.parse(Conv(batch=6).text)
    WinogradFiltering("net", 4, 2).apply(module.operation)
    assert {(3, 36, 9, 3), (3, 8, 36, 3)} <= shapes(module)
    FuseNests("net", ("n.0",)).apply(module.operation)
    assert {(36, 9, 3), (8, 36, 3)} <= shapes(module)


def test_several_threads_have_memory_of_their_own() -> None:
    conv = Conv(batch=8)
    module = ir.Module.parse(conv.text)
    WinogradFiltering("net", 4, 2).apply(module.operation)
    for address in addresses(module):
        Split(address, "n.0", 2).apply(module.operation)
    FuseNests("net", ("n.0.0", "n.0.1")).apply(module.operation)
    assert {(2, 36, 9, 3), (2, 8, 36, 3)} <= shapes(module)
    Parallelize("net", "n.0.0").apply(module.operation)
    with pytest.raises(IllegalTransform, match=r"already parallel"):
        Parallelize("net", "n.0.1").apply(module.operation)
    check(conv, module)


def test_what_iterations_share_keeps_them_in_order() -> None:
    module = ir.Module.parse(Conv(batch=8).text)
    WinogradFiltering("net", 4, 2).apply(module.operation)
    FuseNests("net", ("n.0",)).apply(module.operation)
    with pytest.raises(IllegalTransform, match=r"'n\.0' cannot run in parallel"):
        Parallelize("net", "n.0").apply(module.operation)


def test_names_stay_unique() -> None:
    module = ir.Module.parse(Conv(batch=4, height=7, width=7).text)
    WinogradFiltering("net", 4, 1).apply(module.operation)
    FuseNests("net", ("n",)).apply(module.operation)
    names = find_nest(module.operation, "net").iterators
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("iters", "error", "match"),
    [
        ((), ArgumentError, "expected at least one iterator"),
        (("k",), ArgumentError, "has no iterator 'k'"),
        (("co",), IllegalTransform, "its outermost loops are not co, perfectly nested"),
        (
            ("n",),
            IllegalTransform,
            "no other nest of the layer begins with 'n' and shares a local memref with it alone",
        ),
    ],
)
def test_what_cannot_be_fused_is_refused(iters: tuple[str, ...], error: type[Exception], match: str) -> None:
    module = ir.Module.parse(Conv(batch=4).text)
    before = str(module)
    with pytest.raises(error, match=match):
        FuseNests("net", iters).apply(module.operation)
    assert str(module) == before


@pytest.mark.parametrize(
    ("batch", "samples", "error", "match"),
    [
        (4, 3, ArgumentError, "'samples': expected a part of the iterations of 'n', 1, 2, got 3"),
        (4, 0, ArgumentError, "'samples': expected a part of the iterations of 'n', 1, 2, got 0"),
        (1, 1, IllegalTransform, "it cannot be computed in chunks of images: it has no loop over several images"),
    ],
)
def test_images_that_do_not_make_chunks_are_refused(
    batch: int, samples: int, error: type[Exception], match: str
) -> None:
    module = ir.Module.parse(Conv(batch=batch).text)
    with pytest.raises(error, match=match):
        WinogradFiltering("net", 4, samples).apply(module.operation)


# ---- what the model chooses


def chosen(target: str, conv: Conv, threads: int = 1) -> int | None:
    module = ir.Module.parse(conv.text)
    return winograd_samples(find_nest(module.operation, "net"), 4, parse_target(target), threads)


def test_few_images_at_a_time_where_all_leave_the_caches() -> None:
    conv = Conv(batch=8, inputs=64, outputs=64, height=56, width=56, lanes=16)
    assert chosen(ROOMY, conv) == 8
    assert chosen("zen4+l2=512K+l3=32M", conv) in (1, 2)


def test_all_images_at_once_where_the_weights_would_be_read_again() -> None:
    conv = Conv(batch=8, inputs=512, outputs=512, height=4, width=4, lanes=16)
    assert chosen("zen4+l2=512K+l3=16M", conv) == 8


def test_one_image_leaves_no_choice() -> None:
    assert chosen(SMALL, Conv(batch=1, inputs=16, outputs=16, lanes=16)) is None


def test_threads_take_equally_many_chunks() -> None:
    conv = Conv(batch=6, inputs=64, outputs=64, height=32, width=32, lanes=16)
    assert chosen("zen4+l2=512K+l3=16M", conv) == 1
    assert chosen("zen4+l2=512K+l3=16M", conv, threads=4) == 6


# ---- the default schedule


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1)]
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("samples", [1, 2, 4])
def test_a_chosen_number_of_images_is_followed(model: nn.Module, samples: int, threads: int) -> None:
    x = torch.randn(4, 32, 14, 14)
    program = import_model(model, (x,))
    program = program.apply(f"morph-choose{{layer=0 algorithm=winograd4 samples={samples}}}")
    code = compile(program, threads=threads)
    option = f" samples={samples}" if samples < 4 else ""
    assert f"morph-winograd{{layer=0{option}}}" in code.steps
    fused = {1: samples < 4, 2: samples == 1}[threads]
    assert any(step.startswith("morph-fuse-nests{layer=0 ") for step in code.steps) == fused
    torch.testing.assert_close(code(x), model(x), rtol=1e-4, atol=1e-4)


def test_the_choice_is_recorded_and_replays_on_another_target(model: nn.Module) -> None:
    x = torch.randn(4, 32, 14, 14)
    first = compile(model, (x,), target="native+l2=128K+l3=256K")
    assert any("samples=" in step for step in first.steps if step.startswith("morph-choose"))
    again = compile(model, (x,), target="native+l2=1M+l3=1G", schedule=first.schedule)
    kept = [step for step in first.steps if not step.startswith("morph-choose")]
    assert [step for step in again.steps if not step.startswith("morph-choose")] == kept


def test_recorded_steps_replay_to_the_same_program() -> None:
    conv = Conv(batch=4, inputs=16, outputs=16, lanes=16, start="bias")
    module = ir.Module.parse(conv.text)
    Choose("net", "winograd4", samples=1).apply(module.operation)
    again = copy_module(module)
    DefaultSchedule().run(module.operation)
    steps = recorded_steps(module.operation)[1:]
    assert "morph-fuse-nests{layer=net iters=n}" in steps
    run_pipeline(again.operation, ",".join(steps))
    assert str(again) == str(module)
    check(conv, module)


def test_a_number_of_images_is_for_winograd() -> None:
    with pytest.raises(ArgumentError, match="the algorithm 'direct' is not computed some images at a time"):
        Choose("net", "direct", samples=1)
    with pytest.raises(ArgumentError, match="expected a number of images from 1 on, got 0"):
        Choose("net", "winograd4", samples=0)
