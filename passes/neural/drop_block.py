"""`morph-drop-block`: the branch of a residual block goes away, and the block is its skip."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.dialects import func

from loopmorph.passes import marks
from loopmorph.passes.address import find_nest, layer_nests
from loopmorph.passes.analysis.cost import macs
from loopmorph.passes.analysis.definitions import is_used
from loopmorph.passes.analysis.memory.body_effects import BodyEffects
from loopmorph.passes.analysis.memory.dataflow import effects, outermost
from loopmorph.passes.analysis.memory.memrefs import is_local
from loopmorph.passes.analysis.residual_branch import ResidualBranch, find_branch
from loopmorph.passes.building.arguments import arrange_arguments
from loopmorph.passes.building.erase import erase_memref, erase_unused
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.nest import Nest, functions, nests, view_nest
from loopmorph.passes.transformation import Kind, Transformation


@dataclass(frozen=True)
class DropBlock(Transformation[ResidualBranch]):
    """Drops the branch of the residual block that a layer belongs to; the sum gives its other operand.

    Before, for `morph-drop-block{layer=b}` on x -> a -> b -> bn -> sum with x -> c:

        %t = memref.alloc() : memref<16xf32>   %u = memref.alloc() : memref<16xf32>
        affine.for %co = 0 to 16 { ... affine.load %wa[...] ... affine.store %0, %t[%co] } {morph.layer = "a"}
        affine.for %co = 0 to 16 { ... affine.load %wb[...] ... affine.store %0, %u[%co] } {morph.layer = "b"}
        %s = memref.alloc() : memref<16xf32>
        affine.for %c = 0 to 16 {
          %0 = affine.load %u[%c]  %1 = affine.load %x[%c]  %2 = arith.addf %0, %1  affine.store %2, %s[%c]
        }
        affine.for %co = 0 to 8 { ... affine.load %s[%ci] ... } {morph.layer = "c"}

    After:

        affine.for %co = 0 to 8 { ... affine.load %x[%ci] ... } {morph.layer = "c"}

    The nests of all layers that nothing but the sum needs go, with the parameters that nothing else reads. What reads
    the sum reads the skip from then on; where the sum is an output of the network, or does more than to add, its nest
    stays, without the addition. A block is found from the accesses alone (see
    `loopmorph.passes.analysis.residual_branch`): it is the innermost one, where several lie in each other; of
    g(x) + f(x) the part goes that the layer is in.

    Requires: a sum that takes in what is made of the layer's result as one operand alone; nothing else that reads
    that, nor what lies between; another operand of the sum's shape, read at the sum's own places, which is an
    activation that the branch reads as well, or is made of one.

    Options:
        layer: qualified name of a layer in the branch.
    """

    name: ClassVar[str] = "morph-drop-block"
    kind: ClassVar[Kind] = "neural"
    takes_away: ClassVar[bool] = True

    layer: str

    @classmethod
    def space(cls, nest: Nest) -> Sequence[DropBlock]:
        try:
            branch = find_branch(nest)
        except IllegalTransform:
            return []
        return [cls(nest.layer)] if last_contraction(branch) == nest.layer else []

    def __post_init__(self) -> None:
        super().__post_init__()
        if "#" in self.layer:
            raise ArgumentError("layer", f"expected a layer, all nests of which go, got '{self.layer}'")

    def analyze(self, module: ir.Operation) -> ResidualBranch:
        mains = [nest for nest in layer_nests(module, self.layer) if nest.role == marks.MAIN]
        return find_branch(mains[0] if mains else find_nest(module, self.layer))

    def rewrite(self, plan: ResidualBranch) -> ir.Operation:
        function = plan.ops[0].parent.opview
        assert isinstance(function, func.FuncOp)
        left = _without_addition(plan, function)
        for op in reversed(plan.ops):
            op.erase()
        for memref in plan.memrefs:
            erase_memref(memref)
        arguments = function.entry_block.arguments
        read = [k for k, a in enumerate(arguments) if is_used(a) or marks.parameter_name(a) is None]
        arrange_arguments(function, read)
        return left


def droppable_blocks(module: ir.Operation) -> tuple[tuple[DropBlock, ResidualBranch], ...]:
    """The residual blocks whose branch holds a contraction and can go, in program order.

    Returns:
        The step that drops each, on the last contraction in it, and its branch as long as the module stays as it is.
    """
    found: dict[ir.Operation, tuple[DropBlock, ResidualBranch]] = {}
    with module.context:
        bodies = {function.operation: BodyEffects(function.entry_block) for function in functions(module)}
        for nest in [n for n in nests(module) if n.role == marks.MAIN and macs(n)]:
            with contextlib.suppress(IllegalTransform):
                branch = find_branch(nest, bodies[nest.root.operation.parent.operation])
                found[branch.ops[-1]] = DropBlock(nest.layer), branch
    return tuple(found.values())


def last_contraction(branch: ResidualBranch) -> str | None:
    """The layer of the last contraction of a branch; None where it has none."""
    branch_nests = [view_nest(op.opview) for op in branch.ops]
    layers = [nest.layer for nest in branch_nests if nest.role == marks.MAIN and macs(nest)]
    return layers[-1] if layers else None


def _without_addition(plan: ResidualBranch, function: func.FuncOp) -> ir.Operation:
    """Lets the sum's nest do without the branch; returns it, or the first nest that reads the skip in its place."""
    total = plan.sum
    root, skip, result = total.nest.root.operation, total.skip.memref, total.result.memref
    total.add.results[0].replace_all_uses_with(total.other)
    erase_unused(total.add.results[0])
    body = [op.operation for op in function.entry_block.operations]
    after = body[body.index(root) + 1 :]
    if total.result.op.operands[0] != total.other or not _can_stand_for(skip, result, after):
        return root
    readers = {outermost(use.owner.operation) for use in result.uses}
    root.erase()
    result.replace_all_uses_with(skip)
    result.owner.operation.erase()
    return next(op for op in after if op in readers)


def _can_stand_for(skip: ir.Value, result: ir.Value, after: Sequence[ir.Operation]) -> bool:
    """Whether the skip can take the place of its copy: nobody else sees that, and what comes after changes neither."""
    touched = [effects(op) for op in after]
    changed = any(effect.writes & {skip, result} for effect in touched)
    freed = any(op.name == "memref.dealloc" and op.operands[0] in (skip, result) for op in after)
    read = any(result in effect.reads for effect in touched)
    return is_local(result) and skip.type == result.type and read and not changed and not freed
