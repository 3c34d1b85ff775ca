"""`morph-copy-operand`: what a nest reads again and again, in the order in which it reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.building.arrange import require_normal
from loopmorph.passes.building.copied import copied_operand
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.loop.pack import named_operand
from loopmorph.passes.nest import Access, Loop, Nest
from loopmorph.passes.transformation import Kind, NestTransformation

OPERANDS = ("input", "weight")


@dataclass(frozen=True)
class CopyOperandPlan:
    """The access whose elements are copied, and the loops that it depends on in the order of the copy's axes."""

    nest: Nest
    access: Access
    loops: tuple[Loop, ...]


@dataclass(frozen=True)
class CopyOperand(NestTransformation[CopyOperandPlan]):
    """Copies an operand before the nest: `morph-copy-operand{layer=mm operand=weight iters=co.0,ci,co.1}`.

        affine.for %h = 0 to 3 { affine.for %n = 0 to 9 {       %p = memref.alloc() : memref<3x7x8xf32>
          affine.for %ci = 0 to 7 { affine.for %co = 0 to 8 {   affine.for %h ... %ci ... %co ... {
            affine.load %v[%ci, %h * 8 + %co] : 7x24        ->    affine.load %v[%ci, %h * 8 + %co]
            ...                                                   affine.store %p[%h, %ci, %co] ...
                                                                affine.for %h ... %n ... %ci ... %co {
                                                                  affine.load %p[%h, %ci, %co]
                                                                  ...

    The copy has an axis for each iterator and is filled by a nest of role "copy". The source stays as it is, for other
    nests. What is read in short pieces that lie far apart fills few sets of a cache and many pages; side by side it
    stays in the first level (Goto and van de Geijn, ACM TOMS 34, 2008, pack both operands of a product for that
    reason). Values stay, so it is always legal. On a convolution with 8 x 8 pixels:
    `morph-copy-operand{layer=a operand=weight iters=kh,kw,ci,co}`.

    Requires that the nest reads the operand at one place and does not write it, that the place depends on exactly the
    iterators given, and that these run from 0 to constants with step 1.

    Attributes:
        layer: qualified name of the layer whose main nest is meant.
        operand: "weight" or "input", as `morph-pack` tells them apart.
        iters: the iterators on which the place depends, in the order of the copy's axes.
    """

    name: ClassVar[str] = "morph-copy-operand"
    kind: ClassVar[Kind] = "loop"

    layer: str
    operand: str
    iters: tuple[str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.operand not in OPERANDS:
            raise ArgumentError("operand", f"expected one of {', '.join(OPERANDS)}, got '{self.operand}'")
        if not self.iters or len(set(self.iters)) != len(self.iters):
            raise ArgumentError("iters", f"expected one or more different iterators, got '{','.join(self.iters)}'")

    def analyze_nest(self, nest: Nest) -> CopyOperandPlan:
        loops = tuple(nest.loop(name) for name in self.iters)
        source = named_operand(nest, self.operand)
        accesses = [access for access in nest.accesses if access.memref == source]
        if len(accesses) != 1 or accesses[0].kind != "load" or accesses[0].lanes > 1:
            reason = f"it touches its {self.operand} at {len(accesses)} places, in vectors or to write"
            raise IllegalTransform(nest.label, f"{reason}; one scalar load is required")
        (access,) = accesses
        needed = [loop for loop in nest.loops if loop.position in access.dims]
        if set(needed) != set(loops):
            names = ",".join(loop.iterator for loop in needed)
            given = ",".join(self.iters)
            raise ArgumentError("iters", f"the {self.operand} of {nest.label} depends on {names}, not on {given}")
        for loop in loops:
            require_normal(nest, loop)
            if not loop.extent:
                raise IllegalTransform(nest.label, f"the extent of '{loop.iterator}' is no constant")
        return CopyOperandPlan(nest, access, loops)

    def rewrite(self, plan: CopyOperandPlan) -> ir.Operation:
        with plan.nest.root.context:
            shape = [loop.extent or 1 for loop in plan.loops]
            copied_operand(plan.nest, plan.access, plan.loops, shape, marks.COPY)
            return plan.nest.root.operation
