"""A plug-in of loopmorph: one pass that inspects a module and one transformation that changes it.

Its schedule is in `schedules/`, its proxy in `gradient_norm.py`, which takes PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch_mlir import ir

from loopmorph.passes import ArgumentError, IllegalTransform, Pass, Transformation

LAYER = "morph.layer"


def loops(module: ir.Operation) -> list[ir.Operation]:
    """Every affine.for in the module, outer loops first."""
    found: list[ir.Operation] = []

    def visit(op: ir.Operation) -> ir.WalkResult:
        if op.name == "affine.for":
            found.append(op)
        return ir.WalkResult.ADVANCE

    module.walk(visit, ir.WalkOrder.PRE_ORDER)
    return found


@dataclass(frozen=True)
class CountLoops(Pass):
    """Fails when the module has more than `limit` affine loops.

    Args:
        limit: the number of loops that is still accepted, 0 or more.
    """

    name: ClassVar[str] = "test-count-loops"
    limit: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.limit < 0:
            raise ArgumentError("limit", f"expected 0 or more, got {self.limit}")

    def run(self, module: ir.Operation) -> None:
        found = loops(module)
        if len(found) > self.limit:
            place = found[self.limit].location
            line = f"{place.filename}:{place.start_line}:{place.start_col}: " if hasattr(place, "start_line") else ""
            raise IllegalTransform(f"{line}affine.for", f"{len(found)} loops, more than the limit of {self.limit}")


@dataclass(frozen=True)
class RenameLayer(Transformation[list[ir.Operation]]):
    """Gives the nests of a layer another layer name.

    Every nest is built anew, so that handles to the old loops dangle: the worst that a transformation may do.

    Args:
        layer: the name to look for.
        to: the new name.
        only: positions among the layer's nests, counted from 0; none means all.
        mark: whether the new loops also get the attribute `test.renamed`.
        tags: names to attach as unit attributes.
    """

    name: ClassVar[str] = "test-rename-layer"
    kind: ClassVar[Literal["loop", "neural"]] = "loop"
    layer: str
    to: str
    only: tuple[int, ...] | None = None
    mark: bool = False
    tags: tuple[str, ...] = ()

    def analyze(self, module: ir.Operation) -> list[ir.Operation]:
        nests = [op for op in loops(module) if LAYER in op.attributes and op.attributes[LAYER].value == self.layer]
        if not nests:
            raise ArgumentError("layer", f"no nest of layer '{self.layer}' (in {self.name})")
        return nests if self.only is None else [nests[i] for i in self.only]

    def rewrite(self, plan: list[ir.Operation]) -> ir.Operation:
        renamed = []
        for old in plan:
            new = old.clone(ip=ir.InsertionPoint(old))
            new.attributes[LAYER] = ir.StringAttr.get(self.to, context=old.context)
            for tag in (*self.tags, *(["test.renamed"] if self.mark else [])):
                new.attributes[tag] = ir.UnitAttr.get(context=old.context)
            old.erase()
            renamed.append(new)
        return renamed[0].operation


PASSES = (CountLoops, RenameLayer)
