from __future__ import annotations

import itertools

import islpy as isl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_programs import KEPT
from torch_mlir import ir

from loopmorph.passes.analysis.dependence.dependence import carried, dependences, reordering_violation
from loopmorph.passes.analysis.dependence.instances import band_schedule, domain
from loopmorph.passes.analysis.dependence.reductions import reductions
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Nest, nests

pytestmark = pytest.mark.usefixtures("context")


def nest_of(body: str, arguments: str = "%a: memref<8x8xf32>, %b: memref<8x8xf32>, %c: memref<8xf32>") -> Nest:
    """The only nest of a function with this body."""
    module = ir.Module.parse(f"func.func @main({arguments}) {{ {body} return }}")
    (nest,) = nests(module.operation)
    KEPT.append(module)
    return nest


def square(store: str, *loads: str, bounds: tuple[str, str] = ("0 to 8", "0 to 8")) -> Nest:
    """`store = sum of loads` in a nest over i and j."""
    body = "".join(f"%v{k} = affine.load {x} : memref<8x8xf32>\n" for k, x in enumerate(loads))
    value = "%v0"
    for k in range(1, len(loads)):
        body += f"%s{k} = arith.addf {value}, %v{k} : f32\n"
        value = f"%s{k}"
    i, j = bounds
    return nest_of(
        f"""affine.for %i = {i} {{ affine.for %j = {j} {{
          {body} affine.store {value}, {store} : memref<8x8xf32>
        }} {{morph.iter = "j"}} }} {{morph.iter = "i", morph.layer = "stencil"}}"""
    )


def distances(nest: Nest) -> dict[str, set[tuple[int, ...]]]:
    """The constant distances of the dependences between iterations, by kind."""
    found: dict[str, set[tuple[int, ...]]] = {}
    for dependence in dependences(nest):
        assert dependence.distances.is_singleton()
        found.setdefault(dependence.kind, set()).add(dependence.distance)
    return found


CONVOLUTION = """
  affine.for %n = 0 to 1 { affine.for %co = 0 to 64 { affine.for %oh = 0 to 56 { affine.for %ow = 0 to 56 {
    affine.for %ci = 0 to 32 { affine.for %kh = 0 to 3 { affine.for %kw = 0 to 3 {
      %x0 = affine.load %x[%n, %ci, %oh + %kh, %ow + %kw] : memref<1x32x58x58xf32>
      %w0 = affine.load %w[%co, %ci, %kh, %kw] : memref<64x32x3x3xf32>
      %y0 = affine.load %y[%n, %co, %oh, %ow] : memref<1x64x56x56xf32>
      %p = arith.mulf %x0, %w0 : f32
      %s = arith.addf %y0, %p : f32
      affine.store %s, %y[%n, %co, %oh, %ow] : memref<1x64x56x56xf32>
    } {morph.iter = "kw"} } {morph.iter = "kh"} } {morph.iter = "ci"}
  } {morph.iter = "ow"} } {morph.iter = "oh"} } {morph.iter = "co"} } {morph.iter = "n"}
"""
CONVOLUTION_ARGUMENTS = "%x: memref<1x32x58x58xf32>, %w: memref<64x32x3x3xf32>, %y: memref<1x64x56x56xf32>"


def test_a_recurrence_has_distance_one():
    nest = nest_of(
        """affine.for %i = 1 to 8 {
          %v = affine.load %c[%i - 1] : memref<8xf32>
          affine.store %v, %c[%i] : memref<8xf32>
        } {morph.iter = "i"}"""
    )
    (flow,) = dependences(nest)
    assert (flow.kind, flow.distance, flow.reduction, flow.exact) == ("flow", (1,), False, True)
    assert flow.describe(nest) == (
        "the flow dependence from store %arg2[i] to load %arg2[i - 1], carried by 'i' at distance (i=1)"
    )


