"""`morph-drop-empty-loops`: loops that never run go away, and with them the loops that then hold nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes.base import Pass
from loopmorph.passes.nest import constant_extent, nest_roots


@dataclass(frozen=True)
class DropEmptyLoops(Pass):
    """Drops loops of no iterations: what they access has no elements, and all other passes may take extents as >= 1.

    Before:

        affine.for %n = 0 to 2 { affine.for %c = 0 to 0 { affine.store %v, %y[%n, %c] : memref<2x0xf32> } }
        affine.for %n = 0 to 2 { ... }

    After:

        affine.for %n = 0 to 2 { ... }

    A loop that carries values in registers leaves those that it begins with. Loops whose bounds are no constants stay.
    """

    name: ClassVar[str] = "morph-drop-empty-loops"

    def run(self, module: ir.Operation) -> None:
        with module.context:
            for root in nest_roots(module):
                _drop_empty(root)


def _drop_empty(loop: affine.AffineForOp) -> bool:
    """Erases a loop that never runs, or those in it that never run and then itself if it holds nothing else.

    Returns:
        Whether the loop is gone.
    """
    op = loop.operation
    if constant_extent(loop) == 0:
        for result, start in zip(op.results, loop.inits, strict=True):
            result.replace_all_uses_with(start)
        op.erase()
        return True
    inner = [each for each in loop.body.operations if isinstance(each, affine.AffineForOp)]
    dropped = [_drop_empty(each) for each in inner]
    gone = any(dropped) and not len(op.results) and len(list(loop.body.operations)) == 1
    if gone:
        op.erase()
    return gone
