"""The text of the polyhedral view: its page, its names, what it leaves out and says so, two of them side by side."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import islpy as isl
import pytest
from polyhedral_programs import FUSED, PROGRAMS, Printed, bands, count, printed, read
from torch_mlir import ir

from loopmorph.passes.analysis.polyhedral import flow
from loopmorph.passes.analysis.polyhedral.columns import COLUMN, side_by_side
from loopmorph.passes.analysis.polyhedral.names import identifier
from loopmorph.passes.analysis.polyhedral.text import polyhedral_documents, polyhedral_text
from loopmorph.passes.errors import IllegalTransform

pytestmark = pytest.mark.usefixtures("context")

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "polyhedral.md").read_text()


def test_the_page_shows_what_is_printed_and_how_to_read_it() -> None:
    (document,), (reader,) = (re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL) for kind in ("yaml", "python"))
    program = ir.Module.parse((ROOT / "test" / "lit" / "tools" / "polyhedral.mlir").read_text())
    assert polyhedral_text(program.operation).endswith(document)
    names: dict[str, Any] = {"text": document}
    exec(reader, names)
    assert count(names["domain"]) == 640
    assert names["code"].splitlines()[-1].strip() == "fc_main_S0(0, c1, c2);"


# -- what isl cannot express, and names

ODD = """func.func private @g()
func.func @main(%x: memref<8x?xf32>, %k: memref<4xindex>, %y: memref<4xf32>, %n: index) {
  %c0 = arith.constant 0 : index
  %v = memref.subview %y[0] [2] [1] : memref<4xf32> to memref<2xf32, strided<[1]>>
  func.call @g() : () -> ()
  affine.for %i = 0 to 4 {
    affine.prefetch %y[%i], read, locality<3>, data : memref<4xf32>
    %a = affine.load %k[%i] : memref<4xindex>
    %b = memref.load %x[%a, %c0] : memref<8x?xf32>
    affine.store %b, %y[%i] : memref<4xf32>
  } {morph.iter = "e0", morph.layer = "0.a"}
  affine.for %i = 0 to 4 { func.call @g() : () -> () } {morph.layer = "called"}
  affine.for %i = 0 to %n {
    %a = affine.load %y[%i] : memref<4xf32>
    affine.store %a, %y[%i] : memref<4xf32>
  } {morph.layer = "symbolic"}
  affine.for %i = 0 to 2 {
    %a = affine.load %y[%i] : memref<4xf32>
    affine.store %a, %v[%i] : memref<2xf32, strided<[1]>>
  } {morph.iter = "and", morph.node = "copy_1"}
  return
}"""


@pytest.fixture(scope="module")
def odd() -> list[Printed]:
    with ir.Context(), ir.Location.unknown():
        return read(polyhedral_text(ir.Module.parse(ODD).operation))


def test_what_is_not_shown_is_named(odd: list[Printed]) -> None:
    assert odd[0].comments == ["# @main: not shown, as it is in no nest: func.call"]
    assert odd[1].comments == ["# not shown, as it changes no value: affine.prefetch (1)"]
    assert "the dependence analysis does not know what func.call accesses" in odd[2].fields["refused"]
    assert "a bound is no affine function of the iterators" in odd[3].fields["refused"]


def test_an_index_that_depends_on_data_may_be_any(odd: list[Printed]) -> None:
    assert odd[1].relation("may_reads") == isl.UnionMap("{ _0_a_main_S0[e0_] -> arg0[a, b] : 0 <= a < 8 and b >= 0 }")


def test_views_may_overlap(odd: list[Printed]) -> None:
    document = odd[4]
    assert document.relation("writes") == isl.UnionMap("{ copy_1_main_S0[and_] -> arg2_view[and_] }")
    assert document.relation("flow") == isl.UnionMap("{ copy_1_main_S0[0] -> copy_1_main_S0[1] }")
    assert document.comments == ["# some dependences are assumed: memrefs may overlap"]


@pytest.mark.parametrize(
    ("text", "name"),
    [("layer1.0.conv1", "layer1_0_conv1"), ("0", "_0"), ("", "_"), ("Exists", "Exists_"), ("e12", "e12_"), ("é", "_")],
)
def test_names_are_such_that_isl_reads_them(text: str, name: str) -> None:
    assert identifier(text) == name
    assert str(isl.Set(f"{{ {name}[i] }}")) == f"{{ {name}[i] }}"


def test_names_are_unique_and_stay() -> None:
    nest = """affine.for %i = 0 to 4 { affine.for %j = 0 to 4 { affine.store %z, %y[%i] : memref<4xf32> }
      {morph.iter = "a.0"} } {morph.iter = "a_0", morph.layer = LAYER}"""
    text = f"""func.func @main(%y: memref<4xf32>) {{ %z = arith.constant 0.0 : f32
      {nest.replace("LAYER", '"a.b"')} {nest.replace("LAYER", '"a_b"')} {nest.replace("LAYER", '"a.b"')} return }}"""
    domains = [str(d.domain.get_set_list().get_at(0)) for d in read(polyhedral_text(ir.Module.parse(text).operation))]
    names = ["a_b_main_0", "a_b_main", "a_b_main_1"]
    assert domains == [f"{{ {name}_S0[a_0, a_0_2] : 0 <= a_0 <= 3 and 0 <= a_0_2 <= 3 }}" for name in names]


def test_memrefs_go_by_what_they_are() -> None:
    fill = """affine.for %i = 0 to 4 { affine.store %z, MEMREF[%i] : memref<4xf32> } {morph.layer = LAYER}"""
    copy = """affine.for %i = 0 to 4 { %v = affine.load %x[%i] : memref<4xf32>
      affine.store %v, MEMREF[%i] : memref<4xf32> } {morph.layer = "a", morph.role = "main"}"""
    arguments = {
        "%x": "morph.input = 1 : i64",
        "%w": 'morph.param = "a.weight"',
        "%y": "morph.output = 0 : i64",
        "%p": "morph.packed = 2 : i64",
        "%s": "morph.scratch",
        "%o": "",
    }
    nests = [fill.replace("MEMREF", name).replace("LAYER", '"b"') for name in arguments]
    init = fill.replace("MEMREF", "%t").replace("LAYER", '"a", morph.role = "init"')
    text = f"""func.func @main({", ".join(f"{name}: memref<4xf32> {{{mark}}}" for name, mark in arguments.items())}) {{
      %z = arith.constant 0.0 : f32
      %t = memref.alloc() : memref<4xf32>
      {" ".join([*nests, init, copy.replace("MEMREF", "%t")])} return }}"""
    written = [d.relation("writes").range() for d in read(polyhedral_text(ir.Module.parse(text).operation))]
    names = [each.get_set_list().get_at(0).get_tuple_name() for each in written]
    assert names == ["input1", "a_weight", "output0", "packed2", "scratch", "arg5", "a_main_out", "a_main_out"]


def test_what_takes_isl_too_long_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "MOST_STEPS", 100)
    document = printed(PROGRAMS["matmul"])
    assert document.comments == [
        "# dependences: not shown, as isl takes too many steps to find them; so bands are single loops"
    ]
    assert "flow" not in document.fields
    assert bands(document.schedule.get_root()) == [(False, [False])] * 3
    assert count(document.domain) == 4 * 5 * 6


def test_a_program_without_nests_is_refused() -> None:
    with pytest.raises(IllegalTransform, match=r"^program: it has no `affine.for` nest to show; lower it"):
        polyhedral_text(ir.Module.parse("func.func @main() { return }").operation)


# -- side by side


def test_nests_before_and_after_stand_side_by_side() -> None:
    before, after = (
        polyhedral_documents(ir.Module.parse(text).operation, COLUMN)
        for text in (FUSED, FUSED.replace("0 to 4", "0 to 3"))
    )
    assert side_by_side(before, before) == "==== @main net: unchanged\n"
    title, *lines = side_by_side(before, after).splitlines()
    assert title == "==== @main net: before, after"
    left, right = [line[:COLUMN].rstrip() for line in lines], [line[COLUMN + 3 :] for line in lines]
    marks = {line[COLUMN + 1 : COLUMN + 2] for line in lines}
    assert "|" in marks and marks <= {"", " ", "|", "<", ">"}
    (old,), (new,) = (read("\n".join(["---", *filter(None, column)])) for column in (left, right))
    assert count(old.domain) == 20 and count(new.domain) == 15
    assert side_by_side(before, []).startswith("==== @main net: gone\n")
    assert side_by_side([], after).startswith("==== @main net: new\n")