def test_a_wavefront_cannot_be_interchanged():
    nest = square("%a[%i, %j]", "%a[%i - 1, %j + 1]", bounds=("1 to 8", "0 to 7"))
    assert distances(nest) == {"flow": {(1, -1)}}
    violation = reordering_violation(nest, [1, 0])
    assert violation is not None and (violation.kind, violation.distance) == ("flow", (1, -1))
    assert reordering_violation(nest, [0, 1]) is None


def test_an_anti_dependence_runs_from_the_load():
    assert distances(square("%a[%i, %j]", "%a[%i + 1, %j + 2]", bounds=("0 to 7", "0 to 6"))) == {"anti": {(1, 2)}}


def test_forward_distances_admit_interchange_but_are_carried():
    nest = square("%a[%i, %j]", "%a[%i - 1, %j]", "%a[%i, %j - 2]", bounds=("1 to 8", "2 to 8"))
    assert distances(nest) == {"flow": {(1, 0), (0, 2)}}
    assert reordering_violation(nest, [1, 0]) is None
    assert [[d.distance for d in carried(nest, loop)] for loop in nest.loops] == [[(1, 0)], [(0, 2)]]


def test_distinct_buffers_do_not_depend_on_each_other():
    nest = square("%b[%i, %j]", "%a[%j, %i]")
    assert dependences(nest) == ()
    assert carried(nest, nest.loops[0]) == ()


def test_an_element_that_the_domain_never_reaches_makes_no_dependence():
    """Even and odd columns never meet, though the stores and loads span the same rows."""
    assert dependences(square("%a[%i, %j * 2]", "%a[%i, %j * 2 + 1]", bounds=("0 to 8", "0 to 4"))) == ()


def test_a_step_restricts_the_domain():
    nest = square("%a[%i, %j]", "%a[%i, %j - 1]", bounds=("0 to 8", "1 to 8 step 2"))
    assert dependences(nest) == ()


def test_domain_of_a_split_with_a_remainder():
    nest = nest_of(
        """affine.for %i = 0 to 3 { affine.for %j = 0 to min affine_map<(d0) -> (3, 8 - d0 * 3)>(%i) {
          %v = affine.load %c[%i * 3 + %j] : memref<8xf32>
          affine.store %v, %b[%i, %j] : memref<8x8xf32>
        } }"""
    )
    points = domain(nest, nest.accesses[0])
    assert points == isl.Set("{ [i, j] : 0 <= i <= 1 and 0 <= j <= 2 or i = 2 and 0 <= j <= 1 }")


def test_an_imperfect_nest_runs_in_textual_order():
    nest = nest_of(
        """affine.for %i = 0 to 8 {
          affine.for %j = 0 to 8 {
            %v = affine.load %a[%i, %j] : memref<8x8xf32>
            affine.store %v, %c[%j] : memref<8xf32>
          } {morph.iter = "j"}
          %w = affine.load %c[%i] : memref<8xf32>
          affine.store %w, %b[%i, %i] : memref<8x8xf32>
        } {morph.iter = "i"}"""
    )
    found = {(d.kind, d.source.order, d.sink.order): d for d in dependences(nest)}
    assert set(found) == {("output", 1, 1), ("flow", 1, 2), ("anti", 2, 1)}
    assert found["flow", 1, 2].common == (0,)
    assert found["flow", 1, 2].relation == isl.Map("{ [i, j] -> [k] : 0 <= i <= k = j <= 7 }")
    assert found["anti", 2, 1].relation == isl.Map("{ [k] -> [i, j] : 0 <= k = j < i <= 7 }")


def test_a_convolution_is_a_reduction():
    nest = nest_of(CONVOLUTION, CONVOLUTION_ARGUMENTS)
    assert [(r.load, r.store, r.combiner) for r in reductions(nest)] == [(2, 3, "arith.addf")]
    assert {(d.kind, d.reduction) for d in dependences(nest)} == {
        ("anti", False),  # the load before its store, within one iteration
        ("anti", True),
        ("flow", True),
        ("output", True),
    }
    for order in ([6, 5, 4, 3, 2, 1, 0], [0, 4, 5, 6, 1, 2, 3]):
        assert reordering_violation(nest, order) is None
    parallel = [loop.iterator for loop in nest.loops if not carried(nest, loop)]
    assert parallel == ["n", "co", "oh", "ow"]


