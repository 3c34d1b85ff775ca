"""What the layers of a network read: second moments, on images, of the elements that each multiplies its weights with.

With them it is known, without data, how well a layer can still say what it said if it reads less: fewer channels (see
`channel_choice`), or each of its outputs only some (see `channel_order`). Layers, what they multiply and which of it
belongs together are read off access maps (see `loopmorph.pipelines.oracle.linear_terms`).
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.raising.nest_recipe import Recipe
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.linear_terms import LinearTerm, linear_terms, name_of
from loopmorph.pipelines.oracle.repair.fittable import held_tensors, module_recipe, read_rows
from loopmorph.pipelines.oracle.repair.lockstep import LayerCall, Lockstep
from loopmorph.pipelines.oracle.repair.surroundings import Surroundings, scale_of, surroundings
from loopmorph.pipelines.oracle.repair.term_fit import FitSettings, LayerSamples, term_equations
from loopmorph.pipelines.support.devices import exact_arithmetic, resolve_device
from loopmorph.pipelines.support.foreign import describe
from loopmorph.pipelines.support.inference import switch_to_inference
from loopmorph.pipelines.support.progress import Progress, silent

MOST_UNKNOWNS = 6144  # of one block: a Gram matrix of 300 MB
ROWS = 16  # for each unknown; a choice needs fewer than a fit


@dataclass(frozen=True, eq=False)
class ReadMoments:
    """What a layer that is linear in one parameter reads.

    Its blocks are independent of each other: one for a dense layer, one for each group of a grouped one.

    Attributes:
        layer: the layer.
        parameter: its weight's name.
        gram: (blocks, unknowns, unknowns) float64, E[u u^T]; about the mean where a constant is free, since the layer
            has a bias or a BatchNorm takes any constant away.
        weight: (blocks, unknowns, outputs) float64, each output times what a BatchNorm that follows multiplies it with.
        index: for each axis of the parameter (blocks, unknowns, outputs) int64, where an element of `weight` is in it.
    """

    layer: str
    parameter: str
    gram: np.ndarray
    weight: np.ndarray
    index: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class _Reader:
    recipe: Recipe
    term: LinearTerm
    has_bias: bool
    rows: bool

    def samples(self, call: LayerCall) -> LayerSamples:
        """What it was given, and gave."""
        if not self.rows:
            return LayerSamples(call.inputs, call.output)
        return LayerSamples(tuple(read_rows(x, self.recipe) for x in call.inputs), call.output.flatten(0, -2))

    @property
    def parameter(self) -> str:
        return name_of(self.recipe, self.term)


def read_moments(
    network: Network,
    parameters: Collection[str],
    inputs: Sequence[torch.Tensor],
    tell: Progress = silent,
    rows: int = ROWS,
    device: torch.device | str | None = None,
) -> Iterator[ReadMoments]:
    """The moments of the layers that have some parameters, in the order in which they run; none is kept.

    A layer is left out that is not linear in just one parameter beside a bias, runs more than once, is not a module
    by itself, or reads more than `MOST_UNKNOWNS` elements at once; and one whose inputs are not finite.

    Args:
        network: the network as imported.
        parameters: the names of weights.
        inputs: its inputs, of any batch; all images are run at once.
        tell: told of each layer.
        rows: how many are used for each unknown at most, drawn at random where there are more.
        device: where to compute; None takes a CUDA device when there is one.

    Raises:
        ArgumentError: the network fails on the inputs.
    """
    place = resolve_device(device)
    model, inputs = switch_to_inference(copy.deepcopy(network.model)).to(place), [x.to(place) for x in inputs]
    modules = dict(model.named_modules())
    readers = {name: reader for name, reader in _readers(network, modules).items() if reader.parameter in parameters}
    if not readers:
        return
    around = _surroundings(model, readers, [x[:1] for x in inputs])
    with Lockstep(model, readers, inputs) as lockstep:
        for number, name in enumerate(around):
            tell("moments of what layers read", number, len(around))
            with exact_arithmetic():
                call = lockstep.until(name)
                if call is None:
                    return
                norm, samples = around[name].norm, readers[name].samples(call)
                found = _moments(readers[name], modules[name], name, samples, FitSettings(rows=rows), norm is not None)
            if found is not None:
                yield found if norm is None else _scaled(found, scale_of(modules[norm], call.output))
    tell("moments of what layers read", len(around), len(around))


def _surroundings(model: nn.Module, names: Collection[str], inputs: Sequence[torch.Tensor]) -> dict[str, Surroundings]:
    try:
        return surroundings(model, names, inputs)
    except Exception as error:  # the user's own forward may raise anything
        raise ArgumentError("inputs", f"the network fails on them: {describe(error)}") from error


def _readers(network: Network, modules: Mapping[str, nn.Module]) -> dict[str, _Reader]:
    nests = network.nests_by_layer
    found = {}
    for name, group in nests.items():
        if name not in modules or f"{name}@1" in nests:
            continue
        try:
            recipe, rows = module_recipe(group, modules[name])
        except IllegalTransform:
            continue
        terms = linear_terms(recipe)
        weights = [term for term in terms if not term.is_bias]
        held = held_tensors(name, modules[name])
        own = all(recipe.buffers[k].name in held for k in recipe.numbers("parameter"))
        if own and len(weights) == 1 and len(recipe.numbers("output")) == 1:
            extents = recipe.statements[weights[0].number].extent_of
            if np.prod([extents[n] for n in weights[0].unknowns], dtype=np.int64) <= MOST_UNKNOWNS:
                found[name] = _Reader(recipe, weights[0], len(terms) > 1, rows)
    return found


def _moments(
    reader: _Reader, module: nn.Module, name: str, samples: LayerSamples, settings: FitSettings, has_norm: bool
) -> ReadMoments | None:
    values = held_tensors(name, module)
    parameter = reader.parameter
    with torch.no_grad():
        found = term_equations(reader.recipe, reader.term, values, samples, settings)
    if found is None or not found[1].rows:
        return None
    positions, equations = found
    centred = has_norm or reader.has_bias
    gram = equations.moments(centred).double() / equations.rows
    weight = values[parameter].detach().reshape(-1)[positions]
    index = np.unravel_index(positions.numpy(force=True), tuple(values[parameter].shape))
    return ReadMoments(name, parameter, gram.numpy(force=True), weight.double().numpy(force=True), tuple(index))


def _scaled(moments: ReadMoments, scale: torch.Tensor) -> ReadMoments:
    """With each output times the scale of its channel, where an axis of the parameter tells which that is."""
    factors = scale.reshape(-1).double().numpy(force=True)
    for place in moments.index:
        own = place[:, :1]
        if (place == own).all() and np.array_equal(np.unique(own), np.arange(len(factors))):
            return replace(moments, weight=moments.weight * factors[own])
    return moments
