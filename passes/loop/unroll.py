"""`morph-unroll`: the body of a loop several times in a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes.analysis.structure import body_of
from loopmorph.passes.building.replicate import inner_names, replicate, require_divisor
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Loop, Nest, divisors
from loopmorph.passes.transformation import Kind, NestTransformation


@dataclass(frozen=True)
class UnrollPlan:
    """The loop to unroll; `holder` is the loop whose body is copied: itself, or the innermost one to jam into."""

    nest: Nest
    loop: Loop
    holder: Loop
    factor: int


@dataclass(frozen=True)
class Unroll(NestTransformation[UnrollPlan]):
    """Unrolls a loop: `morph-unroll{layer=conv1 iter=kw factor=2}`.

        affine.for %kw = 0 to 6 {                         affine.for %kw = 0 to 3 {
          %0 = affine.load %x[%ow + %kw]          ->        %0 = affine.load %x[%ow + %kw * 2]
          ...                                               ...
        } {morph.iter = "kw"}                               %1 = affine.load %x[%ow + %kw * 2 + 1]
                                                            ...
                                                          } {morph.iter = "kw"}

    The loop keeps its name, starts at 0 and has step 1. With a factor equal to the extent it goes away. Loops inside
    an unrolled one are copied too and renamed `kw_0`, `kw_1`, ..., which leaves a nest that is not perfect.

    The iterations keep their order, so it is always legal. On a 3x3 convolution:
    `morph-unroll{layer=a iter=kw factor=3}`.

    Requires a loop from 0 to a constant with step 1, a factor that divides this extent, and, where an outermost loop
    goes away, exactly one loop in its place.

    Attributes:
        layer: qualified name of the layer whose main nest is meant.
        iter: the iterator.
        factor: the number of copies, in 2 .. extent, or 1 to remove a loop of extent 1.
    """

    name: ClassVar[str] = "morph-unroll"
    kind: ClassVar[Kind] = "loop"

    layer: str
    iter: str
    factor: int

    @classmethod
    def space(cls, nest: Nest) -> Sequence[Unroll]:
        """The innermost loop by 2 and 4, or altogether if it is short."""
        loop = nest.loops[-1]
        whole = [loop.extent] if loop.extent is not None and 2 <= loop.extent <= 8 else []
        return [cls(nest.layer, loop.iterator, f) for f in [*divisors(loop.extent, (2, 4)), *whole]]

    def analyze_nest(self, nest: Nest) -> UnrollPlan:
        loop = nest.loop(self.iter)
        extent = require_divisor(nest, loop, self.factor)
        if loop.position == 0 and self.factor == extent:
            body = body_of(loop.op)
            if extent > 1 or len(body) != 1 or not isinstance(body[0].opview, affine.AffineForOp):
                reason = f"'{loop.iterator}' is the outermost loop and cannot go away: no single loop would be left"
                raise IllegalTransform(nest.label, reason)
        inner_names(nest, loop, self.factor)
        return UnrollPlan(nest, loop, loop, self.factor)

    def rewrite(self, plan: UnrollPlan) -> ir.Operation:
        with plan.nest.root.context:
            return replicate(plan.nest, plan.loop, plan.holder, plan.factor)
