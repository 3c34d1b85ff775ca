"""All loops of a program that are tied to one of them, whatever holds them as they are: what a refusal tells of."""

from __future__ import annotations

from collections.abc import Iterator

from torch_mlir import ir

from loopmorph.passes.analysis.coupling.program_accesses import AxisKey, ProgramAccesses
from loopmorph.passes.analysis.coupling.ties import Tie, span
from loopmorph.passes.analysis.roles import is_sliced
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Access, Loop, Nest

_Range = tuple[int, int]
_NAMED_MEMBERS = 3


def refusal(program: ProgramAccesses, nest: Nest, loop: Loop, reason: str) -> IllegalTransform:
    """Why the dimension of a loop cannot change; where it is that of several layers, some of them are named."""
    tied = tied_loops(program, nest, loop)
    members = dict.fromkeys(f"{nest.layer} {loop.iterator}" for nest, loop in tied if nest.layer)
    layers = {member.split()[0] for member in members}
    if len(layers) > 1:
        named = ", ".join(list(members)[:_NAMED_MEMBERS])
        more = len(members) - _NAMED_MEMBERS
        reason += f" (the dimension of {named}{f' and {more} more' if more > 0 else ''})"
    return IllegalTransform(f"{nest.label}, iterator '{loop.iterator}'", reason)


def tied_loops(program: ProgramAccesses, nest: Nest, loop: Loop) -> list[tuple[Nest, Loop]]:
    """The loops that index what the loop indexes, and so on; itself first, the others in program order.

    Of a concatenation only the slice that the loop reaches counts. A reduction with a parameter is tied by that alone.
    """
    found: dict[ir.Operation, tuple[Nest, Loop]] = {loop.op.operation: (nest, loop)}
    seen: set[tuple[AxisKey, _Range]] = set()
    pending = [(nest, loop, (0, loop.extent or 0))]
    while pending:
        at, each, iterations = pending.pop()
        sliced = each.op.operation == loop.op.operation and is_sliced(nest, loop)
        for access, axis in program.uses_of(at, each, parameters_only=sliced):
            reached = _indices(at, access, axis, program.tie(at, access, axis), iterations)
            if reached is None or ((access.memref, axis), reached) in seen:
                continue
            seen.add(((access.memref, axis), reached))
            for other, position, those in _indexing(program, access.memref, axis, reached):
                found.setdefault(other.loops[position].op.operation, (other, other.loops[position]))
                pending.append((other, other.loops[position], those))
    first, *others = found.values()
    return [first, *sorted(others, key=lambda pair: (program.accesses.order[pair[0].root.operation], pair[1].position))]


def _indexing(
    program: ProgramAccesses, memref: ir.Value, axis: int, reached: _Range
) -> Iterator[tuple[Nest, int, _Range]]:
    """The loops, by position, that index a range of an axis, and their iterations that do."""
    for nest, access in program.accesses[memref]:
        relation = program.tie(nest, access, axis)
        own = _indices(nest, access, axis, relation, None)
        if own is None or own[0] >= reached[1] or reached[0] >= own[1]:
            continue
        for position in relation.loops:
            extent = nest.loops[position].extent or 0
            begin, end = (index - relation.offset for index in reached)
            yield nest, position, (max(0, begin), min(extent, end)) if _is_alone(relation) else (0, extent)


def _indices(nest: Nest, access: Access, axis: int, relation: Tie, iterations: _Range | None) -> _Range | None:
    """The indices of the axis that iterations of a loop (None: all) are tied to; None where they are to none."""
    if iterations is not None and _is_alone(relation):
        return relation.offset + iterations[0], relation.offset + iterations[1]
    if relation.kind == "slice":
        return relation.offset, relation.offset + span(nest, relation.loops)
    return (0, ir.MemRefType(access.memref.type).shape[axis]) if relation.kind in ("digits", "leading") else None


def _is_alone(relation: Tie) -> bool:
    """Whether an index is that of one iterator, but for an offset."""
    return relation.kind in ("digits", "slice") and len(relation.loops) == 1
