from __future__ import annotations

import numpy as np
import pytest
from jit import run_affine
from torch_mlir import ir

from loopmorph.passes.base import recorded_steps
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.loop.fuse_epilogue import FuseEpilogue


@pytest.fixture(autouse=True)
def context():
    with ir.Context(), ir.Location.unknown():
        yield


def nest(loops: dict[str, int], body: str, layer: str, role: str = "main") -> str:
    """A rectangular nest; the iterators are called as the loops."""
    names = list(loops)
    opened = [f"affine.for %{name} = 0 to {extent} {{" for name, extent in loops.items()]
    closed = [f'}} {{morph.iter = "{name}"}}' for name in reversed(names[1:])]
    marks = f'}} {{morph.iter = "{names[0]}", morph.layer = "{layer}", morph.role = "{role}"}}'
    return "\n".join([*opened, body, *closed, marks])


def elementwise(
    loops: dict[str, int], loads: dict[str, str], stored: str, compute: str = "", layer: str = "relu", role: str = "main"
) -> str:
    """A nest that loads, computes and stores %r."""
    lines = [f"%{name} = affine.load {what}" for name, what in loads.items()]
    return nest(loops, "\n".join([*lines, compute, f"affine.store %r, {stored}"]), layer, role)


RELU = "%p = arith.cmpf ugt, %v, %zero : f32\n%r = arith.select %p, %v, %zero : f32"


def function(arguments: dict[str, str], *parts: str) -> str:
    listed = ", ".join(f"%{name}: memref<{shape}xf32>" for name, shape in arguments.items())
    return "\n".join([f"func.func @main({listed}) {{", "%zero = arith.constant 0.0 : f32", *parts, "return }"])


def fuse(text: str, layer: str = "conv") -> ir.Module:
    """Fuses, checks that the program computes exactly the same, and returns it."""
    module = ir.Module.parse(text)
    root = FuseEpilogue(layer).apply(module.operation)
    assert module.operation.verify()
    assert root.attributes["morph.layer"] == ir.StringAttr.get(layer)
    assert recorded_steps(module.operation) == [f"morph-fuse-epilogue{{layer={layer}}}"]
    rng = np.random.default_rng(0)
    types = ir.Module.parse(text).body.operations[0].type.inputs
    arrays = [rng.integers(-4, 5, size=ir.MemRefType(t).shape).astype(np.float32) for t in types]
    for got, wanted in zip(run_affine(module.operation, arrays), run_affine(text, arrays), strict=True):
        np.testing.assert_array_equal(got, wanted)
    return module


def layers(module: ir.Module) -> list[str]:
    """The layers of the nests that are left, in program order."""
    ops = module.body.operations[0].entry_block.operations
    return [ir.StringAttr(op.attributes["morph.layer"]).value for op in ops if op.operation.name == "affine.for"]


def count(module: ir.Module, text: str) -> int:
    return str(module).count(text)


def refused(text: str, match: str, layer: str = "conv") -> None:
    module = ir.Module.parse(text)
    before = str(module)
    with pytest.raises(IllegalTransform, match=match):
        FuseEpilogue(layer).apply(module.operation)
    assert str(module) == before


# ---- scalar: t[c, h] = sum over k of w[c, k] * x[k, h], in chunks of two rows

INIT = nest({"c": 8, "h": 4}, "affine.store %zero, %t[%c, %h] : memref<8x4xf32>", "conv", "init")
BIAS = nest(
    {"c": 8, "h": 4},
    "%b = affine.load %bias[%c] : memref<8xf32>\naffine.store %b, %t[%c, %h] : memref<8x4xf32>",
    "conv",
    "init",
)
MAIN = nest(
    {"co": 8, "oh": 2},
    """%s0 = affine.load %t[%co, %oh * 2] : memref<8x4xf32>
    %s1 = affine.load %t[%co, %oh * 2 + 1] : memref<8x4xf32>
    %red:2 = affine.for %k = 0 to 3 iter_args(%a0 = %s0, %a1 = %s1) -> (f32, f32) {
      %w0 = affine.load %w[%co, %k] : memref<8x3xf32>
      %x0 = affine.load %x[%k, %oh * 2] : memref<3x4xf32>
      %x1 = affine.load %x[%k, %oh * 2 + 1] : memref<3x4xf32>
      %p0 = arith.mulf %w0, %x0 : f32
      %p1 = arith.mulf %w0, %x1 : f32
      %n0 = arith.addf %a0, %p0 : f32
      %n1 = arith.addf %a1, %p1 : f32
      affine.yield %n0, %n1 : f32, f32
    } {morph.iter = "ci"}
    affine.store %red#0, %t[%co, %oh * 2] : memref<8x4xf32>
    affine.store %red#1, %t[%co, %oh * 2 + 1] : memref<8x4xf32>""",
    "conv",
)
T = "%t = memref.alloc() : memref<8x4xf32>"
U = "%u = memref.alloc() : memref<8x4xf32>"
CH = {"c": 8, "h": 4}
ARGUMENTS = {"x": "3x4", "w": "8x3", "bias": "8", "y": "8x4"}
RELU_Y = elementwise(CH, {"v": "%t[%c, %h] : memref<8x4xf32>"}, "%y[%c, %h] : memref<8x4xf32>", RELU)


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


