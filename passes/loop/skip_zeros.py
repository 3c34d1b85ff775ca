"""`morph-skip-zeros`: leave out the products with padding that an unrolled body shows to be zeros."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes.analysis.bounds import limits_of
from loopmorph.passes.analysis.definitions import is_defined_by
from loopmorph.passes.analysis.memory.zero_halo import live_box, outside
from loopmorph.passes.analysis.structure import require_scalar
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Access, Nest
from loopmorph.passes.transformation import Kind, NestTransformation


@dataclass(frozen=True)
class SkipPlan:
    """The statements that add nothing, each as the operations to erase, users before what they use."""

    nest: Nest
    statements: tuple[tuple[ir.Operation, ...], ...]


@dataclass(frozen=True)
class SkipZeros(NestTransformation[SkipPlan]):
    """Drops statements that accumulate a product with a zero of the padding: `morph-skip-zeros{layer=conv1}`.

    With the pixels and the taps unrolled, the index of each load is known; `%x` is padded by one row, which
    only a nest of zeros writes:

        affine.for %ci = 0 to 64 {                        affine.for %ci = 0 to 64 {
          %x0 = affine.load %x[%ci, 0]                      %x1 = affine.load %x[%ci, 1]
          %p0 = arith.mulf %x0, %w0               ->        %p1 = arith.mulf %x1, %w1
          %a0 = affine.load %y[%co]                         ...
          %s0 = arith.addf %a0, %p0                       }
          affine.store %s0, %y[%co]
          %x1 = affine.load %x[%ci, 1]
          ...

    Values stay as long as the other factor is finite. On a padded convolution with four rows of pixels:
    `morph-interchange{layer=b order=ow,ci,kw,oh,kh},morph-unroll{layer=b iter=kh factor=3},
    morph-unroll{layer=b iter=oh factor=4},morph-skip-zeros{layer=b}`.

    Requires a scalar nest in which a load of a local memref lies outside of everything but zeros that the program
    writes there, and is only used to be multiplied and added to an element that is stored back.

    Attributes:
        layer: the nest (see `loopmorph.passes.address.find_nest`).
    """

    name: ClassVar[str] = "morph-skip-zeros"
    kind: ClassVar[Kind] = "loop"
    may_find_nothing: ClassVar[bool] = True

    layer: str

    def analyze_nest(self, nest: Nest) -> SkipPlan:
        require_scalar(nest)
        accesses = {access.op: access for access in nest.accesses}
        statements = [_statement(accesses, load) for load in zero_loads(nest)]
        found = tuple(s for s in statements if s is not None)
        if not found:
            raise IllegalTransform(nest.label, "no statement accumulates a product with a zero of the padding")
        return SkipPlan(nest, found)

    def rewrite(self, plan: SkipPlan) -> ir.Operation:
        for statement in plan.statements:
            for op in statement:
                op.erase()
        return plan.nest.root.operation


def zero_loads(nest: Nest) -> Sequence[Access]:
    """The loads of the nest that always read a zero of some memref's halo."""
    limits = limits_of(nest)
    boxes = {memref: live_box(memref) for memref in {load.memref for load in nest.loads}}
    found = []
    for load in nest.loads:
        box = boxes[load.memref]
        if box is not None and outside(load.exprs, limits, box):
            found.append(load)
    return found


def _statement(accesses: Mapping[ir.Operation, Access], zero: Access) -> tuple[ir.Operation, ...] | None:
    """The operations that accumulate a product with the loaded zero; None where that is not what becomes of it."""
    product = _only_user(zero.op, "arith.mulf")
    total = None if product is None else _only_user(product, "arith.addf")
    write = None if total is None else _only_user(total, "affine.store")
    if product is None or total is None or write is None or write.operands[0].owner.operation != total:
        return None
    read = next((v.owner.operation for v in total.operands if is_defined_by(v, "affine.load")), None)
    if read is None or not _same_element(accesses[read], accesses[write]) or len(list(read.results[0].uses)) != 1:
        return None
    other = [v.owner.operation for v in product.operands if is_defined_by(v, "affine.load")]
    unused = [op for op in other if op != zero.op and len(list(op.results[0].uses)) == 1]
    return (write, total, read, product, zero.op, *unused)


def _only_user(op: ir.Operation, name: str) -> ir.Operation | None:
    uses = [use.owner.operation for use in op.results[0].uses]
    return uses[0] if len(uses) == 1 and uses[0].name == name else None


def _same_element(read: Access, write: Access) -> bool:
    return read.memref == write.memref and read.exprs == write.exprs
