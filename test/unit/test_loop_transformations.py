from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_programs import (
    Program,
    apply,
    check,
    convolution,
    diagonal,
    elementwise,
    program,
    refused,
    sources,
    triangle,
    view,
    wavefront,
)
from torch_mlir import ir

from loopmorph.passes.address import find_nest
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.history import record
from loopmorph.passes.loop.fuse import Fuse
from loopmorph.passes.loop.interchange import Interchange
from loopmorph.passes.loop.split import Split
from loopmorph.passes.loop.tile import Tile
from loopmorph.passes.loop.unroll import Unroll
from loopmorph.passes.loop.unroll_jam import UnrollJam
from loopmorph.passes.marks import recorded_steps
from loopmorph.passes.nest import Nest, nests
from loopmorph.passes.transformation import Transformation

pytestmark = pytest.mark.usefixtures("context")


def test_a_nest_that_is_known_is_changed_as_one_that_is_looked_for():
    step = Interchange("net", ("ci", "n", "co"))
    looked_for, known = (ir.Module.parse(convolution().text).operation for _ in range(2))
    step.apply(looked_for)
    root = step.apply_to(find_nest(known, "net"))
    assert root == find_nest(known, "net").root.operation
    assert recorded_steps(looked_for) == [str(step)] and not recorded_steps(known)
    record(known, step)
    assert str(known) == str(looked_for)


def test_a_refusal_of_a_known_nest_shows_it():
    module = ir.Module.parse(triangle().text)
    (nest,) = nests(module.operation)
    with pytest.raises(IllegalTransform, match="the bounds of 'j' depend on 'i', which must stay outside it") as caught:
        Interchange("net", tuple(reversed(nest.iterators))).apply_to(nest)
    assert caught.value.explain is not None and "layer 'net' (main)" in caught.value.explain()


# ---- interchange


def test_interchange_of_the_whole_nest():
    order = ("kw", "ci", "n", "co", "kh", "ow", "oh")
    assert view(apply(convolution(), Interchange("net", order))).iterators == order


def test_interchange_keeps_iterators_that_are_not_listed():
    nest = view(apply(convolution(), Interchange("net", ("ci", "co"))))
    assert nest.iterators == ("n", "ci", "oh", "ow", "co", "kh", "kw")
    assert nest.extents == (1, 2, 6, 6, 4, 3, 3)


def test_interchange_keeps_bounds_that_do_not_start_at_0():
    source = program(
        {"i": "2 to 8 step 3", "j": "1 to 4"},
        "%a = affine.load %x[%i, %j] : {x}\naffine.store %a, %y[%i, %j] : {y}",
        {"x": (8, 4), "y": (8, 4)},
    )
    nest = view(apply(source, Interchange("net", ("j", "i"))))
    assert (nest.iterators, nest.extents) == (("j", "i"), (3, 2))


def test_interchange_keeps_other_marks_with_their_loop():
    source = convolution()
    text = source.text.replace('{morph.iter = "co"}', '{morph.iter = "co", morph.parallel}')
    nest = view(apply(Program(text, source.shapes), Interchange("net", ("ci", "n", "co"))))
    assert ["morph.parallel" in loop.op.attributes for loop in nest.loops] == [p == 4 for p in range(7)]


@pytest.mark.parametrize(
    ("order", "match"),
    [
        (("co", "oh"), "argument 'order': co,oh is the present order; this changes nothing"),
        (("co", "oh", "co"), "argument 'order': iterator 'co' is listed 2 times"),
        (("co",), "argument 'order': expected at least 2 iterators, got 1"),
        (("co", "x"), "argument 'order': layer 'net' has no iterator 'x'; it has n, co, oh"),
    ],
)
def test_interchange_refuses_a_bad_order(order, match):
    refused(convolution(), Interchange("net", order), ArgumentError, match)


def test_interchange_refuses_to_reverse_a_dependence():
    match = (
        r"layer 'net': the order j, i would reverse the flow dependence from store %arg0\[i, j\] to "
        r"load %arg0\[i - 1, j \+ 1\], carried by 'i' at distance \(i=1, j=-1\)"
    )
    refused(wavefront(), Interchange("net", ("j", "i")), IllegalTransform, match)


def test_interchange_refuses_to_leave_a_loop_that_bounds_depend_on():
    match = "layer 'net': the bounds of 'j' depend on 'i', which must stay outside it"
    refused(triangle(), Interchange("net", ("j", "i")), IllegalTransform, match)


