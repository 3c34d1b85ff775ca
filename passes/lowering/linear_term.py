"""Values as `scale * t + shift` for one chosen value t: extraction from a nest's body, and emission elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from torch_mlir import ir

from loopmorph.passes.analysis.definitions import definition


class Number(Enum):
    """The two numbers that need no code."""

    ZERO = 0
    ONE = 1


@dataclass(frozen=True)
class Apply:
    """An arithmetic operation on terms, by its MLIR name."""

    name: str
    operands: tuple[Term, ...]


Term: TypeAlias = "Number | Apply | ir.Value"


@dataclass(frozen=True)
class Linear:
    """`scale * t + shift`; neither depends on t."""

    scale: Term
    shift: Term


def linear_in(value: ir.Value, is_t: Callable[[ir.Value], bool]) -> Linear | None:
    """The value as a linear form in t (the values for which `is_t` holds), None where it is none."""
    if is_t(value):
        return Linear(Number.ONE, Number.ZERO)
    op = definition(value)
    if op is None or not _depends(value, is_t):
        return Linear(Number.ZERO, value)
    parts = [linear_in(v, is_t) for v in op.operands]
    forms = [p for p in parts if p is not None]
    if len(forms) < len(parts) or op.name not in _RULES:
        return None
    return _RULES[op.name](*forms)


def _depends(value: ir.Value, is_t: Callable[[ir.Value], bool]) -> bool:
    if is_t(value):
        return True
    op = definition(value)
    return op is not None and any(_depends(v, is_t) for v in op.operands)


def add(a: Term, b: Term) -> Term:
    """`a + b`."""
    if a is Number.ZERO or b is Number.ZERO:
        return b if a is Number.ZERO else a
    return Apply("arith.addf", (a, b))


def multiply(a: Term, b: Term) -> Term:
    """`a * b`; 0 absorbs and 1 keeps the other."""
    if a is Number.ZERO or b is Number.ZERO:
        return Number.ZERO
    if a is Number.ONE or b is Number.ONE:
        return b if a is Number.ONE else a
    return Apply("arith.mulf", (a, b))


def _subtract(a: Term, b: Term) -> Term:
    return a if b is Number.ZERO else Apply("arith.subf", (a, b))


def _divide(a: Term, b: Term) -> Term:
    return Number.ZERO if a is Number.ZERO else Apply("arith.divf", (a, b))


def _linear_product(a: Linear, b: Linear) -> Linear | None:
    if a.scale is not Number.ZERO and b.scale is not Number.ZERO:
        return None
    form, factor = (a, b.shift) if b.scale is Number.ZERO else (b, a.shift)
    return Linear(multiply(form.scale, factor), multiply(form.shift, factor))


def _linear_quotient(a: Linear, b: Linear) -> Linear | None:
    if b.scale is not Number.ZERO:
        return None
    return Linear(_divide(a.scale, b.shift), _divide(a.shift, b.shift))


_RULES: dict[str, Callable[..., Linear | None]] = {
    "arith.addf": lambda a, b: Linear(add(a.scale, b.scale), add(a.shift, b.shift)),
    "arith.subf": lambda a, b: Linear(_subtract(a.scale, b.scale), _subtract(a.shift, b.shift)),
    "arith.negf": lambda a: Linear(_subtract(Number.ZERO, a.scale), _subtract(Number.ZERO, a.shift)),
    "arith.mulf": _linear_product,
    "arith.divf": _linear_quotient,
}


def emit(term: Term, element: ir.Type, leaf: Callable[[ir.Value], ir.Value]) -> ir.Value:
    """Builds the term at the current insertion point; `leaf` gives what stands there for a value of the nest."""
    if isinstance(term, Number):
        number = ir.FloatAttr.get(element, float(term.value))
        return ir.Operation.create("arith.constant", results=[element], attributes={"value": number}).result
    if isinstance(term, Apply):
        operands = [emit(operand, element, leaf) for operand in term.operands]
        return ir.Operation.create(term.name, results=[element], operands=operands).result
    return leaf(term)


def leaves(term: Term) -> list[ir.Value]:
    """The values of the nest that the term is made of."""
    if isinstance(term, Number):
        return []
    if isinstance(term, Apply):
        return [value for operand in term.operands for value in leaves(operand)]
    return [term]
