"""`morph-peel`: the last iterations of a loop in a loop of their own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import used_dims
from loopmorph.passes.analysis.bounds import known_limits
from loopmorph.passes.analysis.structure import body_of, require_no_results
from loopmorph.passes.building.arrange import require_normal
from loopmorph.passes.building.rebuild import set_extent, substitute_variables, wrap
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.nest import Loop, Nest, view_nest, walk_loops
from loopmorph.passes.transformation import Kind, NestTransformation

_SUFFIX = re.compile(r"\.\w+")
REST = ".rest"  # what the names of the loops of the last iterations end in


@dataclass(frozen=True)
class PeelPlan:
    """The loop, how many of its iterations are peeled off, how many before them are done again, the name of a loop to
    put around an outermost one, and what the names of the loops that are peeled off end in.
    """

    nest: Nest
    loop: Loop
    size: int
    again: int
    wrapper: str | None
    suffix: str


@dataclass(frozen=True)
class Peel(NestTransformation[PeelPlan]):
    """Gives a loop's last iterations a loop of their own, after it: `morph-peel{layer=fc iter=n size=1}`.

        affine.for %n = 0 to 197 {                        affine.for %n = 0 to 196 {
          affine.for %ci = 0 to 64 {                        affine.for %ci = 0 to 64 {
            %0 = affine.load %x[%n, %ci]                      %0 = affine.load %x[%n, %ci]
            ...                                               ...
          } {morph.iter = "ci"}                   ->        } {morph.iter = "ci"}
        } {morph.iter = "n"}                              } {morph.iter = "n"}
                                                          affine.for %r = 0 to 1 {
                                                            affine.for %ci = 0 to 64 {
                                                              %0 = affine.load %x[%r + 196, %ci]
                                                              ...
                                                            } {morph.iter = "ci.rest"}
                                                          } {morph.iter = "n.rest"}

    Of an extent that no register block divides, what is left is a multiple of the block; the rest is scheduled by the
    names of its own loops; where iterations are peeled off a second loop, `suffix` keeps those names apart. Around an
    outermost loop another one of extent 1, `n.parts`, is put, to leave one nest.
    The iterations keep their order, so it is always legal. On a convolution with 8 x 8 pixels:
    `morph-peel{layer=a iter=ow size=2}`.

    With `again`, so many of the iterations before are done a second time with the last ones, for which a vector then
    has work: of 197 elements, `size=5 again=3` leaves 24 vectors of 8 and one more that begins at element 189.

    Requires a loop from 0 to a constant with step 1, and bounds of the loops in it that do not depend on it; with
    `again`, that the loop reads nothing that the nest writes, so that a second time gives the same values.

    Attributes:
        layer: qualified name of the layer whose main nest is meant.
        iter: the iterator.
        size: the number of iterations that are peeled off, in 1 .. extent - 1.
        again: how many of those that are kept are done again before them, in 0 .. extent - size.
        suffix: what the names of their loops end in: a dot and a word.
    """

    name: ClassVar[str] = "morph-peel"
    kind: ClassVar[Kind] = "loop"

    layer: str
    iter: str
    size: int
    again: int = 0
    suffix: str = REST

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _SUFFIX.fullmatch(self.suffix):
            raise ArgumentError("suffix", f"expected a dot and a word, such as {REST}, got '{self.suffix}'")

    def analyze_nest(self, nest: Nest) -> PeelPlan:
        loop = nest.loop(self.iter)
        require_normal(nest, loop)
        require_no_results(nest, loop)
        if not loop.extent or loop.extent < 2:
            raise IllegalTransform(nest.label, f"the extent of '{self.iter}' is no constant of at least 2")
        if not 1 <= self.size < loop.extent:
            wanted = f"between 1 and {loop.extent - 1}"
            raise ArgumentError("size", f"the number of iterations of '{self.iter}' must be {wanted}, got {self.size}")
        self._require_repeatable(nest, loop)
        inside = [other for other in nest.loops if loop.position in nest.around(other.position)]
        for other in inside:
            bounds = nest.bounds(other)
            if any(loop.position in used_dims(e) for e in (*bounds.lower, *bounds.upper)):
                raise IllegalTransform(nest.label, f"the bounds of '{other.iterator}' depend on '{self.iter}'")
        wrapper = f"{self.iter}.parts" if loop.position == 0 else None
        taken = {*(f"{each.iterator}{self.suffix}" for each in (loop, *inside)), wrapper} & set(nest.iterators)
        if taken:
            raise IllegalTransform(nest.label, f"the nest already has an iterator '{min(map(str, taken))}'")
        return PeelPlan(nest, loop, self.size, self.again, wrapper, self.suffix)

    def _require_repeatable(self, nest: Nest, loop: Loop) -> None:
        most = (loop.extent or 0) - self.size
        if not 0 <= self.again <= most:
            reason = f"the number of iterations of '{self.iter}' that are done again must be between 0 and {most}"
            raise ArgumentError("again", f"{reason}, got {self.again}")
        if self.again and {a.memref for a in nest.loads} & {a.memref for a in nest.stores}:
            reason = "it reads what it writes, so that no iteration can be done again"
            raise IllegalTransform(nest.label, reason)

    def rewrite(self, plan: PeelPlan) -> ir.Operation:
        with plan.nest.root.context:
            root, loop = plan.nest.root, plan.loop
            if plan.wrapper is not None:
                root = wrap(root, plan.wrapper)
            kept = (loop.extent or 0) - plan.size
            rest = loop.op.operation.clone(ir.InsertionPoint.after(loop.op.operation)).opview
            set_extent(loop, kept)
            rest.attributes["upperBoundMap"] = ir.AffineMapAttr.get(ir.AffineMap.get_constant(plan.size + plan.again))
            variable = rest.induction_variable
            shifted = {variable: ir.AffineExpr.get_dim(0) + (kept - plan.again)}
            substitute_variables(body_of(rest), shifted, [variable], known_limits(view_nest(root)))
            for each in walk_loops(rest):
                if marks.ITER in each.attributes:
                    each.attributes[marks.ITER] = ir.StringAttr.get(f"{marks.get_text(each, marks.ITER)}{plan.suffix}")
            return root.operation
