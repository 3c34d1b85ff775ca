"""`morph-keep-nans`: comparisons that choose the larger or smaller of two numbers let NaN through, as PyTorch does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.dialects import arith

from loopmorph.passes.analysis.definitions import definition
from loopmorph.passes.base import Pass

# arith.cmpf predicates: the ordered one (false for NaN) and the unordered one (true for NaN), by kind of comparison.
_ORDERED = {"gt": 2, "ge": 3, "lt": 4, "le": 5}
_UNORDERED = {"gt": 9, "ge": 10, "lt": 11, "le": 12}
_KIND = {number: kind for table in (_ORDERED, _UNORDERED) for kind, number in table.items()}
_EQUAL = 1  # oeq: false where an operand is NaN


@dataclass(frozen=True)
class KeepNans(Pass):
    """Makes minima, maxima and clamps keep NaN, and the position of an extreme element that of the first NaN.

    torch-mlir lowers `clamp`, `hardtanh`, `minimum` and the like to a comparison and a selection of its operands,
    which gives the bound where PyTorch gives NaN. Where one operand is a number, the comparison is made ordered or
    unordered, so that NaN takes the other one; else the two become `arith.maximumf` or `arith.minimumf`. In a
    reduction to a position (`argmax`), NaN counts as the extreme element. A selection of other values stays as it is.

        %c = arith.cmpf ult, %x, %low : f32          %c = arith.cmpf olt, %x, %low : f32
        %r = arith.select %c, %low, %x : f32    =>   %r = arith.select %c, %low, %x : f32

        %c = arith.cmpf ogt, %x, %y : f32
        %r = arith.select %c, %x, %y : f32      =>   %r = arith.maximumf %x, %y : f32

    Works on the bodies of linalg operations, before `morph-linalg-to-affine`.
    """

    name: ClassVar[str] = "morph-keep-nans"

    def run(self, module: ir.Operation) -> None:
        found: list[ir.Operation] = []

        def visit(op: ir.Operation) -> ir.WalkResult:
            if op.name == "arith.select" and _comparison(op) is not None and _in_linalg(op):
                found.append(op)
            return ir.WalkResult.ADVANCE

        module.walk(visit)
        with module.context:
            for select in found:
                _keep(select)


def _comparison(select: ir.Operation) -> ir.Operation | None:
    op = definition(select.operands[0])
    ordered = op is not None and op.name == "arith.cmpf" and _predicate(op) in _KIND
    return op if ordered else None


def _in_linalg(op: ir.Operation) -> bool:
    return op.parent is not None and op.parent.name.startswith("linalg.")


def _predicate(comparison: ir.Operation) -> int:
    return ir.IntegerAttr(comparison.attributes["predicate"]).value


def _keep(select: ir.Operation) -> None:
    comparison = _comparison(select)
    assert comparison is not None
    left, right = comparison.operands
    chosen, other = select.operands[1], select.operands[2]
    if {left, right} == {chosen, other} and left != right:
        _keep_extreme(select, comparison, largest=(_KIND[_predicate(comparison)][0] == "g") == (chosen == left))
    elif _feeds_extreme(comparison):
        _prefer_nan(select, comparison)


def _keep_extreme(select: ir.Operation, comparison: ir.Operation, *, largest: bool) -> None:
    chosen, other = select.operands[1], select.operands[2]
    if not (_is_number(chosen) or _is_number(other)):
        build = arith.MaximumFOp if largest else arith.MinimumFOp
        with ir.InsertionPoint(select), select.location:
            select.results[0].replace_all_uses_with(build(chosen, other).result)
        return
    table = _ORDERED if _is_number(chosen) else _UNORDERED
    number = table[_KIND[_predicate(comparison)]]
    if number != _predicate(comparison):
        with ir.InsertionPoint(select), select.location:
            select.operands[0] = arith.CmpFOp(number, *comparison.operands).result


def _feeds_extreme(comparison: ir.Operation) -> bool:
    """Whether the extreme of the two compared numbers is computed beside: the selection is of its position."""
    operands = set(comparison.operands)
    return any(
        use.owner.name in ("arith.maximumf", "arith.minimumf") and set(use.owner.operands) == operands
        for use in comparison.operands[0].uses
    )


def _prefer_nan(select: ir.Operation, comparison: ir.Operation) -> None:
    """The new element's position (chosen where it beats the old one) also where it is NaN and the old one is not."""
    _, old = comparison.operands
    with ir.InsertionPoint(select), select.location:
        beats = arith.CmpFOp(_UNORDERED[_KIND[_predicate(comparison)]], *comparison.operands).result
        select.operands[0] = arith.AndIOp(beats, arith.CmpFOp(_EQUAL, old, old).result).result


def _is_number(value: ir.Value) -> bool:
    """Whether a value in a linalg body is a constant other than NaN, perhaps as an operand of rank 0."""
    if isinstance(value.owner, ir.Block):
        operation = value.owner.owner.operation
        value = operation.operands[ir.BlockArgument(value).arg_number]
    op = definition(value)
    if op is None or op.name != "arith.constant":
        return False
    attribute = op.attributes["value"]
    if isinstance(attribute, ir.DenseElementsAttr):
        attribute = attribute.get_splat_value() if attribute.is_splat else None
    return isinstance(attribute, ir.FloatAttr) and not math.isnan(attribute.value)
