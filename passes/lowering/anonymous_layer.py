"""A layer's module without names: the text by which layers that compute the same, anywhere, are known as equal."""

from __future__ import annotations

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.history import history, record
from loopmorph.passes.nest import functions

ANY_LAYER = "layer"  # what a layer is called in the text of a module that stands for all layers like it


def anonymous_text(module: ir.Module) -> str:
    """The text of an extracted layer without what does not change its code; `module` is changed in place.

    All layers are called `ANY_LAYER`, parameters have numbers for names; names of nodes and locations are left out.
    """
    layer = ir.StringAttr.get(ANY_LAYER, module.context)

    def forget(op: ir.Operation) -> ir.WalkResult:
        if marks.LAYER in op.attributes:
            op.attributes[marks.LAYER] = layer
        if marks.NODE in op.attributes:
            del op.attributes[marks.NODE]
        return ir.WalkResult.ADVANCE

    steps = history(module.operation)
    with module.context:
        module.operation.walk(forget)
        for function in functions(module.operation):
            numbered = [_anonymous(k, attributes) for k, attributes in enumerate(marks.argument_marks(function))]
            marks.set_argument_marks(function, numbered)
        if steps:
            del module.operation.attributes[marks.SCHEDULE]
            record(module.operation, *(step.on(ANY_LAYER) for step in steps))
    return str(module)


def _anonymous(position: int, attributes: dict[str, ir.Attribute]) -> dict[str, ir.Attribute]:
    forgotten = (marks.INHERIT, marks.SOURCE, marks.IDENTITY)
    kept = {name: attribute for name, attribute in attributes.items() if name not in forgotten}
    if marks.PARAM in kept:
        kept[marks.PARAM] = ir.StringAttr.get(str(position))
    return kept
