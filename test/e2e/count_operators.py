"""Counts the distinct operators that few steps make of one layer: 64 to 64 channels, 3x3, on 16x16.

The layer is the first convolution of conv - BatchNorm - ReLU - conv. Steps are the neural primitives and those that
bring iterators forward for them (split, interchange) or apply them to a part (partition, mix), with a fixed menu of
parameters, to any nest of the layer that computes. A step counts as legal where the transformation accepts it; no
Fisher potential is asked.

Two programs are equal where the layer's computing nests have the same extents, the same access maps and parameters of
the same shapes; the names and the order of the loops do not matter (`form_of`). Two operators are equal where that
holds once loops that every access reads as one number are merged, as those of a split that nothing followed (so that
loop transformations alone make no new operator).

    PYTHONPATH=. python test/e2e/count_operators.py --steps 5 --seconds 300

Breadth first, and without the programs that were found before. A level that does not fit into the time is estimated:
of programs drawn from the last level that is complete one child each is drawn, and weighs the number of children over
the number of its parents (those programs of the same steps but one, which with that step last give the same child).
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.address import layer_nests
from loopmorph.passes.affine_expr import from_linear, linear_form, substitute, used_dims
from loopmorph.passes.analysis.roles import is_reduction
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.loop.interchange import Interchange
from loopmorph.passes.loop.partition import Partition
from loopmorph.passes.loop.split import Split
from loopmorph.passes.nest import Access, Nest
from loopmorph.passes.neural.bottleneck import Bottleneck
from loopmorph.passes.neural.depthwise import Depthwise
from loopmorph.passes.neural.group import Group
from loopmorph.passes.neural.mix import Mix
from loopmorph.passes.neural.narrow import Narrow
from loopmorph.passes.transformation import Transformation
from loopmorph.pipelines.network import copy_module
from loopmorph.pipelines.program import import_model

LAYER = "0"
ROLES = (marks.MAIN, marks.EXPAND, marks.MIX, marks.MIX_IN)
MOST_ORDERS = 720

Step = Transformation[object]
Digest = bytes


@dataclass(frozen=True)
class Found:
    """A program: the steps that make it, and the forms of it and of its operator."""

    steps: tuple[Step, ...]
    program: Digest
    operator: Digest


# ---- what a step can be


def menu(module: ir.Operation) -> Iterator[Step]:
    """The steps that are tried on the layer as it is; `analyze` decides which are legal."""
    for address, nest in computing(module):
        names = [loop.iterator for loop in nest.loops if loop.iterator != "n" and loop.extent != 1]
        for loop in nest.loops:
            if loop.iterator not in names or loop.extent is None:
                continue
            name, half = loop.iterator, loop.extent // 2
            yield Bottleneck(address, name, 3 if loop.extent == 3 else 2)
            if loop.extent % 4 == 0:
                yield Narrow(address, name, half)
                yield Split(address, name, half)
                yield Partition(address, name, parts=2)
        rows = [n for n in names if n.partition(".")[0] in ("oh", "ow")]
        outputs = [n for n in names if n.partition(".")[0] == "co"]
        inputs = [n for n in names if n.partition(".")[0] == "ci"]
        for factor in (2, 4):
            yield from (Group(address, pair, factor) for pair in itertools.product([*outputs, *rows], inputs))
            yield from (Group(address, (row,), factor) for row in rows)
        if {"co", "ci"} <= set(names):
            yield Depthwise(address)
        if len(names) > 1:
            yield Interchange(address, (*names[1:], names[0]))
    yield Mix(LAYER, "co")
    yield Mix(LAYER, "ci")


def computing(module: ir.Operation) -> list[tuple[str, Nest]]:
    """The layer's nests that contract, with their addresses."""
    own = [n for n in layer_nests(module, LAYER) if any(is_reduction(n, loop.position) for loop in n.loops)]
    found = []
    for role in (marks.MAIN, marks.MIX, marks.MIX_IN):
        alike = [nest for nest in own if nest.role == role]
        plain = role == marks.MAIN and len(alike) == 1
        found += [(LAYER if plain else f"{LAYER}#{role}.{k}", nest) for k, nest in enumerate(alike)]
    return found


# ---- when two are the same


def form_of(module: ir.Operation, merged: bool) -> Digest:
    """The nests of the layer up to names and order of loops, each program as a digest of 16 bytes.

    Args:
        module: the program.
        merged: whether loops that stand for the digits of one number count as one.
    """
    numbers: dict[object, int] = {}
    texts = []
    for nest in layer_nests(module, LAYER):
        if nest.role in ROLES:
            texts.append(f"{nest.role} {_nest_form(nest, merged, numbers)}")
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=16).digest()


