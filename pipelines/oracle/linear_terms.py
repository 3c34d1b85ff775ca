"""Where a layer's nests are linear in one of their parameters, and which part each loop plays there.

A nest that adds up `source * weight` is, for fixed sources, a linear function of the weight, whatever operator it is.
Which loops index the weight, the sources and the target tells the least-squares problems that it holds: groups, bands
and slices are independent blocks, and a bias is the case without a source.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from loopmorph.passes.raising import index_forms as forms
from loopmorph.passes.raising.nest_recipe import Load, Recipe, Value, accumulation, flatten, loads, summands
from loopmorph.pipelines.rewritten.nest_executor import form_values


@dataclass(frozen=True)
class LinearTerm:
    """One summand `source * weight` of one statement, `weight` an element of a parameter.

    Attributes:
        number: the statement's number in the recipe.
        term: the summand.
        weight: the parameter's load.
        sources: the other factors; none for a bias.
        blocks: loops that index the weight, the source and the target: each point is a problem of its own.
        outputs: loops that index the weight and the target: the problem's right-hand sides.
        unknowns: loops that index the weight and the source, and are summed over.
        samples: loops that index the target and not the weight: the problem's rows.
        summed: loops that index the source alone, and are summed over.
    """

    number: int
    term: Value
    weight: Load
    sources: tuple[Value, ...]
    blocks: tuple[int, ...]
    outputs: tuple[int, ...]
    unknowns: tuple[int, ...]
    samples: tuple[int, ...]
    summed: tuple[int, ...]

    @property
    def weight_loops(self) -> tuple[int, ...]:
        """The loops of the weight, in the order block, unknown, output."""
        return (*self.blocks, *self.unknowns, *self.outputs)

    @property
    def is_bias(self) -> bool:
        """Whether the parameter is only added."""
        return not self.sources


def linear_terms(recipe: Recipe) -> list[LinearTerm]:
    """The linear terms of a recipe, in program order; biases last, since the best one depends on the weights."""
    found = [term for number in range(len(recipe.statements)) for term in _terms(recipe, number)]
    return [t for t in found if not t.is_bias] + [t for t in found if t.is_bias]


def name_of(recipe: Recipe, term: LinearTerm) -> str:
    """The name of a term's parameter."""
    return recipe.buffers[term.weight.buffer].name


def term_positions(recipe: Recipe, term: LinearTerm) -> torch.Tensor:
    """Where a term's elements lie in its parameter: (blocks, unknowns, outputs) int64, row-major positions."""
    extents, ordered = recipe.statements[term.number].extent_of, tuple(sorted(term.weight_loops))
    found = form_values(term.weight.address(recipe.buffers), ordered, extents)
    shape = [math.prod(extents[n] for n in loops) for loops in (term.blocks, term.unknowns, term.outputs)]
    return found.permute([ordered.index(n) for n in term.weight_loops]).reshape(shape)


def is_plain(term: LinearTerm, recipe: Recipe) -> bool:
    """Whether a term multiplies rows with all of a matrix (outputs, inputs)."""
    index, shape = term.weight.index, recipe.buffers[term.weight.buffer].shape
    extents = recipe.statements[term.number].extent_of
    if term.blocks or term.summed or len(index) != 2:
        return False
    loops = (term.outputs, term.unknowns)
    return all(
        forms.used_loops(form) == frozenset(own) and math.prod(extents[n] for n in own) == size
        for form, own, size in zip(index, loops, shape, strict=True)
    )


def later_statements(recipe: Recipe, term: LinearTerm) -> list[int]:
    """The statements after a term's own whose result depends on what that writes, in program order."""
    reached, found = {recipe.statements[term.number].target.buffer}, []
    for number in range(term.number + 1, len(recipe.statements)):
        statement = recipe.statements[number]
        if statement.target.buffer in reached or any(load.buffer in reached for load in loads(statement.value)):
            reached.add(statement.target.buffer)
            found.append(number)
    return found


def is_contracted_again(recipe: Recipe, term: LinearTerm) -> bool:
    """Whether what a term adds up is later multiplied with another parameter."""
    reached = {recipe.statements[term.number].target.buffer}
    for number in later_statements(recipe, term):
        statement = recipe.statements[number]
        for other in _terms(recipe, number):
            if any(load.buffer in reached for source in other.sources for load in loads(source)):
                return True
        reached.add(statement.target.buffer)
    return False


def _terms(recipe: Recipe, number: int) -> Iterable[LinearTerm]:
    statement = recipe.statements[number]
    found = accumulation(statement)
    if found is not None and found[0] != "sum":
        return
    kept = _loops(statement.target.index)
    for term in summands(statement.value) if found is None else found[1]:
        factors = flatten(term, "arith.mulf")
        weights = [f for f in factors if isinstance(f, Load) and recipe.buffers[f.buffer].kind == "parameter"]
        sources = tuple(f for f in factors if f not in weights)
        others = [load for source in sources for load in loads(source)]
        if len(weights) != 1 or any(recipe.buffers[load.buffer].kind == "parameter" for load in others):
            continue
        if (sources and not others) or statement.guards:
            continue  # a constant times a parameter; points that a bound leaves out
        ours, theirs = _loops(weights[0].index), frozenset().union(*(_loops(load.index) for load in others))
        if ours - kept - theirs:
            continue  # a sum over the weight alone, whose terms cannot be told apart
        every = statement.loops
        yield LinearTerm(
            number=number,
            term=term,
            weight=weights[0],
            sources=sources,
            blocks=tuple(n for n in every if n in ours & theirs & kept),
            outputs=tuple(n for n in every if n in ours & kept - theirs),
            unknowns=tuple(n for n in every if n in (ours & theirs) - kept),
            samples=tuple(n for n in every if n in kept - ours),
            summed=tuple(n for n in every if n in theirs - ours - kept),
        )


def _loops(index: Iterable[forms.Form]) -> frozenset[int]:
    return frozenset().union(*(forms.used_loops(form) for form in index))
