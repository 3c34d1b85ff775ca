"""The polyhedral view: what is printed, read back by islpy, is what the nest is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import islpy as isl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_programs import KEPT, Program, sources
from polyhedral_programs import (
    FUSED,
    GUARDED,
    NESTED_REGISTERS,
    PROGRAMS,
    REGISTERS,
    Printed,
    bands,
    count,
    pairs,
    printed,
)
from torch_mlir import ir

from loopmorph.passes.affine_expr import evaluate
from loopmorph.passes.analysis.dependence.dependence import dependences
from loopmorph.passes.analysis.dependence.instances import schedule
from loopmorph.passes.analysis.polyhedral.relations import NamedNest, union
from loopmorph.passes.analysis.polyhedral.view import PolyhedralView, polyhedral_view
from loopmorph.passes.nest import Nest, nest_roots, view_nest

pytestmark = pytest.mark.usefixtures("context")

EVERYTHING = {**PROGRAMS, "registers": REGISTERS, "nested registers": NESTED_REGISTERS}
KINDS = ("flow", "anti", "output")
IN, OUT = isl.dim_type.in_, isl.dim_type.out


def nest_of(text: str) -> Nest:
    module = ir.Module.parse(text)
    KEPT.append(module)
    return view_nest(nest_roots(module.operation)[0], guarded=True)


def named(nest: Nest) -> NamedNest:
    """The nest with the names that the view prints for the programs here."""
    values = [access.memref for access in nest.accesses]
    arguments = {v: f"arg{ir.BlockArgument(v).arg_number}" for v in values if isinstance(v, ir.BlockArgument)}
    return NamedNest(nest, "net_main", arguments)


def view_of(text: str) -> PolyhedralView:
    nest = nest_of(text)
    return polyhedral_view(nest, "net_main", named(nest).memrefs)


def iterations(nest: Nest, loops: tuple[int, ...], values: Mapping[int, int]) -> Iterator[Mapping[int, int]]:
    """The values of the iterators of loops within each other, one after the other, as the bounds say."""
    if not loops:
        yield values
        return
    bounds = nest.bounds(nest.loops[loops[0]])
    point = [np.asarray(values.get(p, 0)) for p in range(len(nest.loops))]
    low = max(int(evaluate(e, point)) for e in bounds.lower)
    high = min(int(evaluate(e, point)) for e in bounds.upper)
    for value in range(low, high, bounds.step):
        yield from iterations(nest, loops[1:], {**values, loops[0]: value})


def between_accesses(nest: Nest) -> dict[str, isl.UnionMap]:
    """What the dependence analysis finds, between different instances of statements."""
    names = named(nest)
    of = {access.order: statement for statement in names.statements for access in statement.accesses}
    found = {kind: isl.UnionMap("{ }") for kind in KINDS}
    for each in dependences(nest):
        map_ = names.name_instances(each.relation, of[each.source.order], of[each.sink.order])
        if of[each.source.order] is of[each.sink.order]:
            map_ = map_.subtract(isl.Map.identity(map_.get_space()))
        found[each.kind] = found[each.kind].union(isl.UnionMap.from_map(map_))
    return found


def by_isl(document: Printed) -> dict[str, isl.UnionMap]:
    """All dependences, not just direct ones, as isl makes them of the printed accesses, domain and schedule."""
    accesses = {key: document.relation(key).intersect_domain(document.domain) for key in ("reads", "writes")}
    sides = {"flow": ("reads", "writes"), "anti": ("writes", "reads"), "output": ("writes", "writes")}
    found = {}
    for kind, (sink, source) in sides.items():
        info = isl.UnionAccessInfo.from_sink(accesses[sink]).set_may_source(accesses[source])
        found[kind] = info.set_schedule(document.schedule).compute_flow().get_may_dependence()
    return found


def check_round_trip(text: str) -> None:
    document, view = printed(text), view_of(text)
    domain = isl.UnionSet("{ }")
    for each in view.domains:
        domain = domain.union(isl.UnionSet.from_set(each))
    assert document.domain == domain
    assert document.relation("reads") == union(view.reads)
    assert document.relation("writes") == union(view.writes)
    assert view.dependences is not None
    for kind in (*KINDS, "reduction"):
        assert document.relation(kind) == getattr(view.dependences, kind)
    assert document.schedule.plain_is_equal(view.schedule)


def check_agreement(text: str) -> None:
    document, nest = printed(text), nest_of(text)
    wanted, found = between_accesses(nest), by_isl(document)
    for kind in KINDS:
        assert found[kind] == wanted[kind]
        assert document.relation(kind).is_subset(wanted[kind])


@pytest.mark.parametrize("text", EVERYTHING.values(), ids=EVERYTHING)
def test_what_is_printed_is_read_back(text: str) -> None:
    check_round_trip(text)


@pytest.mark.parametrize("text", PROGRAMS.values(), ids=PROGRAMS)
def test_isl_and_the_dependence_analysis_agree(text: str) -> None:
    check_agreement(text)


@pytest.mark.parametrize(
    ("name", "instances"),
    [
        ("matmul", 4 * 5 * 6),
        ("tiled", 10 * 6),
        ("padded", 3 * 5 - 2),
        ("guarded", 3 * 5),
        ("fused", 4 + 4 * 3 + 4),
        ("branches", 6 + 2 + 2),
    ],
)
def test_a_domain_has_as_many_points_as_there_are_iterations(name: str, instances: int) -> None:
    assert count(printed(PROGRAMS[name]).domain) == instances


def test_the_branches_of_a_guard_share_the_iterations() -> None:
    inside, outside = view_of(GUARDED).domains
    assert (inside.count_val().to_python(), outside.count_val().to_python()) == (13, 2)
    assert outside == isl.Set("{ net_main_S1[oh = 0, kh = 0]; net_main_S1[oh = 4, kh = 2] }")


@settings(max_examples=12, deadline=None)
@given(st.tuples(*[st.integers(-3, 3)] * 3), st.integers(2, 4), st.integers(0, 3), st.booleans())
def test_any_guard(coefficients: tuple[int, int, int], divisor: int, rest: int, inside: bool) -> None:
    """Of the points of a square those count where the guard holds, or where it does not."""
    a, b, c = coefficients
    store = "affine.store %v, %x[%i, %j] : memref<5x5xf32>"
    branches = f"{{ {store} }}" if inside else f"{{ }} else {{ {store} }}"
    text = f"""func.func @main(%x: memref<5x5xf32>) {{
      affine.for %i = 0 to 5 {{ affine.for %j = 0 to 5 {{
        %v = affine.load %x[%j, %i] : memref<5x5xf32>
        affine.if affine_set<(d0, d1) : (d0 * {a} + d1 * {b} + {c} >= 0, (d0 + d1) mod {divisor} - {rest} == 0)>(%i, %j)
        {branches}
      }} }} {{morph.layer = "net"}} return }}"""
    holds = {(i, j) for i in range(5) for j in range(5) if i * a + j * b + c >= 0 and (i + j) % divisor == rest}
    assert count(printed(text).domain) == 25 + (len(holds) if inside else 25 - len(holds))
    check_round_trip(text)


@settings(max_examples=12, deadline=None)
@given(sources)
def test_any_nest(source: Program) -> None:
    nest = nest_of(source.text)
    document = printed(source.text)
    assert count(document.domain) == len(list(iterations(nest, nest.accesses[0].loops, {})))
    check_round_trip(source.text)
    check_agreement(source.text)


@pytest.mark.parametrize(
    "text", [PROGRAMS["padded"], PROGRAMS["wavefront"], FUSED], ids=["padded", "wavefront", "fused"]
)
def test_all_dependences_follow_from_the_direct_ones(text: str) -> None:
    document, wanted = printed(text), between_accesses(nest_of(text))
    steps: dict[str, set[str]] = {}
    for source, sink in set().union(*(pairs(document.relation(kind)) for kind in KINDS)):
        steps.setdefault(source, set()).add(sink)
    reached: dict[str, set[str]] = {}

    def reach(source: str) -> set[str]:
        if source not in reached:
            reached[source] = set()
            reached[source] = set().union(*({sink} | reach(sink) for sink in steps.get(source, ())))
        return reached[source]

    everything = set().union(*(pairs(relation) for relation in wanted.values()))
    assert everything and all(sink in reach(source) for source, sink in everything)


@pytest.mark.parametrize("text", EVERYTHING.values(), ids=EVERYTHING)
def test_the_tree_runs_in_the_order_of_the_nest(text: str) -> None:
    nest, document = nest_of(text), printed(text)
    names, order, tree = named(nest), schedule(nest), document.schedule.get_map()
    of = {access.order: statement for statement in names.statements for access in statement.accesses}
    for a, b in itertools.product(nest.accesses, repeat=2):
        one, other = of[a.order], of[b.order]
        before = names.name_instances(order[a.order].lex_lt_map(order[b.order]), one, other)
        times = [tree.extract_map(_time_space(tree, names.label(s))) for s in (one, other)]
        wanted = before.intersect_domain(names.domains[one.number]).intersect_range(names.domains[other.number])
        if one is other:
            wanted = wanted.subtract(isl.Map.identity(wanted.get_space()))
        later = (
            times[0]
            .intersect_domain(names.domains[one.number])
            .lex_lt_map(times[1].intersect_domain(names.domains[other.number]))
        )
        assert later == wanted


def _time_space(tree: isl.UnionMap, label: str) -> isl.Space:
    maps = tree.get_map_list()
    found = (maps.get_at(k) for k in range(maps.n_map()))
    return next(m.get_space() for m in found if m.get_tuple_name(IN) == label)


# -- bands


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("matmul", [(True, [True, True, False])]),
        ("wavefront", [(False, [False]), (False, [True])]),
        ("fused", [(False, [True]), (False, [False])]),
        ("tiled", [(True, [True, True, True, True])]),
    ],
)
def test_bands_are_permutable_and_coincident_where_the_dependences_admit_it(
    name: str, wanted: list[tuple[bool, list[bool]]]
) -> None:
    assert bands(printed(PROGRAMS[name]).schedule.get_root()) == wanted


def test_a_parallel_loop_is_marked_and_a_register_is_read_and_written() -> None:
    document = printed(REGISTERS)
    assert document.fields["schedule"].count('mark: "parallel"') == 1
    assert document.relation("writes").intersect_range(isl.UnionSet("{ net_main_r0[i] }")) == isl.UnionMap(
        "{ net_main_S0[i] -> net_main_r0[i]; net_main_S1[i, j] -> net_main_r0[i] }"
    )
    assert document.relation("flow") == isl.UnionMap(
        """{ net_main_S0[i] -> net_main_S1[i, 0] : 0 <= i < 4; net_main_S0[i] -> net_main_S1[i, j] : 0 <= i < 4 and
        0 <= j < 6 and j mod 2 = 0; net_main_S1[i, j] -> net_main_S1[i, j + 2] : 0 <= i < 4 and 0 <= j < 4 and
        j mod 2 = 0; net_main_S1[i, 4] -> net_main_S2[i] : 0 <= i < 4 }"""
    )


def test_what_loops_within_each_other_carry() -> None:
    assert printed(NESTED_REGISTERS).relation("flow") == isl.UnionMap(
        """{ net_main_S0[] -> net_main_S1[0]; net_main_S0[] -> net_main_S3[0]; net_main_S1[i] -> net_main_S2[i, 0] :
        0 <= i < 4; net_main_S2[i, j] -> net_main_S2[i, j + 1] : 0 <= i < 4 and 0 <= j < 5; net_main_S2[i, 5] ->
        net_main_S3[i] : 0 <= i < 4; net_main_S3[i] -> net_main_S1[i + 1] : 0 <= i < 3; net_main_S3[i] ->
        net_main_S3[i + 1] : 0 <= i < 3 }"""
    )


def test_a_matrix_product_in_isl_s_notation() -> None:
    document = printed(PROGRAMS["matmul"])
    assert document.fields["reads"] == (
        "{ net_main_S0[m, n, k] -> arg0[m, k];\n"
        "  net_main_S0[m, n, k] -> arg1[k, n];\n"
        "  net_main_S0[m, n, k] -> arg2[m, n] }\n"
    )
    step = isl.UnionMap(
        "{ net_main_S0[m, n, k] -> net_main_S0[m, n, k + 1] : 0 <= m < 4 and 0 <= n < 5 and 0 <= k < 5 }"
    )
    assert all(document.relation(kind) == step for kind in (*KINDS, "reduction"))


def test_isl_makes_code_of_a_tree() -> None:
    tree = printed(PROGRAMS["tiled"]).schedule
    code = isl.AstBuild.from_context(isl.Set("{ : }")).node_from_schedule(tree).to_C_str()
    assert code == (
        "for (int c0 = 0; c0 <= 9; c0 += 4)\n"
        "  for (int c1 = 0; c1 <= 5; c1 += 2)\n"
        "    for (int c2 = c0; c2 <= min(9, c0 + 3); c2 += 1)\n"
        "      for (int c3 = c1; c3 <= c1 + 1; c3 += 1)\n"
        "        net_main_S0(c0, c1, c2, c3);\n"
    )
