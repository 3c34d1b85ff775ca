"""Two linear terms of which the second one mixes what the first one gives, and nothing else: fitted as one product.

`argmin |W2 W1 u - y|^2` over all pairs of r channels between is reduced-rank regression: with W the best dense weight
and G = E[u u^T], the leading r eigenvectors V of `W G W^T` give `W1 = V^T W` and `W2 = V`; what is lost is the sum of
the other eigenvalues, as in a truncated singular value decomposition of `W G^(1/2)` (Izenman, "Reduced-rank regression
for the multivariate linear model", J. Multivariate Analysis 1975). Of convolutions: Zhang, Zou, He and Sun,
"Accelerating Very Deep Convolutional Networks for Classification and Detection" (TPAMI 2016), section 2.1.

Such pairs are read off access maps: a dense term whose target is read by one later term alone, at the same point, and
summed over there along the axis that the first term's outputs index. If the first term is depthwise, that axis is of
its blocks instead; what is fitted to the pair then, `separable` tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from loopmorph.passes.raising import index_forms as forms
from loopmorph.passes.raising.index_forms import Form
from loopmorph.passes.raising.nest_recipe import (
    Buffer,
    Call,
    Constant,
    Load,
    Recipe,
    Statement,
    Value,
    accumulation,
    loads,
)
from loopmorph.pipelines.oracle.linear_terms import LinearTerm, linear_terms, term_positions
from loopmorph.pipelines.oracle.repair.separable import LARGEST

ItemT = TypeVar("ItemT")

PRODUCT = "product"  # the name of the dense weight in the place of both


@dataclass(frozen=True)
class Product:
    """A pair of terms, and the recipe with one dense term in their place.

    Attributes:
        whole: the recipe as it is.
        first, second: its terms.
        bias: what is added between; None for nothing.
        recipe: the recipe with the product's weight, the parameter `PRODUCT`.
        term: its term there.
        rank: how many channels lie between.
    """

    whole: Recipe
    first: LinearTerm
    second: LinearTerm
    bias: LinearTerm | None
    recipe: Recipe
    term: LinearTerm
    rank: int

    @property
    def is_separable(self) -> bool:
        """Whether the first term is depthwise."""
        return bool(self.first.blocks)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the dense weight."""
        return self.recipe.buffers[self.term.weight.buffer].shape


def product_of(recipe: Recipe, first: LinearTerm) -> Product | None:
    """The product that a term makes with the one that reads it; None where it is no such pair, or holds every dense
    weight.
    """
    between = recipe.statements[first.number].target.buffer
    seconds = [t for t in linear_terms(recipe) if any(_reads(source, between) for source in t.sources)]
    if len(seconds) != 1 or not _is_private(recipe, first, seconds[0]):
        return None
    second = seconds[0]
    bias = next(
        (t for t in linear_terms(recipe) if t.is_bias and recipe.statements[t.number].target.buffer == between), None
    )
    renamed = _same_points(recipe, first, second)
    if renamed is None:
        return None
    writer, reader = recipe.statements[first.number], recipe.statements[second.number]
    rank = writer.extent_of[_channel(first)]
    unknowns = (*first.blocks, *first.unknowns)
    outer, inner = {n: writer.extent_of[n] for n in first.samples}, {n: writer.extent_of[n] for n in unknowns}
    outputs = {n: reader.extent_of[n] for n in second.outputs}
    extents = {**outer, **outputs, **inner}
    shape = tuple(extents[n] for n in (*second.outputs, *unknowns))
    if _size(tuple(inner.values())) > LARGEST if first.blocks else rank >= _size(tuple(outputs.values())):
        return None
    weight = Load(len(recipe.buffers), tuple(forms.loop(n) for n in (*second.outputs, *unknowns)))
    points = {theirs: forms.loop(mine) for theirs, mine in renamed.items()}
    target = Load(
        reader.target.buffer, tuple(forms.substitute(form, points, reader.extent_of) for form in reader.target.index)
    )
    value = Call("arith.addf", (target, Call("arith.mulf", (_product(first.sources), weight))))
    dense = Statement(tuple(extents), tuple(extents.values()), target, value, role=writer.role)
    changed = replace(
        recipe,
        buffers=(*recipe.buffers, Buffer("parameter", shape, PRODUCT)),
        statements=_replaced(recipe.statements, first.number, second.number, dense),
        batch_loops=_replaced(recipe.batch_loops, first.number, second.number, recipe.batch_loops[first.number])
        if recipe.batch_loops
        else (),
    )
    (term,) = (t for t in linear_terms(changed) if t.weight.buffer == weight.buffer)
    return Product(recipe, first, second, bias, changed, term, rank)