def _nest_form(nest: Nest, merged: bool, numbers: dict[object, int]) -> str:
    """The least of the texts that naming the loops in any order gives, among orders that a first look does not tell."""
    extents = [loop.extent or 0 for loop in nest.loops]
    accesses = [(a, [*a.exprs]) for a in nest.accesses]
    alive = [k for k, extent in enumerate(extents) if extent != 1]
    if merged:
        alive = _merge(extents, accesses, alive)
    memrefs = [_memref_text(a, numbers) for a, _ in accesses]
    roles = {k: (extents[k], _role(k, accesses)) for k in alive}
    classes = [list(group) for _, group in itertools.groupby(sorted(alive, key=roles.__getitem__), roles.__getitem__)]
    orders = itertools.product(*(itertools.permutations(group) for group in classes))
    texts = (
        _text([k for group in order for k in group], extents, accesses, memrefs, len(nest.loops))
        for order in itertools.islice(orders, MOST_ORDERS)
    )
    return min(texts)


def _memref_text(access: Access, numbers: dict[object, int]) -> str:
    """Parameters by their shape, everything else also by the order in which the layer meets it."""
    shape = tuple(ir.MemRefType(access.memref.type).shape)
    if marks.parameter_name(access.memref) is not None:
        return f"parameter{shape}"
    return f"{access.kind}{numbers.setdefault(access.memref, len(numbers))}{shape}"


def _role(loop: int, accesses: Sequence[tuple[Access, list[ir.AffineExpr]]]) -> str:
    """Where a loop occurs, whatever the others are called."""
    zero = ir.AffineExpr.get_constant(0)
    width = 1 + max((k for _, exprs in accesses for e in exprs for k in used_dims(e)), default=0)
    alone = {k: ir.AffineExpr.get_dim(0) if k == loop else zero for k in range(width)}
    return ";".join(",".join(str(substitute(e, alone, 1)) for e in exprs) for _, exprs in accesses)


def _text(
    order: Sequence[int],
    extents: Sequence[int],
    accesses: Sequence[tuple[Access, list[ir.AffineExpr]]],
    memrefs: Sequence[str],
    rank: int,
) -> str:
    names = {k: ir.AffineExpr.get_constant(0) for k in range(rank)}
    names |= {k: ir.AffineExpr.get_dim(position) for position, k in enumerate(order)}
    maps = [",".join(_ordered(substitute(e, names, rank)) for e in exprs) for _, exprs in accesses]
    return f"{[extents[k] for k in order]} " + "; ".join(f"{m}[{t}]" for m, t in zip(memrefs, maps, strict=True))


def _ordered(expr: ir.AffineExpr) -> str:
    """The text of an expression; of a linear one with its terms in order."""
    form = linear_form(expr)
    return str(expr if form is None else from_linear(form))


def _merge(extents: list[int], accesses: Sequence[tuple[Access, list[ir.AffineExpr]]], alive: list[int]) -> list[int]:
    """Replaces pairs of loops that occur as `outer * extent + inner` alone by one; returns those that are left."""
    for outer, inner in itertools.permutations(alive, 2):
        if all(_is_one_number(e, outer, inner, extents[inner]) for _, exprs in accesses for e in exprs):
            extents[inner] *= extents[outer]
            gone = {outer: ir.AffineExpr.get_constant(0)}
            rank = len(extents)
            gone |= {k: ir.AffineExpr.get_dim(k) for k in range(rank) if k != outer}
            for _, exprs in accesses:
                exprs[:] = [substitute(e, gone, rank) for e in exprs]
            return _merge(extents, accesses, [k for k in alive if k != outer])
    return alive


def _is_one_number(expr: ir.AffineExpr, outer: int, inner: int, extent: int) -> bool:
    form = linear_form(expr)
    if form is None:
        return not {outer, inner} & used_dims(expr)
    return form.coefficients.get(outer, 0) == extent * form.coefficients.get(inner, 0)


# ---- the search


