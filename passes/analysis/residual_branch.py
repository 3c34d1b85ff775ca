"""The branch of a residual block: what is computed for one operand of a sum alone, and meets there its own input.

    y = x + f(x)      the branch is f; its input x is the skip
    y = g(x) + f(x)   either is one, and the other's result the skip: a projection

Nothing else tells what a block is: neither names nor modules.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes import marks
from loopmorph.passes.analysis.definitions import is_used
from loopmorph.passes.analysis.memory.body_effects import BodyEffects
from loopmorph.passes.analysis.memory.memref_uses import describe
from loopmorph.passes.analysis.memory.memrefs import is_local
from loopmorph.passes.analysis.residual_sum import ResidualSum, find_sum, keeps_places
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Nest, view_nest


@dataclass(frozen=True)
class ResidualBranch:
    """The branch of a residual block.

    Attributes:
        sum: where it ends.
        ops: the nests that nothing but the sum needs, in program order.
        memrefs: those, local all of them, that nothing but these and the sum touches.
        layers: the layers that these operations are all of, in program order.
    """

    sum: ResidualSum
    ops: tuple[ir.Operation, ...]
    memrefs: tuple[ir.Value, ...]
    layers: tuple[str, ...]


def find_branch(nest: Nest, body: BodyEffects | None = None) -> ResidualBranch:
    """The branch of the innermost residual block that a nest belongs to.

    That is the first sum, in program order, one operand of which is computed with the nest's result, for nothing else,
    from activations that the other operand is computed from, too, or is.

    Args:
        nest: the nest.
        body: what is known of the function that it is in; it is looked at anew where this is not given.

    Raises:
        IllegalTransform: there is none; tells what the first sum is that would do but for one property, and for which.
    """
    return _Search(nest, body or BodyEffects(nest.root.operation.block)).find()


@dataclass(frozen=True)
class _Search:
    nest: Nest
    body: BodyEffects

    def find(self) -> ResidualBranch:
        first: str | None = None
        for total in self._sums():
            refused = self._unfit(total)
            if refused is None:
                ops = self._needed_for(total)
                refused = self._read_elsewhere(total, set(ops)) or self._apart(total, ops)
                if refused is None:
                    return self._branch(total, ops)
            first = first or refused
        reason = "it is in no branch of a residual block: no sum reads what is made of its result as one operand alone"
        raise IllegalTransform(self.nest.label, first or reason)

    # -- forward: the sums that the nest's result goes into

    def _sums(self) -> Iterable[ResidualSum]:
        """The sums one operand of which depends on the nest and the other does not, in program order."""
        root = self.nest.root.operation
        reached = set(self.body.effects(root).writes)
        pending = [self.body.position[op] for memref in reached for op in self.body.readers(memref)]
        heapq.heapify(pending)
        seen = {self.body.position[root]}
        while pending:
            number = heapq.heappop(pending)
            if number in seen:
                continue
            seen.add(number)
            op = self.body.ops[number]
            total = self._sum(op, reached)
            if total is not None:
                yield total
            for memref in self.body.effects(op).writes - reached:
                reached.add(memref)
                for reader in self.body.readers(memref):
                    heapq.heappush(pending, self.body.position[reader])

    def _sum(self, op: ir.Operation, reached: set[ir.Value]) -> ResidualSum | None:
        if not isinstance(op.opview, affine.AffineForOp):
            return None
        mine = [memref for memref in self.body.effects(op).reads if memref in reached]
        total = find_sum(view_nest(op.opview), mine[0]) if len(mine) == 1 else None
        return total if total is not None and self.body.depends_on_inputs(total.skip.memref) else None

    # -- backward: what is computed for the sum alone

    def _needed_for(self, total: ResidualSum) -> list[ir.Operation]:
        """The operations whose results only the sum needs, as its branch; in program order."""
        end = total.nest.root.operation
        found: set[ir.Operation] = set()
        pending = [-self.body.position[op] for op in self.body.writers(total.branch)]
        heapq.heapify(pending)
        seen = set[int]()
        while pending:  # from the last to the first, so that who reads something is known before who writes it
            number = -heapq.heappop(pending)
            if number in seen:
                continue
            seen.add(number)
            op = self.body.ops[number]
            own = self.body.effects(op)
            needed = any(self._outside(memref, op, found, total.branch, end) for memref in own.writes)
            if needed or not isinstance(op.opview, affine.AffineForOp) or any(map(is_used, op.results)):
                continue
            found.add(op)
            for memref in own.reads | own.writes:
                for writer in self.body.writers(memref):
                    heapq.heappush(pending, -self.body.position[writer])
        return sorted(found, key=lambda op: self.body.position[op])

    def _outside(
        self, memref: ir.Value, op: ir.Operation, found: set[ir.Operation], branch: ir.Value, end: ir.Operation
    ) -> list[ir.Operation]:
        """Who else reads what an operation writes than those that are found; where that is not local, it itself."""
        if not is_local(memref):
            return [op]
        later = [each for each in self.body.readers(memref) if self.body.position[each] > self.body.position[op]]
        return [reader for reader in later if reader not in found and (memref != branch or reader != end)]

    # -- what a block requires

    def _unfit(self, total: ResidualSum) -> str | None:
        where = describe(total.nest.root.operation)
        skip, result = (tuple(ir.MemRefType(a.memref.type).shape) for a in (total.skip, total.result))
        if skip != result:
            return f"the other operand of the sum {where} has shape {skip}, the sum {result}; they have to be the same"
        return None if keeps_places(total) else f"the sum {where} reads its other operand at other places than it gives"

    def _read_elsewhere(self, total: ResidualSum, ops: set[ir.Operation]) -> str | None:
        """Why the nest, or what reads its result on the way to the sum, cannot go."""
        root = self.nest.root.operation
        if root in ops:
            return None
        end = total.nest.root.operation
        reached, kept = set(self.body.effects(root).writes), [root]
        for op in self.body.ops[self.body.position[root] + 1 : self.body.position[end]]:
            if self.body.effects(op).reads & reached and op not in ops:
                kept.append(op)
                reached |= self.body.effects(op).writes
        for op in reversed(kept):
            for memref in self.body.effects(op).writes:
                for reader in self._outside(memref, op, {*ops, *kept}, total.branch, end):
                    what = "its result" if op == root else f"the result of {describe(op)}, which reads it,"
                    if reader == op:
                        return f"{what} is an output of the network"
                    return f"{what} is also read by {describe(reader)}, not by the sum {describe(end)} alone"
        return f"the sum {describe(end)} is not all that it is computed for"

    def _apart(self, total: ResidualSum, ops: list[ir.Operation]) -> str | None:
        written = {memref for op in ops for memref in self.body.effects(op).writes}
        given = {memref for op in ops for memref in self.body.effects(op).reads if memref not in written}
        if any(self.body.depends_on_inputs(m) for m in given & self.body.sources(total.skip.memref)):
            return None
        where = describe(total.nest.root.operation)
        return f"the other operand of the sum {where} is not made of what goes into the branch, so that it is no skip"

    def _branch(self, total: ResidualSum, ops: list[ir.Operation]) -> ResidualBranch:
        gone = set(ops)
        stays = {_layer(op) for op in self.body.ops if op not in gone}
        layers = dict.fromkeys(_layer(op) for op in ops if _layer(op) not in stays)
        written = dict.fromkeys(memref for op in ops for memref in self.body.effects(op).writes)
        own = {*gone, total.nest.root.operation}
        memrefs = [m for m in written if own.issuperset([*self.body.readers(m), *self.body.writers(m)])]
        return ResidualBranch(total, tuple(ops), tuple(memrefs), tuple(layers))


def _layer(op: ir.Operation) -> str:
    return marks.get_text(op, marks.LAYER)
