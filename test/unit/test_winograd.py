from __future__ import annotations

import numpy as np
import pytest
import torch
from jit import run_affine
from loop_programs import convolution as one_nest
from loop_programs import program
from torch import nn
from torch_mlir import ir
from winograd_programs import Conv

from loopmorph.passes.address import find_nest, layer_nests
from loopmorph.passes.analysis.contraction_nest import view_contraction
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.layout.blocked_layout import BlockedLayout
from loopmorph.passes.loop.interchange import Interchange
from loopmorph.passes.loop.split import Split
from loopmorph.passes.loop.unroll_jam import UnrollJam
from loopmorph.passes.loop.winograd import WinogradFiltering
from loopmorph.passes.lowering.split_prepare import SplitPrepare
from loopmorph.passes.marks import recorded_steps
from loopmorph.passes.scheduling.algorithm import winograd_tile
from loopmorph.passes.scheduling.default_schedule import DefaultSchedule
from loopmorph.passes.target.target import named_target
from loopmorph.passes.winograd.matrices import ALGORITHMS
from loopmorph.pipelines.compile import compile
from loopmorph.pipelines.program import import_model

BOUND = {2: 1e-5, 4: 1e-4}  # relative to the largest output

pytestmark = pytest.mark.usefixtures("context")


def transformed(text: str, tile: int) -> ir.Module:
    module = ir.Module.parse(text)
    WinogradFiltering("net", tile).apply(module.operation)
    assert module.operation.verify()
    return module


def check(conv: Conv, module: ir.Module, tile: int) -> None:
    arrays = conv.arrays()
    *inputs, got = run_affine(module.operation, arrays)
    wanted = conv.expected(arrays)
    assert np.abs(got - wanted).max() <= BOUND[tile] * np.abs(wanted).max()
    for before, after in zip(arrays, inputs, strict=False):
        np.testing.assert_array_equal(before, after)


def roles(module: ir.Module) -> list[str]:
    return [nest.role for nest in layer_nests(module.operation, "net")]


def refused(text: str, match: str, error: type[Exception] = IllegalTransform, tile: int = 4) -> None:
    module = ir.Module.parse(text)
    before = str(module)
    with pytest.raises(error, match=match):
        WinogradFiltering("net", tile).apply(module.operation)
    assert str(module) == before