class Space:
    """The programs that steps make of the layer."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        width = 64
        layers = (nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        model = nn.Sequential(*layers, nn.Conv2d(width, width, 3, padding=1, bias=False)).eval()
        self._start = import_model(model, (torch.randn(1, width, 16, 16),)).module

    def found(self, steps: tuple[Step, ...], module: ir.Module) -> Found:
        with module.context:
            return Found(steps, form_of(module.operation, False), form_of(module.operation, True))

    def module(self, steps: Sequence[Step]) -> ir.Module:
        """The program after the steps.

        Raises:
            ArgumentError: a step names something that is not there.
            IllegalTransform: a step is not legal.
        """
        module = copy_module(self._start)
        for step in steps:
            step.apply(module.operation)
        return module

    def children(self, steps: tuple[Step, ...]) -> Iterator[Found]:
        """The programs that one more legal step makes; some may be the same."""
        module = self.module(steps)
        after = copy_module(module)
        for step in menu(module.operation):
            try:
                step.apply(after.operation)
            except (ArgumentError, IllegalTransform):
                continue  # a refused step leaves the program as it is
            yield self.found((*steps, step), after)
            after = copy_module(module)

    def parents(self, child: Found) -> int:
        """How many of the programs of the child's steps but one become the child by that step; at least 1."""
        found = set()
        for k in range(len(child.steps)):
            rest = (*child.steps[:k], *child.steps[k + 1 :])
            try:
                parent = self.found(rest, self.module(rest))
                again = self.found((*rest, child.steps[k]), self.module((*rest, child.steps[k])))
            except (ArgumentError, IllegalTransform):
                continue
            if again.program == child.program:
                found.add(parent.program)
        return max(1, len(found))


@dataclass(frozen=True)
class Level:
    """The programs that need so many steps and no fewer.

    Attributes:
        steps: how many.
        programs: the number of programs.
        operators: of operators among them that no program of fewer steps computes.
        error: the standard error of `programs` where both numbers are estimated.
    """

    steps: int
    programs: float
    operators: float
    error: float | None = None


def count(space: Space, most: int, seconds: float, samples: int) -> Iterator[Level]:
    """Each level as soon as it is complete, then estimates of those that the time does not allow."""
    deadline = time.process_time() + seconds
    first = space.found((), space.module(()))
    level, programs, operators = [first], {first.program}, {first.operator}
    counts = Level(0, 1, 1)
    yield counts
    for depth in range(1, most + 1):
        following: dict[Digest, Found] = {}
        for parent in level:
            following |= {c.program: c for c in space.children(parent.steps) if c.program not in programs}
            if time.process_time() > deadline:
                yield from estimate(space, level, programs, range(depth, most + 1), samples, counts)
                return
        level = list(following.values())
        programs |= following.keys()
        new = {child.operator for child in level} - operators
        operators |= new
        counts = Level(depth, len(level), len(new))
        yield counts


def estimate(
    space: Space, level: Sequence[Found], known: set[Digest], depths: range, samples: int, last: Level
) -> Iterator[Level]:
    """Estimates levels from random paths that begin in the last complete one.

    Args:
        space: the programs.
        level: those of the last complete level.
        known: the programs of all complete levels. Further on, a program that fewer steps make as well is counted
            again, so that these numbers are rather too large.
        depths: the levels to estimate.
        samples: the number of paths.
        last: the counts of `level`. Its share of operators in the programs is taken for that of the others.
    """
    rng = random.Random(0)
    weights: dict[int, list[float]] = {depth: [] for depth in depths}
    for _ in range(samples):
        node, weight = rng.choice(level), float(len(level))
        for depth in depths:
            new = {c.program: c for c in space.children(node.steps) if c.program not in known | {node.program}}
            if new:
                node = rng.choice(list(new.values()))
            weight *= len(new) / (space.parents(node) if new else 1)
            weights[depth].append(weight)
            if not new:
                break
    for depth, found in weights.items():
        values = [*found, *([0.0] * (samples - len(found)))]
        mean, error = statistics.fmean(values), statistics.stdev(values) / math.sqrt(samples)
        yield Level(depth, mean, mean * last.operators / last.programs, error)


@click.command(context_settings={"show_default": True})
@click.option("--steps", default=5, type=click.IntRange(min=1), help="Steps at most.")
@click.option("--seconds", default=300.0, help="CPU time for the complete levels.")
@click.option("--samples", default=100, type=click.IntRange(min=2), help="Paths for the estimate of the others.")
def main(steps: int, seconds: float, samples: int) -> None:
    """Counts the operators that a few steps make of one layer."""
    console = Console()
    table = Table(title="64 -> 64, 3x3, on 16x16")
    for column in ("steps", "programs", "operators", "CPU s"):
        table.add_column(column, justify="right")
    for level in count(Space(), steps, seconds, samples):
        if level.error is None:
            row = [f"{level.programs:.0f}", f"{level.operators:.0f}"]
        else:
            row = [f"about {level.programs:.2g} (+- {level.error:.1g})", f"about {level.operators:.2g}"]
        table.add_row(str(level.steps), *row, f"{time.process_time():.0f}")
        console.print(level)
    console.print(table)


if __name__ == "__main__":
    main()
