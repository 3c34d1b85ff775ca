"""Peeled iterations: the same values, and a block of its own for what is left."""

from __future__ import annotations

import pytest
from epilogue_programs import RELU, count, elementwise, function, layers, nest, require_same
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_programs import apply, convolution, diagonal, view
from torch_mlir import ir

from loopmorph.passes.loop.fuse_epilogue import FuseEpilogue
from loopmorph.passes.loop.interchange import Interchange
from loopmorph.passes.loop.peel import Peel
from loopmorph.passes.loop.promote import Promote
from loopmorph.passes.loop.unroll_jam import UnrollJam
from loopmorph.passes.loop.vectorize import Vectorize

pytestmark = pytest.mark.usefixtures("context")

ROWS, SUMMED, LANES = 7, 3, 4


@settings(max_examples=8, deadline=None)
@given(st.sampled_from([("co", 3), ("oh", 5), ("ow", 1), ("kw", 2)]))
def test_the_values_stay(choice):
    iterator, size = choice
    nest = view(apply(convolution(), Peel("net", iterator, size)))
    assert nest.loop(f"{iterator}.rest").extent == size


def test_any_dependence_is_kept():
    apply(diagonal(), Peel("net", "i", 2))


def test_a_peeled_loop_is_peeled_again():
    nest = view(apply(convolution(), Peel("net", "ow", 3), Peel("net", "ow.rest", 1)))
    assert [nest.loop(name).extent for name in ("ow", "ow.rest", "ow.rest.rest")] == [3, 2, 1]


@pytest.mark.parametrize(("bias", "index"), [(f"{LANES}", "[%c]"), (f"{ROWS}x{LANES}", "[%n, %c]")])
def test_both_parts_take_in_start_values_and_epilogue(bias, index):
    place = f"[%n, %c] : memref<{ROWS}x{LANES}xf32>"
    space = {"n": ROWS, "c": LANES}
    start = nest(space, f"%b = affine.load %bias{index} : memref<{bias}xf32>\naffine.store %b, %t{place}", "fc", "init")
    main = nest(
        {"n": ROWS, "ci": SUMMED, "c": LANES},
        f"""%a = affine.load %x[%n, %ci] : memref<{ROWS}x{SUMMED}xf32>
        %w = affine.load %k[%ci, %c] : memref<{SUMMED}x{LANES}xf32>
        %s = affine.load %t{place}
        %m = arith.mulf %a, %w : f32
        %r = arith.addf %s, %m : f32
        affine.store %r, %t{place}""",
        "fc",
    )
    relu = elementwise(space, {"v": f"%t{place}"}, f"%y{place}", RELU)
    shapes = {"x": f"{ROWS}x{SUMMED}", "k": f"{SUMMED}x{LANES}", "bias": bias, "y": f"{ROWS}x{LANES}"}
    text = function(shapes, f"%t = memref.alloc() : memref<{ROWS}x{LANES}xf32>", start, main, relu)
    schedule = [
        Peel("fc", "n", 1),
        UnrollJam("fc", "n", 3),
        Vectorize("fc", "c", LANES),
        Vectorize("fc", "c.rest", LANES),
        Promote("fc"),
        FuseEpilogue("fc"),
    ]
    module = ir.Module.parse(text)
    for step in schedule:
        step.apply(module.operation)
    assert layers(module) == ["fc"]
    assert count(module, "memref.alloc") == 0
    assert count(module, "affine.vector_store") == 4  # three rows and one
    require_same(module, ir.Module.parse(text), [[int(e) for e in s.split("x")] for s in shapes.values()])


def test_a_reader_of_one_part_alone_stays():
    place = f"[%n, %c] : memref<{ROWS}x{LANES}xf32>"
    main = nest(
        {"n": ROWS, "c": LANES, "ci": SUMMED},
        f"""%a = affine.load %x[%n, %ci] : memref<{ROWS}x{SUMMED}xf32>
        %s = affine.load %t{place}
        %r = arith.addf %s, %a : f32
        affine.store %r, %t{place}""",
        "fc",
    )
    start = nest({"n": ROWS, "c": LANES}, f"affine.store %zero, %t{place}", "fc", "init")
    relu = elementwise({"n": ROWS - 1, "c": LANES}, {"v": f"%t{place}"}, f"%y{place}", RELU)
    shapes = {"x": f"{ROWS}x{SUMMED}", "y": f"{ROWS}x{LANES}"}
    text = function(shapes, f"%t = memref.alloc() : memref<{ROWS}x{LANES}xf32>", start, main, relu)
    module = ir.Module.parse(text)
    for step in (Interchange("fc", ("c", "n", "ci")), Peel("fc", "n", 1), Promote("fc"), FuseEpilogue("fc")):
        step.apply(module.operation)
    assert layers(module) == ["fc", "relu"]
    require_same(module, ir.Module.parse(text), [[int(e) for e in s.split("x")] for s in shapes.values()])


def test_what_is_done_again_gives_the_same_values():
    """Of 11 elements two vectors of 4, and one more that begins at element 7."""
    space, shape = {"c": 3, "w": 11}, "3x11"
    double = elementwise(space, {"v": f"%x[%c, %w] : memref<{shape}xf32>"}, f"%y[%c, %w] : memref<{shape}xf32>", RELU)
    text = function({"x": shape, "y": shape}, double)
    module = ir.Module.parse(text)
    (layer,) = layers(module)
    for step in (Peel(layer, "w", 3, again=1), Vectorize(layer, "w", 4), Vectorize(layer, "w.rest", 4)):
        step.apply(module.operation)
    assert count(module, "affine.store") == 0
    require_same(module, ir.Module.parse(text), [[3, 11], [3, 11]])


def test_parts_of_two_loops_are_told_apart():
    steps = (Peel("net", "co", 1, suffix=".last"), Peel("net", "ow", 2), Peel("net", "ow.last", 4))
    nest = view(apply(convolution(), *steps))
    names = ("co", "ow", "ow.rest", "co.last", "ow.last", "ow.last.rest")
    assert [nest.loop(name).extent for name in names] == [3, 4, 2, 1, 2, 4]
