"""Sums over a dimension without a parameter: which of them can leave terms out, and what constants follow.

A product of two activations (the scores of attention) is a sum of fewer terms then. A mean divides by the number of
its terms, a constant in what reads the sum: it becomes the number of those that are left. Of any other sum nothing
is known of what depends on the number of its terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch_mlir import ir

from loopmorph.passes.analysis.coupling.pins import Uses, pin_of_loop, pin_of_values
from loopmorph.passes.analysis.definitions import float_constant
from loopmorph.passes.analysis.roles import reduction_loops
from loopmorph.passes.nest import Access, Loop, Nest

_CLOSE = 1e-6  # relative, of a reciprocal in f32


@dataclass(frozen=True)
class Rescaled:
    """A constant that counts the terms of a mean.

    Attributes:
        op: the operation that divides or multiplies by it.
        operand: number of the constant among its operands.
        value: what it has to be.
    """

    op: ir.Operation
    operand: int
    value: float


def pin_of_sum(nest: Nest, loop: Loop, uses: Uses) -> str | None:
    """As `pin_of_loop`, but that products and means may leave terms out."""
    pin = pin_of_loop(nest, loop)
    if pin is None or pin_of_values(nest, loop) is not None:
        return pin
    return None if is_product(nest, loop) or _counts(nest, uses) is not None else pin


def is_product(nest: Nest, loop: Loop) -> bool:
    """Whether a reduction adds up products of two different things that it indexes both."""
    stored = {store.memref for store in nest.stores}
    factors = [load for load in nest.loads if load.memref not in stored]
    if len(nest.stores) != 1 or len(factors) != 2:
        return False
    indexed = all(loop.position in load.dims for load in factors)
    products = [use.owner for use in factors[0].op.results[0].uses]
    multiplied = [op.name == "arith.mulf" and factors[1].op.results[0] in list(op.operands) for op in products]
    return indexed and multiplied == [True] and _is_apart(factors[0], factors[1])


def rescaled(nest: Nest, uses: Uses, size: Callable[[Loop], int]) -> list[Rescaled]:
    """The constants that count the terms of the nest's sum, if it is a mean, for loops of other sizes."""
    before, after = (math.prod(of(loop) for loop in reduction_loops(nest)) for of in (_extent, size))
    found = []
    for op, operand in _counts(nest, uses) or ():
        found.append(Rescaled(op, operand, float(after) if op.name == "arith.divf" else 1 / after))
    return found if before != after else []


def _counts(nest: Nest, uses: Uses) -> list[tuple[ir.Operation, int]] | None:
    """Where the number of terms of the nest's sum is divided by; None where not all that reads it does that."""
    terms = math.prod(_extent(loop) for loop in reduction_loops(nest))
    if len(nest.stores) != 1 or terms < 2 or nest.is_vectorised:
        return None
    found: list[tuple[ir.Operation, int]] = []
    own = nest.root.operation
    for other, access in uses[nest.stores[0].memref]:
        if access.kind != "load" or other.root.operation == own:
            continue
        users = [use.owner.operation for use in access.op.results[0].uses]
        places = [_count_in(op, access.op.results[0], terms) for op in users]
        if not places or None in places:
            return None
        found += [(op, place) for op, place in zip(users, places, strict=True) if place is not None]
    return found or None


def _count_in(op: ir.Operation, value: ir.Value, terms: int) -> int | None:
    """Which operand of an operation on a sum is the number of terms, or its reciprocal where it multiplies."""
    if op.name == "arith.divf" and op.operands[0] == value:
        return 1 if float_constant(op.operands[1]) == terms else None
    if op.name == "arith.mulf":
        other = 1 if op.operands[0] == value else 0
        factor = float_constant(op.operands[other])
        return other if factor is not None and abs(factor * terms - 1) < _CLOSE else None
    return None


def _extent(loop: Loop) -> int:
    return loop.extent or 0


def _is_apart(one: Access, other: Access) -> bool:
    """Whether two accesses are of different elements: not of one whose square is taken."""
    return one.memref != other.memref or one.exprs != other.exprs
