"""Where a value that loops carry in registers can be kept in memory instead: what a promoted accumulator came from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from torch_mlir import ir

from loopmorph.passes.analysis.definitions import definition, is_defined_by
from loopmorph.passes.raising.index_forms import Form
from loopmorph.passes.raising.nest_recipe import Load
from loopmorph.passes.raising.nest_values import Held, is_arithmetic, width_of

_STORES = ("affine.store", "affine.vector_store")
_CHAINED = ("arith.addf", "arith.maximumf", "arith.minimumf")


def destination(result: ir.Value, op: ir.Operation) -> ir.Operation | None:
    """The store that a value ends up in, through nothing but loops that go on from it; None where there is no such.

    Args:
        result: the value.
        op: the operation that makes it; all others have to stand in the same block.
    """
    users = [use.owner.operation for use in result.uses]
    if len(users) != 1 or users[0].block != op.block:
        return None
    (user,) = users
    if user.name in _STORES:
        return user if user.operands[0] == result else None
    if user.name == "affine.for":
        position = list(user.opview.inits).index(result)
        return destination(user.results[position], user)
    if user.name == "vector.reduction" and list(user.operands)[1:] == [result]:
        return destination(user.results[0], user)
    return None


def is_free_between(
    first: ir.Operation, store: ir.Operation, index: Callable[[ir.Operation], tuple[Form, ...]]
) -> bool:
    """Whether nothing from an operation up to a store in its block touches what is stored.

    Args:
        first: the operation.
        store: the store.
        index: where an access in the block is.
    """
    memref, target = store.operands[1], index(store)
    positions = {op.operation: k for k, op in enumerate(store.block.operations)}
    begin, end = positions[first], positions[store]
    for use in memref.uses:
        op = use.owner.operation
        at = _in_block(op, positions)
        if at is None or not begin <= positions[at] < end:
            continue
        if at != op or not apart(index(op), target, max(_lanes(op), _lanes(store))):
            return False
    return True


def sole_cell(value: ir.Value, cells: Mapping[ir.Value, Held], around: tuple[int, ...]) -> Load | None:
    """Where the only value is kept that a value is computed from and that nothing else needs; None for any other.

    Args:
        value: the value.
        cells: the values that loops carry.
        around: the loops around.
    """
    leaves = list(_leaves(value, cells))
    if len(leaves) != 1 or leaves[0] is None or cells[leaves[0]].around != around:
        return None
    return cells[leaves[0]].load


def chain(value: ir.Value, cell: Load, cells: Mapping[ir.Value, Held]) -> tuple[str, list[ir.Value]] | None:
    """What is added to (or compared with) the content of a cell, one after the other, to make a value.

    Returns:
        The operation and the values, in program order; None where the value is made in another way.
    """
    op = definition(value)
    if op is None or op.name not in _CHAINED:
        return None
    name = op.name
    terms: list[ir.Value] = []
    while not (value in cells and cells[value].load == cell):
        if not is_defined_by(value, name):
            return None
        operands = list(value.owner.operation.operands)
        inner = [k for k, v in enumerate(operands) if v in cells and cells[v].load == cell]
        inner = inner or [k for k, v in enumerate(operands) if is_defined_by(v, name)]
        if len(inner) != 1:
            return None
        value = operands[inner[0]]
        terms.append(operands[1 - inner[0]])
    return name, terms[::-1]


def apart(a: tuple[Form, ...], b: tuple[Form, ...], lanes: int = 1) -> bool:
    """Whether, at one point of the loops, the indices differ by a constant: on the last axis by all lanes."""
    widths = [*(1 for _ in a[1:]), lanes]
    return any(
        x.terms == y.terms and abs(x.constant - y.constant) >= width for x, y, width in zip(a, b, widths, strict=True)
    )


def _leaves(value: ir.Value, cells: Mapping[ir.Value, Held]) -> Iterator[ir.Value | None]:
    """The carried values that a value is computed from; None for each that is needed elsewhere, too."""
    pending = [value]
    while pending:
        each = pending.pop()
        if each in cells:
            yield each if len(list(each.uses)) == 1 else None
        elif (op := definition(each)) is not None and is_arithmetic(op):
            pending += op.operands


def _in_block(op: ir.Operation, positions: Mapping[ir.Operation, int]) -> ir.Operation | None:
    """The operation among these that is, or holds, `op`."""
    while op not in positions:
        if op.parent is None:
            return None
        op = op.parent.operation
    return op


def _lanes(op: ir.Operation) -> int:
    value = op.operands[0] if op.name in _STORES else op.results[0] if len(op.results) else None
    return 1 if value is None else width_of(value) or 1
