"""Which points of a contraction's output can be computed on a coarser grid, and what follows; changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import linear_form, used_dims
from loopmorph.passes.analysis.coupling.program_accesses import AccessesByMemref
from loopmorph.passes.analysis.coupling.ties import tie
from loopmorph.passes.analysis.roles import is_batch
from loopmorph.passes.analysis.structure import require_scalar
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Access, Loop, Nest


@dataclass(frozen=True)
class Thinned:
    """A nest of the layer that writes the result, and its loop that runs over fewer points.

    Attributes:
        nest: the nest.
        loop: the loop; `extent / factor` iterations stay.
        fine: the old value of its iterator, over the nest's loops.
    """

    nest: Nest
    loop: Loop
    fine: ir.AffineExpr


@dataclass(frozen=True)
class CoarsePlan:
    """What becomes coarse.

    Attributes:
        result: what the layer's nests write.
        axis: the axis of it that the iterator indexes.
        stride: how far a step of the iterator moves along that axis.
        factor: how many points become one.
        main: the nest that the iterator belongs to.
        writers: the nests that write the result, in program order; `main` among them.
        expand: the nest that already repeats a coarse result, None where the result has all its points so far.
    """

    result: ir.Value
    axis: int
    stride: int
    factor: int
    main: Nest
    writers: tuple[Thinned, ...]
    expand: Nest | None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the coarse result."""
        shape = list(ir.MemRefType(self.result.type).shape)
        shape[self.axis] //= self.factor
        return tuple(shape)


def plan_coarse_grid(module: ir.Operation, nest: Nest, loop: Loop, factor: int) -> CoarsePlan:
    """The plan that computes every `factor`-th point of `loop`, a grid loop of `nest` (see `is_grid`).

    Raises:
        IllegalTransform: the factor does not divide the extent, the loop runs over samples, the result is written by
            another layer or read before it is complete, or an access cannot follow.
    """
    return _Analysis(module, nest, loop, factor).plan()


@dataclass(frozen=True)
class _Analysis:
    module: ir.Operation
    nest: Nest
    loop: Loop
    factor: int

    def plan(self) -> CoarsePlan:
        self._check_loop()
        result, axis = self._result()
        store = next(s for s in self.nest.stores)
        stride = _stride(self.nest, store, axis, self.loop)
        writers, readers = self._touching(result)
        thinned = [self._thinned(writer, result, axis, stride) for writer in writers]
        expands = [r for r in readers if r.layer == self.nest.layer and r.role == marks.EXPAND]
        present = expands[0] if len(expands) == 1 == len(readers) else None
        return CoarsePlan(result, axis, stride, self.factor, self.nest, tuple(thinned), present)

    def refusal(self, reason: str) -> IllegalTransform:
        return IllegalTransform(f"{self.nest.label}, iterator '{self.loop.iterator}'", reason)

    def _check_loop(self) -> None:
        require_scalar(self.nest)
        name, extent = self.loop.iterator, self.loop.extent
        if not self.nest.is_rectangular:
            raise self.refusal("its nest has a bound that is not constant (a split with a remainder)")
        if extent is None or extent % self.factor:
            where = f"iterator '{name}' of {self.nest.label}"
            raise self.refusal(f"the extent {extent} of {where} is not divisible by {self.factor}")
        if is_batch(self.nest, self.loop):
            raise self.refusal("it runs over the batch; only the points within one sample can be made coarser")

    def _result(self) -> tuple[ir.Value, int]:
        """What the nest writes, and the axis that the loop indexes, as a digit, in each of its accesses."""
        results = {store.memref for store in self.nest.stores}
        if len(results) != 1:
            raise self.refusal(f"its nest writes {len(results)} memrefs; one is required")
        (result,) = results
        axes = set()
        for access in self.nest.accesses:
            if access.memref == result:
                mine = [axis for axis, e in enumerate(access.exprs) if self.loop.position in used_dims(e)]
                direct = len(mine) == 1 and tie(self.nest, access, mine[0]).kind == "digits"
                axes.add(mine[0] if direct else None)
        axis = axes.pop()
        if axes or axis is None:
            raise self.refusal("it does not index one axis of the result directly")
        return result, axis

    def _touching(self, result: ir.Value) -> tuple[list[Nest], list[Nest]]:
        """The nests that write the result and those that only read it, in program order."""
        accesses = AccessesByMemref(self.module)
        for user in accesses.other_users(result):
            raise self.refusal(f"its result is used by '{user.name}' as well")
        touching = accesses.nests_with(result)
        writers = [n for n in touching if any(s.memref == result for s in n.stores)]
        readers = [n for n in touching if n not in writers]
        for writer in writers:
            if writer.layer != self.nest.layer:
                raise self.refusal(f"{writer.label} writes its result as well")
            if writer.role == self.nest.role and not self._is_main(writer):
                raise self.refusal(f"another {self.nest.role} nest of {self.nest.label} writes its result as well")
        last = touching.index(writers[-1])
        for reader in readers:
            if touching.index(reader) < last:
                raise self.refusal(f"{reader.label} reads its result before it is complete")
        return writers, readers

    def _is_main(self, nest: Nest) -> bool:
        return nest.root.operation == self.nest.root.operation

    def _thinned(self, writer: Nest, result: ir.Value, axis: int, stride: int) -> Thinned:
        """Which loop of a nest that writes the result runs over the points that go."""
        require_scalar(writer)
        which = f"the {writer.role} nest of {writer.label}"
        if {s.memref for s in writer.stores} != {result}:
            raise self.refusal(f"{which} writes another memref as well")
        if not writer.is_rectangular:
            raise self.refusal(f"{which} has a bound that is not constant (a split with a remainder)")
        strides: dict[int, int] = {}
        for access in writer.accesses:
            if access.memref == result:
                relation = tie(writer, access, axis)
                if relation.kind != "digits":
                    raise self.refusal(f"{which} does not index the result directly")
                strides = {p: _stride(writer, access, axis, writer.loops[p]) for p in relation.loops}
        position, fine = self._thinned_loop(writer, strides, stride)
        users = [use.owner.opview for use in writer.loops[position].variable.uses]
        if not all(isinstance(u, affine.AffineLoadOp | affine.AffineStoreOp | affine.AffineApplyOp) for u in users):
            raise self.refusal(f"it enters the values that {which} computes, not only the indices")
        return Thinned(writer, writer.loops[position], fine)

    def _thinned_loop(self, writer: Nest, strides: dict[int, int], stride: int) -> tuple[int, ir.AffineExpr]:
        """The same digit of the axis, or the one loop that runs over the whole axis."""
        for position, step in strides.items():
            mine = self._is_main(writer) and position == self.loop.position
            same = step == stride and writer.loops[position].extent == self.loop.extent
            if mine or (same and not self._is_main(writer)):
                return position, ir.AffineExpr.get_dim(position) * self.factor
        if len(strides) != 1:
            raise self.refusal(f"the {writer.role} nest of {writer.label} is split otherwise than the main nest")
        (position,) = strides
        index, constant = ir.AffineExpr.get_dim(position), ir.AffineExpr.get_constant(stride)
        whole = ir.AffineExpr.get_floor_div(index, constant) * (stride * self.factor)
        return position, whole + ir.AffineExpr.get_mod(index, constant)


def _stride(nest: Nest, access: Access, axis: int, loop: Loop) -> int:
    form = linear_form(access.exprs[axis])
    return 1 if form is None else form.coefficients.get(loop.position, 1)
