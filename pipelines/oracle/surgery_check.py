"""After surgery: does the user's own code run with the new shapes, and does it compute what the program has?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.hooks import RemovableHandle
from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.history import layer_of
from loopmorph.passes.nest import functions
from loopmorph.pipelines.network import Network, called_module
from loopmorph.pipelines.rewritten.nest_module import NestModule
from loopmorph.pipelines.support.hooks import hooked
from loopmorph.pipelines.support.inference import switch_to_inference

_CHECKED_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, _NormBase, NestModule)


class CodeDiffers(IllegalTransform):
    """Code of the model that does not go with the new shapes: that of the module `path`."""

    def __init__(self, operation: str, reason: str, path: str) -> None:
        super().__init__(operation, reason)
        self.path = path


def check_runs(program: Network, model: nn.Module) -> None:
    """Runs the model once on the program's example inputs (eval mode, no gradients) and compares shapes.

    Raises:
        CodeDiffers: the model's code fails, or a layer gives another number of elements than its nests.
        IllegalTransform: the output has another shape than the program's.
    """
    sizes = _layer_sizes(program)
    path: list[str] = []
    wrong: list[tuple[str, str]] = []
    with eval_mode(model), torch.no_grad(), hooked(_watching(model, path, wrong, sizes)):
        try:
            outputs = model(*program.example_inputs, **program.example_kwargs)
        except Exception as error:  # the user's own forward: whatever it raises is about the new shapes
            text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
            where = f"module '{path[-1]}'" if path and path[-1] else "the model's own forward"
            reason = f"{where} does not run with the new shapes: {type(error).__name__}: {text}"
            raise CodeDiffers("model", reason, path[-1] if path else "") from error
    if wrong:
        name, reason = wrong[0]
        raise CodeDiffers("model", reason, name.rpartition(".")[0])
    shapes = [tuple(x.shape) for x in program.results(outputs)]
    expected = _output_shapes(program)
    if shapes != expected:
        raise IllegalTransform("model", f"its output has shape {shapes}, the rewritten program's is {expected}")


def fused_layers(program: Network) -> frozenset[str]:
    """The layers whose nests may compute what comes after them, too, as an epilogue was fused."""
    fused = [layer_of(step) for step in program.history if step.scope == "neighbours"]
    return frozenset(filter(None, fused))


def _layer_sizes(program: Network) -> dict[str, set[int]]:
    """Module name -> the numbers of elements that its calls store, by the last buffer that each call's nests write.

    Layers with a fused epilogue are left out: that buffer is another layer's.
    """
    last: dict[str, int] = {}
    fused = fused_layers(program)
    for nest in [n for n in program.nests if n.layer not in fused]:
        for store in nest.stores:
            last[nest.layer] = math.prod(ir.MemRefType(store.memref.type).shape)
    sizes: dict[str, set[int]] = {}
    for layer, size in last.items():
        sizes.setdefault(called_module(layer), set()).add(size)
    return sizes


def _output_shapes(program: Network) -> list[tuple[int, ...]]:
    shapes: dict[int, tuple[int, ...]] = {}
    for function in functions(program.module.operation):
        arguments = function.entry_block.arguments
        for argument, attributes in zip(arguments, marks.argument_marks(function), strict=True):
            if marks.OUTPUT in attributes:
                position = ir.IntegerAttr(attributes[marks.OUTPUT]).value
                shapes[position] = tuple(ir.MemRefType(argument.type).shape)
    return [shapes[k] for k in sorted(shapes)]


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """All modules in eval mode for a while."""
    modes = {module: module.training for module in model.modules()}
    switch_to_inference(model)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _watching(
    model: nn.Module, path: list[str], wrong: list[tuple[str, str]], sizes: dict[str, set[int]]
) -> Iterator[RemovableHandle]:
    """Keeps `path` at the modules that are running, and notes layers whose output has an unexpected size."""
    for name, module in model.named_modules():

        def enter(module: nn.Module, args: Any, name: str = name) -> None:
            path.append(name)

        def leave(module: nn.Module, args: Any, output: Any, name: str = name) -> None:
            path.pop()
            known = isinstance(module, _CHECKED_LAYERS) and name in sizes and isinstance(output, torch.Tensor)
            if known and output.numel() not in sizes[name]:
                text = f"module '{name}' gives {tuple(output.shape)} in the model's own code, but "
                text += f"{' or '.join(map(str, sorted(sizes[name])))} elements in the rewritten program"
                wrong.append((name, text))

        yield module.register_forward_pre_hook(enter)
        yield module.register_forward_hook(leave)
