"""Which layers of a rewritten network can be fitted to the original's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Nest
from loopmorph.passes.raising.nest_batch import free_batch
from loopmorph.passes.raising.nest_extract import extract
from loopmorph.passes.raising.nest_recipe import Recipe
from loopmorph.pipelines.network import Network, called_module
from loopmorph.pipelines.oracle.repair.linear_terms import linear_terms
from loopmorph.pipelines.oracle.repair.selections import Selection, selections
from loopmorph.pipelines.oracle.repair.surroundings import Surroundings
from loopmorph.pipelines.rewritten.dropped_module import DroppedModule
from loopmorph.pipelines.rewritten.module_tensors import own_tensors
from loopmorph.pipelines.rewritten.nest_executor import check_supported
from loopmorph.pipelines.rewritten.nest_module import NestModule


@dataclass
class FittableLayer:
    """A layer that can be fitted: its nests, those of the original, and which of its channels they compute."""

    recipe: Recipe
    before: Recipe
    chosen: Mapping[str, Selection]
    changed: bool
    around: Surroundings = field(default_factory=Surroundings)


def held_tensors(name: str, module: nn.Module) -> dict[str, torch.Tensor]:
    """Qualified name in the program -> tensor, of what a layer's module holds."""
    if isinstance(module, NestModule):
        return {qualified: getattr(module, local) for local, qualified in module.parameter_names.items()}
    return {f"{name}.{local}" if name else local: tensor for local, tensor in own_tensors(module)}


def layer_recipe(nests: Sequence[Nest]) -> Recipe:
    """What a layer's nests compute, for any batch where they treat samples alike.

    Raises:
        IllegalTransform: they hold something that cannot be executed in PyTorch.
    """
    recipe = free_batch(extract(nests).recipe)
    check_supported(recipe)
    return recipe


def fittable_layers(
    original: Network, program: Network, model: nn.Module
) -> tuple[dict[str, FittableLayer], dict[str, str]]:
    """The layers that can be fitted, by the name of their module, and why others cannot be."""
    new, old = program.nests_by_layer, original.nests_by_layer
    modules = dict(model.named_modules())
    found: dict[str, FittableLayer] = {}
    notes = {name: "it was dropped" for name, module in modules.items() if isinstance(module, DroppedModule)}
    for name in new:
        path = called_module(name)
        if path not in modules or name not in old:
            continue
        try:
            recipe, before = layer_recipe(new[name]), layer_recipe(old[name])
        except IllegalTransform as error:
            notes[path] = error.reason
            continue
        terms = [t for t in linear_terms(recipe) if not t.is_bias]
        if not terms or len(recipe.numbers("output")) != 1:
            continue
        held = held_tensors(path, modules[path])
        if any(recipe.buffers[k].name not in held for k in recipe.numbers("parameter")):
            notes[path] = "its parameters are not held by its module as its nests read them"
        elif path in found or f"{path}@1" in new:
            notes[path] = "it runs more than once"
            found.pop(path, None)
        else:
            found[path] = FittableLayer(recipe, before, selections(program, recipe, before), _differs(recipe, before))
    return found, notes


def _differs(recipe: Recipe, before: Recipe) -> bool:
    names = {recipe.buffers[k].name for k in recipe.numbers("parameter")}
    if names != {before.buffers[k].name for k in before.numbers("parameter")}:
        return True
    shapes = [b.shape for b in recipe.buffers], [b.shape for b in before.buffers]
    return shapes[0] != shapes[1] or recipe.statements != before.statements
