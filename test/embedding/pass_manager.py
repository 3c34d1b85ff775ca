"""A pass manager of another project with loopmorph's passes inside, upstream's before, between and after them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.passmanager import PassManager

from loopmorph.passes import IllegalTransform, Pass, parse_pipeline


@dataclass(frozen=True)
class RequireLayers(Pass):
    """Refuses a program with fewer than `least` nests of different layers."""

    name: ClassVar[str] = "their-require-layers"
    least: int = 1

    def run(self, module: ir.Operation) -> None:
        functions = module.regions[0].blocks[0]
        blocks = [block for function in functions for region in function.regions for block in region]
        found = {
            str(op.attributes["morph.layer"]) for block in blocks for op in block if "morph.layer" in op.attributes
        }
        if len(found) < self.least:
            raise IllegalTransform("module", f"{len(found)} layers, fewer than {self.least}")


def optimise(module: ir.Module) -> None:
    """Splits and unrolls the nest of the layer `double`, in place."""
    manager = PassManager("builtin.module", context=module.context)
    manager.add("canonicalize")
    manager.add("func.func(affine-loop-normalize)")
    ours = """
        their-require-layers,
        morph-split{layer=double iter=i factor=8},
        func.func(cse),
        morph-unroll{layer=double iter=i.1 factor=8}
    """
    parse_pipeline(ours, extra=[RequireLayers]).add_to(manager)
    manager.add("func.func(affine-scalrep)")
    manager.run(module.operation)
