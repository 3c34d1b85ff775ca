"""Dropped blocks in PyTorch: the model's own code still adds the branch, so the modules in it give zeros.

The code around them stays the user's. Where it computes something between the last of these modules and the sum (a
factor, a ReLU), zeros have to come out of that as zeros; it is tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.analysis.memory.dataflow import effects
from loopmorph.passes.analysis.residual_branch import ResidualBranch
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import view_nest
from loopmorph.passes.raising.nest_extract import extract
from loopmorph.pipelines.network import Network, copy_module, is_within, owning_module
from loopmorph.pipelines.oracle.nest_executor import check_supported, execute
from loopmorph.pipelines.oracle.surgery_check import eval_mode
from loopmorph.pipelines.support.hooks import hooked


@dataclass(frozen=True)
class _Output:
    """What a module gave: its shape, and the rows of what it was given."""

    shape: tuple[int, ...]
    rows: int


class DroppedModule(nn.Module):
    """In the place of a module that was dropped: gives zeros of its output's shape, and holds nothing.

    Args:
        shape: of the output.
        rows: of the input, along axis 0, that gave this shape; with other inputs the output has rows in proportion.
    """

    def __init__(self, shape: tuple[int, ...], rows: int) -> None:
        super().__init__()
        self.shape, self.rows = shape, rows

    def forward(self, *inputs: Any, **named: Any) -> torch.Tensor:
        """Zeros, with the dtype and on the device of the first input that is a tensor."""
        given = next(x for x in (*inputs, *named.values()) if isinstance(x, torch.Tensor))
        return given.new_zeros(given.shape[0] * self.shape[0] // self.rows, *self.shape[1:])

    def extra_repr(self) -> str:
        """The shape of the zeros."""
        return f"shape={self.shape}"


def dropped_modules(program: Network) -> dict[str, DroppedModule]:
    """What takes the place of the modules that transformations have removed from a network, by their names.

    These are the outermost modules all layers of which have gone.

    Raises:
        IllegalTransform: the model's own code makes other than zeros of the zeros; or it is not known what the program
            was imported as.
    """
    steps = [step for step in program.history if step.takes_away]
    if not steps:
        return {}
    if program.origin is None or program.original is None:
        raise IllegalTransform("program", f"{steps[0]} has taken layers away, and what it was before is not known")
    outputs = _outputs(program)
    layers = list(program.original.nests_by_layer)
    module = copy_module(program.origin)
    gone: set[str] = set()
    found: dict[str, _Output] = {}
    for step in steps:
        with module.context:
            branch = step.analyze(module.operation)
        gone.update(branch.layers)
        found = _outermost(layers, gone, outputs)
        _check_zeros(program, branch, found)
        step.apply(module.operation)
    return {path: DroppedModule(output.shape, output.rows) for path, output in found.items()}


def _outermost(layers: list[str], gone: set[str], outputs: Mapping[str, _Output]) -> dict[str, _Output]:
    """The modules, of those with a known output, all layers of which are gone, but for those within others."""
    found: dict[str, _Output] = {}
    for path, output in outputs.items():
        inside = [layer for layer in layers if is_within(owning_module(layer), path)]
        if inside and gone.issuperset(inside) and not any(is_within(path, other) for other in found):
            found[path] = output
    return found


def _outputs(program: Network) -> dict[str, _Output]:
    """The outputs of those modules that are called once, with a tensor, and give one; outer ones before inner ones."""
    seen: dict[str, list[_Output | None]] = {}
    model = program.model

    def watching() -> Iterator[RemovableHandle]:
        for name, module in model.named_modules():
            yield module.register_forward_hook(_noting(seen.setdefault(name, [])), with_kwargs=True)

    with eval_mode(model), torch.no_grad(), hooked(watching()):
        model(*program.example_inputs, **program.example_kwargs)
    return {name: calls[0] for name, calls in seen.items() if len(calls) == 1 and calls[0] is not None}


def _noting(calls: list[_Output | None]) -> Any:
    def note(_module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        given = [x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor)]
        known = isinstance(output, torch.Tensor) and output.dim() and given and given[0].is_floating_point()
        rows = given[0].shape[0] if known and given[0].dim() else 0
        calls.append(_Output(tuple(output.shape), rows) if rows else None)

    return note


def _check_zeros(program: Network, branch: ResidualBranch, replaced: Mapping[str, _Output]) -> None:
    """Raises:
    IllegalTransform: where the modules give zeros, what reaches the sum are no zeros.
    """
    ops, zeros = _own_code(branch, replaced)
    if not ops:
        return
    layer = marks.get_text(ops[-1], marks.LAYER)
    found = extract([view_nest(op.opview) for op in ops])
    check_supported(found.recipe)
    generator = torch.Generator().manual_seed(0)
    given = {k: program.imported[found.recipe.buffers[k].name] for k in found.recipe.numbers("parameter")}
    for number in found.recipe.numbers("input"):
        others = torch.rand(found.recipe.buffers[number].shape, generator=generator)
        given[number] = torch.zeros_like(others) if found.memrefs[number] in zeros else others
    results = execute(found.recipe, given)
    if any(bool((results[k] != 0).any()) for k, memref in enumerate(found.memrefs) if memref == branch.sum.branch):
        reason = "the model's own code computes it from what is dropped, and makes other than zeros of zeros"
        raise IllegalTransform(f"layer '{layer}'", f"{reason}; computed by a module it could be dropped as well")


def _own_code(branch: ResidualBranch, replaced: Mapping[str, _Output]) -> tuple[list[ir.Operation], set[ir.Value]]:
    """What the model's own code computes between the replaced modules and the sum, and what these give."""
    by_module = [op for op in branch.ops if any(is_within(_module(op), path) for path in replaced)]
    zeros = {memref for op in by_module for memref in effects(op).writes}
    wanted, found = {branch.sum.branch} - zeros, list[ir.Operation]()
    for op in reversed(branch.ops):
        effect = effects(op)
        if effect.writes & wanted:
            found.append(op)
            wanted |= effect.reads - zeros
    return found[::-1], zeros


def _module(op: ir.Operation) -> str:
    return owning_module(marks.get_text(op, marks.LAYER))