def test_bias_that_changes_before_the_nest_is_loaded_in_time():
    changed = nest({"k": 8}, "affine.store %zero, %bias[%k] : memref<8xf32>", "late")
    module = fuse(function(ARGUMENTS, T, BIAS, changed, MAIN, RELU_Y))
    assert layers(module) == ["conv", "late", "conv"]
    refused(
        function({**ARGUMENTS, "t": "8x4"}, BIAS, changed, MAIN),
        "its start value stays in memory: an operand of the init nest of 'conv' changes before it is used; its result is",
    )


def test_start_nest_that_also_fills_a_border_stays():
    fill = nest({"c": 8, "h": 6}, "affine.store %zero, %t[%c, %h] : memref<8x6xf32>", "conv", "init")
    main = MAIN.replace("%t[%co, %oh * 2 + 1]", "%t[%co, %oh * 2 + 2]").replace("%t[%co, %oh * 2]", "%t[%co, %oh * 2 + 1]")
    main = "\n".join(line.replace("8x4", "8x6") for line in main.splitlines())
    module = fuse(function({**ARGUMENTS, "t": "8x6"}, fill, main))
    assert layers(module) == ["conv", "conv"]
    assert count(module, "affine.load %arg4[") == 0


# ---- vectors: t[n, c.0, oh, c.1], c = c.0 * 4 + c.1, two blocks and two rows at a time

BLOCKED = "memref<1x4x6x4xf32>"


def blocked_main(layer: str = "conv", result: str = "t") -> str:
    accesses = [f"%{result}[0, %co * 2 + {b}, %oh * 2 + {r}, 0] : {BLOCKED}, vector<4xf32>" for b in (0, 1) for r in (0, 1)]
    starts = [f"%s{k} = affine.vector_load {a}" for k, a in enumerate(accesses)]
    args = ", ".join(f"%a{k} = %s{k}" for k in range(4))
    body = []
    for k in range(4):
        b, r = divmod(k, 2)
        body += [
            f"%w{k} = affine.vector_load %w[%co * 2 + {b}, %k, 0] : memref<4x3x4xf32>, vector<4xf32>",
            f"%x{k} = affine.load %x[%k, %oh * 2 + {r}] : memref<3x6xf32>",
            f"%v{k} = vector.broadcast %x{k} : f32 to vector<4xf32>",
            f"%f{k} = vector.fma %w{k}, %v{k}, %a{k} : vector<4xf32>",
        ]
    types = ", ".join(["vector<4xf32>"] * 4)
    reduction = [
        f"%red:4 = affine.for %k = 0 to 3 iter_args({args}) -> ({types}) {{",
        *body,
        f"affine.yield %f0, %f1, %f2, %f3 : {types}",
        '} {morph.iter = "ci"}',
    ]
    stores = [f"affine.vector_store %red#{k}, {a}" for k, a in enumerate(accesses)]
    return nest({"co": 2, "oh": 3}, "\n".join([*starts, *reduction, *stores]), layer)


BLOCKED_T = f"%t = memref.alloc() : {BLOCKED}"
BLOCKED_ARGUMENTS = {"x": "3x6", "w": "4x3x4", "bias": "16", "y": "1x4x6x4", "res": "1x4x6x4"}
DIGITS = {"n": 1, "c0": 4, "h": 6, "c1": 4}
BLOCKED_BIAS = nest(
    DIGITS,
    f"%b = affine.load %bias[%c0 * 4 + %c1] : memref<16xf32>\naffine.store %b, %t[%n, %c0, %h, %c1] : {BLOCKED}",
    "conv",
    "init",
)
OF_T = {"v": f"%t[%n, %c0, %h, %c1] : {BLOCKED}"}


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


# ---- refusals


