"""Modules whose own code fixes shapes that have changed: their nests take the place of the code.

Attention's code names its heads (`reshape(n, t, 3, heads, -1)`), which fewer heads, or fewer features of queries and
keys alone, cannot follow from the shapes of parameters. The convolutions and linear layers in such a module stay
modules (see `NestedCode`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch_mlir import ir

from loopmorph.passes.affine_expr import used_dims
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Nest
from loopmorph.passes.raising import index_forms as forms
from loopmorph.passes.raising.nest_extract import Extraction, extract
from loopmorph.passes.raising.nest_recipe import Buffer, BufferKind, Load, Recipe, Statement, map_loads
from loopmorph.passes.raising.raise_nest import multiplies_parameters
from loopmorph.pipelines.network import Network, called_module, owning_module
from loopmorph.pipelines.oracle.linear_terms import is_plain, linear_terms
from loopmorph.pipelines.oracle.surgery_check import eval_mode
from loopmorph.pipelines.rewritten.module_tensors import named_tensors
from loopmorph.pipelines.rewritten.nest_module import NestModule
from loopmorph.pipelines.rewritten.nested_code import CONSTANT, ModuleCall, NestedCode, Ports
from loopmorph.pipelines.support.agreement import TOLERANCE, relative_error
from loopmorph.pipelines.support.hooks import hooked
from loopmorph.pipelines.support.module_paths import is_within

_ALL: tuple[BufferKind, ...] = get_args(BufferKind)
_CONSTANTS = 1e-6  # relative error of what float32 makes of a nest's constants
_CALLED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, NestModule)


def reindexed_code(program: Network) -> set[str]:
    """The modules whose own code computes with indices that have changed in more than their ranges.

    Not of code that multiplies parameters, which is told apart by what it computes (see `check_own_code`).
    """
    original = program.original
    if original is None:
        return set()
    before = original.nests_by_layer
    return {
        owning_module(name)
        for name, nests in program.nests_by_layer.items()
        if "|" in name and name in before and not multiplies_parameters(nests) and _reindexed(before[name], nests)
    }


def _reindexed(before: Sequence[Nest], now: Sequence[Nest]) -> bool:
    pairs = zip(before, now, strict=False)
    indices = [(e, f) for a, b in pairs for x, y in zip(a.accesses, b.accesses, strict=False) for e, f in _pairs(x, y)]
    return any(str(e) != str(f) and (len(used_dims(e)) > 1 or "floordiv" in str(e)) for e, f in indices)


def _pairs(one: Any, other: Any) -> Iterable[tuple[ir.AffineExpr, ir.AffineExpr]]:
    return zip(one.exprs, other.exprs, strict=False)


def with_nested_code(program: Network, model: nn.Module, owners: Iterable[str]) -> nn.Module:
    """The rewritten model with the nests of some modules in the place of their own code.

    Code that computes what its nests do stays.

    Args:
        program: the rewritten program.
        model: after surgery; changed.
        owners: the names of the modules, of which the outermost are taken.

    Raises:
        IllegalTransform: a module runs several times, gives or takes more than its nests tell, or reads a view.
    """
    names = sorted(owners)
    outer = [name for name in names if not any(is_within(name, other) and name != other for other in names)]
    runs = _recorded(program.model, program, outer)
    for path in outer:
        if len(runs[path]) != 1:
            reason = "its code has to be replaced by its nests, which is possible where it runs once"
            raise IllegalTransform(f"module '{path}'", f"{reason}; it runs {len(runs[path])} times")
        model = _replaced(program, model, path, runs[path][0])
    return model


@dataclass(frozen=True)
class _Run:
    """The tensors that a module was given, and what it gave."""

    tensors: list[torch.Tensor]
    output: Any


def _recorded(model: nn.Module, program: Network, paths: Sequence[str]) -> dict[str, list[_Run]]:
    found: dict[str, list[_Run]] = {path: [] for path in paths}

    def record(path: str) -> Any:
        def hook(_module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            leaves = pytree.tree_leaves((args, kwargs))
            found[path].append(_Run([x for x in leaves if isinstance(x, torch.Tensor)], output))

        return hook

    modules = dict(model.named_modules())
    hooks = (modules[path].register_forward_hook(record(path), with_kwargs=True) for path in paths)
    with eval_mode(model), torch.no_grad(), hooked(hooks):
        model(*program.example_inputs, **program.example_kwargs)
    return found


def _replaced(program: Network, model: nn.Module, path: str, run: _Run) -> nn.Module:
    """The model with one module's code replaced, unless that computes the same."""
    where = f"module '{path}'"
    if not isinstance(run.output, torch.Tensor):
        raise IllegalTransform(where, "its code has to be replaced by its nests, and gives no single tensor")
    original = program.original or program
    twin = _code(original, program.model, path, run)
    with eval_mode(program.model), torch.no_grad():
        same = _agrees(twin, run.tensors, run.output, TOLERANCE)
    if not same:
        reason = "its code has to be replaced by its nests, which read views that code outside of it computes"
        raise IllegalTransform(where, reason)
    old = dict(model.named_modules())[path]
    new = _code(program, model, path, run, twin.ports.arguments)
    return _put(model, path, old if _computes_alike(old, new, run) else new)


