"""Which operations help another one: the fills and pads whose results only one operation takes."""

from __future__ import annotations

import bisect
from collections.abc import Iterable

from torch_mlir import ir
from torch_mlir.dialects import func

from loopmorph.passes import marks
from loopmorph.passes.analysis.definitions import definition

REARRANGING = frozenset({"linalg.broadcast", "linalg.transpose"})  # on tensors: access maps of their readers

_Users = dict[ir.Value, list[ir.Operation]]


def helped_by(function: func.FuncOp, ops: Iterable[ir.Operation]) -> dict[ir.Operation, ir.Operation]:
    """Each of some operations of a function that is only there for another one -> that one.

    A fill or a padding on tensors is for the linalg operation that takes it. A fill of a memref, by linalg or a nest,
    is for the next operation of the function that uses the memref, if it adds to what is there.
    """
    among = list(ops)
    filled = {op: memref for op in among if (memref := _filled(op)) is not None}
    users = _users(function, set(filled.values()))
    position = {op.operation: k for k, op in enumerate(function.entry_block.operations)}
    found = {}
    known = set(among)
    for op in among:
        other = _next_user(op, users[filled[op]], position) if op in filled else _taker(op)
        if other is not None and (other in known or marks.LAYER in other.attributes):
            found[op] = other
    return found


def gives_start_values(helper: ir.Operation) -> bool:
    """Whether a helper is, or becomes, a nest of its own that fills a memref; others are part of the nest they help."""
    return helper.name == "affine.for" or (helper.name == "linalg.fill" and not len(helper.results))


def _taker(op: ir.Operation) -> ir.Operation | None:
    """The one linalg operation that takes what a fill or padding on tensors gives."""
    if op.name not in ("linalg.fill", "tensor.pad") or not len(op.results):
        return None
    users = [use.owner.operation for use in op.results[0].uses]
    fits = len(users) == 1 and users[0].name.startswith("linalg.") and users[0].name not in REARRANGING
    return users[0] if fits else None


def _filled(op: ir.Operation) -> ir.Value | None:
    """The memref that an operation fills with one value, doing nothing else."""
    if op.name == "linalg.fill" and not len(op.results):
        return op.operands[1]
    leaves = _leaves(op) if op.name == "affine.for" else []
    if len(leaves) != 1 or leaves[0].name != "affine.store":
        return None
    value = definition(leaves[0].operands[0])
    return leaves[0].operands[1] if value is not None and value.name == "arith.constant" else None


def _users(function: func.FuncOp, memrefs: set[ir.Value]) -> _Users:
    """The operations of the function's body that use each memref, themselves or inside, in program order."""
    found: _Users = {memref: [] for memref in memrefs}
    for view in function.entry_block.operations if memrefs else ():
        top = view.operation
        for op in (top, *_leaves(top)):
            for operand in op.operands:
                if operand in found and (not found[operand] or found[operand][-1] != top):
                    found[operand].append(top)
    return found


def _next_user(op: ir.Operation, users: list[ir.Operation], position: dict[ir.Operation, int]) -> ir.Operation | None:
    """The next of some users, if it adds to what an operation fills; its last operand is what linalg adds to."""
    if op not in users:
        return None
    place = bisect.bisect_right(users, position[op], key=position.__getitem__)
    if place == len(users):
        return None
    other, memref = users[place], _filled(op)
    if other.name.startswith("linalg."):
        return other if other.name != "linalg.fill" and other.operands[len(other.operands) - 1] == memref else None
    kinds = {inner.name for inner in _leaves(other) if memref in list(inner.operands)}
    return other if other.name == "affine.for" and kinds == {"affine.load", "affine.store"} else None


def _leaves(op: ir.Operation) -> list[ir.Operation]:
    """What an operation holds, but for loops, their ends and constants."""
    found: list[ir.Operation] = []

    def visit(inner: ir.Operation) -> ir.WalkResult:
        if inner != op and inner.name not in ("affine.for", "affine.yield", "arith.constant"):
            found.append(inner)
        return ir.WalkResult.ADVANCE

    op.walk(visit, ir.WalkOrder.PRE_ORDER)
    return found
