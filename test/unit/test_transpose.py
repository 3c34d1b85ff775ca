"""Transposed squares of vectors compute what the scalars do."""

from __future__ import annotations

import pytest
from loop_programs import Program, apply, program, refused, view

from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.loop.interchange import Interchange
from loopmorph.passes.loop.peel import Peel
from loopmorph.passes.loop.split import Split
from loopmorph.passes.loop.transpose import Transpose

pytestmark = pytest.mark.usefixtures("context")


INDEX = "%x[%i * {0} + %k, %j * {0} + %l]"
TARGET = "%y[%j * {0} + %l, %i * {0} + %k]"
STEP = Transpose("net", "k", "l")


def conversion(size: int, load: str = INDEX, store: str = TARGET) -> Program:
    """y[column, row] = x[row, column] * row's scale, in squares."""
    body = f"""%v = affine.load {load.format(size)} : {{x}}
    %s = affine.load %z[%i * {size} + %k] : {{z}}
    %r = arith.mulf %v, %s : f32
    affine.store %r, {store.format(size)} : {{y}}"""
    shapes = {"x": (3 * size, 3 * size), "z": (2 * size,), "y": (3 * size, 3 * size)}
    return program({"i": 2, "j": 3, "k": size, "l": size}, body, shapes)


def plain(rows: int, columns: int) -> Program:
    body = "%v = affine.load %x[%i, %j] : {x}\naffine.store %v, %y[%j, %i] : {y}"
    return program({"i": rows, "j": columns}, body, {"x": (rows, columns), "y": (columns, rows)})


@pytest.mark.parametrize("size", [2, 4, 16])
def test_the_values_stay(size):
    nest = view(apply(conversion(size), STEP))
    assert nest.iterators == ("i", "j") and {a.lanes for a in nest.stores} == {size}


def test_after_peeling_and_splitting_plain_loops():
    steps = [
        Peel("net", "i", 2),
        Split("net", "i", 4),
        Split("net", "j", 4),
        Interchange("net", ("i.0", "j.0", "i.1", "j.1")),
        Transpose("net", "i.1", "j.1"),
    ]
    nest = view(apply(plain(10, 12), *steps))
    assert nest.iterators == ("i.parts", "i.0", "j.0", "i.rest", "j.rest")


def test_refusals():
    refused(conversion(3), STEP, IllegalTransform, "no equal powers of two: 3 and 3")
    strided = conversion(2, load="%x[%j * {0} + %l, %i * {0} + %k]")
    refused(strided, STEP, IllegalTransform, "what it loads along 'l' does not lie side by side")
    straight = conversion(2, store="%y[%i * {0} + %k, %j * {0} + %l]")
    refused(straight, STEP, IllegalTransform, "what it stores along 'k' does not lie side by side")
    in_place = conversion(2, store="%x[%j * {0} + %l, %i * {0} + %k]")
    refused(in_place, STEP, IllegalTransform, "cannot run side by side")
    refused(plain(2, 2), Transpose("net", "i", "j"), IllegalTransform, "'i' is the outermost loop and cannot go away")
    apart = Transpose("net", "j", "l")
    refused(conversion(2), apart, IllegalTransform, "'j' holds something else than 'l' with its body")