def _computes_alike(old: nn.Module, new: NestedCode, run: _Run) -> bool:
    """Whether a module's own code still computes what its nests do: in float64, as heads cut otherwise differ little
    where attention is nearly even, as it is at initialisation.
    """
    exact = [x.double() if x.is_floating_point() else x for x in run.tensors]
    old, new = copy.deepcopy(old).double(), copy.deepcopy(new).double()
    try:
        with eval_mode(old), torch.no_grad():
            output = old(*exact)
    except Exception:  # the user's own code: whatever it raises is about the new shapes
        return False
    with eval_mode(new), torch.no_grad():
        return isinstance(output, torch.Tensor) and _agrees(new, exact, output, _CONSTANTS)


def _agrees(module: NestedCode, tensors: Sequence[torch.Tensor], output: torch.Tensor, error: float) -> bool:
    return relative_error(module(*tensors), output) <= error


def _put(model: nn.Module, path: str, new: nn.Module) -> nn.Module:
    if not path:
        return new
    model.set_submodule(path, new)
    return model


def _code(
    program: Network, model: nn.Module, path: str, run: _Run, arguments: tuple[int, ...] | None = None
) -> NestedCode:
    """A module of `model` whose code is its nests in `program`."""
    work = _Assembly(program, path, dict(model.named_modules()))
    for name, nests in program.nests_by_layer.items():
        if is_within(owning_module(name), path):
            work.add(name, nests)
    recipe = work.recipe()
    order = arguments if arguments is not None else _matched(recipe, run, path)
    (output,) = recipe.numbers("output")
    held = {name: name.removeprefix(f"{path}." if path else "") for name in work.parameters}
    new = NestedCode(recipe, work.calls, Ports(order, _result_shape(recipe.buffers[output], run, path)), held)
    old = model.get_submodule(path)
    new.take(old)
    known = {name for name, _ in named_tensors(old)}
    for name in [name for name, local in held.items() if local not in known]:
        new.names[name] = local = f"{CONSTANT}{len(new.names)}_{name.rpartition('.')[2]}"
        new.register_buffer(local, program.parameters[name].detach().clone())
    return new


def _matched(recipe: Recipe, run: _Run, path: str) -> tuple[int, ...]:
    """Which argument is which input: the first of its size that is not taken."""
    found: list[int] = []
    for number in recipe.numbers("input"):
        size = math.prod(recipe.buffers[number].shape)
        left = [k for k, x in enumerate(run.tensors) if x.numel() == size and k not in found]
        if not left:
            reason = "its code has to be replaced by its nests, which read more than it is given"
            raise IllegalTransform(f"module '{path}'", reason)
        found.append(left[0])
    return tuple(found)


def _result_shape(buffer: Buffer, run: _Run, path: str) -> tuple[int, ...]:
    """The shape of the result in the module's own form."""
    shape = tuple(run.output.shape)
    if math.prod(shape) == math.prod(buffer.shape):
        return shape
    axes = (1,) * (len(shape) - len(buffer.shape)) + buffer.shape
    if len(axes) == len(shape) and sum(a != b for a, b in zip(axes, shape, strict=True)) == 1:
        return axes
    raise IllegalTransform(f"module '{path}'", f"its result, {shape}, has another size now, {buffer.shape}")


