"""`morph-outline-nests`: a function of its own for every nest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.dialects import affine, func

from loopmorph.passes import marks
from loopmorph.passes.base import Pass
from loopmorph.passes.nest import function_roots, functions


@dataclass(frozen=True)
class OutlineNests(Pass):
    """Moves each nest to a private function of the memrefs and scalars that it uses, and calls it there.

    Before:

        func.func @run(%x, %y) { affine.for %i = 0 to 8 { ... %x ... %y ... } return }

    After:

        func.func private @run.0(%x, %y) attributes {morph.kernel = "conv1"} { affine.for ... return }
        func.func @run(%x, %y) { call @run.0(%x, %y) return }

    Nests that differ only in their operands and their layer share one function. LLVM's work grows faster than the
    length of a function, and only of a function's arguments can it be told that they do not overlap.

    Requires nothing; nests with results stay.
    """

    name: ClassVar[str] = "morph-outline-nests"

    def run(self, module: ir.Operation) -> None:
        with module.context:
            for function in functions(module):
                kernels: dict[str, str] = {}
                for root in function_roots(function):
                    if not len(root.operation.results):
                        _outline(root, function, kernels)


def _outline(root: affine.AffineForOp, function: func.FuncOp, kernels: dict[str, str]) -> None:
    """`kernels` holds the names of the functions made so far, by their text."""
    uses = _uses_from_outside(root.operation)
    used = list(dict.fromkeys(value for _, _, value in uses))
    constants = [v for v in used if not isinstance(v.owner, ir.Block) and v.owner.name == "arith.constant"]
    passed = [v for v in used if v not in constants]
    name = f"{function.name.value}.{len(kernels)}"
    layer = marks.get_text(root, marks.LAYER)
    for mark in (marks.LAYER, marks.NODE, marks.ROLE):
        if mark in root.attributes:
            del root.attributes[mark]
    with root.location:
        with ir.InsertionPoint(function):
            kernel = func.FuncOp(name, ([v.type for v in passed], []), visibility="private")
        block = kernel.add_entry_block()
        with ir.InsertionPoint(root):
            call = func.CallOp([], name, passed)
        with ir.InsertionPoint(block):
            copies = [v.owner.operation.clone().results[0] for v in constants]
            end = func.ReturnOp([])
    root.operation.move_before(end.operation)
    replacement = dict(zip([*passed, *constants], [*block.arguments, *copies], strict=True))
    for op, position, value in uses:
        op.operands[position] = replacement[value]
    text = kernel.operation.get_asm(use_local_scope=True, assume_verified=True)
    same = kernels.setdefault(text.replace(f"@{name}", "@", 1), name)
    if same == name:
        kernel.attributes[marks.KERNEL] = ir.StringAttr.get(layer)
    else:
        call.attributes["callee"] = ir.FlatSymbolRefAttr.get(same)
        kernel.operation.erase()


def _uses_from_outside(root: ir.Operation) -> list[tuple[ir.Operation, int, ir.Value]]:
    """Operation, number of the operand and value of all uses in a nest of what is defined outside, in program order."""
    inner: set[ir.Value] = set()
    found: list[tuple[ir.Operation, int, ir.Value]] = []

    def visit(op: ir.Operation) -> ir.WalkResult:
        found.extend((op, k, operand) for k, operand in enumerate(op.operands) if operand not in inner)
        inner.update(op.results)
        for region in op.regions:
            for block in region.blocks:
                inner.update(block.arguments)
        return ir.WalkResult.ADVANCE

    root.walk(visit, ir.WalkOrder.PRE_ORDER)
    return found