def factors(weight: torch.Tensor, covariance: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The best two factors of a dense weight.

    Args:
        weight: (unknowns, outputs) float64, W^T.
        covariance: (outputs, outputs) float64, W G W^T.
        rank: of what is between.

    Returns:
        W1^T, (unknowns, rank), and W2^T, (rank, outputs).
    """
    leading = torch.linalg.eigh((covariance + covariance.T) / 2)[1][:, -rank:].flip(1)
    return weight @ leading, leading.T


def laid_into(recipe: Recipe, term: LinearTerm, weight: torch.Tensor) -> torch.Tensor:
    """A term's parameter with values in the order block, unknown, output."""
    shape = recipe.buffers[term.weight.buffer].shape
    found = torch.zeros(shape, dtype=weight.dtype, device=weight.device)
    found.view(-1)[term_positions(recipe, term).to(weight.device).reshape(-1)] = weight.reshape(-1)
    return found


def _is_private(recipe: Recipe, first: LinearTerm, second: LinearTerm) -> bool:
    """Whether nobody else writes what is between, or reads it, and both terms are all that their statements add."""
    between = recipe.statements[first.number].target.buffer
    for number, statement in enumerate(recipe.statements):
        written, read = statement.target.buffer == between, _reads(statement.value, between)
        if number == first.number or (number == second.number and not written):
            continue
        if read or (written and (not _is_constant(recipe, statement.value) or number > first.number)):
            return False
    alone = all(
        (accumulation(recipe.statements[t.number]) or ("", []))[1] == [t.term]
        and not recipe.statements[t.number].guards
        for t in (first, second)
    )
    dense = not (first.summed or second.blocks or second.summed) and len(first.blocks) + len(first.outputs) == 1
    return alone and dense and recipe.buffers[between].kind == "temporary" and first.number < second.number


def _same_points(recipe: Recipe, first: LinearTerm, second: LinearTerm) -> dict[int, int] | None:
    """The second term's sample loops by the first one's, where it reads what that gives at the same point."""
    writer, reader = recipe.statements[first.number], recipe.statements[second.number]
    source = second.sources[0]
    if len(second.sources) != 1 or not isinstance(source, Load):
        return None
    renamed: dict[int, int] = {}
    for mine, theirs in zip(writer.target.index, source.index, strict=True):
        a, b = _single(mine), _single(theirs)
        if a is None or b is None or writer.extent_of[a] != reader.extent_of[b]:
            return None
        if (a == _channel(first)) != (b in second.unknowns):
            return None
        if a != _channel(first):
            renamed[b] = a
    complete = set(renamed) == set(second.samples) and set(renamed.values()) == set(first.samples)
    return renamed if complete and len(second.unknowns) == 1 else None


def _channel(first: LinearTerm) -> int:
    """The loop of what is between, of a term that has one output loop or, depthwise, one loop of blocks."""
    (loop,) = (*first.blocks, *first.outputs)
    return loop


def _single(form: Form) -> int | None:
    """The loop that a form is; None for any other form."""
    ((loop, factor),) = form.terms if len(form.terms) == 1 else ((None, 0),)
    return loop if isinstance(loop, int) and factor == 1 and not form.constant else None


def _is_constant(recipe: Recipe, value: Value) -> bool:
    """Whether a value is 0, or a bias."""
    if isinstance(value, Load):
        return recipe.buffers[value.buffer].kind == "parameter"
    return value == Constant(0.0)


def _reads(value: Value, buffer: int) -> bool:
    return any(load.buffer == buffer for load in loads(value))


def _product(sources: Sequence[Value]) -> Value:
    return sources[0] if len(sources) == 1 else Call("arith.mulf", tuple(sources))


def _replaced(items: tuple[ItemT, ...], first: int, second: int, item: ItemT) -> tuple[ItemT, ...]:
    """Without the first, and another one in the place of the second."""
    return tuple(item if k == second else each for k, each in enumerate(items) if k != first)


def _size(extents: Sequence[int]) -> int:
    return int(torch.Size(extents).numel())
