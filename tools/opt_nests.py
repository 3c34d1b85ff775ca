"""The table of a program's loop nests: what they are called, what they run over, what they access, where they stand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes.address import addressed_roots, name_of
from loopmorph.passes.analysis.dependence.known_operations import require_known_operations
from loopmorph.passes.building.name_nests import name_nests
from loopmorph.passes.diagnostics import UNKNOWN, file_location, location_text
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.ingress.linalg_to_affine import LinalgToAffine
from loopmorph.passes.nest import Nest, function_roots, functions, nest_roots, view_nest
from loopmorph.passes.nest_text import access_text

_HEADINGS = ("address", "iterators", "accesses", "place")
_MOST_ACCESSES = 6
_LOOPS = frozenset({"affine.for", "affine.parallel", "scf.for", "scf.forall", "scf.parallel", "scf.while"})


def nest_table(module: ir.Module) -> str:
    """The table, with a line for each nest; then a line for each loop that stands elsewhere than at a function's top.

    What is there of linalg is lowered before, and nests that have no names get them: the module is changed.

    Raises:
        ImportRefused: an operation of linalg or on tensors that is no affine nest.
    """
    operation = module.operation
    LinalgToAffine().run(operation)
    with operation.context:
        name_nests(operation)
        alike = Counter(name_of(root) for root in nest_roots(operation))
        given = {root.operation: address for address, root in addressed_roots(operation)}
        found = functions(operation)
        rows: list[tuple[str, ...]] = [_HEADINGS]
        for function in found:
            state = ir.AsmState(function.operation)
            for root in function_roots(function):
                address = given[root.operation]
                single = alike[name_of(root)] == 1
                place = _place(root) + (f" @{function.name.value}" if len(found) > 1 else "")
                rows.append((str(replace(address, number=None) if single else address), *_contents(root, state), place))
        lines = _aligned(rows) if len(rows) > 1 else ["no nests"]
        return "\n".join([*lines, *_out_of_reach(operation)]) + "\n"


def _place(root: affine.AffineForOp) -> str:
    place = file_location(root.operation.location)
    return UNKNOWN if place is None else f"{place.filename}:{place.start_line}"


def _contents(root: affine.AffineForOp, state: ir.AsmState) -> tuple[str, str]:
    """A nest's iterators with their extents, and its accesses; or why they cannot be told."""
    try:
        nest = view_nest(root)
    except IllegalTransform as error:
        return "?", str(error)
    iterators = " ".join(f"{loop.iterator}={'?' if loop.extent is None else loop.extent}" for loop in nest.loops)
    return iterators, _accesses(nest, state)


def _accesses(nest: Nest, state: ir.AsmState) -> str:
    texts = list(dict.fromkeys(access_text(nest, access, state) for access in nest.accesses))
    try:
        require_known_operations(nest)
    except IllegalTransform as error:
        texts.insert(0, f"? ({error.reason})")
    more = [f"and {len(texts) - _MOST_ACCESSES} more"] if len(texts) > _MOST_ACCESSES else []
    return "; ".join([*texts[:_MOST_ACCESSES], *more])


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _out_of_reach(module: ir.Operation) -> list[str]:
    """Of each outermost loop that no address names, what it is and where."""
    reached = {root.operation for root in nest_roots(module)}
    found: list[str] = []

    def visit(op: ir.Operation) -> ir.WalkResult:
        if op in reached:
            return ir.WalkResult.SKIP
        if op.name in _LOOPS:
            found.append(
                f"no address: {op.name} ({location_text(op.location)}); only affine.for at a function's top has one"
            )
            return ir.WalkResult.SKIP
        return ir.WalkResult.ADVANCE

    module.walk(visit, ir.WalkOrder.PRE_ORDER)
    return found