@pytest.mark.parametrize("tile", [2, 4])
def test_the_matrices_filter_one_dimension_exactly(tile):
    f = ALGORITHMS[1][tile]
    rng = np.random.default_rng(0)
    d, g = rng.standard_normal(f.reach), rng.standard_normal(3)
    y = np.array(f.result) @ ((np.array(f.kernel) @ g) * (np.array(f.data) @ d))
    np.testing.assert_allclose(y, np.correlate(d, g, "valid"), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("tile", [2, 4])
@pytest.mark.parametrize(
    "conv",
    [
        Conv(outputs=1, inputs=1, height=4, width=4),
        Conv(outputs=20, inputs=3, height=4, width=12, start="bias"),
        Conv(batch=2, outputs=3, inputs=16, start="bias"),
        Conv(outputs=16, inputs=20, height=12, start="given"),
        Conv(outputs=3, inputs=32, height=16, width=16),
        Conv(batch=2, offset=1, start="bias"),
        Conv(batch=2, outputs=32, inputs=16, lanes=16, start="bias"),
        Conv(outputs=16, inputs=32, lanes=16, offset=2),
        Conv(outputs=16, inputs=16, lanes=8, start="given"),
    ],
    ids=str,
)
def test_computes_the_convolution(conv, tile):
    check(conv, transformed(conv.text, tile), tile)


@pytest.mark.parametrize(("tile", "height", "width"), [(4, 7, 7), (4, 5, 8), (4, 4, 10), (2, 3, 7), (2, 5, 2)])
def test_extents_that_the_tile_does_not_divide(tile, height, width):
    conv = Conv(
        batch=2, outputs=2, inputs=3, height=height, width=width, start="bias" if tile == 4 else "given", offset=1
    )
    check(conv, transformed(conv.text, tile), tile)


def test_nests_and_marks():
    module = transformed(Conv(outputs=32, inputs=16, lanes=16, start="bias").text, 4)
    nests = layer_nests(module.operation, "net")
    assert [(n.role, n.iterators, n.extents) for n in nests] == [
        ("filter-transform", ("co.0", "ci.0", "ci.1", "co.1"), (2, 1, 16, 16)),
        ("input-transform", ("n", "ci.0", "ty", "tx", "ci.1"), (1, 1, 2, 2, 16)),
        ("init", ("co.0", "t", "p", "co.1"), (2, 4, 36, 16)),
        ("main", ("p", "t", "co.0", "co.1", "ci.0", "ci.1"), (36, 4, 2, 16, 1, 16)),
        ("output-transform", ("n", "co.0", "ty", "tx", "co.1"), (1, 2, 2, 2, 16)),
    ]
    assert recorded_steps(module.operation) == ["morph-winograd{layer=net}"]


@pytest.mark.parametrize("tile", [2, 4])
@pytest.mark.parametrize(
    "conv",
    [
        Conv(groups=2, outputs=32, inputs=64, start="bias"),
        Conv(groups=4, outputs=64, inputs=32, height=7, width=9, offset=1),
        Conv(groups=4, batch=2, outputs=4, inputs=8, start="bias"),
        Conv(groups=2, outputs=64, inputs=64, lanes=16, start="bias"),
        Conv(groups=2, batch=2, outputs=32, inputs=64, lanes=16, height=5, width=6, start="given"),
        Conv(groups=4, outputs=128, inputs=64, lanes=16, height=4, width=7, start="bias", offset=1),
    ],
    ids=str,
)
def test_computes_grouped_convolutions(conv, tile):
    module = transformed(conv.text, tile)
    check(conv, module, tile)
    assert roles(module).count("init") == 1  # of the products; the start values are in the output transform


def test_nests_of_a_grouped_convolution():
    module = transformed(Conv(groups=2, outputs=64, inputs=32, lanes=16, start="bias").text, 4)
    nests = layer_nests(module.operation, "net")
    assert [(n.role, n.iterators, n.extents) for n in nests] == [
        ("filter-transform", ("g", "co.0", "ci.0", "ci.1", "co.1"), (2, 2, 1, 16, 16)),
        ("input-transform", ("n", "g", "ci.0", "ty", "tx", "ci.1"), (1, 2, 1, 2, 2, 16)),
        ("init", ("g", "co.0", "t", "p", "co.1"), (2, 2, 4, 36, 16)),
        ("main", ("p", "t", "g", "co.0", "co.1", "ci.0", "ci.1"), (36, 4, 2, 2, 16, 1, 16)),
        ("output-transform", ("n", "g", "co.0", "ty", "tx", "co.1"), (1, 2, 2, 2, 2, 16)),
    ]
    view = view_contraction(find_nest(module.operation, "net"))
    assert view is not None
    assert view.lane.iterator == "co.1"
    assert [loop.iterator for loop in view.pixels] == ["t"]
    assert [loop.iterator for loop in view.blocks] == ["p", "g", "co.0"]


def test_groups_that_lie_next_to_each_other():
    text = program(
        {"n": 2, "co": 2, "oh": 6, "ow": 5, "g": 4, "ci": 3, "kh": 3, "kw": 3},
        """%a = affine.load %x[%n, %ci, %oh + %kh, %ow + %kw, %g] : {x}
        %b = affine.load %w[%co, %ci, %kh, %kw, %g] : {w}
        %d = affine.load %y[%n, %co, %oh, %ow, %g] : {y}
        %p = arith.mulf %a, %b : f32
        %s = arith.addf %d, %p : f32
        affine.store %s, %y[%n, %co, %oh, %ow, %g] : {y}""",
        {"x": (2, 3, 8, 7, 4), "w": (2, 3, 3, 3, 4), "y": (2, 2, 6, 5, 4)},
    ).text
    module = transformed(text, 4)
    rng = np.random.default_rng(0)
    shapes = [(2, 3, 8, 7, 4), (2, 3, 3, 3, 4), (2, 2, 6, 5, 4)]
    x, w, y = (rng.standard_normal(s).astype(np.float32) for s in shapes)
    got = run_affine(module.operation, [x, w, y])[2]
    for g in range(4):
        sums = torch.nn.functional.conv2d(*(torch.from_numpy(a[..., g]).double() for a in (x, w)))
        np.testing.assert_allclose(got[..., g], y[..., g] + sums.numpy(), rtol=0, atol=1e-3)


def test_start_values_by_other_digits_than_the_convolution():
    conv = Conv(groups=2, outputs=8, inputs=4, start="bias")
    whole = conv.text.replace("%g * 4 + %co", "%co", 2)
    whole = whole.replace("affine.for %g = 0 to 2 {\n", "", 1).replace("%co = 0 to 4", "%co = 0 to 8", 1)
    whole = whole.replace('} {morph.iter = "g"}\n', "", 1)
    module = transformed(whole, 4)
    assert roles(module).count("init") == 1
    check(conv, module, 4)


def test_a_start_nest_whose_digits_take_a_division_stays():
    conv = Conv(groups=4, outputs=12, inputs=8, start="bias")
    fours = Conv(groups=3, outputs=12, inputs=6, start="bias").text
    first, end = "affine.for %n", 'morph.role = "init"}'
    start = fours[fours.index(first) : fours.index(end)]
    text = conv.text[: conv.text.index(first)] + start + conv.text[conv.text.index(end) :]
    module = transformed(text, 4)
    assert roles(module).count("init") == 2
    check(conv, module, 4)


def test_a_start_nest_that_writes_more_stays():
    conv = Conv(start="bias")
    text = conv.text.replace("affine.for %oh = 0 to 8", "affine.for %oh = 0 to 4", 1)
    assert roles(transformed(conv.text, 4)).count("init") == 1
    assert roles(transformed(text, 4)).count("init") == 2


def test_a_start_nest_that_writes_every_second_channel_stays():
    conv = Conv(outputs=8, start="bias")
    text = conv.text.replace("%co = 0 to 8", "%co = 0 to 4").replace("%y[%n, %co,", "%y[%n, %co * 2,", 1)
    module = ir.Module.parse(text)
    Split("net", "co", 2).apply(module.operation)
    WinogradFiltering("net", 4).apply(module.operation)
    assert roles(module).count("init") == 2
    arrays = conv.arrays()
    np.testing.assert_allclose(run_affine(module.operation, arrays)[3], run_affine(text, arrays)[3], rtol=0, atol=1e-3)


def test_start_values_that_change_in_between_stay_as_they_were():
    conv = Conv(start="bias")
    head, main = conv.text.rsplit("affine.for %n", 1)
    change = """affine.for %i = 0 to 3 { %z = arith.constant 0.0 : f32
        affine.store %z, %b[%i] : memref<3xf32> }\naffine.for %n"""
    module = transformed(head + change + main, 4)
    assert roles(module).count("init") == 2
    arrays = conv.arrays()
    got = run_affine(module.operation, arrays)[3]
    np.testing.assert_allclose(got, conv.expected(arrays), rtol=0, atol=1e-3)


def test_start_values_computed_from_several_loads():
    conv = Conv(start="bias")
    text = conv.text.replace(
        "%v = affine.load %b[%co] : memref<3xf32>",
        """%u = affine.load %b[%co] : memref<3xf32>
        %q = affine.load %b[0] : memref<3xf32>
        %r = arith.mulf %u, %q : f32
        %two = arith.constant 2.0 : f32
        %v = arith.addf %r, %two : f32""",
    )
    module = transformed(text, 4)
    assert roles(module).count("init") == 1
    arrays = conv.arrays()
    b = arrays[2]
    got = run_affine(module.operation, arrays)[3]
    wanted = conv.expected([*arrays[:2], b * b[0] + 2, arrays[3]])
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-3)


