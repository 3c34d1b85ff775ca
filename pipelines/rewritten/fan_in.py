"""How many products are added up to one element of a result, for each parameter: what initialisation goes by."""

from __future__ import annotations

import math
from dataclasses import dataclass

from loopmorph.passes.raising.index_forms import bounds
from loopmorph.passes.raising.nest_recipe import Recipe, Statement, accumulation, loads

_Box = tuple[tuple[int, int], ...]


@dataclass
class _Region:
    """A box of elements of one buffer, the products that go there, and the parameters among their factors."""

    buffer: int
    box: _Box
    points: int
    parameters: set[int]

    @property
    def fan_in(self) -> int:
        return max(1, self.points // math.prod(high - low + 1 for low, high in self.box))

    def absorb(self, other: _Region) -> None:
        self.box = tuple((min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(self.box, other.box, strict=True))
        self.points += other.points
        self.parameters |= other.parameters


def fan_ins(recipe: Recipe) -> dict[int, int]:
    """Buffer number of each parameter that is a factor of products -> products per element of what they add up to.

    Statements that add to the same elements (the parts of a reduction) count together, those that add to different
    ones (the parts of a result) apart. A parameter of several contractions gets the smallest.
    """
    regions: list[_Region] = []
    for statement in recipe.statements:
        region = _region(recipe, statement)
        if region is None:
            continue
        meeting = [r for r in regions if r.buffer == region.buffer and _meet(r.box, region.box)]
        regions = [r for r in regions if r not in meeting]
        for other in meeting:
            region.absorb(other)
        regions.append(region)
    found: dict[int, int] = {}
    for region in regions:
        for number in region.parameters:
            found[number] = min(found.get(number, region.fan_in), region.fan_in)
    return found


def _region(recipe: Recipe, statement: Statement) -> _Region | None:
    accumulated = accumulation(statement)
    if accumulated is None or accumulated[0] != "sum":
        return None
    products = [read for term in accumulated[1] if len(read := list(loads(term))) > 1]
    if not products:
        return None
    factors = {load.buffer for read in products for load in read if recipe.buffers[load.buffer].kind == "parameter"}
    box = tuple(bounds(form, statement.extent_of) for form in statement.target.index)
    return _Region(statement.target.buffer, box, len(products) * math.prod(statement.extents), factors)


def _meet(a: _Box, b: _Box) -> bool:
    return all(x[0] <= y[1] and y[0] <= x[1] for x, y in zip(a, b, strict=True))
