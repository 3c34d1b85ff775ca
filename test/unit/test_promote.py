from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_programs import KEPT, Program, apply, check, convolution, elementwise, pooling, program, triangle, view
from small_nests import nests as small_nests
from torch_mlir import ir

from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.loop.interchange import Interchange
from loopmorph.passes.loop.promote import Promote
from loopmorph.passes.loop.split import Split
from loopmorph.passes.loop.unroll import Unroll
from loopmorph.passes.loop.unroll_jam import UnrollJam
from loopmorph.passes.loop.vectorize import Vectorize
from loopmorph.passes.transformation import Transformation

pytestmark = pytest.mark.usefixtures("context")


def carried(module: ir.Module) -> dict[str, int]:
    """How many values each loop carries."""
    return {loop.iterator: len(loop.op.operation.results) for loop in view(module).loops}


def loads_of_result(module: ir.Module) -> list[str]:
    """The iterator of the loop around each load of the last argument, in program order."""
    nest = view(module)
    result = nest.stores[0].memref
    return [nest.iterators[a.loops[-1]] for a in nest.loads if a.memref == result]


def test_a_sum_is_carried_through_all_loops_that_do_not_index_it():
    module = apply(convolution(), Promote("net"))
    assert carried(module) == {"n": 0, "co": 0, "oh": 0, "ow": 0, "ci": 1, "kh": 1, "kw": 1}
    assert loads_of_result(module) == ["ow"]


def test_only_the_inner_loops_where_an_outer_one_is_in_between():
    module = apply(convolution(), Interchange("net", ("co", "kh", "oh", "ow", "ci", "kw")), Promote("net"))
    assert carried(module) == {"n": 0, "co": 0, "kh": 0, "oh": 0, "ow": 0, "ci": 1, "kw": 1}


def test_many_accumulators_and_chains_of_copies():
    module = apply(
        convolution(co=4, size=4),
        Interchange("net", ("co", "oh", "ci", "kh", "kw", "ow")),
        UnrollJam("net", "co", 2),
        UnrollJam("net", "kw", 3),
        Vectorize("net", "ow", 4),
        Promote("net"),
    )
    assert carried(module) == {"n": 0, "co": 0, "oh": 0, "ci": 2, "kh": 2}
    nest = view(module)
    result = nest.stores[0].memref
    assert [a.kind for a in nest.accesses if a.memref == result] == ["load", "load", "store", "store"]


def test_maxima():
    assert carried(apply(pooling(), Promote("net"))) == {"c": 0, "oh": 0, "ow": 0, "kh": 1, "kw": 1}


def test_copies_of_an_inner_loop_each_carry_it():
    module = apply(convolution(ci=3), Unroll("net", "kh", 3), Promote("net"))
    assert carried(module) == {"n": 0, "co": 0, "oh": 0, "ow": 0, "ci": 1, "kw_0": 1, "kw_1": 1, "kw_2": 1}


def test_reductions_of_vectors_with_a_rest():
    module = apply(
        convolution(co=2, size=3, ci=11),
        Interchange("net", ("kh", "kw", "ci")),
        Vectorize("net", "ci", 4),
        Promote("net"),
    )
    # the loop over vectors carries its partial sums since before, and the sum itself passes it by
    assert carried(module) == {"n": 0, "co": 0, "oh": 0, "ow": 0, "kh": 1, "kw": 1, "ci": 1, "ci.rest": 1}


def test_a_loop_that_may_not_run_is_not_passed():
    text = "0 to affine_map<(d0) -> (d0)>(%i)"
    source = program(
        {"i": 4, "j": text},
        """%a = affine.load %x[%j] : {x}
        %b = affine.load %y[%i] : {y}
        %s = arith.addf %a, %b : f32
        affine.store %s, %y[%i] : {y}""",
        {"x": (4,), "y": (4,)},
    )
    module = ir.Module.parse(source.text)
    with pytest.raises(IllegalTransform, match="there is nothing to promote"):
        Promote("net").apply(module.operation)


def test_bounds_that_surely_leave_an_iteration():
    assert carried(apply(triangle(), Promote("net"))) == {"i": 0, "j": 1}
    module = apply(convolution(ci=5), Split("net", "ci", 2), Promote("net"))
    assert carried(module) == {"n": 0, "co": 0, "oh": 0, "ow": 0, "ci.0": 1, "ci.1": 1, "kh": 1, "kw": 1}


def test_the_outermost_loop():
    source = program(
        {"i": 5, "j": 3},
        """%v = affine.load %x[%i, %j] : {x}
        %o = affine.load %y[2] : {y}
        %s = arith.addf %o, %v : f32
        affine.store %s, %y[2] : {y}""",
        {"x": (5, 3), "y": (4,)},
    )
    assert carried(apply(source, Promote("net"))) == {"i.0": 0, "i": 1, "j": 1}


