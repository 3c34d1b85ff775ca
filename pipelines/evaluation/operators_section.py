"""Single layers by each operator, beside the paper's Fig. 6."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopmorph.pipelines.evaluation.markdown import not_measured, number
from loopmorph.pipelines.evaluation.networks import setting_lines
from loopmorph.pipelines.evaluation.section import Part, Studies
from loopmorph.pipelines.evaluation.study import Study
from loopmorph.pipelines.support.markdown import table

_ABOUT = """## Single layers, the paper's Fig. 6

Each operator on each layer of ResNet-34, speed-up over the same layer as it was, by our compiler; the paper's
figures beside them are over untuned TVM on a Core i7, read off its picture. With Winograd on the original's layers,
and without.
"""
_COMMANDS = [
    "loopmorph operators resnet34 --algorithm auto --json auto.json",
    "loopmorph operators resnet34 --algorithm direct --json direct.json",
    "loopmorph evaluation add docs/evaluation/operators-auto.json --operators auto.json",
    "loopmorph evaluation add docs/evaluation/operators-direct.json --operators direct.json",
]


def operators_section(studies: Studies) -> Part:
    """A table for each run of `loopmorph operators` that is stored."""
    lines = [*_ABOUT.splitlines(), ""]
    found = studies.of("operators")
    if not found:
        lines += not_measured("no run of the operators is stored", _COMMANDS)
    for name, study in found.items():
        result = study.result or {}
        how = "no layer by Winograd" if result.get("algorithm") == "direct" else "with Winograd where it is faster"
        lines += [f"### {study.provenance.model}, {how}", "", *setting_lines(study, name), *_rows(study, result), ""]
    return Part(lines)


def _rows(study: Study, result: Mapping[str, Any]) -> list[str]:
    paper = {row["layer"]: row["paper"] for row in result.get("paper", ()) if row["layer"]}
    layers = result.get("layers", ())
    operators = list(dict.fromkeys(row["operator"] for layer in layers for row in layer["rows"]))
    rows = []
    for layer in layers:
        speedups = {row["operator"]: row["speedup"] for row in layer["rows"]}
        theirs: Mapping[str, float] = next((paper[name] for name in layer["same"] if name in paper), {})
        rows.append([f"`{layer['name']}`", *(_cell(speedups.get(name), theirs.get(name)) for name in operators)])
    return table(["layer", *(f"{name} (paper)" for name in operators)], rows)


def _cell(ours: float | None, theirs: float | None) -> str:
    return number(ours, 2) + ("" if theirs is None else f" ({theirs:.2f})")
