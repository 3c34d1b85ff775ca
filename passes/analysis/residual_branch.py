"""The branch of a residual block: what is computed for one operand of a sum alone, and meets there its own input.

    y = x + f(x)      the branch is f; its input x is the skip
    y = g(x) + f(x)   either is one, and the other's result the skip: a projection

Nothing else tells what a block is: neither names nor modules.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes import marks
from loopmorph.passes.analysis.memory.dataflow import Effects, effects, outermost
from loopmorph.passes.analysis.memory.memref_uses import describe
from loopmorph.passes.analysis.memory.memrefs import is_local
from loopmorph.passes.analysis.residual_sum import ResidualSum, find_sum, keeps_places
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Nest, view_nest

_SILENT = ("memref.alloc", "memref.dealloc")


@dataclass(frozen=True)
class ResidualBranch:
    """The branch of a residual block.

    Attributes:
        sum: where it ends.
        ops: the operations of the function's body that nothing but the sum needs, in program order.
        memrefs: what they write; local all of them.
        layers: the layers that these operations are all of, in program order.
    """

    sum: ResidualSum
    ops: tuple[ir.Operation, ...]
    memrefs: tuple[ir.Value, ...]
    layers: tuple[str, ...]


def find_branch(nest: Nest) -> ResidualBranch:
    """The branch of the innermost residual block that a nest belongs to.

    That is the first sum, in program order, one operand of which is computed with the nest's result, for nothing else,
    from activations that the other operand is computed from, too, or is.

    Raises:
        IllegalTransform: there is none; tells what the first sum is that would do but for one property, and for which.
    """
    return _Search(nest).find()


@dataclass
class _Search:
    nest: Nest
    position: dict[ir.Operation, int] = field(init=False)
    _effects: dict[ir.Operation, Effects] = field(default_factory=dict)
    _uses: dict[ir.Value, tuple[list[ir.Operation], list[ir.Operation]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        block = self.nest.root.operation.parent.regions[0].blocks[0]
        self.position = {op.operation: k for k, op in enumerate(block.operations)}

    def find(self) -> ResidualBranch:
        reason = "it is in no branch of a residual block: no sum reads what is made of its result as one operand alone"
        first: str | None = None
        for total in self._sums():
            refused = self._unfit(total)
            ops = self._needed_for(total)
            if refused is None:
                refused = self._read_elsewhere(total, ops) or self._apart(total, ops)
            if refused is None:
                return self._branch(total, ops)
            first = first or refused
        raise IllegalTransform(self.nest.label, first or reason)

    # -- forward: the sums that the nest's result goes into

    def _sums(self) -> Iterable[ResidualSum]:
        """The sums one operand of which depends on the nest and the other does not, in program order."""
        root = self.nest.root.operation
        reached = set(self._of(root).writes)
        pending = [self.position[op] for memref in reached for op in self._readers(memref)]
        heapq.heapify(pending)
        ops, seen = list(self.position), {self.position[root]}
        while pending:
            number = heapq.heappop(pending)
            if number in seen:
                continue
            seen.add(number)
            op = ops[number]
            total = self._sum(op, reached)
            if total is not None:
                yield total
            for memref in self._of(op).writes - reached:
                reached.add(memref)
                for reader in self._readers(memref):
                    heapq.heappush(pending, self.position[reader])

    def _sum(self, op: ir.Operation, reached: set[ir.Value]) -> ResidualSum | None:
        if not isinstance(op.opview, affine.AffineForOp):
            return None
        mine = [memref for memref in self._of(op).reads if memref in reached]
        total = find_sum(view_nest(op.opview), mine[0]) if len(mine) == 1 else None
        return total if total is not None and self._depends_on_inputs(total.skip.memref) else None

    # -- backward: what is computed for the sum alone

    def _needed_for(self, total: ResidualSum) -> list[ir.Operation]:
        """The operations whose results only the sum needs, as its branch; in program order."""
        end = total.nest.root.operation
        found: set[ir.Operation] = set()
        pending = [-self.position[op] for op in self._writers(total.branch)]
        heapq.heapify(pending)
        ops, seen = list(self.position), set[int]()
        while pending:  # from the last to the first, so that who reads something is known before who writes it
            number = -heapq.heappop(pending)
            if number in seen:
                continue
            seen.add(number)
            op = ops[number]
            own = self._of(op)
            if any(self._outside(memref, op, found, total.branch, end) for memref in own.writes) or self._is_used(op):
                continue
            found.add(op)
            for memref in own.reads | own.writes:
                for writer in self._writers(memref):
                    heapq.heappush(pending, -self.position[writer])
        return sorted(found, key=lambda op: self.position[op])

    def _outside(
        self, memref: ir.Value, op: ir.Operation, found: set[ir.Operation], branch: ir.Value, end: ir.Operation
    ) -> list[ir.Operation]:
        """Who else reads a memref than operations that are found; where it is no local one, its writer."""
        if not is_local(memref):
            return [op]
        readers = [reader for reader in self._readers(memref) if reader != op and reader not in found]
        return [reader for reader in readers if memref != branch or reader != end]

    def _is_used(self, op: ir.Operation) -> bool:
        return any(next(iter(result.uses), None) is not None for result in op.results)

    # -- what a block requires

    def _unfit(self, total: ResidualSum) -> str | None:
        where = describe(total.nest.root.operation)
        skip, result = (tuple(ir.MemRefType(a.memref.type).shape) for a in (total.skip, total.result))
        if skip != result:
            return f"the other operand of the sum {where} has shape {skip}, the sum {result}; they have to be the same"
        return None if keeps_places(total) else f"the sum {where} reads its other operand at other places than it gives"

    def _read_elsewhere(self, total: ResidualSum, ops: list[ir.Operation]) -> str | None:
        """Why the nest, or what reads its result on the way to the sum, cannot go."""
        root = self.nest.root.operation
        if root in ops:
            return None
        end = total.nest.root.operation
        reached, kept = set(self._of(root).writes), [root]
        for op in list(self.position)[self.position[root] + 1 : self.position[end]]:
            if self._of(op).reads & reached and op not in ops:
                kept.append(op)
                reached |= self._of(op).writes
        for op in reversed(kept):
            for memref in self._of(op).writes:
                for reader in self._outside(memref, op, {*ops, *kept}, total.branch, end):
                    what = "its result" if op == root else f"the result of {describe(op)}, which reads it,"
                    own = "is the network's own" if reader == op else f"is also read by {describe(reader)}"
                    return f"{what} {own}, not by the sum {describe(end)} alone"
        return f"the sum {describe(end)} is not all that it is computed for"

    def _apart(self, total: ResidualSum, ops: list[ir.Operation]) -> str | None:
        written = {memref for op in ops for memref in self._of(op).writes}
        given = {memref for op in ops for memref in self._of(op).reads if memref not in written}
        if any(self._depends_on_inputs(m) for m in given & self._sources(total.skip.memref)):
            return None
        where = describe(total.nest.root.operation)
        return f"the other operand of the sum {where} is not made of what goes into the branch, so that it is no skip"

    def _sources(self, memref: ir.Value) -> set[ir.Value]:
        """The memrefs that one is computed from, itself among them."""
        found: set[ir.Value] = set()
        pending = [memref]
        while pending:
            each = pending.pop()
            if each not in found:
                found.add(each)
                pending += [read for op in self._writers(each) for read in self._of(op).reads]
        return found

    def _depends_on_inputs(self, memref: ir.Value) -> bool:
        """Whether it is an argument that is no parameter, or computed from one."""
        arguments = [m for m in self._sources(memref) if isinstance(m.owner, ir.Block)]
        return any(marks.PARAM not in marks.memref_marks(m) for m in arguments)

    # -- the program

    def _of(self, op: ir.Operation) -> Effects:
        if op not in self._effects:
            self._effects[op] = effects(op)
        return self._effects[op]

    def _readers(self, memref: ir.Value) -> list[ir.Operation]:
        return self._users(memref)[0]

    def _writers(self, memref: ir.Value) -> list[ir.Operation]:
        return self._users(memref)[1]

    def _users(self, memref: ir.Value) -> tuple[list[ir.Operation], list[ir.Operation]]:
        """The operations of the body that read, and that write, a memref."""
        if memref not in self._uses:
            ops = {outermost(use.owner.operation) for use in memref.uses if use.owner.name not in _SILENT}
            ops = {op for op in ops if op in self.position}
            reads = [op for op in ops if memref in self._of(op).reads]
            self._uses[memref] = reads, [op for op in ops if memref in self._of(op).writes]
        return self._uses[memref]

    def _branch(self, total: ResidualSum, ops: list[ir.Operation]) -> ResidualBranch:
        gone = set(ops)
        stays = {_layer(op) for op in self.position if op not in gone}
        layers = dict.fromkeys(_layer(op) for op in ops if _layer(op) not in stays)
        memrefs = dict.fromkeys(memref for op in ops for memref in self._of(op).writes)
        return ResidualBranch(total, tuple(ops), tuple(memrefs), tuple(layers))


def _layer(op: ir.Operation) -> str:
    return marks.get_text(op, marks.LAYER)
