"""Passes: the nest view, the analyses and the transformations; one transformation a file.

The names below are what another project builds on (`docs/embedding.md`); each is imported when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "ArgumentError": "loopmorph.passes.errors",
    "IllegalTransform": "loopmorph.passes.errors",
    "LoopmorphError": "loopmorph.passes.errors",
    "Pass": "loopmorph.passes.base",
    "Pipeline": "loopmorph.passes.pipeline",
    "Transformation": "loopmorph.passes.transformation",
    "all_passes": "loopmorph.passes.registry",
    "check_input": "loopmorph.passes.input_check",
    "parse_pipeline": "loopmorph.passes.pipeline",
    "run_pipeline": "loopmorph.passes.pipeline",
}

__all__ = [*_HOME]

if TYPE_CHECKING:
    from loopmorph.passes.base import Pass
    from loopmorph.passes.errors import ArgumentError, IllegalTransform, LoopmorphError
    from loopmorph.passes.input_check import check_input
    from loopmorph.passes.pipeline import Pipeline, parse_pipeline, run_pipeline
    from loopmorph.passes.registry import all_passes
    from loopmorph.passes.transformation import Transformation


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'loopmorph.passes' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