def test_interchange_refuses_loops_that_are_not_perfectly_nested():
    module = apply(convolution(), Unroll("net", "kh", 3))
    with pytest.raises(IllegalTransform, match="loops 'ci' and 'kw_1' are not perfectly nested in each other"):
        Interchange("net", ("kw_1", "ci")).apply(module.operation)
    Interchange("net", ("ci", "co")).apply(module.operation)
    check(convolution(), module)
    assert view(module).iterators == ("n", "ci", "oh", "ow", "co", "kw_0", "kw_1", "kw_2")


def test_interchange_of_reduction_loops_around_copies():
    nest = view(
        apply(convolution(), Interchange("net", ("kw", "ci")), Unroll("net", "kh", 3), Interchange("net", ("kw", "ow")))
    )
    assert nest.iterators == ("n", "co", "oh", "kw", "ow", "ci_0", "ci_1", "ci_2")


# ---- split


@pytest.mark.parametrize("factor", [2, 3, 4, 5])
def test_split(factor):
    nest = view(apply(convolution(), Split("net", "ow", factor)))
    assert nest.iterators == ("n", "co", "oh", "ow.0", "ow.1", "ci", "kh", "kw")
    assert nest.loop("ow.0").extent == math.ceil(6 / factor)
    assert nest.loop("ow.1").extent == (factor if 6 % factor == 0 else None)


def test_split_of_a_split_with_remainders():
    nest = view(apply(elementwise(w=23), Split("net", "w", 10), Split("net", "w.1", 4), Split("net", "w.0", 2)))
    assert nest.iterators == ("c", "h", "w.0.0", "w.0.1", "w.1.0", "w.1.1")


def test_split_of_the_outermost_loop_keeps_the_marks():
    root = view(apply(elementwise(c=6), Split("net", "c", 2))).root
    assert [str(root.attributes[n]) for n in ("morph.layer", "morph.node", "morph.iter")] == [
        '"net"',
        '"net_1"',
        '"c.0"',
    ]


def test_split_of_a_triangular_loop():
    nest = view(apply(triangle(), Split("net", "j", 2)))
    assert nest.iterators == ("i", "j.0", "j.1")


def test_split_of_the_loop_that_bounds_depend_on():
    assert view(apply(triangle(), Split("net", "i", 2))).iterators == ("i.0", "i.1", "j")


def test_split_inside_an_imperfect_nest():
    nest = view(apply(convolution(), Unroll("net", "kh", 3), Split("net", "kw_1", 2), Split("net", "oh", 4)))
    assert nest.iterators == ("n", "co", "oh.0", "oh.1", "ow", "ci", "kw_0", "kw_1.0", "kw_1.1", "kw_2")


@pytest.mark.parametrize("factor", [-1, 0, 1, 6, 7])
def test_split_refuses_a_factor_out_of_range(factor):
    match = f"argument 'factor': the factor for 'ow' must be between 2 and 5, got {factor}"
    refused(convolution(), Split("net", "ow", factor), ArgumentError, match)


def test_split_refuses_loops_too_short_or_not_from_0():
    refused(convolution(), Split("net", "n", 2), IllegalTransform, "'n' has extent 1, too short to be split")
    refused(wavefront(), Split("net", "i", 2), IllegalTransform, "loop 'i' does not start at 0 with step 1")


def test_split_refuses_a_name_that_is_taken():
    source = elementwise(w=8)
    taken = Program(source.text.replace('morph.iter = "h"', 'morph.iter = "w.0"'), source.shapes)
    refused(taken, Split("net", "w", 4), IllegalTransform, "layer 'net': the nest already has an iterator 'w.0'")


def test_unknown_layers_and_iterators():
    refused(convolution(), Split("nett", "ow", 2), ArgumentError, "no layer 'nett' in the program; nearest: net")
    refused(convolution(), Split("net", "w", 2), ArgumentError, "argument 'iter': layer 'net' has no iterator 'w'")


# ---- tile


def test_tile_puts_tile_loops_outside():
    nest = view(apply(convolution(), Tile("net", ("oh", "ow"), (2, 3))))
    assert nest.iterators == ("n", "co", "oh.0", "ow.0", "oh.1", "ow.1", "ci", "kh", "kw")
    assert nest.extents == (1, 4, 3, 2, 2, 3, 2, 3, 3)


def test_tile_of_loops_that_are_not_adjacent_in_the_order_given():
    nest = view(apply(convolution(ci=5), Tile("net", ("ci", "co"), (2, 3))))
    assert nest.iterators == ("n", "ci.0", "co.0", "ci.1", "oh", "ow", "co.1", "kh", "kw")


