"""Which of the original's channels a narrowed or reordered layer computes, told from what its parameters inherit."""

from __future__ import annotations

import torch

from loopmorph.passes.raising import index_forms as forms
from loopmorph.passes.raising.index_forms import Form
from loopmorph.passes.raising.nest_recipe import Recipe
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.linear_terms import LinearTerm, linear_terms, name_of
from loopmorph.pipelines.rewritten.nest_executor import form_values

Selection = list[tuple[int, torch.Tensor]]


def selections(program: Network, recipe: Recipe, original: Recipe) -> dict[str, Selection]:
    """For each parameter that the nests are linear in, which indices of the original's result its own stand for.

    The original's parameter is filled with the index, along one axis of the result, that each of its elements adds to;
    what the rewritten parameter inherits of that says what its own elements stand for.

    Args:
        program: the rewritten network.
        recipe: a layer's nests.
        original: the layer's nests as imported.

    Returns:
        Parameter -> (axis of the buffer that it is summed into, int64 indices), for the axes that are not all of the
        original's in their order.
    """
    origin = {name_of(original, t): t for t in linear_terms(original) if not t.is_bias}
    found: dict[str, Selection] = {}
    for term in linear_terms(recipe):
        name = name_of(recipe, term)
        source = program.sources.get(name, name)
        if source is None:
            found[name] = _of_new(program, name, recipe, term)
        elif source in origin:
            found[name] = _of_inherited(program, name, (recipe, term), (original, origin[source]))
    return found


def _of_inherited(
    program: Network, name: str, new: tuple[Recipe, LinearTerm], old: tuple[Recipe, LinearTerm]
) -> Selection:
    recipe, term = old
    result = recipe.statements[term.number].target
    found: Selection = []
    for axis, form in enumerate(result.index):
        if _is_weights_own(form, term):
            labels = torch.zeros(recipe.buffers[term.weight.buffer].shape, dtype=torch.int64)
            labels.view(-1)[_at(recipe, term, term.weight.address(recipe.buffers))] = _at(recipe, term, form)
            chosen = _chosen(new, axis, program.inherit_from(name, labels))
            whole = recipe.buffers[result.buffer].shape[axis]
            if chosen is not None and not torch.equal(chosen, torch.arange(whole)):
                found.append((axis, chosen))
    return found


def _of_new(program: Network, name: str, recipe: Recipe, term: LinearTerm) -> Selection:
    """Of a parameter that began as an identity matrix, whose row k gave channel k."""
    size = program.identity_size(name)
    labels = program.inherit_from(name, torch.arange(size)[:, None].expand(size, size))
    found: Selection = []
    for axis, form in enumerate(recipe.statements[term.number].target.index):
        if _is_weights_own(form, term):
            chosen = _chosen((recipe, term), axis, labels)
            if chosen is not None and not torch.equal(chosen, torch.arange(size)):
                found.append((axis, chosen))
    return found


def _chosen(new: tuple[Recipe, LinearTerm], axis: int, labels: torch.Tensor) -> torch.Tensor | None:
    """For each index along an axis of the new result the label of the elements that add to it."""
    recipe, term = new
    target = recipe.statements[term.number].target
    if axis >= len(target.index) or not _is_weights_own(target.index[axis], term):
        return None
    chosen = torch.arange(recipe.buffers[target.buffer].shape[axis])
    own = labels.reshape(-1)[_at(recipe, term, term.weight.address(recipe.buffers))]
    chosen[_at(recipe, term, target.index[axis])] = own
    return chosen


def _is_weights_own(form: Form, term: LinearTerm) -> bool:
    loops = forms.used_loops(form)
    return bool(loops) and loops <= {*term.blocks, *term.outputs}


def _at(recipe: Recipe, term: LinearTerm, form: Form) -> torch.Tensor:
    """The values of a form at every element of the term's parameter, flat."""
    loops = tuple(sorted(term.weight_loops))
    return form_values(form, loops, recipe.statements[term.number].extent_of).reshape(-1)
