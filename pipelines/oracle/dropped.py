"""Dropped blocks in PyTorch: the model's own code still adds the branch, so the modules in it give zeros.

The code around them stays the user's. Where it computes something between the last of these modules and the sum (a
factor, a ReLU), zeros have to come out of that as zeros; it is tried.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.analysis.memory.body_effects import BodyEffects
from loopmorph.passes.analysis.memory.dataflow import effects
from loopmorph.passes.analysis.residual_branch import ResidualBranch
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import view_nest
from loopmorph.passes.raising.nest_extract import extract
from loopmorph.pipelines.network import Network, called_module, copy_module, owning_module
from loopmorph.pipelines.oracle.surgery_check import eval_mode
from loopmorph.pipelines.rewritten.dropped_module import DroppedModule
from loopmorph.pipelines.rewritten.module_tensors import own_tensors
from loopmorph.pipelines.rewritten.nest_executor import check_supported, execute
from loopmorph.pipelines.support.hooks import hooked
from loopmorph.pipelines.support.module_paths import is_within


@dataclass(frozen=True)
class _Output:
    """What a module gave: its shape, and the rows of what it was given."""

    shape: tuple[int, ...]
    rows: int


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
    sums = _Sums(program)
    for step in steps:
        with module.context:
            branch = step.analyze(module.operation)
            gone.update(branch.layers)
            found = _outermost(layers, gone, outputs)
            sums.add(branch, _check_zeros(program, branch, found))
        if step is not steps[-1]:
            step.apply(module.operation)
    return {path: DroppedModule(sums.shape(path, output.shape), output.rows) for path, output in found.items()}


@dataclass
class _Sums:
    """The shapes that the sums have by now, which other transformations may have made smaller.

    Attributes:
        program: the rewritten network.
        skips: the layer of a sum that was dropped -> the layer that its skip is the result of.
        shapes: the layer of a sum -> the shape of its result in the original.
        ends: a module -> the layer of the sum that its output goes into.
    """

    program: Network
    skips: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    ends: dict[str, str] = field(default_factory=dict)

    def add(self, branch: ResidualBranch, last: Iterable[str]) -> None:
        """Notes a sum, and the modules whose outputs go into it, through no other module."""
        total = branch.sum
        layer = total.nest.layer
        writers = BodyEffects(total.nest.root.operation.block).writers(total.skip.memref)
        self.skips[layer] = _layer(writers[-1]) if writers else ""
        self.shapes[layer] = tuple(ir.MemRefType(total.result.memref.type).shape)
        self.ends.update({path: layer for path in last})

    def shape(self, path: str, before: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a module's output, which has to go with the skip's, by now."""
        layer = self.ends.get(path, "")
        if self.shapes.get(layer) != before:
            return before
        while layer in self.skips and layer not in self.program.nests_by_layer:
            layer = self.skips[layer]
        nests = self.program.nests_by_layer.get(layer, [])
        stores = [store for nest in nests for store in nest.stores]
        return tuple(ir.MemRefType(stores[-1].memref.type).shape) if stores else before


def _outermost(layers: list[str], gone: set[str], outputs: Mapping[str, _Output]) -> dict[str, _Output]:
    """The modules, of those with a known output, all layers of which are gone, but for those within others."""
    found: dict[str, _Output] = {}
    for path, output in outputs.items():
        inside = [layer for layer in layers if is_within(owning_module(layer), path)]
        if inside and gone.issuperset(inside) and not any(is_within(path, other) for other in found):
            found[path] = output
    return found


# Model -> the arguments that it was run with, and what came out: each surgery of what was made of it asks for them.
_KNOWN: WeakKeyDictionary[nn.Module, tuple[Any, Any, dict[str, _Output]]] = WeakKeyDictionary()


def _outputs(program: Network) -> dict[str, _Output]:
    """The outputs of those modules that are called once, with a tensor, and give one; outer ones before inner ones.

    The model is run for them once for the same example inputs.
    """
    inputs, named, found = _KNOWN.get(program.model, (None, None, dict[str, _Output]()))
    if inputs is not program.example_inputs or named is not program.example_kwargs:
        found = _run(program)
        _KNOWN[program.model] = program.example_inputs, program.example_kwargs, found
    return found


def _run(program: Network) -> dict[str, _Output]:
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


def _check_zeros(program: Network, branch: ResidualBranch, replaced: Collection[str]) -> list[str]:
    """The modules, of those that give zeros, whose outputs reach the sum through the model's own code alone.

    Raises:
        IllegalTransform: this code makes other than zeros of zeros.
    """
    makers = {
        memref: path
        for op in branch.ops
        for path in replaced
        if is_within(owning_module(_layer(op)), path)
        for memref in effects(op).writes
    }
    wanted, ops = {branch.sum.branch}, list[ir.Operation]()
    for op in reversed(branch.ops):
        effect = effects(op)
        if effect.writes & (wanted - makers.keys()):
            ops.insert(0, op)
            wanted |= effect.reads
    last = [makers[memref] for memref in wanted if memref in makers]
    if ops:
        _require_no_module(program, ops)
        _require_zeros(program, branch, ops, makers.keys())
    return last


def _require_no_module(program: Network, ops: Iterable[ir.Operation]) -> None:
    modules = {name for name, module in program.model.named_modules() if name and own_tensors(module)}
    for name in [called_module(_layer(op)) for op in ops]:
        if name in modules:
            reason = "it is called by what stays, too, or gives something else than one tensor"
            raise IllegalTransform(f"module '{name}'", f"{reason}, so that it cannot give zeros for what is dropped")


def _require_zeros(
    program: Network, branch: ResidualBranch, ops: Sequence[ir.Operation], zeros: Collection[ir.Value]
) -> None:
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
        where = f"layer '{_layer(ops[-1])}'"
        raise IllegalTransform(where, f"{reason}; computed by a module it could be dropped as well")


def _layer(op: ir.Operation) -> str:
    return marks.get_text(op, marks.LAYER)