def test_accumulators_in_memory():
    main = nest(
        {"co": 8, "oh": 4, "k": 3},
        """%a = affine.load %t[%co, %oh] : memref<8x4xf32>
        %b = affine.load %w[%co, %k] : memref<8x3xf32>
        %s = arith.addf %a, %b : f32
        affine.store %s, %t[%co, %oh] : memref<8x4xf32>""",
        "conv",
    )
    text = function(ARGUMENTS, T, INIT, main, RELU_Y)
    refused(text, "layer 'conv': its accumulators are not in registers; apply morph-promote first")


def reader_refused(reader: str, match: str, main: str = MAIN, **arguments: str) -> None:
    refused(function({**ARGUMENTS, **arguments}, T, main, reader), match)


def test_readers_that_do_not_fit():
    again = RELU_Y.replace("%y[", "%z[")
    reader_refused(RELU_Y + "\n" + again, "its result is read by 2 nests", z="8x4")
    reader_refused("", "no nest of the program writes it; nothing reads its result")
    reader_refused(RELU_Y.replace("%y[", "%t["), "its reader 'relu' works in place")
    part = RELU_Y.replace("%c = 0 to 8", "%c = 0 to 7")
    reader_refused(part, "its reader 'relu' does not read exactly the elements that it stores, one per point")
    reader_refused(RELU_Y.replace("%t[%c, %h]", "%t[%c, 0]"), "does not read exactly the elements")
    reader_refused(RELU_Y.replace("0 to 8", "1 to 8"), "'relu' is not element-wise: its loops are not perfectly nested")
    unusual = '%r = "arith.index_cast"(%h) : (index) -> i32'
    typed = elementwise(CH, {"v": "%t[%c, %h] : memref<8x4xf32>"}, "%y[%c, %h] : memref<8x4xf32>", unusual)
    typed = typed.replace("affine.store %r", "affine.store %v")
    reader_refused(typed, "'relu' is not element-wise: it contains 'arith.index_cast'")
    twice = RELU_Y.replace("affine.store %r", "affine.store %v, %y[%c, 0] : memref<8x4xf32>\naffine.store %r")
    reader_refused(twice, "'relu' is not element-wise: it has 2 stores per point")
    late = nest({"c": 8}, "affine.store %zero, %t[%c, 0] : memref<8x4xf32>", "late")
    reader_refused(RELU_Y + "\n" + late, "its result is written by 'late' too")


def test_reader_that_overwrites_an_operand_of_the_nest():
    main = MAIN.replace("%x[%k, %oh * 2", "%y[%k, %oh * 2").replace("memref<3x4xf32>", "memref<8x4xf32>")
    reader_refused(RELU_Y, "it reads what its reader 'relu' writes", main)


def test_memrefs_that_may_be_shared():
    view = "%t = memref.subview %y[0, 0] [8, 4] [1, 1] : memref<8x4xf32> to memref<8x4xf32, strided<[4, 1]>>"
    main = MAIN.replace("8x4xf32>", "8x4xf32, strided<[4, 1]>>")
    relu = RELU_Y.replace("%y[", "%z[").replace("%t[%c, %h] : memref<8x4xf32>", "%t[%c, %h] : memref<8x4xf32, strided<[4, 1]>>")
    refused(function({**ARGUMENTS, "z": "8x4"}, view, main, relu), "it comes from 'memref.subview' and may be shared")
    peek = "%peek = memref.cast %y : memref<8x4xf32> to memref<?x4xf32>"
    refused(function(ARGUMENTS, peek, T, MAIN, RELU_Y), "it is used by 'memref.cast', whose effects are not understood")


def test_unusual_nests():
    other = "affine.store %red#1, %t[%co, %oh * 2 + 1] : memref<8x4xf32>"
    twice = MAIN.replace(other, other.replace("%t[", "%z["))
    reader_refused(RELU_Y, "it stores to 2 memrefs, not to one", twice, z="8x4")
    same = MAIN.replace("affine.store %red#1, %t[%co, %oh * 2 + 1]", "affine.store %red#1, %t[%co, %oh * 2]")
    reader_refused(RELU_Y, "it may store an element several times|it reads results of other iterations", same)
    ahead = MAIN.replace("%s1 = affine.load %t[%co, %oh * 2 + 1]", "%s1 = affine.load %t[%co, %oh * 2 + 2]")
    reader_refused(RELU_Y, "it reads results of other iterations", ahead)


def test_unknown_layer():
    module = ir.Module.parse(function(ARGUMENTS, T, MAIN, RELU_Y))
    with pytest.raises(ArgumentError, match="no layer 'conf' in the program; nearest: conv"):
        FuseEpilogue("conf").apply(module.operation)
