"""`morph-blocked-layout`: channels in blocks of the vector width, through the whole network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes.affine_expr import used_dims
from loopmorph.passes.analysis.memory.access_index import AccessIndex, Entry, Site
from loopmorph.passes.analysis.memory.memrefs import is_local
from loopmorph.passes.analysis.operands import Operands, find_operands
from loopmorph.passes.analysis.roles import CHANNEL_AXIS, accumulates, has_channels
from loopmorph.passes.analysis.structure import perfect_band
from loopmorph.passes.base import Pass
from loopmorph.passes.building.edit_accesses import redirect_site
from loopmorph.passes.building.layout import Blocking, block_in_place, blocked_copy, cuts_for
from loopmorph.passes.building.rebuild import NewLoop, Rebuild, rebuild
from loopmorph.passes.errors import IllegalTransform, require_least
from loopmorph.passes.nest import Loop, functions


@dataclass(frozen=True)
class BlockedLayout(Pass):
    """Lays activations out as [N, C/width, H, W, width] and weights so that `width` output channels are contiguous.

    Before (width=16):

        %y = memref.alloc() : memref<1x64x8x8xf32>
        affine.for %co = 0 to 64 { ... affine.for %ci = 0 to 32 { ...
          affine.load %w[%co, %ci, %kh, %kw] ... affine.store %v, %y[%n, %co, %oh, %ow] ... } {morph.iter = "co"}

    After:

        %y = memref.alloc() : memref<1x4x8x8x16xf32>   %p = memref.alloc() : memref<4x2x3x3x16x16xf32>
        affine.for ... { ... %p from %w ... } {morph.role = "pack"}
        affine.for %a = 0 to 4 { affine.for %b = 0 to 16 { ... affine.for %c = 0 to 2 { affine.for %d = 0 to 16 { ...
          affine.load %p[%a, %c, %kh, %kw, %d, %b] ... affine.store %v, %y[%n, %a, %oh, %ow, %b]
          ... } {morph.iter = "co.1"} } {morph.iter = "co.0"}

    A memref is packed if it is local, `width` divides the extent of the axis, and all loops that run over the axis
    can be split so that every index stays free of `floordiv` and `mod`, but for those by which a sum reads; the others
    stay as they are, and nests that read one and write the other convert. Activations are memrefs of rank 4 that
    depend on the inputs. Weights are those of contractions (see `find_operands`): the output channel's axis is cut,
    and with it the input channel's where it can be; a parameter gets a packed copy, for each layer that reads it.
    Of a product of matrices the weight is a parameter whose rows the result's last axis counts, whatever the rank of
    the result. Where a nest reads only the first rows of it, whole vectors of them, these alone are packed.

    Options:
        width: elements in a block: the lanes of a vector, at least 2.
    """

    name: ClassVar[str] = "morph-blocked-layout"
    width: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        require_least("width", self.width, 2, "elements in a block")

    def run(self, module: ir.Operation) -> None:
        with module.context, ir.Location.unknown():
            for function in functions(module):
                index = AccessIndex(function)
                layout = _Layout(index, self.width)
                layout.add_activations()
                layout.add_weights()
                layout.apply()


@dataclass(frozen=True)
class _Packing:
    """A memref that is packed: the accesses that read or write it so, and what of it they touch, from the first
    element of each axis on. A part of one, or a parameter, gets a packed copy; a local memref takes its place."""

    memref: ir.Value
    blocking: Blocking
    sites: tuple[Site, ...]
    shape: tuple[int, ...]
    copied: bool


class _Layout:
    """The memrefs to pack and the loops to split for it; grows memref by memref, then is carried out at once."""

    def __init__(self, index: AccessIndex, width: int) -> None:
        self.index = index
        self.width = width
        self.cuts: dict[Entry, dict[int, int]] = {}
        self.packings: list[_Packing] = []

    def add_activations(self) -> None:
        """Decides for the local memrefs of rank 4 that depend on the inputs."""
        for memref in _dependent(self.index):
            if is_local(memref) and len(ir.MemRefType(memref.type).shape) == 4 and self.index.is_known(memref):
                self._add(memref, self.index.sites[memref], (CHANNEL_AXIS,))

    def add_weights(self) -> None:
        """Decides for the weights of contractions."""
        done: set[tuple[ir.Value, str]] = {(packing.memref, "") for packing in self.packings}
        for entry in self.index.entries:
            matrix = self._matrix(entry)
            if matrix is not None:
                self._add_matrix(*matrix)
                continue
            operands = find_operands([site.access for site in entry.sites])
            if operands is None:
                continue
            weight, local = operands.weight.memref, is_local(operands.weight.memref)
            layer = "" if local else entry.nest.layer  # each layer has its own copy of a parameter
            if (weight, layer) in done or not (local or weight in self.index.parameters):
                continue
            done.add((weight, layer))
            if self.index.is_known(weight):
                sites = self.index.sites[weight]
                self._add_weight(operands, sites if local else [s for s in sites if s.entry.nest.layer == layer])

    def apply(self) -> None:
        """Packs and splits."""
        for packing in self.packings:
            memref, blocking = packing.memref, packing.blocking
            if packing.copied:
                packed = blocked_copy(memref, blocking, packing.sites[0].entry.nest, packing.shape)
            else:
                packed = block_in_place(memref, blocking)
            for site in packing.sites:
                redirect_site(site, packed, blocking.exprs(site.access.exprs))
            if not packing.copied:
                memref.owner.erase()
        for entry, cuts in self.cuts.items():
            if cuts:
                _split(entry, cuts)

    def _matrix(self, entry: Entry) -> tuple[Site, int] | None:
        """The parameter of a product of matrices whose rows the last axis of a result of rank 3 or more counts, and
        the axis of the parameter that it indexes; in a result of rank 2 that is the axis of channels.
        """
        stores = [site.access for site in entry.sites if site.access.kind == "store"]
        if not entry.is_plain or len(stores) != 1 or len(stores[0].exprs) <= CHANNEL_AXIS + 1:
            return None
        (store,) = stores
        operands = [s for s in entry.sites if s.access.kind == "load" and s.access.memref != store.memref]
        lane, apart = used_dims(store.exprs[-1]), {d for e in store.exprs[:-1] for d in used_dims(e)}
        found = [s for s in operands if s.access.memref in self.index.parameters and s.access.dims & lane]
        if len(operands) != 2 or len(found) != 1 or lane & apart or found[0].access.dims & apart:
            return None
        axes = [axis for axis, e in enumerate(found[0].access.exprs) if used_dims(e) & lane]
        return (found[0], axes[0]) if len(axes) == 1 and not entry.nest.is_vectorised else None

    def _add_matrix(self, site: Site, axis: int) -> None:
        memref = site.access.memref
        shape = list(ir.MemRefType(memref.type).shape)
        if site.region.begin[axis] == 0:
            shape[axis] = site.region.end[axis]
        self._add(memref, (site,), (axis,), shape)

    def _add_weight(self, operands: Operands, sites: Sequence[Site]) -> None:
        exprs = operands.weight.exprs
        outputs = [axis for axis, e in enumerate(exprs) if used_dims(e) & operands.channels]
        inputs = [axis for axis, e in enumerate(exprs) if used_dims(e) & operands.reduced]
        if len(outputs) != 1:
            return
        both = len(inputs) == 1 and self._add(operands.weight.memref, sites, (*inputs, *outputs))
        if not both:
            self._add(operands.weight.memref, sites, (*outputs,))

    def _add(
        self, memref: ir.Value, sites: Sequence[Site], axes: tuple[int, ...], part: Sequence[int] | None = None
    ) -> bool:
        """Adds a memref, or the first elements of a parameter, as many as `part` says for each axis, unless that would
        leave `floordiv` or `mod` in an index; says whether it did."""
        shape = tuple(part or ir.MemRefType(memref.type).shape)
        if any(shape[axis] % self.width for axis in axes):
            return False
        added: dict[Entry, dict[int, int]] = {}
        for site in sites:
            cuts = added.setdefault(site.entry, dict(self.cuts.get(site.entry, {})))
            for axis in axes:
                wanted = cuts_for(site.access.exprs[axis], _extents(site.entry), self.width)
                if wanted is None and _is_summed(site, axis):
                    wanted = {}
                if wanted is None or any(cuts.get(d, f) != f for d, f in wanted.items()):
                    return False
                cuts |= wanted
        if not all(_can_split(entry, cuts) for entry, cuts in added.items()):
            return False
        self.cuts |= added
        blocking = Blocking(axes, (self.width,) * len(axes))
        self.packings.append(_Packing(memref, blocking, tuple(sites), shape, not is_local(memref)))
        return True


def _is_summed(site: Site, axis: int) -> bool:
    """Whether it reads what a nest sums up: a `floordiv` in its index costs little beside what is done with it.

    The channels tell; what has no axis of channels, a flat view say, is told by the axis that is cut.
    """
    nest = site.entry.nest
    if site.access.kind != "load" or not accumulates(nest):
        return False
    stored = {d for store in nest.stores for e in store.exprs for d in used_dims(e)}
    return not used_dims(site.access.exprs[CHANNEL_AXIS if has_channels(site.access) else axis]) <= stored


def _dependent(index: AccessIndex) -> list[ir.Value]:
    """The memrefs whose contents depend on the function's inputs, in the order of their first access."""
    dependent = set(index.function.entry_block.arguments) - index.parameters
    for entry in index.entries:
        if any(site.access.kind == "load" and site.access.memref in dependent for site in entry.sites):
            dependent |= {site.access.memref for site in entry.sites if site.access.kind == "store"}
    return [memref for memref in index.sites if memref in dependent]


def _extents(entry: Entry) -> list[int | None]:
    """Extents of the loops that run from 0 to a constant by 1, None for the others."""
    return [
        loop.extent if loop.extent == limit else None
        for loop, limit in zip(entry.nest.loops, entry.limits, strict=True)
    ]


def _can_split(entry: Entry, cuts: Mapping[int, int]) -> bool:
    """Whether the loops stand in a perfect band of loops that run from 0 to a constant by 1."""
    if not cuts:
        return True
    nest, n_loops = entry.nest, max(cuts) + 1
    taken = {f"{nest.iterators[d]}.{part}" for d in cuts for part in (0, 1)} & set(nest.iterators)
    if taken or None in _extents(entry)[:n_loops]:
        return False
    try:
        return len(perfect_band(nest, 0)) >= n_loops
    except IllegalTransform:  # a loop carries values in registers
        return False


def _split(entry: Entry, cuts: Mapping[int, int]) -> None:
    """Splits loops of a nest where they stand; all others keep their order."""
    new: list[NewLoop] = []
    old: dict[int, ir.AffineExpr] = {}
    band = entry.nest.loops[: max(cuts) + 1]
    for loop in band:
        extent, inner, dim = loop.extent or 0, cuts.get(loop.position), ir.AffineExpr.get_dim(len(new))
        if inner is None:
            new.append(_loop(loop.iterator, loop, extent))
            old[loop.position] = dim
        else:
            new += [_loop(f"{loop.iterator}.0", loop, extent // inner), _loop(f"{loop.iterator}.1", loop, inner)]
            old[loop.position] = dim * inner + ir.AffineExpr.get_dim(len(new) - 1)
    rebuild(Rebuild(entry.nest, tuple(loop.position for loop in band), tuple(new), old))


def _loop(iterator: str, source: Loop, extent: int) -> NewLoop:
    zero, end = ir.AffineExpr.get_constant(0), ir.AffineExpr.get_constant(extent)
    return NewLoop(iterator, source.position, (zero,), (end,))
