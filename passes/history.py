"""The history of a program: the transformations that made it, typed, and what follows from them.

The record itself is text in the module's `morph.schedule` (see `loopmorph.passes.marks`), so that a printed program
carries it; here it becomes transformations again. Passes that are no transformations leave no record.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.pipeline import parse_pipeline
from loopmorph.passes.registry import all_passes
from loopmorph.passes.text.pipeline_text import parse_options, parse_syntax
from loopmorph.passes.transformation import Kind, Transformation

Step: TypeAlias = Transformation[Any]


@dataclass(frozen=True)
class Foreign(Transformation[None]):
    """A recorded step of a plug-in that is not installed here; it may have changed the network.

    Attributes:
        text: the step as it was recorded.
        layer: the layer that it names; None where it names none.
    """

    name: ClassVar[str] = "foreign"
    kind: ClassVar[Kind] = "neural"

    text: str
    layer: str | None = None

    def analyze(self, module: ir.Operation) -> None:
        raise IllegalTransform(f"step '{self.text}'", "the plug-in that it comes from is not installed")

    def rewrite(self, plan: None) -> ir.Operation:
        raise NotImplementedError("never analysed successfully")

    def __str__(self) -> str:
        return self.text


def history(module: ir.Operation) -> tuple[Step, ...]:
    """The transformations applied so far, in order.

    Raises:
        ArgumentError: a recorded text is malformed.
    """
    return tuple(step for text in marks.recorded_steps(module) for step in _recorded(text, id(all_passes())))


def parse_steps(text: str) -> tuple[Step, ...]:
    """The transformations that a pipeline text spells.

    Raises:
        ArgumentError: the text is malformed, or holds something that is no transformation.
    """
    return _parsed(text, id(all_passes()))


def pipeline_text(steps: Iterable[Step]) -> str:
    """Steps as a pipeline, which `parse_steps` reads."""
    return ",".join(map(str, steps))


def record(module: ir.Operation, *steps: Step) -> None:
    """Appends steps to the record, as if they had been applied."""
    marks.record_steps(module, *map(str, steps))


def transformations(kind: Kind) -> list[type[Step]]:
    """All registered transformations of a kind, in the order of their names."""
    return [each for each in all_passes().values() if issubclass(each, Transformation) and each.kind == kind]


def layer_of(step: Step) -> str | None:
    """The layer that a step is on; None where it is on none."""
    return None if step.address is None else step.address.layer


def steps_on(steps: Iterable[Step], layer: str) -> tuple[Step, ...]:
    """Those of the steps that are on a layer."""
    return tuple(step for step in steps if layer_of(step) == layer)


def scheduled_by_hand(module: ir.Operation) -> frozenset[str]:
    """The layers whose schedule is the user's: a loop transformation has rewritten them after the last neural one.

    What comes before a neural transformation brings iterators forward for it (a split, an interchange); the operator
    that it leaves is scheduled like any other. Choices are followed by the compiler's own schedule (see
    `Transformation.is_schedule`).
    """
    found: set[str] = set()
    for step in history(module):
        layer = None if step.keeps_nests else layer_of(step)
        if layer is not None and step.kind == "neural":
            found.discard(layer)
        elif layer is not None and step.is_schedule:
            found.add(layer)
    return frozenset(found)


@functools.lru_cache(maxsize=8192)
def _recorded(text: str, known_passes: int) -> tuple[Step, ...]:
    """As `_parsed`, where steps of plug-ins that are missing stay what they are."""
    (element, *others) = parse_syntax(text)
    if others or element.name in all_passes():
        return _parsed(text, known_passes)
    options = {option.key: option.items for option in parse_options(text, element)}
    named = options.get("layer")
    return (Foreign(text, None if named is None else ",".join(named)),)


@functools.lru_cache(maxsize=8192)
def _parsed(text: str, _known_passes: int) -> tuple[Step, ...]:
    """Parsed once for each set of registered passes: programs share most of their steps."""
    elements = parse_pipeline(text).elements
    for element in elements:
        if not isinstance(element, Transformation):
            raise ArgumentError("steps", f"'{element}' is not a transformation")
    return tuple(element for element in elements if isinstance(element, Transformation))
