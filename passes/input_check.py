"""What a module from outside has to be, beyond what MLIR verifies: marks of their kinds, divisions that mean something.

The passes rely on it. What the importer and the passes write is of that form by construction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.diagnostics import location_text
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import constant_extent

_Check = Callable[[ir.Attribute], bool]


def _is_text(attribute: ir.Attribute) -> bool:
    return isinstance(attribute, ir.StringAttr)


def _is_texts(attribute: ir.Attribute) -> bool:
    return isinstance(attribute, ir.ArrayAttr) and all(isinstance(each, ir.StringAttr) for each in attribute)


def _is_number(attribute: ir.Attribute) -> bool:
    return isinstance(attribute, ir.IntegerAttr) and attribute.value >= 0


def _is_unit(attribute: ir.Attribute) -> bool:
    return isinstance(attribute, ir.UnitAttr)


def _is_inheritance(attribute: ir.Attribute) -> bool:
    return isinstance(attribute, ir.AffineMapAttr | ir.ArrayAttr)


_MOST_ITERATIONS = 1 << 31  # of one loop; analyses that look at each of its indices still end

_TEXT = (_is_text, "a string")
_NUMBER = (_is_number, "an integer from 0 on")
_UNIT = (_is_unit, "an attribute without a value")
_KINDS: dict[str, tuple[_Check, str]] = {
    **dict.fromkeys((marks.LAYER, marks.NODE, marks.ROLE, marks.ALGORITHM, marks.BLOCK, marks.ITER), _TEXT),
    **dict.fromkeys((marks.KERNEL, marks.PARAM, marks.SOURCE, marks.SAMPLES), _TEXT),
    **dict.fromkeys((marks.INPUT, marks.BELOW, marks.OUTPUT, marks.PACKED, marks.IDENTITY), _NUMBER),
    **dict.fromkeys((marks.PARALLEL, marks.SCRATCH, marks.THREAD, marks.TEAM), _UNIT),
    **dict.fromkeys((marks.CLOCK, marks.SCHEDULE), (_is_texts, "an array of strings")),
    marks.INHERIT: (_is_inheritance, "an affine map or an array of steps"),
}


def check_input(module: ir.Module) -> None:
    """Looks at every operation of a module.

    Raises:
        IllegalTransform: a mark of the wrong kind, or an access that divides by what is no positive constant; names
            the operation and its place.
    """

    found: list[ir.Operation] = []

    def note(op: ir.Operation) -> ir.WalkResult:  # what a callback raises would be wrapped
        found.append(op)
        return ir.WalkResult.ADVANCE

    module.operation.walk(note, ir.WalkOrder.PRE_ORDER)
    for op in found:
        if op.name == "affine.for":
            _check_loop(op)
        for name, attribute in _attributes(op):
            _check_mark(op, name, attribute)
            if isinstance(attribute, ir.AffineMapAttr):
                _check_divisors(op, attribute.value)


def _attributes(op: ir.Operation) -> Iterator[tuple[str, ir.Attribute]]:
    """All attributes, those of a function's arguments too."""
    for name in op.attributes:
        yield name, op.attributes[name]
    if op.name == "func.func" and "arg_attrs" in op.attributes:
        for argument in ir.ArrayAttr(op.attributes["arg_attrs"]):
            yield from ((each.name, each.attr) for each in ir.DictAttr(argument))


def _check_mark(op: ir.Operation, name: str, attribute: ir.Attribute) -> None:
    check, expected = _KINDS.get(name, (None, ""))
    if check is not None and not check(attribute):
        reason = f"{op.name}: the mark '{name}' is {attribute}; {expected} is expected"
        raise IllegalTransform(location_text(op.location), reason)

    if name == marks.LAYER and "#" in ir.StringAttr(attribute).value:
        reason = f"{op.name}: the mark '{name}' is {attribute}; '#' in an address begins the role"
        raise IllegalTransform(location_text(op.location), reason)


def _check_loop(op: ir.Operation) -> None:
    """MLIR's verifier lets a bound pass that has more variables than values, and its passes crash on it."""
    loop = op.opview
    for name, values in (("lowerBoundMap", loop.lowerBoundOperands), ("upperBoundMap", loop.upperBoundOperands)):
        map_, count = ir.AffineMapAttr(op.attributes[name]).value, len(list(values))
        if map_.n_inputs != count:
            reason = f"affine.for: a bound has {count} operands; its map takes {map_.n_inputs}"
            raise IllegalTransform(location_text(op.location), reason)
    extent = constant_extent(loop)
    if extent is not None and extent > _MOST_ITERATIONS:
        reason = f"affine.for: {extent} iterations; at most {_MOST_ITERATIONS} are expected"
        raise IllegalTransform(location_text(op.location), reason)


def _check_divisors(op: ir.Operation, accesses: ir.AffineMap) -> None:
    pending = list(accesses.results)
    while pending:
        expr = pending.pop().maybe_downcast()
        if not isinstance(expr, ir.AffineBinaryExpr):
            continue
        divisor = expr.rhs.maybe_downcast()
        divides = isinstance(expr, ir.AffineModExpr | ir.AffineFloorDivExpr | ir.AffineCeilDivExpr)
        if divides and isinstance(divisor, ir.AffineConstantExpr) and divisor.value <= 0:
            reason = f"{op.name}: '{expr}' divides by {divisor.value}; a positive number is expected"
            raise IllegalTransform(location_text(op.location), reason)
        pending += (expr.lhs, expr.rhs)