def test_tile_refuses_to_reverse_a_dependence():
    match = r"the order i.0, j.0, i.1, j.1 would reverse the flow dependence .* at distance \(i=1, j=-1\)"
    refused(diagonal(), Tile("net", ("i", "j"), (2, 2)), IllegalTransform, match)


@pytest.mark.parametrize(
    ("iters", "sizes", "match"),
    [
        (("oh", "ow"), (2,), "argument 'sizes': expected 2 sizes, one for each iterator, got 1"),
        (("oh", "ow"), (2, 6), "argument 'sizes': the factor for 'ow' must be between 2 and 5, got 6"),
        (("oh", "oh"), (2, 2), "argument 'iters': iterator 'oh' is listed 2 times"),
        ((), (), "argument 'iters': expected at least 1 iterators, got 0"),
    ],
)
def test_tile_refuses_bad_options(iters, sizes, match):
    refused(convolution(), Tile("net", iters, sizes), ArgumentError, match)


# ---- fuse


def test_fuse():
    nest = view(apply(convolution(), Fuse("net", ("co", "oh", "ow"))))
    assert nest.iterators == ("n", "co_oh_ow", "ci", "kh", "kw")
    assert nest.extents == (1, 144, 2, 3, 3)


def test_fuse_undoes_a_split_that_divides():
    nest = view(apply(elementwise(w=8), Split("net", "w", 4), Fuse("net", ("w.0", "w.1"))))
    assert (nest.iterators, nest.extents) == (("c", "h", "w.0_w.1"), (3, 4, 8))
    (load,) = nest.loads
    assert str(load.exprs[2]) == "d2"


def test_split_after_fuse():
    apply(convolution(), Fuse("net", ("co", "oh")), Split("net", "co_oh", 5), Interchange("net", ("ci", "co_oh.1")))


@pytest.mark.parametrize(
    ("iters", "error", "match"),
    [
        (("co", "ow"), IllegalTransform, "loops to fuse must be adjacent; between them: oh"),
        (("oh", "co"), ArgumentError, "argument 'iters': expected outermost first, got oh,co"),
        (("oh",), ArgumentError, "argument 'iters': expected at least 2 iterators, got 1"),
    ],
)
def test_fuse_refuses(iters, error, match):
    refused(convolution(), Fuse("net", iters), error, match)


def test_fuse_refuses_loops_that_are_not_rectangular():
    refused(triangle(), Fuse("net", ("i", "j")), IllegalTransform, "the extent of loop 'j' is no constant")
    refused(wavefront(), Fuse("net", ("i", "j")), IllegalTransform, "loop 'i' does not start at 0 with step 1")


# ---- unroll


def test_unroll_of_the_innermost_loop():
    nest = view(apply(elementwise(w=6), Unroll("net", "w", 3)))
    assert (nest.iterators, nest.extents) == (("c", "h", "w"), (3, 4, 2))
    assert len(nest.stores) == 3


def test_full_unroll_removes_the_loop():
    nest = view(apply(elementwise(), Unroll("net", "w", 5)))
    assert nest.iterators == ("c", "h") and len(nest.stores) == 5


def test_unroll_of_an_outer_loop_copies_the_loops_in_it():
    nest = view(apply(convolution(), Unroll("net", "co", 2), Unroll("net", "kh_1", 3)))
    copies = [f"{name}_{k}" for k in (0, 1) for name in ("oh", "ow", "ci", "kh", "kw")]
    copies[copies.index("kh_1") :] = ["kw_1_0", "kw_1_1", "kw_1_2"]
    assert nest.iterators == ("n", "co", *copies)


def test_unroll_removes_an_outermost_loop_of_extent_1():
    nest = view(apply(convolution(), Unroll("net", "n", 1)))
    assert nest.iterators == ("co", "oh", "ow", "ci", "kh", "kw")


def test_unroll_keeps_the_order_of_a_recurrence():
    apply(diagonal(), Unroll("net", "j", 3), Unroll("net", "i", 2))


@pytest.mark.parametrize("factor", [0, 1, 7])
def test_unroll_refuses_a_factor_out_of_range(factor):
    match = f"argument 'factor': the factor for 'oh' must be between 2 and 6, got {factor}"
    refused(convolution(), Unroll("net", "oh", factor), ArgumentError, match)


