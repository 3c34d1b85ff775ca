"""Index maps as functions on finite sets: their inverse, and which elements several accesses reach together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch_mlir import ir

from loopmorph.passes.affine_expr import LinearForm, downcast, evaluate, linear_form, simplify, used_dims


@dataclass(frozen=True)
class Reach:
    """Accesses to one memref that stand side by side, and the values that the iterators around them take.

    Attributes:
        exprs: for each access one expression per axis; dimension d is iterator d.
        values: for each iterator around the accesses its values, a vector of int64.
        shape: the memref's extents.
    """

    exprs: tuple[tuple[ir.AffineExpr, ...], ...]
    values: Mapping[int, np.ndarray]
    shape: tuple[int, ...]


def invert(exprs: Sequence[ir.AffineExpr], extents: Sequence[int]) -> tuple[ir.AffineExpr, ...] | None:
    """The iterators as functions of the index that an access has there.

    Understands axes that hold iterators as digits, such as `c.0 * 16 + c.1 + 3`, and an iterator spread over two axes
    as `c floordiv 16` and `c mod 16`.

    Args:
        exprs: the index, one expression per axis; dimension d is iterator d.
        extents: how many values 0, 1, ... each iterator takes.

    Returns:
        For each iterator an expression in which dimension k is axis k; None where different points may have the same
        index, or where this is not understood.
    """
    exprs = [downcast(simplify(e, extents)) for e in exprs]
    known = {d: ir.AffineExpr.get_constant(0) for d, extent in enumerate(extents) if extent == 1}
    for expr, value in [*((e, ir.AffineExpr.get_dim(k)) for k, e in enumerate(exprs)), *_joined_axes(exprs)]:
        form = linear_form(expr)
        for d, digit in (_digits(form, value, extents) if form is not None else {}).items():
            known.setdefault(d, digit)
    return tuple(known[d] for d in range(len(extents))) if len(known) == len(extents) else None


def each_once(reaches: Sequence[Reach]) -> bool:
    """Whether no element is reached twice, by one or by two of them; False also where this is not understood."""
    return all(map(_each_once, reaches)) and all(_are_apart(a, b) for a, b in itertools.combinations(reaches, 2))


def includes(larger: Sequence[Reach], smaller: Sequence[Reach]) -> bool:
    """Whether every element that one of `smaller` reaches, one of `larger` reaches too; False also where this is not
    understood."""
    if all(any(_includes(a, b) for a in larger) for b in smaller):
        return True
    whole, *others = smaller  # that none of them alone includes, but perhaps all together
    parts = not others and each_once([*larger]) and all(_includes(whole, a) for a in larger)
    return parts and _each_once(whole) and _count(whole) == sum(map(_count, larger))


def _each_once(reach: Reach) -> bool:
    groups = _axis_groups([reach], len(reach.shape))
    moving = {d for d, values in reach.values.items() if len(values) > 1}
    if any(moving - {d for e in exprs for d in used_dims(e)} for exprs in reach.exprs):
        return False
    if not _is_product(reach, groups):
        return False
    return all(len(np.unique(found)) == len(found) for found in (_elements(reach, axes) for axes in groups))


def _includes(larger: Reach, smaller: Reach) -> bool:
    groups = _axis_groups([larger, smaller], len(larger.shape))
    if not _is_product(larger, groups) or not _is_product(smaller, groups):
        return False
    return all(bool(np.isin(_elements(smaller, axes), _elements(larger, axes)).all()) for axes in groups)


def _are_apart(a: Reach, b: Reach) -> bool:
    """Whether no element is reached by both; False also where this is not understood."""
    groups = _axis_groups([a, b], len(a.shape))
    return any(not np.isin(_elements(a, axes), _elements(b, axes)).any() for axes in groups)


def _count(reach: Reach) -> int:
    """How many elements are reached where each is reached once."""
    return math.prod(len(_elements(reach, axes)) for axes in _axis_groups([reach], len(reach.shape)))


def _joined_axes(exprs: Sequence[ir.AffineExpr]) -> list[tuple[ir.AffineExpr, ir.AffineExpr]]:
    """For each pair of axes `e floordiv k`, `e mod k`: `e`, and how it follows from the two."""
    found = []
    for high, quotient in enumerate(exprs):
        for low, remainder in enumerate(exprs):
            split = isinstance(quotient, ir.AffineFloorDivExpr) and isinstance(remainder, ir.AffineModExpr)
            if split and quotient.lhs == remainder.lhs and quotient.rhs == remainder.rhs:
                divisor = ir.AffineConstantExpr(downcast(quotient.rhs)).value
                joined = ir.AffineExpr.get_dim(high) * divisor + ir.AffineExpr.get_dim(low)
                found.append((downcast(quotient.lhs), joined))
    return found


def _digits(form: LinearForm, value: ir.AffineExpr, extents: Sequence[int]) -> dict[int, ir.AffineExpr]:
    """The iterators that a linear form holds as digits, given its value; {} where its values overlap."""
    terms = sorted((c, d) for d, c in form.coefficients.items() if extents[d] > 1)
    reach = 0
    for coefficient, d in terms:
        if coefficient <= reach:
            return {}
        reach += coefficient * (extents[d] - 1)
    rest, digits = value - form.constant, {}
    for coefficient, d in reversed(terms):
        digits[d] = ir.AffineExpr.get_floor_div(rest, coefficient)
        rest = ir.AffineExpr.get_mod(rest, coefficient)
    return digits


def _axis_groups(reaches: Sequence[Reach], rank: int) -> list[tuple[int, ...]]:
    """The axes in groups such that no iterator occurs in two of them."""
    groups = [{k} for k in range(rank)]
    for reach in reaches:
        for exprs in reach.exprs:
            dims = [used_dims(e) for e in exprs]
            for d in set().union(*dims):
                touched = [g for g in groups if any(d in dims[k] for k in g)]
                groups = [g for g in groups if g not in touched] + [set().union(*touched)]
    return [tuple(sorted(g)) for g in groups]


def _is_product(reach: Reach, groups: Sequence[tuple[int, ...]]) -> bool:
    """Whether the accesses combine every form that they have on a group of axes with every form on the others."""
    forms = math.prod(len(_forms(reach, axes)) for axes in groups)
    return forms == len(set(reach.exprs)) == len(reach.exprs)


def _forms(reach: Reach, axes: tuple[int, ...]) -> list[tuple[ir.AffineExpr, ...]]:
    return list(dict.fromkeys(tuple(exprs[k] for k in axes) for exprs in reach.exprs))


def _elements(reach: Reach, axes: tuple[int, ...]) -> np.ndarray:
    """What is reached on a group of axes, as positions in row-major order, once for each way of reaching it."""
    found = []
    for form in _forms(reach, axes):
        dims = sorted({d for e in form for d in used_dims(e)})
        grid = dict(zip(dims, np.meshgrid(*(reach.values[d] for d in dims), indexing="ij"), strict=True))
        values = [grid.get(d, np.asarray(0)) for d in range(max(dims, default=-1) + 1)]
        columns = [np.ravel(evaluate(e, values)) for e in form]
        position = np.zeros(1, dtype=np.int64)
        for axis, column in zip(axes, columns, strict=True):
            position = position * reach.shape[axis] + column
        found.append(position)
    return np.concatenate(found)


@dataclass(frozen=True)
class Frame:
    """Where a body is to be instantiated.

    Attributes:
        variables: the iterators there; dimension d of addresses is `variables[d]`.
        extents: for each a number that it, never negative, stays below; with lanes, their number behind them.
        width: number of lanes, whose number is dimension `len(variables)` of addresses; None for scalars.
    """

    variables: tuple[ir.Value, ...]
    extents: tuple[int, ...]
    width: int | None
