from __future__ import annotations

import pytest
from epilogue_programs import (
    ARGUMENTS,
    BIAS,
    BLOCKED,
    BLOCKED_ARGUMENTS,
    BLOCKED_BIAS,
    BLOCKED_T,
    CH,
    DIGITS,
    INIT,
    MAIN,
    OF_T,
    RELU,
    RELU_Y,
    T,
    U,
    blocked_main,
    count,
    elementwise,
    function,
    fuse,
    layers,
    nest,
    refused,
    require_same,
)
from torch_mlir import ir

from loopmorph.passes.loop.fuse_epilogue import FuseEpilogue
from loopmorph.passes.loop.interchange import Interchange
from loopmorph.passes.loop.promote import Promote
from loopmorph.passes.loop.split import Split
from loopmorph.passes.loop.unroll_jam import UnrollJam
from loopmorph.passes.loop.vectorize import Vectorize

pytestmark = pytest.mark.usefixtures("context")


def test_bias_and_relu_on_scalars():
    module = fuse(function(ARGUMENTS, T, BIAS, MAIN, RELU_Y))
    assert layers(module) == ["conv"]
    assert count(module, "memref.alloc") == 0
    assert count(module, "affine.load %arg2[") == 1  # both rows share the load of the bias
    assert count(module, "arith.select") == 2


def test_constant_start_value_alone():
    module = fuse(function({**ARGUMENTS, "t": "8x4"}, INIT, MAIN))
    assert layers(module) == ["conv"]
    assert count(module, "affine.load %arg4[") == 0


def test_reader_alone_where_the_start_value_stays_in_memory():
    triangle = BIAS.replace("affine.for %h = 0 to 4", "affine.for %h = 0 to min affine_map<(d0) -> (4, d0 + 4)>(%c)")
    module = fuse(function(ARGUMENTS, T, triangle, MAIN, RELU_Y))
    assert layers(module) == ["conv", "conv"]
    assert count(module, "memref.alloc") == 1


def test_nothing_is_left_to_fuse():
    module = fuse(function(ARGUMENTS, T, BIAS, MAIN, RELU_Y))
    del module.operation.attributes["morph.schedule"]
    refused(str(module), "layer 'conv': its result is an argument of the function$")


def test_residual_sum_and_transposed_result():
    compute = "%q = arith.addf %v, %z : f32\n%r = arith.maximumf %q, %zero : f32"
    loads = {"v": "%t[%c, %h] : memref<8x4xf32>", "z": "%res[3 - %h, %c] : memref<4x8xf32>"}
    reader = elementwise({"h": 4, "c": 8}, loads, "%y[%h, 7 - %c] : memref<4x8xf32>", compute)
    arguments = {**ARGUMENTS, "y": "4x8", "res": "4x8"}
    # an inverted axis in the store cannot be shown to hit each element once
    refused(function(arguments, T, MAIN, reader), "several of its points may write one element")
    reader = reader.replace("7 - %c", "%c")
    assert layers(fuse(function(arguments, T, INIT, MAIN, reader))) == ["conv"]


def test_chain_of_readers_into_the_interior_of_a_padded_buffer():
    scale = elementwise(
        CH,
        {"v": "%t[%c, %h] : memref<8x4xf32>", "g": "%bias[%c] : memref<8xf32>"},
        "%u[%c, %h] : memref<8x4xf32>",
        "%e = math.absf %g : f32\n%r = arith.mulf %v, %e : f32",
        "scale",
    )
    relu = elementwise(CH, {"v": "%u[%c, %h] : memref<8x4xf32>"}, "%y[%c, %h + 1] : memref<8x6xf32>", RELU)
    fill = nest({"c": 8, "h": 6}, "affine.store %zero, %y[%c, %h] : memref<8x6xf32>", "next", "init")
    arguments = {**ARGUMENTS, "y": "8x6"}
    module = fuse(function(arguments, T, INIT, fill, MAIN, U, scale, relu))
    assert layers(module) == ["next", "conv"]
    assert count(module, "memref.alloc") == 0
    # the fill comes in between: the nest moves below it
    module = fuse(function(arguments, T, INIT, MAIN, U, scale, fill, relu))
    assert layers(module) == ["next", "conv"]


