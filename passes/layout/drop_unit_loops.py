"""`morph-drop-unit-loops`: loops of one iteration that share the channels' axis with others go away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes.analysis.roles import channel_loops, has_channels
from loopmorph.passes.base import Pass
from loopmorph.passes.building.rebuild import NewLoop, Rebuild, rebuild
from loopmorph.passes.nest import Loop, Nest, nest_roots, view_nest


@dataclass(frozen=True)
class DropUnitLoops(Pass):
    """Drops loops of extent 1 whose iterator stands beside another one in an index of axis 1, that of the channels.

    A group of one channel leaves them, and the lane of `%g + %co` would not be seen. Before:

        affine.for %g = 0 to 64 { affine.for %co = 0 to 1 { ... affine.store %v, %y[%n, %g + %co] } }

    After:

        affine.for %g = 0 to 64 { ... affine.store %v, %y[%n, %g] }

    Nests that are imperfect or not rectangular are left as they are, and so is the outermost loop of each nest.
    """

    name: ClassVar[str] = "morph-drop-unit-loops"

    def run(self, module: ir.Operation) -> None:
        with module.context, ir.Location.unknown():
            for root in nest_roots(module):
                nest = view_nest(root)
                dropped = _dropped(nest)
                if dropped:
                    rebuild(_without(nest, dropped))


def _dropped(nest: Nest) -> set[Loop]:
    if not nest.is_perfect or not nest.is_rectangular:
        return set()
    units = {loop.position for loop in nest.loops[1:] if loop.extent == 1}
    sets = [channel_loops(access) for access in nest.accesses if has_channels(access)]
    shared = {p for dims in sets if len(dims) > 1 for p in dims & units}
    return {nest.loops[p] for p in shared}


def _without(nest: Nest, dropped: set[Loop]) -> Rebuild:
    zero = ir.AffineExpr.get_constant(0)
    kept = [loop for loop in nest.loops if loop not in dropped]
    loops = tuple(
        NewLoop(loop.iterator, loop.position, (zero,), (ir.AffineExpr.get_constant(loop.extent or 1),)) for loop in kept
    )
    old = {loop.position: zero for loop in dropped}
    old |= {loop.position: ir.AffineExpr.get_dim(k) for k, loop in enumerate(kept)}
    return Rebuild(nest, tuple(range(len(nest.loops))), loops, old)
