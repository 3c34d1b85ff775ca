"""Machine code for MLIR that nobody here imported: linalg on tensors or memrefs, or affine nests."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.diagnostics import illegal
from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.passes.ingress.entry import Entry
from loopmorph.passes.ingress.linalg_to_affine import LinalgToAffine
from loopmorph.passes.input_check import check_input
from loopmorph.passes.nest import functions
from loopmorph.passes.pipeline import run_pipeline
from loopmorph.passes.target.detect import resolve_target
from loopmorph.passes.target.target import Target
from loopmorph.passes.text.nesting import MOST_LEVELS, too_deep
from loopmorph.pipelines.codegen.compiled_code import bind_memory
from loopmorph.pipelines.codegen.jit import compile_module
from loopmorph.pipelines.codegen.native import NativeCode
from loopmorph.pipelines.codegen.signature import ELEMENT_TYPES
from loopmorph.pipelines.network import Network


class MlirFunction:
    """A compiled function of a foreign module, to be called on arrays.

    Attributes:
        native: its machine code, and what that takes.
    """

    def __init__(self, native: NativeCode, parameters: Mapping[str, torch.Tensor]) -> None:
        self.native = native
        self._memory = bind_memory(native, parameters)
        native.prepare()

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """Computes the outputs, in the order of `morph.output`, given the inputs in the order of `morph.input`.

        Elements of outputs that the function does not write are 0.

        Raises:
            ArgumentError: an input is missing, or has another shape or element type.
        """
        kept: list[np.ndarray] = []
        outputs: dict[int, np.ndarray] = {}
        expected = 1 + max((int(a.key) for a in self.native.run.arguments if a.role == "input"), default=-1)
        if len(inputs) < expected:
            raise ArgumentError("inputs", f"{len(inputs)} arrays were given; {expected} are expected")
        for position, argument in enumerate(self.native.run.arguments):
            if argument.role == "input":
                array = np.array(inputs[int(argument.key)], order="C")
                if array.shape != argument.shape or array.dtype.name != argument.dtype:
                    wanted = f"expected {argument.dtype} of shape {argument.shape}"
                    raise ArgumentError(
                        "inputs", f"input {argument.key} is {array.dtype} of shape {array.shape}; {wanted}"
                    )
            elif argument.role == "output":
                array = outputs[int(argument.key)] = np.zeros(argument.shape, argument.dtype)
            else:
                continue
            kept.append(array)
            self.native.run.bind(position, array.ctypes.data)
        self.native.run()
        return [outputs[key] for key in sorted(outputs)]


def compile_mlir(
    text: str,
    *,
    function: str = "",
    parameters: Mapping[int, np.ndarray] | None = None,
    pipeline: str = "",
    target: Target | str = "native",
    threads: int = 1,
) -> MlirFunction:
    """Compiles one function of a module for this computer: `morph-linalg-to-affine`, `morph-entry`, the pipeline.

    Args:
        text: the module.
        function: the function's name; by default the only entry point that it has.
        parameters: position of an argument -> its values, which are fixed.
        pipeline: passes to run on the affine nests, before the default schedule of those that it leaves alone.
        target: the processor that the code is laid out for.
        threads: number of threads.

    Raises:
        DataError: the text nests too deeply.
        ArgumentError: an argument names something that is not there.
        ImportRefused: an operation that is no affine nest; names it and its place.
        IllegalTransform: the text is no valid module, has no or several entry points, or does not admit the pipeline.
        CompilationFailed: an operation that cannot be lowered.
    """
    if too_deep(text) is not None:
        raise DataError(f"the module nests deeper than {MOST_LEVELS} levels")
    given = {k: torch.from_numpy(np.array(value, order="C")) for k, value in (parameters or {}).items()}
    with ir.Context():
        try:
            module = ir.Module.parse(text)
        except ir.MLIRError as error:
            raise illegal(error) from error
        check_input(module)
        for each in (LinalgToAffine(), Entry(function, tuple(sorted(given)))):
            each.run(module.operation)
        values = _named_parameters(module, given)
        if pipeline:
            run_pipeline(module, pipeline)
        # What is rewritten inherits its weights as an imported network does; there is no PyTorch model behind it.
        network = Network(module, nn.Module(), (), values)
        values = dict(network.parameters)
        native = compile_module(module, resolve_target(target), threads)
    return MlirFunction(native, values)


def _named_parameters(module: ir.Module, given: Mapping[int, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The values of all arguments that are parameters, by `morph.param`.

    Raises:
        ArgumentError: they are missing, or have another shape or element type.
    """
    (main,) = functions(module.operation)
    found = {}
    for position, (argument, own) in enumerate(
        zip(main.entry_block.arguments, marks.argument_marks(main), strict=True)
    ):
        if marks.PARAM not in own:
            continue
        type_, tensor = ir.MemRefType(argument.type), given.get(position)
        if tensor is None:
            reason = f"argument {position} is a parameter; expected its values, as {position}: ARRAY"
            raise ArgumentError("parameters", reason)
        element = ELEMENT_TYPES.get(str(type_.element_type))
        if tuple(type_.shape) != tuple(tensor.shape) or element != str(tensor.dtype).removeprefix("torch."):
            reason = f"argument {position} is {type_}; got {tensor.dtype} of shape {tuple(tensor.shape)}"
            raise ArgumentError("parameters", reason)
        found[ir.StringAttr(own[marks.PARAM]).value] = tensor
    return found
