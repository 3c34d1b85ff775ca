"""Repair: the rewritten network with weights that are fitted, layer by layer, to the trained original.

Both networks run side by side on the same unlabelled images, one layer at a time (`Lockstep`). A rewritten layer, and
every one after it that is linear in its parameters, is fitted to what the original's gives, on what the repaired ones
before it hand to it (`fit_layer`); BatchNorm's statistics follow those of its input. Nothing is trained,
and no label is needed.

The source of the idea: layer-wise reconstruction as in He et al., "Channel Pruning for Accelerating Very Deep Neural
Networks" (ICCV 2017), and Frantar and Alistarh, "Optimal Brain Compression" (NeurIPS 2022); here for whatever nests a
transformation leaves.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.nest import Nest
from loopmorph.passes.raising.nest_batch import free_batch
from loopmorph.passes.raising.nest_extract import extract
from loopmorph.passes.raising.nest_recipe import Recipe
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.module_tensors import own_tensors
from loopmorph.pipelines.oracle.nest_executor import check_supported
from loopmorph.pipelines.oracle.nest_module import NestModule
from loopmorph.pipelines.oracle.repair.layer_fit import FitSettings, LayerSamples, fit_layer
from loopmorph.pipelines.oracle.repair.linear_terms import linear_terms
from loopmorph.pipelines.oracle.repair.lockstep import Lockstep
from loopmorph.pipelines.oracle.repair.selections import Selection, selections
from loopmorph.pipelines.oracle.repair.surroundings import Place, Surroundings, held, scale_of, surroundings
from loopmorph.pipelines.oracle.surgery import to_module
from loopmorph.pipelines.support.devices import resolve_device
from loopmorph.pipelines.support.foreign import describe
from loopmorph.pipelines.support.inference import switch_to_inference
from loopmorph.pipelines.support.progress import Progress, silent

_LIVE = 8  # activations of the largest size that both networks and a fit hold together
_LEAST_SCALE = 0.05  # of a BatchNorm's channel, beside the median: less cannot make up for anything

NetworkT = TypeVar("NetworkT", bound=Network)


@dataclass(frozen=True)
class LayerRepair:
    """What repair did to one layer.

    Attributes:
        name: the layer.
        before, after: the squared error of its output from the original's, with what it reads in the repaired network,
            before and after the fit, as a share of the output's variance about each channel's mean; None where it was
            left as it was.
        rows: how many rows the fit had.
        ridge: that it was made with.
        dead: inputs that are always 0.
        note: what was out of the ordinary, or why the layer was left as it was; empty where nothing was.
    """

    name: str
    before: float | None = None
    after: float | None = None
    rows: int = 0
    ridge: float = 0.0
    dead: int = 0
    note: str = ""


@dataclass(frozen=True)
class Repair(Generic[NetworkT]):
    """A repaired network.

    Attributes:
        program: the network with its new values.
        layers: what was done to each layer, in the order in which they run.
        images: how many images it was fitted to; fewer than given where their activations would take too much memory.
    """

    program: NetworkT
    layers: tuple[LayerRepair, ...]
    images: int


def repair(
    original: Network,
    program: NetworkT,
    batches: torch.Tensor | Iterable[Any],
    settings: FitSettings | None = None,
    *,
    device: torch.device | str | None = None,
    progress: Progress = silent,
) -> Repair[NetworkT]:
    """Fits the weights of a rewritten network to the original it came from.

    Args:
        original: the network as imported, trained.
        program: what transformations made of it.
        batches: its inputs, without labels: a tensor (N, ...), or an iterable of tensors or of tuples of tensors (one
            for each positional input; pairs of images and integer labels as a DataLoader gives them count as images).
        settings: how layers are fitted.
        device: where to compute; None takes a CUDA device when there is one.
        progress: called with "repair", the layers that are done and all.

    Returns:
        The network, its loops and shapes as they were, with what was done to it. A network that no neural
        transformation changed comes back with the values that it had.

    Raises:
        ArgumentError: no images, or ones that the network does not take.
        IllegalTransform: the network's own code cannot run with the new shapes.
    """
    settings = settings or FitSettings()
    inputs = gathered(original, batches, _most(original, settings.memory))
    if not any(step.kind == "neural" for step in program.history):
        return Repair(program, (), inputs[0].shape[0])
    place = resolve_device(device)
    source, model = (
        switch_to_inference(each).to(place) for each in (copy.deepcopy(original.model), to_module(program))
    )
    examples = [x.to(place) for x in original.example_inputs]
    work = RepairWork.prepared(original, program, (source, model), examples, settings, progress)
    work.run(tuple(x.to(place) for x in inputs))
    values = {name: value.to(program.parameters[name]) for name, value in work.values.items()}
    return Repair(program.with_values(values), tuple(work.done), inputs[0].shape[0])


def gathered(
    network: Network, batches: torch.Tensor | Iterable[Any], most: int | None = None
) -> tuple[torch.Tensor, ...]:
    """The batches as one batch of each positional input.

    Args:
        network: what takes them.
        batches: see `repair`.
        most: how many rows are taken; what comes after them is not asked for. None for all.

    Raises:
        ArgumentError: none, or of other shapes or types than the network takes.
    """
    examples = network.example_inputs
    if network.example_kwargs or not all(isinstance(x, torch.Tensor) for x in examples):
        reason = "it takes keywords, nested inputs or constants; repair hands it tensors by position alone"
        raise ArgumentError("model", reason)
    if not isinstance(batches, torch.Tensor | Iterable):
        kind = type(batches).__name__
        raise ArgumentError("batches", f"{kind} was given; a tensor or an iterable of batches is expected")
    rows: list[tuple[torch.Tensor, ...]] = []
    count = 0
    for batch in [batches] if isinstance(batches, torch.Tensor) else batches:
        alone = isinstance(batch, torch.Tensor) or not isinstance(batch, Sequence)
        row = (batch,) if alone else tuple(batch)[: len(examples)]
        _check_batch(examples, row)
        rows.append(tuple(x if most is None else x[: most - count] for x in row))
        count += row[0].shape[0]
        if most is not None and count >= most:
            break
    if not count:
        raise ArgumentError("batches", "there are no images; at least one is needed")
    return tuple(torch.cat(column) for column in zip(*rows, strict=True))


def _most(network: Network, memory: int) -> int:
    """How many images' activations fit: of the largest buffer of one, `_LIVE` are there at the same time."""
    memrefs = {a.memref: ir.MemRefType(a.memref.type) for nest in network.nests for a in nest.accesses}
    sizes = [math.prod(t.shape) for m, t in memrefs.items() if marks.parameter_name(m) is None and t.rank]
    batch = network.example_inputs[0].shape[0] if network.example_inputs else 1
    return max(1, memory * batch // (max(sizes, default=1) * 4 * _LIVE))


def _check_batch(examples: Sequence[torch.Tensor], row: Sequence[Any]) -> None:
    wanted = ", ".join(f"(N, {', '.join(map(str, x.shape[1:]))}) {x.dtype}" for x in examples)
    given = ", ".join(f"{tuple(x.shape)} {x.dtype}" if isinstance(x, torch.Tensor) else type(x).__name__ for x in row)
    fits = len(row) == len(examples) and all(
        isinstance(x, torch.Tensor) and x.shape[1:] == e.shape[1:] and x.dtype == e.dtype
        for x, e in zip(row, examples, strict=True)
    )
    if not fits:
        raise ArgumentError("batches", f"{given or 'nothing'} was given; {wanted.replace('torch.', '')} is expected")


@dataclass
class _Layer:
    """A layer that can be fitted: its nests, and which of the original's channels they compute."""

    recipe: Recipe
    chosen: Mapping[str, Selection]
    changed: bool
    around: Surroundings = field(default_factory=Surroundings)


@dataclass
class RepairWork:
    """One repair, of a network or of a part of one.

    Attributes:
        source, model: the original and the rewritten network as modules, in eval mode.
        layers: module name -> the layer, for those that can be fitted.
        notes: module name -> why a layer cannot be.
        norms: the names of the BatchNorms that have running statistics.
        deviates: whether what runs now may read other values than the original reads there.
        given, received: the activations that layers' outputs are added to, in the original and in the rewritten one.
    """

    source: nn.Module
    model: nn.Module
    program: Network
    layers: dict[str, _Layer]
    notes: dict[str, str]
    norms: frozenset[str]
    settings: FitSettings
    tell: Progress
    deviates: bool = False
    values: dict[str, torch.Tensor] = field(default_factory=dict)
    done: list[LayerRepair] = field(default_factory=list)
    given: dict[Place, torch.Tensor] = field(default_factory=dict)
    received: dict[Place, torch.Tensor] = field(default_factory=dict)

    @staticmethod
    def prepared(
        original: Network,
        program: Network,
        modules: tuple[nn.Module, nn.Module],
        examples: Sequence[torch.Tensor],
        settings: FitSettings,
        tell: Progress = silent,
    ) -> RepairWork:
        """What there is to do.

        Args:
            original, program: the networks.
            modules: both as modules, in eval mode, or a part of both; the names of what they hold are the network's.
            examples: inputs of them, of any batch.
            settings: how layers are fitted.
            tell: see `repair`.
        """
        source, model = modules
        layers, notes = _fittable(original, program, model)
        for name, around in surroundings(source, layers, examples).items():
            layers[name].around = around
        norms = frozenset(
            name
            for name, module in model.named_modules()
            if isinstance(module, _NormBase) and module.running_mean is not None
        )
        return RepairWork(source, model, program, layers, notes, norms, settings, tell)

    def run(self, inputs: tuple[torch.Tensor, ...]) -> None:
        """Runs both networks and fits what comes."""
        names = [name for name, _ in self.model.named_modules() if name in self.layers]
        self.tell("repair", 0, len(names))
        others = {layer.around.other for layer in self.layers.values() if layer.around.other is not None}
        with (
            held(self.source, others) as self.given,
            held(self.model, others) as self.received,
            Lockstep(self.source, {*self.layers, *self.norms}, inputs) as lockstep,
            self._hooked(lockstep),
            torch.no_grad(),
        ):
            try:
                self.model(*inputs)
            except (ArgumentError, IllegalTransform):
                raise
            except Exception as error:  # the user's own forward may raise anything
                raise ArgumentError("batches", f"the network fails on them: {describe(error)}") from error
        if self.deviates:
            self.done += [LayerRepair(name, note=note) for name, note in self.notes.items()]
        self.tell("repair", len(names), len(names))

    @contextmanager
    def _hooked(self, lockstep: Lockstep) -> Iterator[None]:
        handles = []
        for name, module in self.model.named_modules():
            if name in self.layers:
                handles.append(module.register_forward_pre_hook(self._layer_hook(name, lockstep)))
            elif name in self.norms:
                handles.append(module.register_forward_pre_hook(self._norm_hook(name, lockstep)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _layer_hook(self, name: str, lockstep: Lockstep) -> Any:
        def fit(module: nn.Module, args: tuple[Any, ...]) -> None:
            call = lockstep.until(name)
            layer = self.layers[name]
            self.deviates = self.deviates or layer.changed
            if call is None or not self.deviates:
                return
            inputs = tuple(x for x in args if isinstance(x, torch.Tensor))
            self._fit(name, module, layer, LayerSamples(inputs, call.output + self._lack(layer, call.output)))
            self.tell("repair", len(self.done), len(self.layers))

        return fit

    def _lack(self, layer: _Layer, output: torch.Tensor) -> torch.Tensor | float:
        """What the layer should give in addition, since the activation that it is added to has become another.

        In the original's channels; of those that the rewritten network has not, nothing.
        """
        around = layer.around
        if around.other is None or around.other not in self.given or around.other not in self.received:
            return 0.0
        wanted, there = self.given[around.other], self.received[around.other]
        channels = self._channels(layer, output.shape[1]).to(output.device)
        if wanted.shape != output.shape or there.shape != wanted[:, channels].shape:
            return 0.0
        lack = torch.zeros_like(wanted)
        lack[:, channels] = wanted[:, channels] - there
        if around.norm is None:
            return lack
        scale = scale_of(dict(self.source.named_modules())[around.norm], output)
        usable = scale.abs() > _LEAST_SCALE * scale.abs().median()
        return torch.where(usable, lack / torch.where(usable, scale, 1.0), 0.0)

    def _channels(self, layer: _Layer, count: int) -> torch.Tensor:
        """Which of the original's channels the layer's output has, in its order."""
        every = torch.arange(count)
        norm = None if layer.around.norm is None else f"{layer.around.norm}.running_mean"
        if norm is not None and norm in self.program.parameters:
            return self.program.inherit_from(norm, every)
        chosen = [selection for name in layer.chosen for axis, selection in layer.chosen[name] if axis == 1]
        return chosen[0] if len(chosen) == 1 else every

    def _fit(self, name: str, module: nn.Module, layer: _Layer, samples: LayerSamples) -> None:
        tensors = _tensors(name, module)
        values = {parameter: tensors[parameter] for parameter in tensors}
        fitted = fit_layer(layer.recipe, values, samples, layer.chosen, layer.around.norm is not None, self.settings)
        for term in fitted:
            with torch.no_grad():
                tensors[term.parameter].copy_(term.value)
            self.values[term.parameter] = term.value
        weights = [term for term in fitted if term.solution.weight.shape[1] > 1]
        if not weights:
            self.done.append(LayerRepair(name, note="its nests have no part that could be fitted"))
            return
        first, last = weights[0], weights[-1]
        notes = []
        if first.solution.rank_deficient:
            notes.append("fewer rows than unknowns")
        if first.dropped:
            notes.append(f"{first.dropped} rows with NaN or infinities left out")
        if first.solution.dead:
            notes.append(f"{first.solution.dead} of its inputs are always 0")
        self.done.append(
            LayerRepair(
                name,
                before=last.solution.before,
                after=last.solution.after,
                rows=first.rows,
                ridge=last.solution.ridge,
                dead=first.solution.dead,
                note="; ".join(notes),
            )
        )

    def _norm_hook(self, name: str, lockstep: Lockstep) -> Any:
        def measure(module: nn.Module, args: tuple[Any, ...]) -> None:
            call = lockstep.until(name)
            if call is None or not self.deviates:
                return
            for kind, value in self._statistics(name, args[0], call.inputs[0]).items():
                getattr(module, kind).copy_(value)
                self.values[f"{name}.{kind}" if name else kind] = value

        return measure

    def _statistics(self, name: str, now: torch.Tensor, then: torch.Tensor) -> dict[str, torch.Tensor]:
        """A BatchNorm's statistics, changed as much as those of its input on these images are."""
        names = {kind: f"{name}.{kind}" if name else kind for kind in ("running_mean", "running_var")}
        if not all(each in self.program.parameters for each in names.values()):
            return {}
        mean, variance = (self.program.parameters[each].to(now) for each in names.values())
        (var_now, mean_now), (var_then, mean_then) = (_moments(x) for x in (now, then))
        mean_then = self.program.inherit_from(names["running_mean"], mean_then.cpu()).to(now)
        var_then = self.program.inherit_from(names["running_var"], var_then.cpu()).to(now)
        shift, growth = mean_now - mean_then, var_now / var_then
        return {
            "running_mean": torch.where(shift.isfinite(), mean + shift, mean),
            "running_var": torch.where((var_then > 0) & growth.isfinite(), variance * growth, variance),
        }


def _moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Variance and mean of each channel."""
    return torch.var_mean(x, [d for d in range(x.dim()) if d != 1], correction=0)


def _tensors(name: str, module: nn.Module) -> dict[str, torch.Tensor]:
    """Qualified name in the program -> tensor, of what a layer's module holds."""
    if isinstance(module, NestModule):
        return {qualified: getattr(module, local) for local, qualified in module.parameter_names.items()}
    return {f"{name}.{local}" if name else local: tensor for local, tensor in own_tensors(module)}


def _fittable(original: Network, program: Network, model: nn.Module) -> tuple[dict[str, _Layer], dict[str, str]]:
    """The layers that can be fitted, by the name of their module, and why others cannot be."""
    new, old = _by_layer(program.nests), _by_layer(original.nests)
    modules = dict(model.named_modules())
    found: dict[str, _Layer] = {}
    notes: dict[str, str] = {}
    for name, nests in new.items():
        path = re.sub(r"@\d+", "", name)
        if path not in modules or name not in old:
            continue
        try:
            recipe, before = (free_batch(extract(each).recipe) for each in (nests, old[name]))
            check_supported(recipe)
        except IllegalTransform as error:
            notes[path] = error.reason if hasattr(error, "reason") else str(error)
            continue
        terms = [t for t in linear_terms(recipe) if not t.is_bias]
        if not terms or len(recipe.numbers("output")) != 1:
            continue
        held = _tensors(path, modules[path])
        if any(recipe.buffers[k].name not in held for k in recipe.numbers("parameter")):
            notes[path] = "its parameters are not held by its module as its nests read them"
        elif path in found or f"{path}@1" in new:
            notes[path] = "it runs more than once"
            found.pop(path, None)
        else:
            found[path] = _Layer(recipe, selections(program, recipe, before), _differs(program, recipe, before))
    return found, notes


def _by_layer(nests: Iterable[Nest]) -> dict[str, list[Nest]]:
    found: dict[str, list[Nest]] = {}
    for nest in nests:
        found.setdefault(nest.layer, []).append(nest)
    return found


def _differs(program: Network, recipe: Recipe, before: Recipe) -> bool:
    names = {recipe.buffers[k].name for k in recipe.numbers("parameter")}
    if names != {before.buffers[k].name for k in before.numbers("parameter")}:
        return True
    shapes = [b.shape for b in recipe.buffers], [b.shape for b in before.buffers]
    return shapes[0] != shapes[1] or recipe.statements != before.statements
