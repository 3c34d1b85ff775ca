from __future__ import annotations

import pytest
from torch_mlir import ir

from loopmorph.passes.address import find_nest, layer_nests
from loopmorph.passes.affine_expr import linear_form
from loopmorph.passes.analysis.structure import require_perfect
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.nest import NestsByLayer, nests
from loopmorph.pipelines.network import copy_module

PROGRAM = """
func.func @main(%x: memref<8x8xf32>, %y: memref<8xf32>) {
  %zero = arith.constant 0.0 : f32
  affine.for %i = 0 to 8 {
    affine.store %zero, %y[%i] : memref<8xf32>
  } {morph.iter = "c", morph.layer = "body.conv1", morph.role = "init"}
  affine.for %i = 0 to 8 {
    affine.for %j = 0 to 8 {
      %v = affine.load %x[%i, 7 - %j] : memref<8x8xf32>
      affine.store %v, %y[%i] : memref<8xf32>
    } {morph.iter = "kw"}
  } {morph.iter = "co", morph.layer = "body.conv1", morph.role = "main"}
  affine.for %i = 0 to 4 {
    %k = affine.apply affine_map<(d0) -> (d0 * 2)>(%i)
    affine.for %j = 2 to min affine_map<(d0) -> (8, d0 + 3)>(%k) step 2 {
      %v = affine.load %x[%k, %j] : memref<8x8xf32>
      affine.store %v, %y[%j] : memref<8xf32>
    } {morph.iter = "w"}
  } {morph.iter = "h", morph.layer = "body.conv2", morph.role = "main"}
  return
}
"""


@pytest.fixture
def module():
    with ir.Context(), ir.Location.unknown():
        yield ir.Module.parse(PROGRAM).operation


def test_find_nest_takes_the_main_one(module):
    nest = find_nest(module, "body.conv1")
    assert (nest.iterators, nest.extents, nest.role, nest.points) == (("co", "kw"), (8, 8), "main", 64)
    assert nest.is_perfect and nest.is_rectangular
    assert [n.role for n in layer_nests(module, "body.conv1")] == ["init", "main"]
    assert len(nests(module)) == 3


def test_nests_by_layer_are_those_of_all(module):
    found = NestsByLayer(module)
    assert list(found) == ["body.conv1", "body.conv2"] and len(found) == 2
    assert [nest.root for group in found.values() for nest in group] == [nest.root for nest in nests(module)]
    assert found["body.conv1"] is found["body.conv1"] and found.get("body.conv3") is None


def test_a_copy_has_all_that_the_module_has():
    with ir.Context():
        module = ir.Module.parse(f"module attributes {{morph.schedule = ['a']}} {{{PROGRAM}}}".replace("'", '"'))
        text = module.operation.get_asm(enable_debug_info=True)
        copied = copy_module(module)
        assert copied.operation.get_asm(enable_debug_info=True) == text and "loc(" in text
        next(iter(copied.body.operations)).attributes["sym_name"] = ir.StringAttr.get("other")
        assert module.operation.get_asm(enable_debug_info=True) == text


def test_accesses_are_over_the_nests_loops(module):
    load, store = find_nest(module, "body.conv1").accesses
    forms = [linear_form(e) for e in load.exprs]
    assert [(dict(f.coefficients), f.constant) for f in forms] == [({0: 1}, 0), ({1: -1}, 7)]
    assert (load.kind, store.kind, load.order, store.order, load.loops) == ("load", "store", 0, 1, (0, 1))


def test_applied_indices_are_composed(module):
    nest = find_nest(module, "body.conv2")
    assert dict(linear_form(nest.loads[0].exprs[0]).coefficients) == {0: 2}
    with pytest.raises(IllegalTransform, match="not perfectly nested"):
        require_perfect(nest)


def test_bounds_are_over_the_nests_loops(module):
    nest = find_nest(module, "body.conv2")
    inner = nest.loop("w")
    bounds = nest.bounds(inner)
    assert inner.extent is None and not nest.is_rectangular
    assert (bounds.step, [linear_form(e).constant for e in bounds.lower]) == (2, [2])
    assert [(dict(linear_form(e).coefficients), linear_form(e).constant) for e in bounds.upper] == [
        ({}, 8),
        ({0: 2}, 3),
    ]
    assert nest.around(inner.position) == (0,)


def test_unknown_layer_suggests_the_nearest(module):
    with pytest.raises(ArgumentError, match=r"no layer 'body.conv3' in the program; nearest: .*body.conv1"):
        find_nest(module, "body.conv3")


def test_unknown_iterator_lists_those_there(module):
    with pytest.raises(ArgumentError, match=r"layer 'body.conv1' has no iterator 'ow'; it has co, kw"):
        find_nest(module, "body.conv1").loop("ow")


def test_an_index_that_is_not_affine_is_refused():
    text = """
    func.func @main(%y: memref<8xf32>, %n: index) {
      affine.for %i = 0 to 4 {
        %v = affine.load %y[%n] : memref<8xf32>
      }
      return
    }"""
    with (
        ir.Context(),
        ir.Location.unknown(),
        pytest.raises(IllegalTransform, match=r"affine.load at .*an index is no affine function"),
    ):
        nests(ir.Module.parse(text).operation)
