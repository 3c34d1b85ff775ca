"""Which layers of a rewritten network can be fitted to the original's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Nest
from loopmorph.passes.raising import index_forms as forms
from loopmorph.passes.raising.nest_batch import free_batch, free_rows, with_batch_axis
from loopmorph.passes.raising.nest_extract import extract
from loopmorph.passes.raising.nest_recipe import Buffer, Call, Load, Recipe, Statement
from loopmorph.pipelines.network import Network, called_module
from loopmorph.pipelines.oracle.linear_terms import is_plain, linear_terms
from loopmorph.pipelines.oracle.repair.selections import Selection, selections
from loopmorph.pipelines.oracle.repair.surroundings import Surroundings
from loopmorph.pipelines.rewritten.dropped_module import DroppedModule
from loopmorph.pipelines.rewritten.module_tensors import own_tensors
from loopmorph.pipelines.rewritten.nest_executor import check_supported
from loopmorph.pipelines.rewritten.nest_module import NestModule


@dataclass
class FittableLayer:
    """A layer that can be fitted: its nests, those of the original, and which of its channels they compute.

    `rows` says that all axes of what it reads and gives but the last one are the samples.
    """

    recipe: Recipe
    before: Recipe
    rows: bool
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


def rows_recipe(recipe: Recipe) -> Recipe | None:
    """What a linear layer computes of the rows that its module is given; None where it is no plain one.

    Its nests read those rows where they come from, which may be through a view.
    """
    terms = linear_terms(recipe)
    weights, biases = ([t for t in terms if t.is_bias == bias] for bias in (False, True))
    if len(weights) != 1 or len(biases) > 1 or not is_plain(weights[0], recipe):
        return None
    (term,) = weights
    weight = recipe.buffers[term.weight.buffer]
    outputs, inputs = weight.shape
    row, output, unknown = map(forms.loop, range(3))
    target, product = Load(2, (row, output)), Call("arith.mulf", (Load(0, (row, unknown)), Load(1, (output, unknown))))
    buffers = [Buffer("input", (1, inputs)), weight, Buffer("output", (1, outputs))]
    statements = [Statement((0, 1, 2), (1, outputs, inputs), target, Call("arith.addf", (product, target)))]
    for bias in biases:
        buffers.append(recipe.buffers[bias.weight.buffer])
        statements.append(Statement((0, 1), (1, outputs), target, Call("arith.addf", (target, Load(3, (output,))))))
    loops = (0,) * len(statements)
    return Recipe(recipe.layer, tuple(buffers), tuple(statements), 1, frozenset((0, 2)), loops)


def read_rows(x: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """What a layer is given as rows of the features that it reads: (..., at least features) -> (rows, features)."""
    return x.flatten(0, -2)[:, : recipe.buffers[recipe.numbers("input")[0]].shape[-1]]


def module_recipe(nests: Sequence[Nest], module: nn.Module) -> tuple[Recipe, bool]:
    """What a layer computes of what its module is given, and whether that are rows.

    Raises:
        IllegalTransform: its nests hold something that cannot be executed in PyTorch.
    """
    recipe = layer_recipe(nests)
    if getattr(module, "keeps_leading_axes", False):
        recipe = free_rows(recipe)
    rows = rows_recipe(recipe) if isinstance(module, nn.Linear) else None
    if rows is not None:
        return rows, True
    if isinstance(module, NestModule) and recipe.batch is None:
        return with_batch_axis(recipe), False
    flat = all(len(recipe.buffers[k].shape) == 2 for k in (*recipe.numbers("input"), *recipe.numbers("output")))
    return recipe, flat and recipe.batch is not None and getattr(module, "keeps_leading_axes", False)


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
            recipe, rows = module_recipe(new[name], modules[path])
            before = _alike(recipe, rows, old[name])
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
            found[path] = FittableLayer(
                recipe, before, rows, selections(program, recipe, before), _differs(recipe, before)
            )
    return found, notes


def _alike(recipe: Recipe, rows: bool, nests: Sequence[Nest]) -> Recipe:
    """What the original layer computes, with the axes of its result as the rewritten one has them."""
    before = layer_recipe(nests)
    if rows:
        return rows_recipe(before) or free_rows(before)
    return with_batch_axis(before) if recipe.batch == 1 and before.batch is None else before


def _differs(recipe: Recipe, before: Recipe) -> bool:
    names = {recipe.buffers[k].name for k in recipe.numbers("parameter")}
    if names != {before.buffers[k].name for k in before.numbers("parameter")}:
        return True
    shapes = [b.shape for b in recipe.buffers], [b.shape for b in before.buffers]
    return shapes[0] != shapes[1] or recipe.statements != before.statements
