"""Code restricted to the instructions of its target; LLVM's engine would take all that this computer has."""

from __future__ import annotations

from torch_mlir import ir

from loopmorph.passes.target.instructions import instructions
from loopmorph.passes.target.target import Target


def restrict_instructions(module: ir.Module, target: Target) -> None:
    """Tells LLVM, for each function of a module in its dialect, which instructions it may use; in place.

    Args:
        module: the module.
        target: the processor.
    """
    with module.context:
        allowed = instructions(target)
        features = ", ".join(f'"{each}"' for each in allowed.features)
        attributes = {
            "target_cpu": ir.StringAttr.get(allowed.base),
            "tune_cpu": ir.StringAttr.get(allowed.tuning),
            "target_features": ir.Attribute.parse(f"#llvm.target_features<[{features}]>"),
        }
        module.operation.attributes["llvm.target_triple"] = ir.StringAttr.get(target.triple)
        for op in filter(has_body, module.body.operations):
            for name, value in attributes.items():
                op.operation.attributes[name] = value


def has_body(op: ir.OpView) -> bool:
    """Whether an operation is a function in LLVM's dialect that is defined, and not only declared."""
    return op.operation.name == "llvm.func" and len(op.operation.regions[0].blocks) > 0