def test_names_and_loop_order_do_not_matter():
    conv = Conv(batch=2, outputs=4, inputs=6, start="bias")
    text = conv.text
    for old, new in (("kh", "a"), ("ci", "p"), ("oh", "t"), ("co", "tx"), ("kw", "b2")):
        text = text.replace(f'"{old}"', f'"{new}"')
    module = ir.Module.parse(text)
    Interchange("net", ("b2", "n", "p", "ow", "t", "a", "tx")).apply(module.operation)
    WinogradFiltering("net", 2).apply(module.operation)
    check(conv, module, 2)
    assert find_nest(module.operation, "net").iterators == ("p_", "t_", "tx", "p")


def test_channels_split_in_plain_memrefs():
    conv = Conv(outputs=8, inputs=6)
    module = ir.Module.parse(conv.text)
    for iterator in ("co", "ci"):
        Split("net", iterator, 2).apply(module.operation)
    WinogradFiltering("net").apply(module.operation)
    check(conv, module, 4)


def test_the_products_are_scheduled_like_any_nest():
    conv = Conv(outputs=32, inputs=16, lanes=16, start="bias")
    module = transformed(conv.text, 4)
    Split("net", "t", 2).apply(module.operation)
    Interchange("net", ("co.0", "p", "t.0", "ci.0", "ci.1", "t.1", "co.1")).apply(module.operation)
    UnrollJam("net", "t.1", 2).apply(module.operation)
    check(conv, module, 4)


