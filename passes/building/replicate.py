"""The common core of unroll and unroll-and-jam: copies of a loop's body, each at its own offset."""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes import marks
from loopmorph.passes.analysis.bounds import known_limits
from loopmorph.passes.analysis.structure import body_of, require_no_results
from loopmorph.passes.building.arrange import require_normal
from loopmorph.passes.building.rebuild import move_nest_marks, substitute_variables
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.nest import Loop, Nest


def require_divisor(nest: Nest, loop: Loop, factor: int) -> int:
    """Checks that `factor` copies of the loop's body make up the loop; returns its extent.

    Raises:
        ArgumentError: the factor is not in 2 .. extent (1 for an extent of 1).
        IllegalTransform: the factor does not divide the extent, or the loop does not run from 0 to a constant with
            step 1, or carries values in registers.
    """
    require_normal(nest, loop)
    require_no_results(nest, loop)
    extent = loop.extent
    if not extent:
        raise IllegalTransform(nest.label, f"the extent of loop '{loop.iterator}' is no constant above 0")
    if not min(2, extent) <= factor <= extent:
        wanted = f"between 2 and {extent}" if extent > 1 else "1"
        raise ArgumentError("factor", f"the factor for '{loop.iterator}' must be {wanted}, got {factor}")
    if extent % factor:
        divisors = ", ".join(str(d) for d in range(2, extent + 1) if extent % d == 0)
        reason = f"the factor {factor} does not divide the extent {extent} of '{loop.iterator}'; these do: {divisors}"
        raise IllegalTransform(nest.label, reason)
    return extent


def replicate(nest: Nest, loop: Loop, holder: Loop, factor: int) -> ir.Operation:
    """Shortens `loop` by `factor` and puts that many copies of the body of `holder` one after the other.

    Copy k computes iteration `iterator * factor + k`. A loop of which one iteration would be left goes away, and its
    content takes its place. Loops within the copies are renamed `kw_0`, `kw_1`, ...

    Args:
        nest: the nest.
        loop: the loop; `require_divisor` holds.
        holder: the loop itself or the innermost one of a perfect band below it.
        factor: the number of copies.

    Returns:
        The outermost loop of the nest.
    """
    extent = loop.extent or factor
    limits = known_limits(nest) | {loop.variable: extent // factor}
    copies = _clone(body_of(holder.op), holder.op.body.operations[len(holder.op.body.operations) - 1], factor)
    for k, ops in enumerate(copies):
        if factor == extent:
            place = ir.AffineExpr.get_constant(k)
            variables: list[ir.Value] = []
        else:
            place, variables = ir.AffineExpr.get_dim(0) * factor + k, [loop.variable]
        if factor > 1:
            _number_loops(ops, k)
        substitute_variables(ops, {loop.variable: place}, variables, limits)
    if factor < extent:
        end = ir.AffineMap.get_constant(extent // factor)
        loop.op.attributes["upperBoundMap"] = ir.AffineMapAttr.get(end)
        return nest.root.operation
    return _dissolve(nest, loop)


def inner_names(nest: Nest, loop: Loop, factor: int) -> list[str]:
    """The names that loops below `loop` get in `factor` copies.

    Raises:
        IllegalTransform: another loop has one of the names.
    """
    below = {p.iterator for p in nest.loops if loop.position in nest.around(p.position)}
    others = set(nest.iterators) - below
    names = [f"{name}_{k}" for name in sorted(below) for k in range(factor)] if factor > 1 else sorted(below)
    taken = [name for k, name in enumerate(names) if name in others or name in names[:k]]
    if taken:
        raise IllegalTransform(nest.label, f"the nest already has an iterator '{taken[0]}'")
    return names


def _clone(body: Sequence[ir.Operation], end: ir.OpView, factor: int) -> list[list[ir.Operation]]:
    """The body itself and `factor - 1` copies of it, placed before `end`."""
    copies = [list(body)]
    for _ in range(1, factor):
        results: dict[ir.Value, ir.Value] = {}
        copy = []
        for op in body:
            clone = op.clone(ir.InsertionPoint(end)).operation
            _redirect(clone, results)
            results.update(zip(op.results, clone.results, strict=True))
            copy.append(clone)
        copies.append(copy)
    return copies


def _redirect(op: ir.Operation, results: dict[ir.Value, ir.Value]) -> None:
    """Replaces operands in `op` and all that it holds."""
    for k, value in enumerate(op.operands):
        if value in results:
            op.operands[k] = results[value]
    for region in op.regions:
        for block in region.blocks:
            for inner in block.operations:
                _redirect(inner.operation, results)


def _number_loops(ops: Sequence[ir.Operation], number: int) -> None:
    """Renames every loop in `ops`, `kw` to `kw_<number>`."""
    for op in ops:
        if isinstance(op.opview, affine.AffineForOp):
            name = marks.get_text(op, marks.ITER)
            if name:
                op.attributes[marks.ITER] = ir.StringAttr.get(f"{name}_{number}")
            _number_loops(body_of(op.opview), number)


def _dissolve(nest: Nest, loop: Loop) -> ir.Operation:
    """Replaces a loop, whose iterator nothing uses any more, by its content; returns the nest's root."""
    content = body_of(loop.op)
    for op in content:
        op.move_before(loop.op.operation)
    is_root = loop.position == 0
    if is_root:
        move_nest_marks(loop.op, content[0].opview)
    loop.op.operation.erase()
    return content[0] if is_root else nest.root.operation
