"""Accesses outside their memref are found before code is made, and no others are refused."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch_mlir import ir

import loopmorph as lm
from loopmorph.passes.analysis.memory.in_bounds import require_in_bounds

ARGUMENTS = "%x: memref<8xf32>, %y: memref<4x4xf32>, %e: memref<2x0xf32>, %v: f32, %n: index"


def check(body: str) -> None:
    with ir.Context(), ir.Location.unknown():
        module = ir.Module.parse(f"func.func @main({ARGUMENTS}) {{ {body} return }}")
        require_in_bounds(module.operation)


def store(index: str, name: str = "%x", type_: str = "memref<8xf32>") -> str:
    return f"affine.store %v, {name}[{index}] : {type_}"


GUARD = "affine_set<(d0) : (d0 - 2 >= 0, -d0 + 7 >= 0, d0 mod 2 == 0)>(%i)"
INSIDE = {
    "rows": f"affine.for %i = 0 to 8 {{ {store('%i')} }}",
    "split": f"affine.for %i = 0 to 2 {{ affine.for %j = 0 to 4 {{ {store('%i * 4 + %j')} }} }}",
    "triangle": f"affine.for %i = 0 to 8 {{ affine.for %j = 0 to affine_map<(d0) -> (8 - d0)>(%i) {{ "
    f"{store('%i + %j')} }} }}",
    "ceiling": f"affine.for %i = 0 to 4 {{ affine.for %j = affine_map<(d0) -> (d0 * 2)>(%i) to "
    f"min affine_map<(d0) -> (d0 * 2 + 2, 7)>(%i) {{ {store('%j + 1')} }} }}",
    "step": f"affine.for %i = 0 to 10 step 7 {{ {store('%i')} }}",
    "guard": f"affine.for %i = 0 to 10 {{ affine.if {GUARD} {{ {store('%i')} }} }}",
    "digits": f"affine.for %i = 0 to 16 {{ {store('%i floordiv 4, %i mod 4', '%y', 'memref<4x4xf32>')} }}",
    "difference": f"affine.for %i = 0 to 16 {{ "
    f"{store('%i floordiv 4, %i - (%i floordiv 4) * 4', '%y', 'memref<4x4xf32>')} }}",
    "never": f"affine.for %i = 0 to 2 {{ affine.for %j = 0 to 0 {{ {store('%i, %j', '%e', 'memref<2x0xf32>')} }} }}",
    "apply": f"affine.for %i = 0 to 3 {{ %a = affine.apply affine_map<(d0) -> (d0 * 3)>(%i) {store('%a + 1')} }}",
    "constant": f"%c = arith.constant 7 : index {store('symbol(%c)')}",
    "vector": "affine.for %i = 0 to 8 step 4 { %a = affine.vector_load %x[%i] : memref<8xf32>, vector<4xf32> }",
}
OUTSIDE = {
    "row": (f"affine.for %i = 0 to 9 {{ {store('%i')} }}", "writes 0 .. 8 on axis 0 .* has 0 .. 7 there"),
    "before": (f"affine.for %i = 0 to 3 {{ {store('%i - 1')} }}", "writes -1 .. 1 on axis 0"),
    "else": (
        f"affine.for %i = 0 to 10 {{ affine.if {GUARD} {{ {store('%i')} }} else {{ {store('%i')} }} }}",
        "writes 0 .. 9 on axis 0",
    ),
    "triangle": (
        f"affine.for %i = 0 to 8 {{ affine.for %j = 0 to affine_map<(d0) -> (9 - d0)>(%i) {{ {store('%i + %j')} }} }}",
        "writes 0 .. 8 on axis 0",
    ),
    "mod": (f"affine.for %i = 0 to 16 {{ {store('%i mod 9')} }}", "writes 0 .. 8 on axis 0"),
    "axis": (
        f"affine.for %i = 0 to 16 {{ {store('%i floordiv 4, %i floordiv 3', '%y', 'memref<4x4xf32>')} }}",
        "writes 0 .. 5 on axis 1 of a memref<4x4xf32>",
    ),
    "empty": (f"affine.for %i = 0 to 2 {{ {store('%i, 0', '%e', 'memref<2x0xf32>')} }}", "has no element there"),
    "vector": (
        "affine.for %i = 0 to 8 step 4 { %a = affine.vector_load %x[%i] : memref<8xf32>, vector<8xf32> }",
        "affine.vector_load reads 0 .. 11 on axis 0",
    ),
    "unknown": (store("symbol(%n)"), "an index of affine.store is no affine function of loops"),
}


@pytest.mark.parametrize("name", INSIDE)
def test_what_stays_inside_is_accepted(name: str) -> None:
    check(INSIDE[name])


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_may_leave_is_refused(name: str) -> None:
    body, message = OUTSIDE[name]
    with pytest.raises(lm.CompilationFailed, match=message):
        check(body)


@settings(max_examples=60, deadline=None)
@given(st.integers(-2, 2), st.integers(-2, 2), st.integers(-3, 6), st.integers(1, 5), st.integers(1, 4))
def test_exactly_those_that_leave_are_refused(a: int, b: int, c: int, divisor: int, modulus: int) -> None:
    """An index of two loops, the inner one bounded by the outer, with a quotient and a remainder."""
    text = f"(%i * {a} + %j * {b} + {c}) floordiv {divisor} + %j mod {modulus}"
    body = f"affine.for %i = 0 to 5 {{ affine.for %j = 0 to affine_map<(d0) -> (d0 + 1)>(%i) {{ {store(text)} }} }}"
    points = [(i, j) for i, j in itertools.product(range(5), repeat=2) if j <= i]
    if all(0 <= (i * a + j * b + c) // divisor + j % modulus < 8 for i, j in points):
        check(body)
    else:
        with pytest.raises(lm.CompilationFailed, match="on axis 0"):
            check(body)


def test_a_program_with_an_access_outside_never_becomes_code() -> None:
    program = lm.import_model(nn.Conv2d(3, 4, 3), (torch.randn(1, 3, 8, 8),))
    text = str(program).replace("0 to 6", "0 to 7")
    with program.module.context:
        wrong = replace(program, module=ir.Module.parse(text))
    with pytest.raises(lm.CompilationFailed, match=r"layer 'convolution': affine\.\w+ (reads|writes) 0 \.\. \d"):
        lm.compile(wrong)