def test_grouped_products_are_scheduled_like_any_nest():
    conv = Conv(groups=2, outputs=64, inputs=32, height=16, width=18, lanes=16, start="bias")
    module = ir.Module.parse(conv.text)
    DefaultSchedule().run(module.operation)
    assert {"morph-winograd{layer=net}", "morph-promote{layer=net}"} <= set(recorded_steps(module.operation))
    vectorised = {nest.role for nest in layer_nests(module.operation, "net") if nest.is_vectorised}
    assert {"input-transform", "main", "output-transform"} <= vectorised
    check(conv, module, 4)


@pytest.mark.parametrize(
    ("conv", "tile"),
    [
        (Conv(groups=2, outputs=128, inputs=128, height=32, width=32, lanes=16), 4),
        (Conv(groups=2, outputs=512, inputs=512, lanes=16), 2),
        (Conv(groups=32, outputs=512, inputs=512, height=2, width=2, lanes=16), None),
        (Conv(groups=4, outputs=64, inputs=32, height=32, width=32), None),
    ],
    ids=str,
)
def test_the_model_counts_the_channels_of_a_group(conv, tile):
    module = ir.Module.parse(conv.text)
    assert winograd_tile(find_nest(module.operation, "net"), named_target("x86_64_v4")) == tile


def test_kernels_are_transformed_in_prepare():
    module = transformed(
        Conv().text.replace("%y: memref<1x3x8x8xf32>", "%y: memref<1x3x8x8xf32> {morph.output = 0}"), 4
    )
    SplitPrepare().run(module.operation)
    functions = {ir.StringAttr(f.attributes["sym_name"]).value: str(f) for f in module.body.operations}
    assert "filter-transform" in functions["prepare"] and "filter-transform" not in functions["run"]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (one_nest(size=8, stride=3).text, "layer 'net': stride 3 along 'oh'; stride 1 or 2 is required"),
        (one_nest(size=8, kernel=1).text, "layer 'net': the kernel is 1x1; 3x3 is required"),
        (one_nest(size=8, kernel=5).text, "layer 'net': the kernel is 5x5; 3x3 is required"),
        (one_nest(size=3).text, "layer 'net': the extent 3 of 'oh' is less than the tile 4"),
    ],
)
def test_refuses_other_convolutions(text, match):
    refused(text, match)


def test_refuses_dilation():
    text = one_nest(size=8).text.replace("1 + %kh", "1 + %kh * 2").replace("x10x10x", "x12x12x")
    refused(text, "dilation 2 along 'kh'; dilation 1 is required")


def test_refuses_depthwise():
    depthwise = program(
        {"c": 4, "oh": 8, "ow": 8, "kh": 3, "kw": 3},
        """%a = affine.load %x[%c, %oh + %kh, %ow + %kw] : {x}
        %b = affine.load %w[%c, %kh, %kw] : {w}
        %d = affine.load %y[%c, %oh, %ow] : {y}
        %p = arith.mulf %a, %b : f32
        %s = arith.addf %d, %p : f32
        affine.store %s, %y[%c, %oh, %ow] : {y}""",
        {"x": (4, 10, 10), "w": (4, 3, 3), "y": (4, 8, 8)},
    )
    refused(depthwise.text, "'c' indexes input, weight and result: a depthwise convolution; more than one input")
    refused(Conv(groups=4, outputs=8, inputs=4).text, "'g' indexes input, weight and result: a depthwise convolution")
    single = depthwise.text.replace("%c = 0 to 4", "%c = 0 to 1")
    assert "filter-transform" in roles(transformed(single, 4))


def test_refuses_other_bodies():
    text = one_nest(size=8).text
    refused(text.replace("arith.mulf", "arith.divf"), "its body is not one scalar step 'y = y \\+ x \\* w'")
    refused(text.replace("arith.addf %c, %p", "arith.addf %p, %p"), "its body is not one scalar step")
    moved = text.replace("%c = affine.load %y[%n, %co, %oh, %ow]", "%c = affine.load %y[%n, %co, %ow, %oh]")
    refused(moved, "its body is not one scalar step")


