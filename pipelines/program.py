"""`Program`: a network as affine nests, together with the module and the tensors that it was imported from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import nn
from torch_mlir import ir
from torch_mlir.passmanager import PassManager

from loopmorph.passes import marks
from loopmorph.passes.analysis.cost import macs
from loopmorph.passes.analysis.inheritance import source_indices
from loopmorph.passes.base import recorded_steps
from loopmorph.passes.lowering.fuse_elementwise import FuseElementwise
from loopmorph.passes.lowering.linalg_to_affine import LinalgToAffine
from loopmorph.passes.nest import functions, nests
from loopmorph.pipelines.importer import import_to_linalg


@dataclass(frozen=True)
class Layer:
    """One layer of a program.

    Attributes:
        name: qualified module name (`layer1.0.conv1`), or `module|node` for an operation of a module's own forward.
        extents: iterator name -> extent, outermost loop first, of the layer's main nest.
        macs: multiply-accumulate operations of its main nest, 0 unless that is a contraction.
    """

    name: str
    extents: Mapping[str, int | None]
    macs: int


@dataclass(frozen=True)
class Program:
    """A network as affine loop nests; immutable: `apply` returns a new one.

    Attributes:
        module: the MLIR module: one function, weights as marked arguments (see `loopmorph.passes.marks`).
        model: the network that was imported, in inference form; never modified.
        example_inputs: the inputs whose shapes the program has.
        imported: name -> tensor of each parameter, buffer and constant, as imported.
    """

    module: ir.Module
    model: nn.Module
    example_inputs: tuple[torch.Tensor, ...]
    imported: Mapping[str, torch.Tensor]

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers in program order, one for each main nest."""
        mains = [nest for nest in nests(self.module.operation) if nest.role == marks.MAIN]
        return tuple(Layer(n.layer, dict(zip(n.iterators, n.extents, strict=True)), macs(n)) for n in mains)

    @cached_property
    def parameters(self) -> dict[str, torch.Tensor]:
        """Name -> tensor for every parameter, buffer and constant that the program reads, in its present shape.

        A parameter whose shape a transformation changed inherits the imported values that its `morph.inherit` names.
        """
        result: dict[str, torch.Tensor] = {}
        for function in functions(self.module.operation):
            arguments = function.entry_block.arguments
            for argument, attributes in zip(arguments, marks.argument_marks(function), strict=True):
                if marks.PARAM in attributes:
                    name = ir.StringAttr(attributes[marks.PARAM]).value
                    result[name] = self._present(name, argument, attributes)
        return result

    @property
    def steps(self) -> tuple[str, ...]:
        """The transformations applied since import, as pass texts."""
        return tuple(recorded_steps(self.module.operation))

    def apply(self, text: str) -> Program:
        """The program after a pass pipeline (`morph-group{...},...`) or a schedule (transform IR); `self` stays.

        Raises:
            ArgumentError: malformed text; an unknown pass, option, layer or iterator.
            IllegalTransform: the program does not admit a step.
        """
        from loopmorph.dialects.morph import apply_schedule
        from loopmorph.passes.pipeline import run_pipeline

        module = copy_module(self.module)
        if "transform.named_sequence" in text:
            apply_schedule(module.operation, text)
        else:
            run_pipeline(module.operation, text)
        return replace(self, module=module)

    def to_module(self) -> nn.Module:
        """The network as a trainable module: a copy of the imported one with the rewritten layers replaced.

        Raises:
            IllegalTransform: the imported module's own code cannot run with the new shapes.
        """
        from loopmorph.pipelines.surgery import to_module

        return to_module(self)

    def __str__(self) -> str:
        return str(self.module)

    def _present(self, name: str, argument: ir.Value, attributes: Mapping[str, ir.Attribute]) -> torch.Tensor:
        tensor = self.imported[name]
        if marks.INHERIT not in attributes:
            return tensor
        shape = ir.MemRefType(argument.type).shape
        indices = source_indices(ir.AffineMapAttr(attributes[marks.INHERIT]).value, shape)
        return tensor[tuple(torch.from_numpy(index) for index in indices)].contiguous()


def import_model(model: nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> Program:
    """Imports the inference form of any convolutional module as affine nests.

    Args:
        model: a module that `torch.export` accepts; it is left as it is.
        example_inputs: one tensor per positional argument of `forward`; their shapes become static.

    Raises:
        ArgumentError: not a module, or not a tuple of tensors.
        ImportRefused: an operation that cannot be exported or lowered; says which, and where.
    """
    network = import_to_linalg(model, example_inputs)
    to_affine(network.module)
    return Program(network.module, model, example_inputs, network.parameters)


def to_affine(module: ir.Module) -> None:
    """Lowers linalg on tensors to affine nests in place, the element-wise steps of each layer merged."""
    LinalgToAffine().run(module.operation)
    FuseElementwise(scope="layer").run(module.operation)
    with module.context:
        PassManager.parse("builtin.module(canonicalize,cse)").run(module.operation)


def copy_module(module: ir.Module) -> ir.Module:
    """A copy in the same context, locations included."""
    return ir.Module.parse(module.operation.get_asm(enable_debug_info=True, large_elements_limit=None), module.context)