def test_unroll_refuses_a_factor_that_does_not_divide():
    match = "the factor 4 does not divide the extent 6 of 'oh'; these do: 2, 3, 6"
    refused(convolution(), Unroll("net", "oh", 4), IllegalTransform, match)


def test_unroll_refuses_to_dissolve_the_nest():
    match = "'c' is the outermost loop and cannot go away: no single loop would be left"
    refused(elementwise(), Unroll("net", "c", 3), IllegalTransform, match)


# ---- unroll and jam


@pytest.mark.parametrize("factor", [2, 4])
def test_unroll_jam_keeps_a_perfect_nest(factor):
    nest = view(apply(convolution(), UnrollJam("net", "co", factor)))
    assert nest.is_perfect and len(nest.stores) == factor
    assert nest.iterators == ("n", *(() if factor == 4 else ("co",)), "oh", "ow", "ci", "kh", "kw")


def test_unroll_jam_refuses_to_reverse_a_dependence():
    match = r"jamming 'i' would reverse the flow dependence .* carried by 'i' at distance \(i=1, j=-1\)"
    refused(diagonal(), UnrollJam("net", "i", 2), IllegalTransform, match)


def test_unroll_jam_refuses_the_innermost_loop_and_dependent_bounds():
    refused(convolution(), UnrollJam("net", "kw", 3), IllegalTransform, "'kw' holds no single loop to jam copies into")
    refused(triangle(6), UnrollJam("net", "i", 2), IllegalTransform, "the bounds of 'j' depend on 'i'")
    refused(convolution(), UnrollJam("net", "n", 1), ArgumentError, "the factor must be at least 2, got 1")


# ---- all of them


def test_loops_that_carry_registers_are_refused():
    source = program({"c": 4}, "affine.store %t, %y[%c] : {y}", {"x": (4, 4), "y": (4,)})
    inner = """%z = arith.constant 0.0 : f32
      %t = affine.for %k = 0 to 4 iter_args(%s = %z) -> (f32) {
        %a = affine.load %x[%c, %k] : memref<4x4xf32>
        %n = arith.addf %s, %a : f32
        affine.yield %n : f32
      } {morph.iter = "k"}
      affine.store %t"""
    source = Program(source.text.replace("affine.store %t", inner), source.shapes)
    for transformation in (Split("net", "k", 2), Unroll("net", "k", 2)):
        refused(source, transformation, IllegalTransform, r"loop 'k' carries values in registers \(iter_args\)")
    apply(source, Split("net", "c", 3))


def test_locations_are_kept():
    source = elementwise(w=8)
    located = Program(source.text.replace('{morph.iter = "w"}', '{morph.iter = "w"} loc("net|w")'), source.shapes)
    module = apply(located, Split("net", "w", 4), Interchange("net", ("w.1", "c")))
    assert ['loc("net|w")' == str(loop.op.location) for loop in view(module).loops] == [True, False, True, False]


def any_transformation(draw: Callable, nest: Nest) -> Transformation:
    """One with plausible options for the nest; often refused."""
    iterators = st.sampled_from(nest.iterators)
    kind = draw(st.sampled_from([Interchange, Split, Tile, Fuse, Unroll, UnrollJam]))
    if kind is Interchange:
        return Interchange("net", tuple(draw(st.permutations(draw(st.lists(iterators, min_size=2, unique=True))))))
    if kind is Tile:
        iters = draw(st.lists(iterators, min_size=1, max_size=3, unique=True))
        return Tile("net", tuple(iters), tuple(draw(st.integers(2, 5)) for _ in iters))
    if kind is Fuse:
        first = draw(st.integers(0, len(nest.loops) - 1))
        return Fuse("net", nest.iterators[first : first + draw(st.integers(2, 3))])
    return kind("net", draw(iterators), draw(st.integers(1, 5)))


@settings(max_examples=40, deadline=None)
@given(st.data(), sources)
def test_random_sequences_keep_the_values(data, source):
    with ir.Context(), ir.Location.unknown():
        module = ir.Module.parse(source.text)
        for _ in range(data.draw(st.integers(1, 5))):
            nest = view(module)
            if len(nest.iterators) > 1 and len(nest.accesses) < 60:
                attempt(module, any_transformation(data.draw, nest))
        check(source, module)


def attempt(module: ir.Module, transformation: Transformation) -> None:
    """Applies it, or sees it refused with the program untouched."""
    before = str(module)
    try:
        transformation.apply(module.operation)
    except (ArgumentError, IllegalTransform):
        assert str(module) == before
