"""Which layers of a rewritten network can be fitted to the original's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Nest
from loopmorph.passes.raising.nest_batch import free_batch
from loopmorph.passes.raising.nest_extract import extract
from loopmorph.passes.raising.nest_recipe import Recipe
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.module_tensors import own_tensors
from loopmorph.pipelines.oracle.nest_executor import check_supported
from loopmorph.pipelines.oracle.nest_module import NestModule
from loopmorph.pipelines.oracle.repair.linear_terms import linear_terms
from loopmorph.pipelines.oracle.repair.selections import Selection, selections
from loopmorph.pipelines.oracle.repair.surroundings import Surroundings


@dataclass
class FittableLayer:
    """A layer that can be fitted: its nests, and which of the original's channels they compute."""

    recipe: Recipe
    chosen: Mapping[str, Selection]
    changed: bool
    around: Surroundings = field(default_factory=Surroundings)


def held_tensors(name: str, module: nn.Module) -> dict[str, torch.Tensor]:
    """Qualified name in the program -> tensor, of what a layer's module holds."""
    if isinstance(module, NestModule):
        return {qualified: getattr(module, local) for local, qualified in module.parameter_names.items()}
    return {f"{name}.{local}" if name else local: tensor for local, tensor in own_tensors(module)}


def fittable_layers(
    original: Network, program: Network, model: nn.Module
) -> tuple[dict[str, FittableLayer], dict[str, str]]:
    """The layers that can be fitted, by the name of their module, and why others cannot be."""
    new, old = _by_layer(program.nests), _by_layer(original.nests)
    modules = dict(model.named_modules())
    found: dict[str, FittableLayer] = {}
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
        held = held_tensors(path, modules[path])
        if any(recipe.buffers[k].name not in held for k in recipe.numbers("parameter")):
            notes[path] = "its parameters are not held by its module as its nests read them"
        elif path in found or f"{path}@1" in new:
            notes[path] = "it runs more than once"
            found.pop(path, None)
        else:
            found[path] = FittableLayer(recipe, selections(program, recipe, before), _differs(program, recipe, before))
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
