"""What holds a dimension as it is: the reasons why a loop or a memref axis cannot keep a part of its indices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.analysis.roles import indexes_parameter, is_reduction
from loopmorph.passes.analysis.unseen import enters_values
from loopmorph.passes.nest import Access, Loop, Nest
from loopmorph.passes.nest_text import index_text

Uses = Mapping[ir.Value, Sequence[tuple[Nest, Access]]]


def pin_of_nest(nest: Nest) -> str | None:
    """Why no index of the nest can change at all, None where it can."""
    if nest.is_vectorised:
        return "its nest is already vectorised; this has to come before"
    if not nest.is_rectangular:
        return "its nest has a bound that is not constant (a split with a remainder)"
    return None


def pin_of_loop(nest: Nest, loop: Loop) -> str | None:
    """Why the loop has to run over all of its range, None where it need not."""
    pin = pin_of_values(nest, loop)
    if pin is not None:
        return pin
    if is_reduction(nest, loop.position) and not indexes_parameter(nest, loop.position):
        return f"{nest.label} reduces over it without a parameter; its constants would be wrong"
    return None


def pin_of_values(nest: Nest, loop: Loop) -> str | None:
    """Why each of the loop's iterations computes something else, None where they only access other elements."""
    if not enters_values(loop.variable):
        return None
    return f"iterator '{loop.iterator}' of {nest.label} enters the computed values, not only the indices"


def pin_of_memref(memref: ir.Value, uses: Uses, via: Nest) -> str | None:
    """Why the memref's shape has to stay, None where it need not; `via` is a nest that accesses it."""
    attributes = marks.memref_marks(memref)
    for mark, end in ((marks.INPUT, "input"), (marks.OUTPUT, "output")):
        if mark in attributes:
            return f"its dimension is tied to the network's {end} through {via.label}"
    if isinstance(memref, ir.BlockArgument):
        if marks.PARAM not in attributes:
            number = f"argument {memref.arg_number} of the function, which is not marked '{marks.PARAM}',"
            return f"its dimension is tied to {number} through {via.label}"
    elif memref.owner.name != "memref.alloc":
        return f"its dimension is tied to the result of {memref.owner.name} through {via.label}"
    known = {access.op for _, access in uses[memref]}
    strangers = [use.owner for use in memref.uses if use.owner not in known]
    if strangers:
        return f"its dimension is tied to {strangers[0].name} ({strangers[0].location})"
    return None


def pin_of_access(nest: Nest, access: Access, axis: int) -> str:
    """Why an axis that is indexed like this (by a window, at an offset) cannot change."""
    text = index_text(access.exprs[axis], nest.iterators)
    extent = ir.MemRefType(access.memref.type).shape[axis]
    verb = "writes" if access.kind == "store" else "reads"
    what = {"copy": "a concatenation or copy", "pad": "padding"}.get(nest.role, "a window or an offset")
    return f"{nest.label} {verb} the tied dimension of extent {extent} at '{text}': {what}, which it cannot follow"