@dataclass
class _Assembly:
    """The nests of one module as one recipe, the layers in it as calls."""

    program: Network
    path: str
    modules: Mapping[str, nn.Module]
    numbers: dict[ir.Value, int] = field(default_factory=dict)
    buffers: list[Buffer] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    calls: list[ModuleCall] = field(default_factory=list)
    written: set[int] = field(default_factory=set)
    parameters: set[str] = field(default_factory=set)

    def add(self, name: str, nests: Sequence[Nest]) -> None:
        """The nests of the next layer."""
        extraction = extract(nests)
        module = self.modules.get(called_module(name)) if "|" not in name else None
        if isinstance(module, _CALLED):
            self._call(called_module(name), module, extraction)
            return
        renumbered = self._renumbering(extraction)
        for statement in extraction.recipe.statements:
            self.statements.append(_moved(statement, renumbered))
            self.written.add(self.statements[-1].target.buffer)

    def recipe(self) -> Recipe:
        """All that was added."""
        inside = {n.root.operation for name, each in self._layers() if self._is_inside(name) for n in each}
        outside = [n for n in self.program.nests if n.root.operation not in inside]
        read = {self.numbers[a.memref] for n in outside for a in n.loads if a.memref in self.numbers}
        ends = {k for memref, k in self.numbers.items() if isinstance(memref, ir.Value) and _is_argument(memref)}
        outputs = self.written & (read | ends)
        if len(outputs) != 1:
            reason = f"its code has to be replaced by its nests, and others read {len(outputs)} of its results"
            raise IllegalTransform(f"module '{self.path}'", reason)
        buffers = [self._kind(k, buffer, outputs) for k, buffer in enumerate(self.buffers)]
        self.parameters = {b.name for b in buffers if b.kind == "parameter"}
        return Recipe(self.path, tuple(buffers), tuple(self.statements))

    def _layers(self) -> Iterable[tuple[str, Sequence[Nest]]]:
        return self.program.nests_by_layer.items()

    def _is_inside(self, name: str) -> bool:
        return is_within(owning_module(name), self.path)

    def _kind(self, number: int, buffer: Buffer, outputs: set[int]) -> Buffer:
        if buffer.kind in ("parameter", "temporary"):  # sums in parts leave temporaries behind that nothing writes
            return buffer
        kind: BufferKind = "input"
        if number in self.written:
            kind = "output" if number in outputs else "temporary"
        return replace(buffer, kind=kind)

    def _renumbering(
        self, extraction: Extraction, kinds: Sequence[BufferKind] = get_args(BufferKind)
    ) -> dict[int, int]:
        """Number of each buffer of some kinds here."""
        found = {}
        for k, (memref, buffer) in enumerate(zip(extraction.memrefs, extraction.recipe.buffers, strict=True)):
            if buffer.kind in kinds:
                found[k] = self.numbers.setdefault(memref, len(self.buffers))
                if found[k] == len(self.buffers):
                    self.buffers.append(buffer)
        return found

    def _call(self, path: str, module: nn.Module, extraction: Extraction) -> None:
        recipe = extraction.recipe
        renumbered = self._renumbering(extraction, ("input", "output"))
        (output,) = recipe.numbers("output")
        inputs = tuple(renumbered[k] for k in recipe.numbers("input"))
        if isinstance(module, nn.Linear):
            inputs = (self._rows(path, recipe, renumbered),)
        elif not isinstance(module, NestModule) and len(inputs) != 1:
            raise IllegalTransform(f"layer '{path}'", f"it reads {len(inputs)} activations, a convolution reads one")
        local = path.removeprefix(f"{self.path}." if self.path else "")
        self.calls.append(ModuleCall(len(self.statements), local, inputs, renumbered[output]))
        self.written.add(renumbered[output])

    def _rows(self, path: str, recipe: Recipe, renumbered: Mapping[int, int]) -> int:
        """A new buffer with what a linear layer reads, one row for each of its results; its number."""
        terms = [t for t in linear_terms(recipe) if not t.is_bias]
        sources = [t.sources[0] for t in terms if len(t.sources) == 1]
        if len(terms) != 1 or not isinstance(sources[0], Load) or not is_plain(terms[0], recipe):
            raise IllegalTransform(f"layer '{path}'", "its nests are no plain product of rows and a weight")
        (term,) = terms
        extents, weight = recipe.statements[term.number].extent_of, recipe.buffers[term.weight.buffer]
        loops = (*term.samples, *term.unknowns)
        row = forms.add(
            *(forms.loop(n, math.prod(extents[m] for m in term.samples[k + 1 :])) for k, n in enumerate(term.samples))
        )
        target = Load(len(self.buffers), (row, term.weight.index[-1]))
        self.buffers.append(Buffer("temporary", (math.prod(extents[n] for n in term.samples), weight.shape[-1])))
        source = Load(renumbered[sources[0].buffer], sources[0].index)
        self.statements.append(Statement(loops, tuple(extents[n] for n in loops), target, source))
        self.written.add(target.buffer)
        return target.buffer


def _moved(statement: Statement, numbers: Mapping[int, int]) -> Statement:
    return map_loads(statement, lambda load: Load(numbers[load.buffer], load.index))


def _is_argument(memref: ir.Value) -> bool:
    return isinstance(memref.owner, ir.Block)