def test_local_result_of_the_reader_is_allocated_earlier():
    relu = elementwise(CH, {"v": "%t[%c, %h] : memref<8x4xf32>"}, "%u[%c, %h] : memref<8x4xf32>", RELU)
    relu = relu.replace("%zero", "%nought")
    pool = nest(
        {"c": 8, "h": 4},
        """%v = affine.load %u[%c, %h] : memref<8x4xf32>
        %o = affine.load %y[%c, 0] : memref<8x4xf32>
        %r = arith.maximumf %o, %v : f32
        affine.store %r, %y[%c, 0] : memref<8x4xf32>""",
        "maxpool",
    )
    nought = "%nought = arith.constant 0.0 : f32"
    module = fuse(function(ARGUMENTS, T, BIAS, MAIN, U, nought, relu, pool))
    assert layers(module) == ["conv", "maxpool"]
    assert count(module, "memref.alloc") == 1
    del module.operation.attributes["morph.schedule"]
    refused(str(module), "its reader 'maxpool' is not element-wise: it reads other elements|several of its points")


def test_nest_moves_down_to_a_residual_that_is_computed_later():
    shortcut = elementwise(
        CH, {"v": "%x[0, %h] : memref<3x4xf32>"}, "%u[%c, %h] : memref<8x4xf32>", "%r = arith.negf %v : f32", "shortcut"
    )
    loads = {"v": "%t[%c, %h] : memref<8x4xf32>", "z": "%u[%c, %h] : memref<8x4xf32>"}
    add = elementwise(CH, loads, "%y[%c, %h] : memref<8x4xf32>", "%r = arith.addf %v, %z : f32", "add")
    module = fuse(function(ARGUMENTS, T, BIAS, MAIN, U, shortcut, add))
    assert layers(module) == ["shortcut", "conv"]
    changed = nest({"k": 3}, "affine.store %zero, %x[%k, 0] : memref<3x4xf32>", "late")
    module = ir.Module.parse(function(ARGUMENTS, T, MAIN, U, shortcut, changed, add))
    match = "its reader 'add' cannot move up to it, as 'shortcut' writes one of its operands in between, nor it down, "
    refused(str(module), match + "as 'late' writes one of its operands in between")


def test_reader_that_adds_to_what_it_writes():
    loads = {"v": "%t[%c, %h] : memref<8x4xf32>", "z": "%u[%c, %h] : memref<8x4xf32>"}
    add = elementwise(CH, loads, "%u[%c, %h] : memref<8x4xf32>", "%r = arith.addf %v, %z : f32", "add")
    shortcut = elementwise(CH, {"r": "%w[%c, 0] : memref<8x3xf32>"}, "%u[%c, %h] : memref<8x4xf32>", "", "shortcut")
    relu = RELU_Y.replace("%t[", "%u[")
    module = fuse(function(ARGUMENTS, T, BIAS, MAIN, U, shortcut, add, relu))
    assert layers(module) == ["shortcut", "conv"]
    moved = add.replace("%z = affine.load %u[%c, %h]", "%z = affine.load %u[%c, 0]")
    refused(function(ARGUMENTS, T, U, shortcut, MAIN, moved), "it reads other elements of the memref that it writes")


def test_bias_that_changes_before_the_nest_is_loaded_in_time():
    changed = nest({"k": 8}, "affine.store %zero, %bias[%k] : memref<8xf32>", "late")
    module = fuse(function(ARGUMENTS, T, BIAS, changed, MAIN, RELU_Y))
    assert layers(module) == ["conv", "late", "conv"]
    refused(
        function({**ARGUMENTS, "t": "8x4"}, BIAS, changed, MAIN),
        "its start value stays in memory: an operand of the init nest of 'conv' changes before it is used; its",
    )


def test_start_nest_that_also_fills_a_border_stays():
    fill = nest({"c": 8, "h": 6}, "affine.store %zero, %t[%c, %h] : memref<8x6xf32>", "conv", "init")
    main = MAIN.replace("%t[%co, %oh * 2 + 1]", "%t[%co, %oh * 2 + 2]").replace(
        "%t[%co, %oh * 2]", "%t[%co, %oh * 2 + 1]"
    )
    main = "\n".join(line.replace("8x4", "8x6") for line in main.splitlines())
    module = fuse(function({**ARGUMENTS, "t": "8x6"}, fill, main))
    assert layers(module) == ["conv", "conv"]
    assert count(module, "affine.load %arg4[") == 0