def test_tiling_as_a_schedule():
    skewed = square("%a[%i, %j]", "%a[%i - 1, %j + 1]", bounds=("1 to 8", "0 to 7"))
    tiles = ["floor(i0 / 2)", "floor(i1 / 2)", "i0", "i1"]
    assert reordering_violation(skewed, band_schedule(skewed, [0, 1], tiles)) is not None
    straight = square("%a[%i, %j]", "%a[%i - 1, %j - 1]", bounds=("1 to 8", "1 to 8"))
    assert reordering_violation(straight, band_schedule(straight, [0, 1], tiles)) is None


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("arith.addf", True),
        ("arith.mulf", True),
        ("arith.maximumf", True),
        ("arith.minnumf", True),
        ("arith.subf", False),
        ("arith.divf", False),
    ],
)
def test_only_associative_commutative_combinations_are_reductions(operation, expected):
    nest = nest_of(
        f"""affine.for %i = 0 to 8 {{ affine.for %j = 0 to 8 {{
          %x = affine.load %a[%i, %j] : memref<8x8xf32>
          %y = affine.load %c[%j] : memref<8xf32>
          %s = {operation} %y, %x : f32
          affine.store %s, %c[%j] : memref<8xf32>
        }} }}"""
    )
    assert bool(reductions(nest)) == expected
    assert any(d.reduction for d in carried(nest, nest.loops[0])) == expected


def test_a_running_sum_that_is_read_is_no_reduction():
    nest = nest_of(
        """affine.for %i = 0 to 8 { affine.for %j = 0 to 8 {
          %x = affine.load %a[%i, %j] : memref<8x8xf32>
          %y = affine.load %c[0] : memref<8xf32>
          %s = arith.addf %y, %x : f32
          affine.store %s, %c[0] : memref<8xf32>
          affine.store %s, %b[%i, %j] : memref<8x8xf32>
        } }"""
    )
    assert reductions(nest) == ()
    assert reordering_violation(nest, [1, 0]) is not None


def test_an_update_that_another_store_disturbs_is_no_reduction():
    nest = nest_of(
        """affine.for %i = 0 to 8 {
          %x = affine.load %a[%i, 0] : memref<8x8xf32>
          %y = affine.load %c[0] : memref<8xf32>
          affine.store %x, %c[%i] : memref<8xf32>
          %s = arith.addf %y, %x : f32
          affine.store %s, %c[0] : memref<8xf32>
        }"""
    )
    assert reductions(nest) == ()


def test_sums_and_products_into_one_element_do_not_commute():
    nest = nest_of(
        """affine.for %i = 0 to 8 { affine.for %j = 0 to 8 {
          %x = affine.load %a[%i, %j] : memref<8x8xf32>
          %y = affine.load %c[0] : memref<8xf32>
          %s = arith.addf %y, %x : f32
          affine.store %s, %c[0] : memref<8xf32>
          %z = affine.load %c[0] : memref<8xf32>
          %t = arith.mulf %z, %x : f32
          affine.store %t, %c[0] : memref<8xf32>
        } }"""
    )
    assert len(reductions(nest)) == 2
    assert reordering_violation(nest, [1, 0]) is not None


def test_views_of_one_buffer_may_overlap():
    arguments = "%a: memref<8x8xf32>, %b: memref<8x8xf32>"
    body = """
      %v = memref.subview {base}[0, 0] [8, 8] [1, 1] : memref<8x8xf32> to memref<8x8xf32, strided<[8, 1]>>
      affine.for %i = 0 to 8 {{ affine.for %j = 0 to 8 {{
        %x = affine.load %a[%i, %j] : memref<8x8xf32>
        affine.store %x, %v[%i, %j] : memref<8x8xf32, strided<[8, 1]>>
      }} }}"""
    same, other = (nest_of(body.format(base=base), arguments) for base in ("%a", "%b"))
    assert {(d.kind, d.exact) for d in dependences(same)} == {("flow", False), ("anti", False)}
    assert dependences(other) == ()


