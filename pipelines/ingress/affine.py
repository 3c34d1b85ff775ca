"""From an `nn.Module` to affine nests."""

from __future__ import annotations

import torch
from torch import nn
from torch_mlir import ir
from torch_mlir.passmanager import PassManager

from loopmorph.passes.ingress.keep_nans import KeepNans
from loopmorph.passes.ingress.linalg_to_affine import LinalgToAffine
from loopmorph.passes.lowering.fuse_elementwise import FuseElementwise
from loopmorph.pipelines.ingress.importer import import_to_linalg
from loopmorph.pipelines.network import Network


def import_network(model: nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> Network:
    """Imports the inference form of a module as affine nests.

    Args:
        model: a module that `torch.export` accepts; it is left as it is.
        example_inputs: one tensor per positional argument of `forward`; their shapes become static.

    Raises:
        ArgumentError: not a module, or not a tuple of tensors.
        ImportRefused: an operation that cannot be exported or lowered; says which, and where.
    """
    imported = import_to_linalg(model, example_inputs)
    to_affine(imported.module)
    return Network(imported.module, model, example_inputs, imported.parameters, imported.module)


def to_affine(module: ir.Module) -> None:
    """Lowers linalg on tensors to affine nests in place, the element-wise steps of each layer merged."""
    KeepNans().run(module.operation)
    LinalgToAffine().run(module.operation)
    FuseElementwise(scope="layer").run(module.operation)
    with module.context:
        PassManager.parse("builtin.module(canonicalize,cse)").run(module.operation)
