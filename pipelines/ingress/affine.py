"""From an `nn.Module` to affine nests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch_mlir import ir
from torch_mlir.passmanager import PassManager

from loopmorph.passes.ingress.keep_nans import KeepNans
from loopmorph.passes.ingress.linalg_to_affine import LinalgToAffine
from loopmorph.passes.layout.drop_empty_loops import DropEmptyLoops
from loopmorph.passes.lowering.fuse_elementwise import FuseElementwise
from loopmorph.pipelines.ingress.importer import import_to_linalg
from loopmorph.pipelines.network import Network


def import_network(
    model: nn.Module, example_inputs: tuple[Any, ...], example_kwargs: Mapping[str, Any] | None = None
) -> Network:
    """Imports the inference form of a module as affine nests.

    Args:
        model: a module that `torch.export` accepts; it is left as it is.
        example_inputs: the positional arguments of `forward` (see `import_to_linalg`); shapes become static.
        example_kwargs: its keyword arguments.

    Raises:
        ArgumentError: not a module, or arguments that hold something else than tensors and constants.
        ImportRefused: an operation that cannot be exported or lowered, or has effects; says which, and where.
    """
    imported = import_to_linalg(model, example_inputs, example_kwargs)
    to_affine(imported.module)
    module = imported.module
    kwargs = dict(example_kwargs or {})
    return Network(module, model, example_inputs, imported.parameters, module, kwargs, imported.structure)


def to_affine(module: ir.Module) -> None:
    """Lowers linalg on tensors to affine nests in place, the element-wise steps of each layer merged."""
    KeepNans().run(module.operation)
    LinalgToAffine().run(module.operation)
    DropEmptyLoops().run(module.operation)
    FuseElementwise(scope="layer").run(module.operation)
    with module.context:
        PassManager.parse("builtin.module(canonicalize,cse)").run(module.operation)
