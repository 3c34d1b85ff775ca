"""Copied operands: the same values, whatever the order of the copy's axes, and only where an operand lies scattered."""

from __future__ import annotations

import pytest
from epilogue_programs import require_same
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_programs import apply, convolution, program, view
from torch_mlir import ir

from loopmorph.passes.address import find_nest
from loopmorph.passes.analysis.contraction_nest import view_contraction
from loopmorph.passes.loop.copy_operand import CopyOperand
from loopmorph.passes.loop.split import Split
from loopmorph.passes.scheduling.first_level import is_scattered
from loopmorph.passes.target.target import named_target

pytestmark = pytest.mark.usefixtures("context")

MACHINE = named_target("x86_64_v3")  # 32 KB in the first level: 8 ways of a page


@settings(max_examples=6, deadline=None)
@given(st.permutations(["co.0", "co.1", "ci", "kh", "kw"]))
def test_the_values_stay(order):
    source = convolution()
    module, original = ir.Module.parse(source.text), ir.Module.parse(source.text)
    for step in (Split("net", "co", 2), CopyOperand("net", "weight", tuple(order))):
        step.apply(module.operation)
    require_same(module, original, source.shapes)
    nest = find_nest(module.operation, "net")
    (copied,) = [a for a in nest.loads if len(a.exprs) == len(order)]
    extents = {"co.0": 2, "co.1": 2, "ci": 2, "kh": 3, "kw": 3}
    assert ir.MemRefType(copied.memref.type).shape == [extents[name] for name in order]


def product(keys: int, columns: int, row: int) -> ir.Module:
    """`columns` of `row` columns of a matrix of so many rows, times one of 3 rows."""
    return apply(
        program(
            {"n": 3, "ci": keys, "co": columns},
            """%a = affine.load %x[%n, %ci] : {x}
            %b = affine.load %v[%ci, %co] : {v}
            %c = affine.load %y[%n, %co] : {y}
            %p = arith.mulf %a, %b : f32
            %s = arith.addf %c, %p : f32
            affine.store %s, %y[%n, %co] : {y}""",
            {"x": (3, keys), "v": (keys, row), "y": (3, columns)},
        )
    )


@pytest.mark.parametrize(
    ("keys", "row", "scattered"),
    [
        (197, 32, False),  # side by side
        (197, 576, True),  # 128 bytes of each 2,304: a quarter of the sets
        (197, 64, True),  # 128 bytes of each 256: half of the sets
        (64, 200, False),  # few rows have room anywhere
        (400, 576, False),  # no copy would stay, either
    ],
)
def test_short_rows_far_apart_are_scattered(keys, row, scattered):
    contraction = view_contraction(view(product(keys, 32, row)))
    extents = {loop: loop.extent for loop in (*contraction.reductions, contraction.lane)}
    assert is_scattered(contraction.weight, extents, MACHINE) == scattered
