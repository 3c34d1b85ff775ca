"""One repair: original and rewritten network side by side, one layer at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.hooks import RemovableHandle

from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.raising.nest_recipe import Recipe
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.linear_terms import linear_terms, name_of, term_positions
from loopmorph.pipelines.oracle.repair.fittable import FittableLayer, fittable_layers, held_tensors, read_rows
from loopmorph.pipelines.oracle.repair.layer_fit import fit_layer
from loopmorph.pipelines.oracle.repair.lockstep import Lockstep
from loopmorph.pipelines.oracle.repair.recorded import RecordedRun, Replay
from loopmorph.pipelines.oracle.repair.surroundings import Place, held, offset_of, scale_of, surroundings
from loopmorph.pipelines.oracle.repair.term_fit import FitSettings, LayerSamples
from loopmorph.pipelines.rewritten.dropped_module import DroppedModule
from loopmorph.pipelines.support.devices import exact_arithmetic
from loopmorph.pipelines.support.foreign import describe
from loopmorph.pipelines.support.hooks import hooked
from loopmorph.pipelines.support.progress import Progress, silent

_PART = 32  # images that a copy is made of at a time: memory for more is dear to get
_LEAST_SCALE = 0.05  # of a BatchNorm's channel, beside the median: less cannot make up for anything


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


@dataclass
class RepairWork:
    """One repair, of a network or of a part of one.

    Attributes:
        source, model: the original and the rewritten network as modules, in eval mode.
        layers: module name -> the layer, for those that can be fitted.
        notes: module name -> why a layer cannot be.
        norms: the names of the BatchNorms that have running statistics.
        deviates: whether what runs now may read other values than the original reads there.
        constants: BatchNorm's name -> what is to be added to each channel of its input; where there are such, its
            statistics follow from them.
        recorded: the run of `source`, where that is known; None to run it.
        given, received: the activations that layers' outputs are added to, in the original and in the rewritten one.
    """

    source: nn.Module
    model: nn.Module
    program: Network
    layers: dict[str, FittableLayer]
    notes: dict[str, str]
    norms: frozenset[str]
    settings: FitSettings
    tell: Progress
    recorded: RecordedRun | None = None
    deviates: bool = False
    values: dict[str, torch.Tensor] = field(default_factory=dict)
    done: list[LayerRepair] = field(default_factory=list)
    constants: dict[str, torch.Tensor] = field(default_factory=dict)
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
        recorded: RecordedRun | None = None,
    ) -> RepairWork:
        """What there is to do.

        Args:
            original, program: the networks.
            modules: both as modules, in eval mode, or a part of both; the names of what they hold are the network's.
            examples: inputs of them, of any batch.
            settings: how layers are fitted.
            tell: see `repair`.
            recorded: the original's run on the inputs that are to be repaired on, where there is one.
        """
        source, model = modules
        layers, notes = fittable_layers(original, program, model)
        if recorded is not None and not layers.keys() <= recorded.around.keys():
            recorded = None
        known = surroundings(source, layers, examples) if recorded is None else recorded.around
        for name in layers.keys() & known.keys():
            layers[name].around = known[name]
        return RepairWork(source, model, program, layers, notes, norms_of(model), settings, tell, recorded)

    def run(self, inputs: tuple[torch.Tensor, ...]) -> None:
        """Runs both networks and fits what comes."""
        names = [name for name, _ in self.model.named_modules() if name in self.layers]
        self.tell("repair", 0, len(names))
        with (
            self._original(inputs) as calls,
            held(self.model, self._others()) as self.received,
            hooked(self._hooks(calls)),
            torch.no_grad(),
            exact_arithmetic(),
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
    def _original(self, inputs: tuple[torch.Tensor, ...]) -> Iterator[Lockstep | Replay]:
        """The calls of the original's layers, with `given` there."""
        if self.recorded is not None:
            self.given = self.recorded.given
            yield Replay(self.recorded)
            return
        names = {*self.layers, *self.norms}
        with held(self.source, self._others()) as self.given, Lockstep(self.source, names, inputs) as lockstep:
            yield lockstep

    def _others(self) -> set[Place]:
        return {layer.around.other for layer in self.layers.values() if layer.around.other is not None}

    def _hooks(self, calls: Lockstep | Replay) -> Iterator[RemovableHandle]:
        for name, module in self.model.named_modules():
            if name in self.layers:
                yield module.register_forward_pre_hook(self._layer_hook(name, calls))
            elif name in self.norms:
                yield module.register_forward_pre_hook(self._norm_hook(name, calls))
            elif isinstance(module, DroppedModule):
                yield module.register_forward_pre_hook(self._deviate)

    def _deviate(self, _module: nn.Module, _args: tuple[Any, ...]) -> None:
        """What comes after a dropped module may read other values than in the original."""
        self.deviates = True

    def _layer_hook(self, name: str, calls: Lockstep | Replay) -> Any:
        def fit(module: nn.Module, args: tuple[Any, ...]) -> None:
            call = calls.until(name)
            layer = self.layers[name]
            self.deviates = self.deviates or layer.changed
            if call is None or not self.deviates:
                return
            inputs = tuple(x for x in args if isinstance(x, torch.Tensor))
            target = call.output + self._lack(layer, call.output)
            samples = LayerSamples(inputs, target, self._bounds(layer, target))
            self._fit(name, module, layer, _as_rows(samples, layer.recipe) if layer.rows else samples)
            self.tell("repair", len(self.done), len(self.layers))

        return fit

    def _lack(self, layer: FittableLayer, output: torch.Tensor) -> torch.Tensor | float:
        """What the layer should give in addition, since the activation that it is added to has become another.

        In the original's channels; of those that the rewritten network has not, nothing.
        """
        around = layer.around
        if around.other is None or around.other not in self.given:
            return 0.0
        wanted = self.given[around.other]
        if wanted.shape != output.shape or self.received.get(around.other) is wanted:
            return 0.0
        added = self._added(layer, output)
        if added is None:
            return 0.0
        channels, there = added
        lack = _spread(_of_channels(wanted, channels) - there, channels, wanted)
        if around.norm is None:
            return lack
        usable, scale = _usable_scale(self.source.get_submodule(around.norm), output)
        return torch.where(usable, lack / scale, 0.0)

    def _bounds(self, layer: FittableLayer, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Outside of which the layer's output is cut off, given what it is added to, in the original's channels."""
        around = layer.around
        if around.passed is None or not self.settings.refinements:
            return None
        added: torch.Tensor | float = 0.0
        if around.other is not None:
            found = self._added(layer, target)
            if found is None:
                return None
            channels, there = found
            added = _spread(there, channels, target)
        ends = [torch.full_like(target, end) - added for end in around.passed]
        if around.norm is not None:
            norm = self.source.get_submodule(around.norm)
            (usable, scale), offset = _usable_scale(norm, target), offset_of(norm, target)
            ends = [(end - offset) / scale for end in ends]
            ends = [torch.minimum(*ends), torch.maximum(*ends)]
            ends = [torch.where(usable, end, far) for end, far in zip(ends, (-math.inf, math.inf), strict=True)]
        return ends[0], ends[1]

    def _added(self, layer: FittableLayer, output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Which of the original's channels the rewritten network has, and what it adds the layer's output to.

        None where that does not go with the original's output.
        """
        there = None if layer.around.other is None else self.received.get(layer.around.other)
        if there is None:
            return None
        channels = self._channels(layer, output.shape[1]).to(output.device)
        return (channels, there) if there.shape == (len(output), len(channels), *output.shape[2:]) else None

    def _channels(self, layer: FittableLayer, count: int) -> torch.Tensor:
        """Which of the original's channels the layer's output has, in its order."""
        every = torch.arange(count)
        norm = None if layer.around.norm is None else f"{layer.around.norm}.running_mean"
        if norm is not None and norm in self.program.parameters:
            return self.program.inherit_from(norm, every)
        chosen = [selection for name in layer.chosen for axis, selection in layer.chosen[name] if axis == 1]
        return chosen[0] if len(chosen) == 1 else every

    def _fit(self, name: str, module: nn.Module, layer: FittableLayer, samples: LayerSamples) -> None:
        tensors = held_tensors(name, module)
        centred, origins = layer.around.norm is not None, partial(self._origins, name, layer)
        fitted = fit_layer(layer.recipe, tensors, samples, layer.chosen, centred, self.settings, origins)
        for term in fitted:
            with torch.no_grad():
                tensors[term.parameter].copy_(term.value)
            self.values[term.parameter] = term.value
        if fitted and fitted[-1].constants is not None and layer.around.norm is not None:
            self.constants[layer.around.norm] = fitted[-1].constants
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

    def _origins(self, name: str, layer: FittableLayer) -> list[torch.Tensor]:
        """The original's dense weights, (unknowns, outputs) each."""
        held = held_tensors(name, self.source.get_submodule(name))
        found = []
        for term in linear_terms(layer.before):
            weight = held.get(name_of(layer.before, term))
            if weight is not None and not term.blocks and not term.is_bias:
                (places,) = term_positions(layer.before, term).to(weight.device)
                found.append(weight.reshape(-1)[places])
        return found

    def _norm_hook(self, name: str, calls: Lockstep | Replay) -> Any:
        def measure(module: nn.Module, args: tuple[Any, ...]) -> None:
            call = calls.until(name)
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
        if name in self.constants:
            mean = self.program.parameters[names["running_mean"]].to(now)
            return {"running_mean": mean - self.constants[name].to(now)}
        mean, variance = (self.program.parameters[each].to(now) for each in names.values())
        (var_now, mean_now), (var_then, mean_then) = (_moments(x) for x in (now, then))
        mean_then = self.program.inherit_from(names["running_mean"], mean_then.cpu()).to(now)
        var_then = self.program.inherit_from(names["running_var"], var_then.cpu()).to(now)
        shift, growth = mean_now - mean_then, var_now / var_then
        return {
            "running_mean": torch.where(shift.isfinite(), mean + shift, mean),
            "running_var": torch.where((var_then > 0) & growth.isfinite(), variance * growth, variance),
        }


def norms_of(model: nn.Module) -> frozenset[str]:
    """The names of the BatchNorms that have running statistics."""
    found = (
        name for name, each in model.named_modules() if isinstance(each, _NormBase) and each.running_mean is not None
    )
    return frozenset(found)


def _as_rows(samples: LayerSamples, recipe: Recipe) -> LayerSamples:
    bounds = samples.bounds
    if bounds is not None:
        bounds = bounds[0].flatten(0, -2), bounds[1].flatten(0, -2)
    return LayerSamples(tuple(read_rows(x, recipe) for x in samples.inputs), samples.target.flatten(0, -2), bounds)


def _are_all(channels: torch.Tensor, of: torch.Tensor) -> bool:
    return torch.equal(channels, torch.arange(of.shape[1], device=channels.device))


def _of_channels(values: torch.Tensor, channels: torch.Tensor) -> torch.Tensor:
    return values if _are_all(channels, values) else values[:, channels]


def _spread(values: torch.Tensor, channels: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A tensor like another one that holds values in some channels, and 0 in the others."""
    if _are_all(channels, like):
        return values
    found = torch.zeros_like(like)
    found[:, channels] = values
    return found


def _usable_scale(norm: nn.Module, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """In which channels a BatchNorm's factor is large enough to divide by, and the factors, 1 in the others."""
    scale = scale_of(norm, like)
    usable = scale.abs() > _LEAST_SCALE * scale.abs().median()
    return usable, torch.where(usable, scale, 1.0)


def _moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Variance and mean of each channel."""
    samples = x.flatten(2) if x.dim() > 2 else x[:, :, None]
    mean = samples.mean((0, 2))
    parts = (part - mean[:, None] for part in samples.split(_PART))
    squares = torch.stack([torch.linalg.vector_norm(part, dim=2).square().sum(0) for part in parts])
    return squares.sum(0) / (samples.shape[0] * samples.shape[2]), mean
