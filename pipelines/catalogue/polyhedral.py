"""What a transformation does to a layer of the example, as polyhedral views side by side."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterator, Sequence
from typing import Any

from loopmorph.passes.analysis.polyhedral.columns import COLUMN, side_by_side
from loopmorph.passes.analysis.polyhedral.text import polyhedral_documents
from loopmorph.passes.errors import ArgumentError, LoopmorphError
from loopmorph.passes.pipeline import parse_pipeline
from loopmorph.passes.transformation import Transformation
from loopmorph.pipelines.catalogue.docstrings import Description
from loopmorph.pipelines.catalogue.example import LAYERS
from loopmorph.pipelines.program import Program

Step = Transformation[Any]


def polyhedral_change(name: str, description: Description, program: Program) -> Iterator[str]:
    """The nests of a layer before and after the first of a docstring's examples that can be applied, as Markdown.

    Args:
        name: the transformation.
        description: its docstring. Pipelines that prepare a nest for it come first, and are applied as they are; other
            examples to the first of `LAYERS` that admits them.
        program: the example.

    Raises:
        ArgumentError: no example can be applied; names the transformation.
    """
    refusals = []
    for steps in _candidates(description):
        try:
            before = program
            for step in steps[:-1]:
                before = before.apply(str(step))
            after = before.apply(str(steps[-1]))
        except LoopmorphError as refusal:
            refusals.append(f"'{steps[-1]}': {refusal}")
            continue
        yield from _shown(steps, before, after)
        return
    reason = f"; {refusals[0]}" if refusals else ""
    raise ArgumentError("passes", f"no example of '{name}' can be applied to the example network{reason}")


def _candidates(description: Description) -> Iterator[Sequence[Step]]:
    for text in description.prepared:
        yield _steps(text)
    for text in description.examples:
        (step,) = _steps(text)
        for layer in LAYERS:
            yield [dataclasses.replace(step, **{"layer": layer})]


def _steps(text: str) -> list[Step]:
    return [element for element in parse_pipeline(text).elements if isinstance(element, Transformation)]


def _shown(steps: Sequence[Step], before: Program, after: Program) -> Iterator[str]:
    layer = str(steps[-1].options()["layer"]).partition("#")[0]
    prepared = f", after <code>{html.escape(','.join(map(str, steps[:-1])))}</code>" if len(steps) > 1 else ""
    title = f"The polyhedral view before and after <code>{html.escape(str(steps[-1]))}</code>{prepared}"
    old, new = (polyhedral_documents(p.module.operation, COLUMN, layer) for p in (before, after))
    yield from (f"<details><summary>{title}</summary>", "", "```text", side_by_side(old, new).rstrip(), "```", "")
    yield from ("</details>", "")