# ---- vectors


def test_vectors_with_bias_residual_and_relu():
    loads = {**OF_T, "z": f"%res[%n, %c0, %h, %c1] : {BLOCKED}"}
    compute = "%q = arith.addf %v, %z fastmath<contract> : f32\n" + RELU.replace("%v", "%q")
    add = elementwise(DIGITS, loads, f"%y[%n, %c0, %h, %c1] : {BLOCKED}", compute)
    module = fuse(function(BLOCKED_ARGUMENTS, BLOCKED_T, BLOCKED_BIAS, blocked_main(), add))
    assert layers(module) == ["conv"]
    assert count(module, "memref.alloc") == 0
    assert count(module, "affine.vector_load %arg2[") == 2  # one for each block of channels
    assert count(module, "affine.vector_load %arg4[") == 4
    assert count(module, "arith.select") == count(module, "vector<4xi1>, vector<4xf32>") == 4
    assert count(module, "fastmath<contract> : vector<4xf32>") == 4


def test_vectors_read_through_floordiv_and_mod():
    bias = nest(
        {"c": 16, "h": 6},
        f"%b = affine.load %bias[%c] : memref<16xf32>\naffine.store %b, %t[0, %c floordiv 4, %h, %c mod 4] : {BLOCKED}",
        "conv",
        "init",
    )
    loads = {"v": f"%t[0, %c floordiv 4, %h, %c mod 4] : {BLOCKED}", "g": "%bias[%c] : memref<16xf32>"}
    scale = elementwise({"c": 16, "h": 6}, loads, "%y[%h * 16 + %c] : memref<96xf32>", "%r = arith.mulf %v, %g : f32")
    module = fuse(function({**BLOCKED_ARGUMENTS, "y": "96"}, BLOCKED_T, bias, blocked_main(), scale))
    assert layers(module) == ["conv"]
    assert count(module, "floordiv") == count(module, " mod ") == 0
    assert count(module, "affine.vector_store %") == 4


def test_vectors_with_operands_that_are_the_same_in_all_lanes():
    loads = {**OF_T, "g": "%x[0, %h] : memref<3x6xf32>"}
    compute = "%e = math.absf %g : f32\n%d = arith.addf %e, %one : f32\n%r = arith.divf %v, %d : f32"
    reader = elementwise(DIGITS, loads, f"%y[%n, %c0, %h, %c1] : {BLOCKED}", compute)
    one = "%one = arith.constant 1.0 : f32"
    init = nest(DIGITS, f"affine.store %one, %t[%n, %c0, %h, %c1] : {BLOCKED}", "conv", "init")
    module = fuse(function(BLOCKED_ARGUMENTS, one, BLOCKED_T, init, blocked_main(), reader))
    assert layers(module) == ["conv"]
    assert count(module, "math.absf") == count(module, "arith.addf") == 2  # one for each row, on scalars
    assert count(module, "dense<1.000000e+00>") == 1


def test_vectors_into_the_interior_of_a_padded_buffer():
    arguments = {**BLOCKED_ARGUMENTS, "y": "1x4x8x4"}
    relu = elementwise(DIGITS, OF_T, "%y[%n, %c0, %h + 1, %c1] : memref<1x4x8x4xf32>", RELU)
    init = nest(DIGITS, f"affine.store %zero, %t[%n, %c0, %h, %c1] : {BLOCKED}", "conv", "init")
    module = fuse(function(arguments, BLOCKED_T, init, blocked_main(), relu))
    assert layers(module) == ["conv"]
    assert count(module, "%arg3[0, %arg5 * 2, %arg6 * 2 + 1, 0]") == 1


