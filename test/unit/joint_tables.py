"""Small tables of variants, and truths about what they make together that are given as functions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from loopmorph.passes.history import Step
from loopmorph.pipelines.legality.predicted_loss import Fitted
from loopmorph.pipelines.search.joint.joint_loss import JointLoss
from loopmorph.pipelines.search.variants.table import Cost, Variant, VariantTable

_KINDS = ("bottleneck", "group")


def variant(layers: str, milliseconds: float, loss: float, steps: str = "", kind: str = "", **more: int) -> Variant:
    """A variant of some layers ("a b"), with what it adds to the time and to other costs."""
    named = steps or f"morph-group{{layer={layers.split()[0]} iters=co,ci factor=2}}"
    return Variant((named,), frozenset(layers.split()), Cost(milliseconds, **more), loss, {}, kind)


def table(*variants: Variant, milliseconds: float = 100.0, parameters: int = 1000) -> VariantTable:
    """A table of a network that takes so much."""
    cost = Cost(milliseconds, macs=10**6, parameters=parameters, memory=10**6)
    return VariantTable("net", "kl-block", "cpu", 1, cost, variants)


def blocks_table(blocks: int, each: int, seed: int) -> VariantTable:
    """Blocks of two convolutions with as many variants each: some of one convolution, most of both."""
    draw = Random(seed)
    found = []
    for block in range(blocks):
        harm = draw.uniform(0.5, 2.0)
        for number in range(each):
            saved = draw.uniform(0.05, 0.95)
            loss = 0.02 * harm * saved**2 * math.exp(draw.gauss(0.0, 0.4))
            layers = f"b{block}.c1 b{block}.c2" if number % 4 else f"b{block}.c{1 + number // 4 % 2}"
            kind = _KINDS[number % 2]
            factor = 2 ** (1 + number // 2 % 4)
            options = "iter=co" if kind == "bottleneck" else "iters=co,ci"
            # the name of the layer tells variants of one block apart: each text is a variant
            steps = f"morph-{kind}{{layer=b{block}.{number} {options} factor={factor}}}"
            found.append(variant(layers, -20 * saved * (1.0 if number % 4 else 0.5), loss, steps, kind))
    return table(*found, milliseconds=20.0 * blocks + 10)


def choices(made: VariantTable) -> Iterator[tuple[int, ...]]:
    """Every choice of variants of which no two share a layer."""
    places: dict[str, list[int]] = {}
    for index, each in enumerate(made.variants):
        places.setdefault(min(each.layers).split(".")[0], []).append(index)
    options = [[chosen for chosen in _within(made, indices)] for indices in places.values()]
    return (tuple(sorted(itertools.chain(*each))) for each in itertools.product(*options))


def _within(made: VariantTable, indices: Sequence[int]) -> Iterator[tuple[int, ...]]:
    for count in range(len(indices) + 1):
        compatible = False
        for chosen in itertools.combinations(indices, count):
            layers = [layer for each in chosen for layer in made.variants[each].layers]
            if len(layers) == len(set(layers)):
                compatible = True
                yield chosen
        if not compatible:
            return


@dataclass
class GivenTruth:
    """What a function of the chosen variants says; the first of two levels is off by a random factor.

    Attributes:
        table: the variants, each with a text of its own.
        joint: the joint loss of some of them.
        noise: of the logarithm of the first level's factor.
        slower: the measured time, as a multiple of the table's.
        refused: steps that are not admitted after those that they are mapped to.
    """

    table: VariantTable
    joint: Callable[[Sequence[Variant]], float]
    noise: float = 0.0
    slower: float = 1.0
    levels: int = 2
    refused: dict[str, str] = field(default_factory=dict)
    stop_after: int | None = None
    asked: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)

    def is_applicable(self, steps: Sequence[Step]) -> bool:
        texts = [str(step) for step in steps]
        return not any(other in texts[: texts.index(each)] for each, other in self.refused.items() if each in texts)

    def loss(self, steps: Sequence[Step], level: int) -> JointLoss:
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        texts = tuple(map(str, steps))
        self.asked.append((level, texts))
        factor = math.exp(self.noise * Random(str(texts)).gauss(0.0, 1.0)) if level < self.levels - 1 else 1.0
        kl = factor * self.joint(self.chosen(steps))
        return JointLoss(kl, 10 * kl, 5 * kl, 20 * kl)

    def fitted(self, steps: Sequence[Step]) -> Fitted | None:
        return None

    def begin(self, asked: Sequence[tuple[Sequence[Step], int]]) -> None: ...

    def drop(self) -> None: ...

    def milliseconds(self, steps: Sequence[Step]) -> float:
        saved = math.fsum(each.change.milliseconds for each in self.chosen(steps))
        return self.slower * (self.table.original.milliseconds + saved)

    def chosen(self, steps: Sequence[Step]) -> list[Variant]:
        by_text = {each.steps[0]: each for each in self.table.variants}
        return [by_text[str(step)] for step in steps]


def interacting(made: VariantTable, seed: int, strength: float = 2.0) -> Callable[[Sequence[Variant]], float]:
    """A joint loss that is no sum: layers differ in what a loss in them does, and losses make each other worse."""
    draw = Random(seed)
    layers = sorted({layer for each in made.variants for layer in each.layers})
    weights = {layer: math.exp(draw.gauss(0.0, 0.5)) for layer in layers}

    def joint(chosen: Sequence[Variant]) -> float:
        parts = [each.loss * sum(weights[layer] for layer in each.layers) / len(each.layers) for each in chosen]
        pairs = sum(first * second for first, second in itertools.combinations(parts, 2))
        return math.fsum(parts) + strength * math.sqrt(pairs)

    return joint


def scaled(made: VariantTable, factor: float) -> VariantTable:
    """The same table with other losses."""
    return replace(made, variants=tuple(replace(each, loss=factor * each.loss) for each in made.variants))