def test_refuses_scheduled_nests():
    for step, match in (
        (UnrollJam("net", "co", 2), "its body is not one scalar step"),
        (Split("net", "ow", 3), "a loop does not run from 0 to a constant with step 1"),
        (Split("net", "ow", 4), "one index of the input is made of ow.0, ow.1, kw; one iterator of the result"),
    ):
        module = ir.Module.parse(one_nest(size=8).text)
        step.apply(module.operation)
        refused(str(module), match)


def test_refuses_imperfect_nests_and_carried_values():
    text = one_nest(size=8).text
    imperfect = text.replace("affine.for %kh", "%one = arith.constant 1.0 : f32\naffine.for %kh")
    refused(imperfect, "its loops are not perfectly nested")


def test_refuses_a_memref_that_is_result_and_factor():
    text = program(
        {"co": 2, "oh": 4, "ow": 4, "ci": 2, "kh": 3, "kw": 3},
        """%a = affine.load %y[%ci, %oh + %kh, %ow + %kw] : {y}
        %b = affine.load %w[%co, %ci, %kh, %kw] : {w}
        %d = affine.load %y[%co + 2, %oh, %ow] : {y}
        %p = arith.mulf %a, %b : f32
        %s = arith.addf %d, %p : f32
        affine.store %s, %y[%co + 2, %oh, %ow] : {y}""",
        {"w": (2, 2, 3, 3), "y": (4, 6, 6)},
    ).text
    refused(text, "it reads the memref that it accumulates into as a factor, too")


def test_refuses_outputs_that_share_an_element():
    text = one_nest(size=8).text.replace("%y[%n, %co,", "%y[%n, %co floordiv 2,")
    refused(text, "several points of its output iterators share one element of the result")


@pytest.mark.parametrize("tile", [0, 3, 6])
def test_refuses_other_tiles(tile):
    refused(one_nest(size=8).text, f"argument 'tile': expected a tile of 2 or 4, got {tile}", ArgumentError, tile)


def test_refuses_an_unknown_layer():
    module = ir.Module.parse(one_nest().text)
    with pytest.raises(ArgumentError, match="no layer 'nett' in the program; nearest: net"):
        WinogradFiltering("nett").apply(module.operation)


def test_a_network_compiled_with_it_computes_what_pytorch_does():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()).eval()
    x = torch.randn(2, 3, 8, 8)
    program = import_model(model, (x,)).apply("morph-winograd{layer=0 tile=2}")
    with torch.no_grad():
        torch.testing.assert_close(compile(program)(x), model(x), rtol=0, atol=1e-4)


def test_each_part_of_a_layer_has_transforms_of_its_own():
    # 18 is no multiple of 4, so that a part has four transforms each way
    conv = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()).eval()
    x = torch.randn(1, 64, 18, 18)
    schedule = "morph-partition{layer=0 iter=co sizes=32,32},morph-group{layer=0#main.1 iters=co,ci factor=2}"
    rewritten = import_model(conv, (x,)).apply(schedule)
    executable = compile(rewritten, target=named_target("x86-64-v3"))
    for part in range(2):
        assert f'layer = "0#main.{part}", algorithm = "winograd4"' in executable.schedule
    with torch.no_grad():
        torch.testing.assert_close(executable(x), rewritten.to_module().eval()(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("begin", "transforms"), [(0, 4), (16, 8)])
def test_parts_share_what_one_of_them_has_transformed(begin: int, transforms: int):
    model = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()).eval()
    steps = ["morph-partition{layer=0 iter=co sizes=16,16}", "morph-group{layer=0#main.1 iters=co,ci factor=2}"]
    if begin:  # the first part reads fewer channels than the second
        steps.insert(1, f"morph-narrow{{layer=0#main.0 iter=ci begin={begin}}}")
    module = import_model(model, (torch.randn(2, 32, 10, 10),)).apply(",".join(steps)).module
    BlockedLayout(8).run(module.operation)
    for part in range(2):
        WinogradFiltering(f"0#main.{part}").apply(module.operation)
    assert module.operation.verify()
    assert sum(nest.role == "input-transform" for nest in layer_nests(module.operation, "0")) == transforms