def test_vectors_chain_with_a_shortcut_computed_later():
    shortcut = blocked_main("shortcut", "u")
    u = f"%u = memref.alloc() : {BLOCKED}"
    init_u = nest(DIGITS, f"affine.store %zero, %u[%n, %c0, %h, %c1] : {BLOCKED}", "shortcut", "init")
    add = elementwise(
        DIGITS,
        {**OF_T, "z": f"%u[%n, %c0, %h, %c1] : {BLOCKED}"},
        f"%s[%n, %c0, %h, %c1] : {BLOCKED}",
        "%r = arith.addf %v, %z : f32",
        "add",
    )
    s = f"%s = memref.alloc() : {BLOCKED}"
    relu = elementwise(DIGITS, {"v": f"%s[%n, %c0, %h, %c1] : {BLOCKED}"}, f"%y[%n, %c0, %h, %c1] : {BLOCKED}", RELU)
    text = function(BLOCKED_ARGUMENTS, BLOCKED_T, BLOCKED_BIAS, blocked_main(), u, init_u, shortcut, s, add, relu)
    module = fuse(text)
    assert layers(module) == ["shortcut", "shortcut", "conv"]
    assert layers(fuse(text, "shortcut")) == ["conv", "conv", "shortcut"]


def test_vectors_whose_result_would_be_scattered_are_refused():
    reader = elementwise(DIGITS, OF_T, "%y[%n, %c0 * 4 + %c1, %h] : memref<1x16x6xf32>", RELU)
    text = function({**BLOCKED_ARGUMENTS, "y": "1x16x6"}, BLOCKED_T, blocked_main(), reader)
    refused(text, "the elements that it stores for the lanes of a vector do not lie side by side")
    loads = {**OF_T, "z": "%res[%c1, %h] : memref<4x6xf32>"}
    reader = elementwise(DIGITS, loads, f"%y[%n, %c0, %h, %c1] : {BLOCKED}", "%r = arith.addf %v, %z : f32")
    text = function({**BLOCKED_ARGUMENTS, "res": "4x6"}, BLOCKED_T, blocked_main(), reader)
    refused(text, "the elements that it loads for the lanes of a vector do not lie side by side")


# ---- after the passes that bring a nest into this form


def test_scheduled_convolution():
    blocked = "memref<1x4x5x6x4xf32>"
    place = f"[%n, %c floordiv 4, %h, %w, %c mod 4] : {blocked}"
    space = {"n": 1, "c": 16, "h": 5, "w": 6}
    bias = elementwise(space, {"r": "%bias[%c] : memref<16xf32>"}, f"%t{place}", layer="conv", role="init")
    main = nest(
        {"n": 1, "c": 16, "h": 5, "w": 6, "ci": 2, "kh": 3, "kw": 3},
        f"""%a = affine.load %x[%n, %ci, %h + %kh, %w + %kw] : memref<1x2x7x8xf32>
        %b = affine.load %k[%ci, %kh, %kw, %c] : memref<2x3x3x16xf32>
        %s = affine.load %t{place}
        %m = arith.mulf %a, %b : f32
        %r = arith.addf %s, %m : f32
        affine.store %r, %t{place}""",
        "conv",
    )
    loads = {"v": f"%t{place}", "z": f"%res{place}"}
    compute = "%q = arith.addf %v, %z : f32\n" + RELU.replace("%v", "%q")
    add = elementwise(space, loads, "%y[%n, %c floordiv 4, %h + 1, %w + 1, %c mod 4] : memref<1x4x7x8x4xf32>", compute)
    shapes = {"x": "1x2x7x8", "k": "2x3x3x16", "bias": "16", "res": "1x4x5x6x4", "y": "1x4x7x8x4"}
    text = function(shapes, f"%t = memref.alloc() : {blocked}", bias, main, add)
    schedule = [
        Split("conv", "c", 4),
        Split("conv", "c.0", 2),
        Split("conv", "w", 3),
        Interchange("conv", ("n", "c.0.0", "h", "w.0", "ci", "kh", "kw", "w.1", "c.0.1", "c.1")),
        UnrollJam("conv", "c.0.1", 2),
        UnrollJam("conv", "w.1", 3),
        Vectorize("conv", "c.1", 4),
        Promote("conv"),
        FuseEpilogue("conv"),
    ]
    module = ir.Module.parse(text)
    for step in schedule:
        step.apply(module.operation)
    assert layers(module) == ["conv"]
    assert count(module, "memref.alloc") == 0
    assert count(module, "affine.vector_load %arg2[") == 2
    assert count(module, "affine.vector_load %arg3[") == 6
    assert count(module, "floordiv") == 0
    require_same(module, ir.Module.parse(text), [[int(e) for e in s.split("x")] for s in shapes.values()])