def test_other_elements_of_the_same_memref_are_told_apart():
    source = program(
        {"i": 4, "j": 3},
        """%v = affine.load %y[%j + 4] : {y}
        %o = affine.load %y[%i] : {y}
        %s = arith.addf %o, %v : f32
        affine.store %s, %y[%i] : {y}""",
        {"y": (8,)},
    )
    assert carried(apply(source, Promote("net"))) == {"i": 0, "j": 1}


def test_it_goes_as_far_as_no_other_access_is_in_the_way():
    text = """func.func @main(%x: memref<4x6xf32>, %y: memref<4xf32>, %z: memref<4x4xf32>) {
      affine.for %i = 0 to 4 {
        affine.for %j = 0 to 6 {
          %v = affine.load %x[%i, %j] : memref<4x6xf32>
          %o = affine.load %y[1] : memref<4xf32>
          %s = arith.addf %o, %v : f32
          affine.store %s, %y[1] : memref<4xf32>
        } {morph.iter = "j"}
        affine.for %k = 0 to 4 {
          %w = affine.load %y[%k] : memref<4xf32>
          affine.store %w, %z[%i, %k] : memref<4x4xf32>
        } {morph.iter = "k"}
      } {morph.iter = "i", morph.layer = "net", morph.role = "main"}
      return
    }"""
    assert carried(apply(Program(text, ((4, 6), (4,), (4, 4))), Promote("net"))) == {"i": 0, "j": 1, "k": 0}


def test_a_value_that_is_written_to_two_accumulators():
    source = program(
        {"i": 4, "j": 3},
        """%v = affine.load %x[%j] : {x}
        %a = affine.load %y[%i] : {y}
        %b = affine.load %z[%i] : {z}
        %s = arith.addf %b, %v : f32
        affine.store %a, %z[%i] : {z}
        affine.store %s, %y[%i] : {y}""",
        {"x": (3,), "y": (4,), "z": (4,)},
    )
    assert carried(apply(source, Promote("net"))) == {"i": 0, "j": 2}


@pytest.mark.parametrize(
    ("source", "match"),
    [
        (elementwise(), "no loop reads and then writes an element that it does not index; there is nothing to promote"),
        (
            program(
                {"i": 4, "j": 3},
                """%v = affine.load %y[%j + 3] : {y}
                %o = affine.load %y[%i] : {y}
                %s = arith.addf %o, %v : f32
                affine.store %s, %y[%i] : {y}""",
                {"y": (8,)},
            ),
            r"load %arg0\[i\] and load %arg0\[j \+ 3\] in loop 'j' may overlap; only one can be in a register",
        ),
    ],
    ids=["no accumulator", "overlap"],
)
def test_refusals(source, match):
    module = ir.Module.parse(source.text)
    with pytest.raises(IllegalTransform, match=match):
        Promote("net").apply(module.operation)
    assert str(module) == str(ir.Module.parse(source.text))


def test_overlapping_vectors_are_refused():
    text = """func.func @main(%x: memref<4xf32>, %y: memref<12xf32>) {
      affine.for %i = 0 to 4 {
        %a = affine.vector_load %y[0] : memref<12xf32>, vector<8xf32>
        %b = affine.vector_load %y[4] : memref<12xf32>, vector<8xf32>
        %s = arith.addf %a, %b : vector<8xf32>
        affine.vector_store %s, %y[0] : memref<12xf32>, vector<8xf32>
      } {morph.iter = "i", morph.layer = "net", morph.role = "main"}
      return
    }"""
    module = ir.Module.parse(text)
    with pytest.raises(IllegalTransform, match=r"load %arg1\[0\] and load %arg1\[4\] in loop 'i' may overlap"):
        Promote("net").apply(module.operation)
    apart = Program(text.replace("%y[4]", "%y[8]").replace("memref<12x", "memref<16x"), ((4,), (16,)))
    assert carried(apply(apart, Promote("net"))) == {"i.0": 0, "i": 1}


def test_an_unknown_layer_is_refused():
    module = ir.Module.parse(convolution().text)
    with pytest.raises(ArgumentError, match="no layer 'nte' in the program; nearest: net"):
        Promote("nte").apply(module.operation)


@settings(max_examples=40, deadline=None)
@given(small_nests(), st.booleans(), st.sampled_from((2, 4)))
def test_any_small_nest_computes_the_same_or_is_refused(source, unroll, width):
    with ir.Context(), ir.Location.unknown():
        module = ir.Module.parse(source.text)
        innermost = view(module).loops[-1]
        steps: list[Transformation] = [Vectorize("net", innermost.iterator, width), Promote("net")]
        if unroll and innermost.extent in (4, 6, 8, 10):
            steps.insert(0, Unroll("net", innermost.iterator, 2))
        for step in steps:
            before = str(module)
            try:
                step.apply(module.operation)
            except IllegalTransform:
                assert str(module) == before
        check(source, module)
        KEPT.clear()
