"""Which nests of a function touch which memref, and where: one look at all nests for a whole-function pass.

The index follows the program while a pass edits it through `loopmorph.passes.building.edit_accesses`; it is dropped
with the pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch_mlir import ir
from torch_mlir.dialects import affine, func

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import simplify, used_dims
from loopmorph.passes.analysis.bounds import known_limits
from loopmorph.passes.analysis.memory.box import Box, hull
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Access, Nest, view_nest


@dataclass(eq=False)
class Entry:
    """One nest of the function.

    Attributes:
        nest: its view as first taken; its loops stay valid, its accesses do not (see `sites`).
        limits: for each loop the number that its iterator, at least 0, stays below; None where unknown.
        variables: the induction variables, by position.
        sites: its accesses as they are now.
    """

    nest: Nest
    limits: tuple[int | None, ...]
    variables: tuple[ir.Value, ...]
    sites: list[Site] = field(default_factory=list)

    @property
    def is_plain(self) -> bool:
        """Whether the nest is perfect and rectangular."""
        return self.nest.is_rectangular and self.nest.is_perfect

    def simplified(self, expr: ir.AffineExpr) -> ir.AffineExpr:
        """An expression over the loops, `floordiv` and `mod` resolved where the loops' ranges allow."""
        if any(self.limits[d] is None for d in used_dims(expr)):
            return ir.AffineExpr.simplify_affine_expr(expr, len(self.limits), 0)
        return simplify(expr, [limit or 1 for limit in self.limits])


@dataclass(eq=False)
class Site:
    """One access of an entry, kept up to date when it is redirected (see `loopmorph.passes.building.edit_accesses`)."""

    entry: Entry
    access: Access
    _hull: tuple[Access, Box] | None = None

    @property
    def region(self) -> Box:
        """A box around all that the access touches."""
        if self._hull is None or self._hull[0] is not self.access:
            shape = ir.MemRefType(self.access.memref.type).shape
            self._hull = self.access, hull(self.access.exprs, self.entry.limits, shape)
        return self._hull[1]


class AccessIndex:
    """All nests of a function by the memrefs that they touch.

    A nest with an index that is no affine function of its iterators is left out; `is_known` then says no of what it
    touches, and so it does of what is loaded or stored in vectors.

    Attributes:
        function: the function.
        entries: its nests, in program order.
        sites: the loads and stores of each memref.
        parameters: the arguments that are marked as parameters.
        outputs: the arguments that are marked as outputs.
    """

    def __init__(self, function: func.FuncOp) -> None:
        """Views the function's nests; wants its context to be entered."""
        self.function = function
        self.entries: list[Entry] = []
        self.sites: dict[ir.Value, list[Site]] = {}
        arguments = list(zip(function.entry_block.arguments, marks.argument_marks(function), strict=True))
        self.parameters = {argument for argument, attributes in arguments if marks.PARAM in attributes}
        self.outputs = {argument for argument, attributes in arguments if marks.OUTPUT in attributes}
        for op in function.entry_block.operations:
            if isinstance(op, affine.AffineForOp):
                self._add(op)

    def is_known(self, memref: ir.Value) -> bool:
        """Whether the indexed loads and stores are all the uses that the memref has, each of a single element."""
        sites = self.sites.get(memref, ())
        return sum(1 for _ in memref.uses) == len(sites) and all(site.access.lanes == 1 for site in sites)

    def positions(self) -> dict[Entry, int]:
        """The place of each nest in the program."""
        return {entry: k for k, entry in enumerate(self.entries)}

    def _add(self, root: affine.AffineForOp) -> None:
        try:
            nest = view_nest(root)
            limits = nest.extents if nest.is_rectangular else _limits(nest)
        except IllegalTransform:
            return
        entry = Entry(nest, limits, tuple(loop.variable for loop in nest.loops))
        entry.sites = [Site(entry, access) for access in nest.accesses]
        for site in entry.sites:
            self.sites.setdefault(site.access.memref, []).append(site)
        self.entries.append(entry)


def _limits(nest: Nest) -> tuple[int | None, ...]:
    found = known_limits(nest)
    return tuple(found.get(loop.variable) for loop in nest.loops)
