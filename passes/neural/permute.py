"""`morph-permute`: the indices of an iterator's dimension get another order, through the whole network."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.analysis.coupling.inheritance import inherit_permuted
from loopmorph.passes.analysis.coupling.program_accesses import ProgramAccesses
from loopmorph.passes.analysis.coupling.renaming import Renaming
from loopmorph.passes.analysis.dimension_names import find_loop
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.nest import Loop, Nest
from loopmorph.passes.transformation import Kind, Transformation


@dataclass(frozen=True)
class PermutePlan:
    """The nest of the layer, and for each parameter that is permuted the order of each of its axes, int64."""

    nest: Nest
    orders: dict[ir.Value, tuple[np.ndarray, ...]]


@dataclass(frozen=True)
class Permute(Transformation[PermutePlan]):
    """Renames the indices of an iterator's dimension: index k becomes what index `order[k]` was.

    The dimension is that of all loops and memref axes that are tied to the iterator: of `co` through BatchNorm,
    residual additions, concatenations and flattening up to the `ci` of the readers, of `ci` likewise from the writers
    on. In all of them the indices trade places at once, so the nests stay as they are, and only the elements of the
    parameters move: as `morph.inherit` says, each is made of the intervals of its axes in their new order. The network
    computes what it computed, but for the order in which a reduction adds up. What comes next is another matter: a
    `morph-group` ties the channels that lie side by side, and which those are is what the order decides.

    Before, for `morph-permute{layer=a iter=co
    order=16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15}`:

        func.func @main(... %wa: memref<32x3xf32> {morph.param = "a.weight"},
                            %wb: memref<8x32xf32> {morph.param = "b.weight"} ...) {
          affine.for %co = 0 to 32 { affine.for %ci = 0 to 3 {
            ... affine.load %wa[%co, %ci] ... affine.store %v, %t[%co] } }
          affine.for %co = 0 to 8 { affine.for %ci = 0 to 32 {
            ... affine.load %wb[%co, %ci] ... affine.load %t[%ci] } } }

    After, the loops being the same:

        %wa: memref<32x3xf32> {morph.inherit = [[array<i64: 16, 32, 0, 16>, array<i64>]], ...}
        %wb: memref<8x32xf32> {morph.inherit = [[array<i64>, array<i64: 16, 32, 0, 16>]], ...}

    It is a change of the network, whose parameters become others, though not of what it computes.

    Requires: an order that names each index of the iterator once; a dimension that is internal to the network: neither
    an input nor an output is tied to it; no access that goes through it in order (a window, a scan); a parameter that
    it indexes. The indices of a slice of a concatenation stay within it. Where a tied nest is grouped, whole groups may
    trade places, and the same indices within all of them; an order is better chosen before grouping.

    Options:
        layer: qualified name of the layer.
        iter: the iterator.
        order: the old index of each new one; `0,1,2,...` leaves everything as it is.
    """

    name: ClassVar[str] = "morph-permute"
    kind: ClassVar[Kind] = "neural"
    keeps_nests: ClassVar[bool] = True

    layer: str
    iter: str
    order: tuple[int, ...]

    def analyze(self, module: ir.Operation) -> PermutePlan:
        nest, loop = find_loop(module, self.layer, self.iter)
        self._require_permutation(nest, loop)
        order = np.array(self.order, dtype=np.int64)
        axes = Renaming(ProgramAccesses(module), nest, loop).follow(order)
        permuted: dict[ir.Value, dict[int, np.ndarray]] = {}
        for (memref, axis), old in axes.items():
            if marks.parameter_name(memref) is not None:
                permuted.setdefault(memref, {})[axis] = old
        if not permuted and self.order != tuple(range(len(order))):
            reason = "no parameter is tied to it, so that there is nothing to permute"
            raise IllegalTransform(f"{nest.label}, iterator '{loop.iterator}'", reason)
        return PermutePlan(nest, {memref: _all_orders(memref, found) for memref, found in permuted.items()})

    def rewrite(self, plan: PermutePlan) -> ir.Operation:
        for parameter, orders in plan.orders.items():
            argument = ir.BlockArgument(parameter)
            mine = marks.memref_marks(argument)
            marks.set_memref_marks(argument, {**mine, marks.INHERIT: inherit_permuted(mine, orders)})
        return plan.nest.root.operation

    def _require_permutation(self, nest: Nest, loop: Loop) -> None:
        if loop.extent is None:
            reason = "its bounds are not constant"
            raise IllegalTransform(f"{nest.label}, iterator '{loop.iterator}'", reason)
        wanted = f"expected each index from 0 to {loop.extent - 1} of iterator '{loop.iterator}' once"
        counts = Counter(self.order)
        twice = next((index for index, count in counts.items() if count > 1), None)
        outside = next((index for index in counts if not 0 <= index < loop.extent), None)
        missing = next((index for index in range(loop.extent) if index not in counts), None)
        if outside is not None:
            raise ArgumentError("order", f"{wanted}, got {outside}")
        if twice is not None:
            raise ArgumentError("order", f"{wanted}, got {twice} {counts[twice]} times")
        if missing is not None:
            raise ArgumentError("order", f"{wanted}, got {len(self.order)} without {missing}")


def _all_orders(memref: ir.Value, orders: dict[int, np.ndarray]) -> tuple[np.ndarray, ...]:
    shape = ir.MemRefType(memref.type).shape
    return tuple(orders.get(axis, np.arange(extent)) for axis, extent in enumerate(shape))
