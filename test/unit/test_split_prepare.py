"""`morph-split-prepare`: what goes where, and which arguments the two functions have."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.building.arguments import find_function
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.lowering.split_prepare import SplitPrepare

MAIN = """
func.func @main(%w: memref<8xf32> {morph.param = "w"}, %b: memref<8xf32> {morph.param = "b"},
                %unused: memref<8xf32> {morph.param = "unused"},
                %x: memref<8xf32> {morph.input = 0}, %y: memref<8xf32> {morph.output = 0}) {
  %c = arith.constant 2.0 : f32
  %u = memref.alloc() : memref<8xf32>
  affine.for %i = 0 to 8 {
    %0 = affine.load %w[%i] : memref<8xf32>
    %1 = arith.mulf %0, %c : f32
    affine.store %1, %u[%i] : memref<8xf32>
  }
  %t = memref.alloc() : memref<8xf32>
  affine.for %i = 0 to 8 {
    %0 = affine.load %x[%i] : memref<8xf32>
    %1 = arith.mulf %0, %c : f32
    affine.store %1, %t[%i] : memref<8xf32>
  }
  %v = memref.alloc() : memref<8xf32>
  affine.for %i = 0 to 8 {
    %0 = affine.load %u[%i] : memref<8xf32>
    %1 = arith.addf %0, %c : f32
    affine.store %1, %v[%i] : memref<8xf32>
  }
  affine.for %i = 0 to 8 {
    %0 = affine.load %t[%i] : memref<8xf32>
    %1 = affine.load %v[%i] : memref<8xf32>
    %2 = affine.load %b[%i] : memref<8xf32>
    %3 = arith.mulf %0, %1 : f32
    %4 = arith.addf %3, %2 : f32
    affine.store %4, %y[%i] : memref<8xf32>
  }
  return
}
"""


@pytest.fixture(autouse=True)
def context() -> Iterator[ir.Context]:
    with ir.Context() as context, ir.Location.unknown():
        context.allow_unregistered_dialects = True
        yield context


def split(text: str) -> ir.Module:
    module = ir.Module.parse(text)
    SplitPrepare().run(module.operation)
    assert module.operation.verify()
    return module


def arguments(module: ir.Module, name: str) -> list[str]:
    function = find_function(module.operation, name)
    assert function is not None
    return [f"{mark} = {value}" for m in marks.argument_marks(function) for mark, value in m.items()]


def count(module: ir.Module, name: str, op: str) -> int:
    function = find_function(module.operation, name)
    assert function is not None
    return str(function).count(op)


def test_arguments_and_order() -> None:
    module = split(MAIN)
    assert arguments(module, marks.PREPARE) == ['morph.param = "w"', f"{marks.PACKED} = 0 : i64"]
    assert arguments(module, marks.RUN) == [
        "morph.input = 0 : i64",
        'morph.param = "b"',
        f"{marks.PACKED} = 0 : i64",
        "morph.output = 0 : i64",
    ]


def test_dependence_on_parameters_is_transitive() -> None:
    module = split(MAIN)
    assert count(module, marks.PREPARE, "affine.for") == 2
    assert count(module, marks.RUN, "affine.for") == 2


def test_temporaries_of_prepare_are_freed() -> None:
    module = split(MAIN)
    assert count(module, marks.PREPARE, "memref.alloc()") == count(module, marks.PREPARE, "memref.dealloc") == 1
    assert count(module, marks.RUN, "memref.dealloc") == 0


def test_scalars_are_in_both() -> None:
    module = split(MAIN)
    assert count(module, marks.PREPARE, "arith.constant") == count(module, marks.RUN, "arith.constant") == 1


def test_constant_border_of_a_padded_input_stays_with_the_run() -> None:
    module = split(
        """func.func @main(%x: memref<4xf32> {morph.input = 0}, %y: memref<6xf32> {morph.output = 0}) {
          %c = arith.constant 0.0 : f32
          %p = memref.alloc() : memref<6xf32>
          affine.for %i = 0 to 6 { affine.store %c, %p[%i] : memref<6xf32> }
          affine.for %i = 0 to 4 { %0 = affine.load %x[%i] : memref<4xf32>
            affine.store %0, %p[%i + 1] : memref<6xf32> }
          affine.for %i = 0 to 6 { %0 = affine.load %p[%i] : memref<6xf32>
            affine.store %0, %y[%i] : memref<6xf32> }
          return }"""
    )
    assert count(module, marks.PREPARE, "affine.for") == 0
    assert count(module, marks.RUN, "affine.for") == 3


def test_a_memref_read_before_its_last_write_stays_with_the_run() -> None:
    write = (
        "affine.for %i = 0 to 4 { %0 = affine.load %w[%i] : memref<4xf32>\n affine.store %0, %t[%i] : memref<4xf32> }"
    )
    module = split(
        f"""func.func @main(%w: memref<4xf32> {{morph.param = "w"}}, %x: memref<4xf32> {{morph.input = 0}},
                            %y: memref<4xf32> {{morph.output = 0}}) {{
          %t = memref.alloc() : memref<4xf32>
          {write}
          affine.for %i = 0 to 4 {{ %0 = affine.load %x[%i] : memref<4xf32>
            %1 = affine.load %t[%i] : memref<4xf32>
            %2 = arith.addf %0, %1 : f32
            affine.store %2, %y[%i] : memref<4xf32> }}
          {write}
          return }}"""
    )
    assert count(module, marks.PREPARE, "affine.for") == 0


def test_an_output_that_depends_on_parameters_alone_is_written_by_the_run() -> None:
    module = split(
        """func.func @main(%w: memref<4xf32> {morph.param = "w"}, %y: memref<4xf32> {morph.output = 0}) {
          affine.for %i = 0 to 4 { %0 = affine.load %w[%i] : memref<4xf32>
            affine.store %0, %y[%i] : memref<4xf32> }
          return }"""
    )
    assert arguments(module, marks.RUN) == ['morph.param = "w"', "morph.output = 0 : i64"]


def test_refuses_modules_without_main_or_with_results() -> None:
    with pytest.raises(IllegalTransform, match="needs a function @main"):
        split("func.func @other() { return }")
    with pytest.raises(IllegalTransform, match="@main: it returns values"):
        split("func.func @main(%x: f32) -> f32 { return %x : f32 }")
