"""A network as another process is sent it: with the nests that it was imported as, which are not made again there.

To load PyTorch's exporter and to run it takes a process of its own as long as all that it loads beside that.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch_mlir import ir

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.program import Program, import_model
from loopmorph.pipelines.support.structure import TensorLeaf, plain_structure


@dataclass(frozen=True)
class SentProgram:
    """A network as it was imported, in what can be pickled where its model can.

    Attributes:
        model: the network that was imported.
        example_inputs: as it was imported with.
        module: its nests as MLIR bytecode; None where it has to be imported again: classes that it takes or returns
            are then made known to PyTorch in the other process, too.
        tensors: name -> parameter, buffer or constant, as imported; None for the model's own tensor of that name.
    """

    model: nn.Module
    example_inputs: tuple[Any, ...]
    module: bytes | None
    tensors: Mapping[str, torch.Tensor | None]

    @staticmethod
    def of(program: Program) -> SentProgram:
        """A program to be sent.

        Raises:
            ArgumentError: it was transformed already.
        """
        if program.steps:
            raise ArgumentError("program", "expected a network as it was imported, got one that was transformed")
        if not _is_plain(program):
            return SentProgram(program.model, program.example_inputs, None, {})
        own, content = _own_tensors(program.model), io.BytesIO()
        program.module.operation.write_bytecode(content)
        tensors = {name: None if _equal(each, own.get(name)) else each for name, each in program.imported.items()}
        return SentProgram(program.model, program.example_inputs, content.getvalue(), tensors)

    def program(self) -> Program:
        """The network, in an MLIR context of its own.

        Raises:
            ImportRefused: it is imported again, and cannot be.
        """
        if self.module is None:
            return import_model(self.model, self.example_inputs)
        module, own = ir.Module.parse(self.module, ir.Context()), _own_tensors(self.model)
        imported = {name: own[name] if tensor is None else tensor for name, tensor in self.tensors.items()}
        return Program(module, self.model, self.example_inputs, imported, module)


def _is_plain(program: Program) -> bool:
    """Whether it takes tensors by position, and returns a tensor or a tuple of them."""
    if program.structure is None:
        return True
    trees = program.structure.inputs, program.structure.outputs
    taken, given = ([leaf.dtype for leaf in tree.leaves if isinstance(leaf, TensorLeaf)] for tree in trees)
    return program.structure == plain_structure(taken, given)


def _own_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    named = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    return {name: tensor.detach() for name, tensor in named}


def _equal(tensor: torch.Tensor, own: torch.Tensor | None) -> bool:
    return own is not None and (own.dtype, own.device) == (tensor.dtype, tensor.device) and torch.equal(own, tensor)
