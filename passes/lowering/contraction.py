"""How a nest accumulates into a memref, and which parameters each accumulated term is proportional to."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from torch_mlir import ir

from loopmorph.passes.affine_expr import LinearForm, from_linear, linear_form, simplify, substitute, value_range
from loopmorph.passes.analysis.definitions import definition
from loopmorph.passes.nest import Access, Nest


@dataclass(frozen=True)
class Weight:
    """One read of a parameter in an accumulated term.

    Attributes:
        load: the read.
        channel: the coordinate, along the chosen axis of the result, of the element that the term goes to;
            over the nest's loops. None where no axis was chosen.
    """

    load: Access
    channel: ir.AffineExpr | None


def weights(
    nest: Nest, result: ir.Value, axis: int | None, parameters: Collection[ir.Value], *, proportional: bool
) -> list[Weight] | None:
    """The parameters' reads of a nest whose every store to `result` is `result[i] = result[i] + terms`.

    Args:
        nest: the nest that accumulates.
        result: the memref that it accumulates into.
        axis: the axis of `result` whose coordinate tells the channel.
        parameters: memrefs that count as parameters.
        proportional: whether every term must have one parameter as a factor (else the list is empty).

    Returns:
        One entry per read of a parameter as a factor; None where the nest does not accumulate in this way.
    """
    accesses: dict[ir.Operation | None, Access] = {access.op: access for access in nest.accesses}
    found: list[Weight] = []
    for store in nest.stores:
        if store.memref != result:
            return None
        channel = None if axis is None else store.exprs[axis]
        accumulated = 0
        for term in _summands(store.op.operands[0]):
            load = accesses.get(definition(term))
            if load is not None and load.memref == result and load.exprs == store.exprs:
                accumulated += 1
            elif _reads(term, result):
                return None
            elif proportional:
                loads = _factors(term, accesses, parameters)
                if loads is None:
                    return None
                found += [Weight(w, channel) for w in loads]
        if accumulated != 1:
            return None
    return found if all(_used_only_as_factor(w.load, found) for w in found) else None


def _used_only_as_factor(load: Access, found: list[Weight]) -> bool:
    return len(list(load.op.results[0].uses)) == sum(w.load.op == load.op for w in found)


def _summands(value: ir.Value) -> list[ir.Value]:
    """The terms of a sum, nested sums flattened."""
    op = definition(value)
    if op is not None and op.name == "arith.addf":
        return [s for operand in op.operands for s in _summands(operand)]
    return [value]


def _reads(value: ir.Value, memref: ir.Value) -> bool:
    op = definition(value)
    if op is None:
        return not isinstance(value.type, ir.IndexType)
    return op.operands[0] == memref if op.name == "affine.load" else any(_reads(v, memref) for v in op.operands)


def _factors(
    value: ir.Value, accesses: dict[ir.Operation | None, Access], parameters: Collection[ir.Value]
) -> list[Access] | None:
    """The reads of parameters that the value is proportional to, if scaling each of them once scales it once."""
    op = definition(value)
    if op is None:
        return None
    access = accesses.get(op)
    if access is not None:
        return [access] if access.memref in parameters else None
    if op.name in ("arith.addf", "arith.subf"):
        parts = [_factors(v, accesses, parameters) for v in op.operands]
        return None if any(p is None for p in parts) else [w for p in parts if p is not None for w in p]
    if op.name == "arith.negf":
        return _factors(op.operands[0], accesses, parameters)
    if op.name == "arith.mulf":
        left, right = (_factors(v, accesses, parameters) for v in op.operands)
        return left if left is not None else right
    return None


def channel_of_element(found: list[Weight], extents: tuple[int, ...]) -> ir.AffineExpr | None:
    """The channel as a function of the index of a weight's element, None where the accesses tell none.

    Args:
        found: reads of one weight, with the channel that each goes to.
        extents: extents of the nest's loops.

    Returns:
        An expression over the weight's axes that holds for every one of the reads.
    """
    pairs = [(w.load.exprs, simplify(w.channel, extents)) for w in found if w.channel is not None]
    rank = len(found[0].load.exprs)
    for axis in range(rank):
        if all(simplify(exprs[axis], extents) == channel for exprs, channel in pairs):
            return ir.AffineExpr.get_dim(axis)
    candidate = _solve(*pairs[0], len(extents))
    if candidate is None:
        return None
    for exprs, channel in pairs:
        composed = simplify(substitute(candidate, dict(enumerate(exprs)), rank), extents)
        if not _same(composed, channel):
            return None
    return candidate


def _solve(exprs: tuple[ir.AffineExpr, ...], channel: ir.AffineExpr, n_loops: int) -> ir.AffineExpr | None:
    """Integers c with `channel == sum(c[k] * exprs[k]) + c[-1]`, as an expression; only linear accesses are tried."""
    forms = [linear_form(e) for e in exprs]
    target = linear_form(channel)
    if target is None or any(f is None for f in forms):
        return None
    columns = [_vector(f, n_loops) for f in forms if f is not None] + [_vector(LinearForm({}, 1), n_loops)]
    solution, *_ = np.linalg.lstsq(np.stack(columns, axis=1), _vector(target, n_loops), rcond=None)
    whole = [round(c) for c in solution.tolist()]
    return from_linear(LinearForm({k: c for k, c in enumerate(whole[:-1]) if c}, whole[-1]))


def _vector(form: LinearForm, n_loops: int) -> np.ndarray:
    return np.array([*(form.coefficients.get(d, 0) for d in range(n_loops)), form.constant], dtype=np.float64)


def _same(a: ir.AffineExpr, b: ir.AffineExpr) -> bool:
    return a == b or (linear_form(a) is not None and linear_form(a) == linear_form(b))


def stays_within(expr: ir.AffineExpr, extents: tuple[int, ...], limit: int) -> bool:
    """Whether the expression lies in 0 .. limit-1 for every index within `extents`."""
    low, high = value_range(expr, extents)
    return 0 <= low and high < limit
