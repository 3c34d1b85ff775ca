"""Affine expressions as data: linear forms, ranges, simplification, evaluation, integer sets, isl text.

`ir.AffineExpr` prints and composes; the analyses need to look inside. Dimensions are numbered from 0 and stand for
iterators; an `extents` argument gives, for each, how many values 0, 1, ... it takes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from torch_mlir import ir

from loopmorph.passes.errors import IllegalTransform

# More dimensions than any expression has: a map says how many there are, and counting them would take longer.
_WIDE = 1 << 16


class SymbolRefused(IllegalTransform, TypeError):
    """An access map with a symbol, which the analyses do not look into."""


@dataclass(frozen=True)
class LinearForm:
    """`constant + sum(coefficients[d] * d)` over the dimensions with a coefficient other than 0."""

    coefficients: Mapping[int, int]
    constant: int = 0


def linear_form(expr: ir.AffineExpr) -> LinearForm | None:
    """The expression as a linear form, or None where it holds a `floordiv`, `ceildiv`, `mod` or symbol."""
    expr = downcast(expr)
    if isinstance(expr, ir.AffineConstantExpr):
        return LinearForm({}, expr.value)
    if isinstance(expr, ir.AffineDimExpr):
        return LinearForm({expr.position: 1})
    if isinstance(expr, ir.AffineAddExpr):
        return _sum(linear_form(expr.lhs), linear_form(expr.rhs))
    if isinstance(expr, ir.AffineMulExpr):
        return _product(linear_form(expr.lhs), linear_form(expr.rhs))
    return None


def from_linear(form: LinearForm) -> ir.AffineExpr:
    """The affine expression of a linear form, dimensions in ascending order."""
    expr = ir.AffineExpr.get_constant(form.constant)
    for d in sorted(form.coefficients, reverse=True):
        expr = ir.AffineExpr.get_dim(d) * form.coefficients[d] + expr
    return expr


def used_dims(expr: ir.AffineExpr) -> frozenset[int]:
    """The dimensions that the expression mentions."""
    found = set()
    pending = [expr]
    while pending:
        part = downcast(pending.pop())
        kind = type(part)  # in the place of `isinstance`, which takes longer: these classes have no others below them
        if kind is ir.AffineDimExpr:
            found.add(part.position)
        elif kind is not ir.AffineConstantExpr:
            pending += (part.lhs, part.rhs)
    return frozenset(found)


def value_range(expr: ir.AffineExpr, extents: Sequence[int]) -> tuple[int, int]:
    """Smallest and largest value (both included; bounds, not always attained) for dimension d in 0 .. extents[d]-1.

    Raises:
        IllegalTransform: the expression holds a symbol, or divides by what is no positive constant.
    """
    found = interval(expr, [(0, extent - 1) for extent in extents], len(extents))
    if found is None:
        raise IllegalTransform(f"index '{expr}'", "it divides by what is no positive constant")
    return found


def interval(expr: ir.AffineExpr, values: Sequence[tuple[int, int] | None], n_dims: int) -> tuple[int, int] | None:
    """Smallest and largest value (both included; bounds, not always attained) of an expression.

    Args:
        expr: the expression.
        values: those of its dimensions, then of its symbols; None where nothing is known.
        n_dims: how many of them are dimensions.

    Returns:
        None where it uses what is not known, or divides by what is no positive constant.

    Raises:
        SymbolRefused: it holds a symbol that `values` does not have.
    """
    expr = expr.maybe_downcast()
    if isinstance(expr, ir.AffineConstantExpr):
        return expr.value, expr.value
    if isinstance(expr, ir.AffineDimExpr):
        return values[expr.position]
    if isinstance(expr, ir.AffineSymbolExpr):
        return values[n_dims + expr.position] if n_dims + expr.position < len(values) else _refuse_symbol(expr)
    left, right = interval(expr.lhs, values, n_dims), interval(expr.rhs, values, n_dims)
    if left is None or right is None:
        return None
    (low, high), (other_low, other_high) = left, right
    if isinstance(expr, ir.AffineAddExpr):
        return low + other_low, high + other_high
    if isinstance(expr, ir.AffineMulExpr):
        corners = [a * b for a in left for b in right]
        return min(corners), max(corners)
    if other_low != other_high or other_low <= 0:
        return None  # MLIR gives no meaning to such a divisor
    if isinstance(expr, ir.AffineFloorDivExpr):
        return low // other_low, high // other_low
    if isinstance(expr, ir.AffineCeilDivExpr):
        return -(-low // other_low), -(-high // other_low)
    return (low % other_low, high % other_low) if low // other_low == high // other_low else (0, other_low - 1)


def simplify(expr: ir.AffineExpr, extents: Sequence[int]) -> ir.AffineExpr:
    """The same values for every point within `extents`, with `floordiv` and `mod` resolved where the ranges allow.

    `(g * 4 + f) floordiv 4` with f in 0 .. 3 becomes `g`; upstream's simplifier knows no ranges and keeps it.
    """
    expr = downcast(expr)
    if not isinstance(expr, ir.AffineBinaryExpr):
        return expr
    lhs, rhs = simplify(expr.lhs, extents), simplify(expr.rhs, extents)
    if isinstance(expr, ir.AffineAddExpr):
        return shorter(lhs + rhs, len(extents))
    if isinstance(expr, ir.AffineMulExpr):
        return shorter(lhs * rhs, len(extents))
    divisor = ir.AffineConstantExpr(downcast(rhs)).value
    low, high = value_range(lhs, extents)
    if not isinstance(expr, ir.AffineCeilDivExpr) and 0 <= low and high < divisor:
        return lhs if isinstance(expr, ir.AffineModExpr) else ir.AffineExpr.get_constant(0)
    form = linear_form(lhs)
    if form is not None and not isinstance(expr, ir.AffineCeilDivExpr):
        whole, rest = _split_multiples(form, divisor)
        low, high = value_range(from_linear(rest), extents)
        if 0 <= low and high < divisor:
            return from_linear(whole) if isinstance(expr, ir.AffineFloorDivExpr) else from_linear(rest)
    return _rebuild(expr, lhs, rhs)


def moves_by_one(expr: ir.AffineExpr, dim: int) -> bool:
    """Whether the value grows by 1 with the dimension, whatever the others are, also in `d0 - (d1 floordiv 3) * 96`."""
    form = linear_form(expr)
    if form is not None:
        return form.coefficients.get(dim) == 1
    rest = ir.AffineExpr.simplify_affine_expr(expr - ir.AffineExpr.get_dim(dim), _WIDE, 0)
    return dim not in used_dims(rest)


def substitute(expr: ir.AffineExpr, replacement: Mapping[int, ir.AffineExpr], n_dims: int) -> ir.AffineExpr:
    """The expression with each dimension d of `n_dims` replaced by `replacement[d]` (kept where there is none)."""
    expr = downcast(expr)
    kind = type(expr)
    if kind is ir.AffineDimExpr:
        return replacement.get(expr.position, expr)
    if kind is ir.AffineConstantExpr:
        return expr
    results = [replacement[d] if d in replacement else ir.AffineExpr.get_dim(d) for d in range(n_dims)]
    return expr.compose(ir.AffineMap.get(_WIDE, 0, results))


def evaluate(expr: ir.AffineExpr, values: Sequence[np.ndarray]) -> np.ndarray:
    """The expression's value, int64, for dimension d = `values[d]` (arrays that broadcast against each other)."""
    expr = downcast(expr)
    if isinstance(expr, ir.AffineConstantExpr):
        return np.asarray(expr.value, dtype=np.int64)
    if isinstance(expr, ir.AffineDimExpr):
        return values[expr.position]
    lhs, rhs = evaluate(expr.lhs, values), evaluate(expr.rhs, values)
    if isinstance(expr, ir.AffineAddExpr):
        return lhs + rhs
    if isinstance(expr, ir.AffineMulExpr):
        return lhs * rhs
    if isinstance(expr, ir.AffineFloorDivExpr):
        return lhs // rhs
    if isinstance(expr, ir.AffineCeilDivExpr):
        return -(-lhs // rhs)
    return lhs % rhs


def isl_text(expr: ir.AffineExpr, names: Sequence[str]) -> str:
    """The expression in isl's syntax, dimension d written as `names[d]`."""
    expr = downcast(expr)
    if isinstance(expr, ir.AffineConstantExpr):
        return str(expr.value)
    if isinstance(expr, ir.AffineDimExpr):
        return names[expr.position]
    lhs, rhs = isl_text(expr.lhs, names), isl_text(expr.rhs, names)
    if isinstance(expr, ir.AffineAddExpr):
        return f"({lhs} + {rhs})"
    if isinstance(expr, ir.AffineMulExpr):
        return f"({lhs} * {rhs})"
    if isinstance(expr, ir.AffineFloorDivExpr):
        return f"floor(({lhs}) / {rhs})"
    if isinstance(expr, ir.AffineCeilDivExpr):
        return f"ceil(({lhs}) / {rhs})"
    return f"(({lhs}) mod {rhs})"


def constraints(condition: ir.Attribute) -> list[tuple[ir.AffineMap, bool]]:
    """The constraints of an integer set, of which the bindings show only the text.

    Returns:
        The left side of each, a map of one result without symbols (those come after the dimensions), and whether it
        has to be 0; else it has to be at least 0.

    Raises:
        IllegalTransform: the attribute is no integer set.
    """
    match = re.fullmatch(r"affine_set<(\(.*?\)(?:\[.*?\])?) : \((.*)\)>", str(condition))
    parts = match[2].split(", ") if match else []
    compared = [re.fullmatch(r"(.*) (==|>=) 0", part) for part in parts]
    if match is None or None in compared:
        raise IllegalTransform(f"condition '{condition}'", "it is no integer set of constraints with 0")
    found = []
    for each in compared:
        assert each is not None
        left = ir.AffineMapAttr(ir.Attribute.parse(f"affine_map<{match[1]} -> ({each[1]})>")).value
        found.append((without_symbols(left), each[2] == "=="))
    return found


def without_symbols(map_: ir.AffineMap) -> ir.AffineMap:
    """The same map with its symbols as further dimensions, after the others, as its operands are in order."""
    n_dims, n_symbols = map_.n_dims, map_.n_symbols
    for k in range(n_symbols):
        symbol, dimension = ir.AffineExpr.get_symbol(k), ir.AffineExpr.get_dim(n_dims + k)
        map_ = map_.replace(symbol, dimension, n_dims + n_symbols, n_symbols)
    return map_


def downcast(expr: ir.AffineExpr) -> ir.AffineExpr:
    """The expression as the subclass of `ir.AffineExpr` that it is (the bindings often hand out another class).

    Raises:
        SymbolRefused: it is a symbol.
    """
    expr = expr.maybe_downcast()
    if type(expr) is ir.AffineSymbolExpr:
        _refuse_symbol(expr)
    return expr


def _refuse_symbol(expr: ir.AffineExpr) -> NoReturn:
    raise SymbolRefused(f"index '{expr}'", "symbols are not supported in access maps; only iterators are")


def shorter(expr: ir.AffineExpr, n_dims: int) -> ir.AffineExpr:
    """Upstream's simplification where it shortens; it also spells `a mod b` out as a difference, which does not."""
    simplified = ir.AffineExpr.simplify_affine_expr(expr, n_dims, 0)
    return simplified if simplified == expr or len(str(simplified)) <= len(str(expr)) else expr


def _sum(a: LinearForm | None, b: LinearForm | None) -> LinearForm | None:
    if a is None or b is None:
        return None
    coefficients = {d: a.coefficients.get(d, 0) + b.coefficients.get(d, 0) for d in {*a.coefficients, *b.coefficients}}
    return LinearForm({d: c for d, c in sorted(coefficients.items()) if c}, a.constant + b.constant)


def _product(a: LinearForm | None, b: LinearForm | None) -> LinearForm | None:
    if a is None or b is None:
        return None
    if a.coefficients and b.coefficients:
        return None
    form, factor = (a, b.constant) if a.coefficients else (b, a.constant)
    if factor == 0:
        return LinearForm({}, 0)
    return LinearForm({d: c * factor for d, c in form.coefficients.items()}, form.constant * factor)


def _split_multiples(form: LinearForm, divisor: int) -> tuple[LinearForm, LinearForm]:
    """`form == divisor * whole + rest`, all terms that `divisor` divides in `whole`."""
    whole = {d: c // divisor for d, c in form.coefficients.items() if c % divisor == 0}
    rest = {d: c for d, c in form.coefficients.items() if c % divisor}
    return LinearForm(whole, form.constant // divisor), LinearForm(rest, form.constant % divisor)


def _rebuild(expr: ir.AffineExpr, lhs: ir.AffineExpr, rhs: ir.AffineExpr) -> ir.AffineExpr:
    if isinstance(expr, ir.AffineFloorDivExpr):
        return ir.AffineExpr.get_floor_div(lhs, rhs)
    if isinstance(expr, ir.AffineCeilDivExpr):
        return ir.AffineExpr.get_ceil_div(lhs, rhs)
    return ir.AffineExpr.get_mod(lhs, rhs)