def test_a_memref_of_unknown_origin_may_overlap_anything():
    module = ir.Module.parse(
        """func.func @main(%c: memref<8xf32>, %d: memref<8xf32>, %p: i1) {
          %m = arith.select %p, %c, %d : memref<8xf32>
          affine.for %i = 0 to 8 {
            %x = affine.load %c[%i] : memref<8xf32>
            affine.store %x, %m[%i] : memref<8xf32>
          }
          return
        }"""
    )
    (nest,) = nests(module.operation)
    assert {d.kind for d in dependences(nest)} == {"flow", "anti"}


def test_operations_with_unknown_accesses_are_refused():
    nest = nest_of(
        """affine.for %i = 0 to 8 {
          %x = memref.load %c[%i] : memref<8xf32>
          memref.store %x, %c[%i] : memref<8xf32>
        } {morph.layer = "head"}"""
    )
    with pytest.raises(IllegalTransform, match=r"layer 'head', at .*does not know what memref.store accesses"):
        dependences(nest)


def test_elements_read_anywhere_are_known_where_nothing_writes_them():
    text = """affine.for %i = 0 to 8 {{
          %x = memref.load {}[%i] : memref<8xf32>
          affine.store %x, %c[%i] : memref<8xf32>
        }} {{morph.layer = "head"}}"""
    with pytest.raises(IllegalTransform, match="it reads, at an index that depends on data, what it writes"):
        dependences(nest_of(text.format("%c")))
    assert not dependences(nest_of(text.format("%d"), "%c: memref<8xf32>, %d: memref<8xf32>"))


offsets = st.tuples(st.integers(-2, 2), st.integers(-2, 2))


@settings(max_examples=40, deadline=None)
@given(st.lists(offsets, min_size=1, max_size=3), st.booleans())
def test_against_enumeration(loads, swap):
    """Relations and legality of an interchange, against all pairs of instances of a small stencil."""
    text = [f"%a[{'%j' if swap else '%i'} + {di}, {'%i' if swap else '%j'} + {dj}]" for di, dj in loads]
    nest = square("%a[%i, %j]", *text, bounds=("2 to 6", "2 to 6"))
    instances = list(itertools.product(range(2, 6), repeat=2))

    def element(order: int, point: tuple[int, int]) -> tuple[int, int]:
        if order == len(loads):
            return point
        i, j = reversed(point) if swap else point
        return i + loads[order][0], j + loads[order][1]

    def earlier(a: tuple, b: tuple, permutation=(0, 1)) -> bool:
        (order_a, p), (order_b, q) = a, b
        return (*(p[k] for k in permutation), order_a) < (*(q[k] for k in permutation), order_b)

    last = len(loads)
    statements = [(order, point) for order in range(last + 1) for point in instances]
    pairs = {
        (a, b)
        for a, b in itertools.product(statements, repeat=2)
        if last in (a[0], b[0]) and earlier(a, b) and element(*a) == element(*b)
    }
    found = dependences(nest)
    by_isl = set()
    for d in found:
        points: list[isl.Point] = []
        d.relation.wrap().foreach_point(points.append)
        for p in points:
            c = [p.get_coordinate_val(isl.dim_type.set, k).to_python() for k in range(4)]
            by_isl.add(((d.source.order, (c[0], c[1])), (d.sink.order, (c[2], c[3]))))
    assert by_isl == pairs
    reducible = {x for r in reductions(nest) for x in (r.load, r.store)}
    strict = {(a, b) for a, b in pairs if not ({a[0], b[0]} <= reducible and a[1] != b[1])}
    legal = all(earlier(a, b, (1, 0)) for a, b in strict)
    assert (reordering_violation(nest, [1, 0]) is None) == legal
