"""Which elements the loops of a nest accumulate into, and could hold in registers meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch_mlir import ir

from loopmorph.passes.affine_expr import LinearForm, linear_form, used_dims, value_range
from loopmorph.passes.analysis.bounds import known_limits
from loopmorph.passes.analysis.dependence.aliasing import may_alias
from loopmorph.passes.analysis.dependence.known_operations import require_known_operations
from loopmorph.passes.analysis.structure import body_of
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Access, Loop, Nest
from loopmorph.passes.nest_text import access_text


@dataclass(frozen=True)
class Cell:
    """A scalar or vector in memory: the same for all accesses that touch just these elements in this form.

    Attributes:
        memref: the memref.
        exprs: one affine expression per axis over all the nest's loops, of the first element.
        type: of the value.
    """

    memref: ir.Value
    exprs: tuple[ir.AffineExpr, ...]
    type: ir.Type

    @classmethod
    def of(cls, access: Access) -> Cell:
        """What the access touches."""
        value = access.op.results[0] if access.kind == "load" else access.op.operands[0]
        return cls(access.memref, access.exprs, value.type)

    @property
    def lanes(self) -> int:
        """How many elements it has."""
        return self.type.shape[0] if isinstance(self.type, ir.VectorType) else 1


@dataclass
class _Use:
    """How the body of a loop uses a cell.

    Attributes:
        access: one of the accesses.
        read_first: whether it is read before it is written.
        written: whether it is written.
        carried: whether only the loop's own body and loops that carry the cell use it.
    """

    access: Access
    read_first: bool
    written: bool = False
    carried: bool = True


def find_accumulators(nest: Nest) -> dict[int, tuple[Cell, ...]]:
    """For each loop, by position, the cells that it can carry from iteration to iteration instead of in memory.

    A loop carries a cell that it does not index and that its body reads before it writes it. Where the loops in it use
    the cell too, they carry it as well.

    Raises:
        IllegalTransform: the innermost loop around an accumulator may touch it in another way, too; or the nest holds
            an operation of which it is not known what it accesses.
    """
    require_known_operations(nest)
    found: dict[int, tuple[Cell, ...]] = {}
    _Finder(nest, found).visit(nest.loops[0])
    return found


class _Finder:
    """Cells are numbered in the order of their first access: comparing and looking up numbers takes less time."""

    def __init__(self, nest: Nest, found: dict[int, tuple[Cell, ...]]) -> None:
        self.nest = nest
        self.found = found
        self.accesses = {access.op: access for access in nest.accesses}
        self.by_loop = {loop.op.operation: loop for loop in nest.loops}
        by_value = known_limits(nest)
        self.limits = [by_value.get(loop.variable) for loop in nest.loops]
        numbers: dict[Cell, int] = {}
        self.number = [numbers.setdefault(Cell.of(access), len(numbers)) for access in nest.accesses]
        self.cells = list(numbers)
        self.forms = [tuple(linear_form(e) for e in cell.exprs) for cell in self.cells]
        self.indexed_by = [{p for e in cell.exprs for p in used_dims(e)} for cell in self.cells]
        self.carried: set[int] = set()  # by a loop
        self.known_apart: dict[tuple[int, int], bool] = {}

    def visit(self, loop: Loop) -> dict[int, _Use]:
        """How the loop uses cells, as seen from outside; notes what it can carry."""
        uses = self._uses(loop)
        carried = {cell for cell, use in uses.items() if self._is_carried(loop, cell, use, uses)}
        self.found[loop.position] = tuple(self.cells[cell] for cell in uses if cell in carried)
        self.carried |= carried
        for cell, use in uses.items():
            use.carried = cell in carried
        return uses

    def _uses(self, loop: Loop) -> dict[int, _Use]:
        uses: dict[int, _Use] = {}
        for op in body_of(loop.op):
            if op in self.by_loop:
                for cell, use in self.visit(self.by_loop[op]).items():
                    known = uses.setdefault(cell, _Use(use.access, use.carried))
                    known.written |= use.written
                    known.carried &= use.carried
            elif op in self.accesses:
                access = self.accesses[op]
                known = uses.setdefault(self.number[access.order], _Use(access, access.kind == "load"))
                known.written |= access.kind == "store"
        return uses

    def _is_carried(self, loop: Loop, cell: int, use: _Use, uses: Mapping[int, _Use]) -> bool:
        if not (use.carried and use.read_first and use.written) or not self._runs(loop):
            return False
        if loop.position in self.indexed_by[cell]:
            return False
        for other, other_use in uses.items():
            if other != cell and not self._apart(cell, other):
                if cell in self.carried:
                    return False  # a loop in this one carries it; that is as far as it goes
                first, second = (access_text(self.nest, u.access) for u in (use, other_use))
                reason = f"{first} and {second} in loop '{loop.iterator}' may overlap; only one can be in a register"
                raise IllegalTransform(self.nest.label, reason)
        return True

    def _apart(self, cell: int, other: int) -> bool:
        """Whether the nest never touches an element of both, whatever its iterators are."""
        if (cell, other) not in self.known_apart:
            self.known_apart[cell, other] = self.known_apart[other, cell] = self._find_apart(cell, other)
        return self.known_apart[cell, other]

    def _find_apart(self, cell: int, other: int) -> bool:
        a, b = self.cells[cell], self.cells[other]
        if a.memref != b.memref:
            return not may_alias(a.memref, b.memref)
        for axis in range(len(a.exprs)):
            last = axis == len(a.exprs) - 1
            ahead, behind = (a.lanes, b.lanes) if last else (1, 1)
            form, other_form = self.forms[cell][axis], self.forms[other][axis]
            if form is None or other_form is None:
                low, high = self._range(b.exprs[axis] - a.exprs[axis])
            else:
                low, high = self._linear_range(other_form, form)
            if (low is not None and low >= ahead) or (high is not None and high <= -behind):
                return True
        return False

    def _linear_range(self, form: LinearForm, less: LinearForm) -> tuple[int | None, int | None]:
        """The range of a difference."""
        low = high = form.constant - less.constant
        for d in form.coefficients.keys() | less.coefficients.keys():
            coefficient = form.coefficients.get(d, 0) - less.coefficients.get(d, 0)
            limit = self.limits[d]
            if not coefficient:
                continue
            if limit is None:
                return None, None
            low += min(0, coefficient * (limit - 1))
            high += max(0, coefficient * (limit - 1))
        return low, high

    def _range(self, expr: ir.AffineExpr) -> tuple[int | None, int | None]:
        expr = ir.AffineExpr.simplify_affine_expr(expr, len(self.limits), 0)
        if any(self.limits[d] is None for d in used_dims(expr)):
            return None, None
        return value_range(expr, [limit or 1 for limit in self.limits])

    def _runs(self, loop: Loop) -> bool:
        """Whether the loop surely has an iteration; else it must not touch memory that it would not have touched."""
        if loop.extent is not None:
            return loop.extent > 0
        bounds = self.nest.bounds(loop)
        lengths: Iterator[int | None] = (self._range(u - low)[0] for u in bounds.upper for low in bounds.lower)
        return all(length is not None and length > 0 for length in lengths)
