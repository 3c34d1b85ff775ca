"""loopmorph: neural architecture search as program transformation, on MLIR loop nests.

The names below are the whole public surface; each is imported when first used, so that `import loopmorph` is quick.
Loading, training and saving networks takes PyTorch alone; what takes MLIR says so where it is not installed.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

# In a checkout the rooms (passes/, dialects/, ...) lie beside this folder; in a wheel they lie inside it.
_beside = Path(__file__).resolve().parent.parent
if (_beside / "pyproject.toml").exists() and (_beside / "passes" / "base.py").exists():
    __path__.append(str(_beside))

__version__ = "0.1.0"

_HOME = {
    "ArgumentError": "loopmorph.passes.errors",
    "CompilationFailed": "loopmorph.passes.errors",
    "DataError": "loopmorph.passes.errors",
    "IllegalTransform": "loopmorph.passes.errors",
    "ImportRefused": "loopmorph.passes.errors",
    "LoopmorphError": "loopmorph.passes.errors",
    "LoopmorphWarning": "loopmorph.passes.errors",
    "MissingPackage": "loopmorph.passes.errors",
    "WrongResult": "loopmorph.passes.errors",
    "Program": "loopmorph.pipelines.program",
    "import_model": "loopmorph.pipelines.program",
    "Executable": "loopmorph.pipelines.codegen.executable",
    "compile": "loopmorph.pipelines.compile",
    "compile_mlir": "loopmorph.pipelines.codegen.from_mlir",
    "Exported": "loopmorph.pipelines.export",
    "export": "loopmorph.pipelines.export",
    "FisherScore": "loopmorph.pipelines.legality.fisher",
    "fisher_potential": "loopmorph.pipelines.legality.fisher",
    "Calibration": "loopmorph.pipelines.legality.calibration",
    "load_calibration": "loopmorph.pipelines.legality.calibration_file",
    "FineTuning": "loopmorph.pipelines.training.recipe",
    "Teacher": "loopmorph.pipelines.training.distillation",
    "Trained": "loopmorph.pipelines.training.train",
    "finetune": "loopmorph.pipelines.training.train",
    "train": "loopmorph.pipelines.training.train",
    "calibrate": "loopmorph.pipelines.search.calibrate",
    "LegalityResult": "loopmorph.pipelines.search.legality",
    "legality": "loopmorph.pipelines.search.legality",
    "load_model": "loopmorph.pipelines.search.saved_model",
    "load_program": "loopmorph.pipelines.search.saved_model",
    "save_model": "loopmorph.pipelines.search.saved_model",
    "Result": "loopmorph.pipelines.search.job",
    "SearchSettings": "loopmorph.pipelines.search.settings",
    "optimize": "loopmorph.pipelines.search.optimize",
    "optimize_points": "loopmorph.pipelines.search.optimize",
    "replay": "loopmorph.pipelines.search.optimize",
    "load_schedule": "loopmorph.pipelines.schedules",
}

__all__ = ["__version__", *_HOME]

if TYPE_CHECKING:
    from loopmorph.passes.errors import (
        ArgumentError,
        CompilationFailed,
        DataError,
        IllegalTransform,
        ImportRefused,
        LoopmorphError,
        LoopmorphWarning,
        MissingPackage,
        WrongResult,
    )
    from loopmorph.pipelines.codegen.executable import Executable
    from loopmorph.pipelines.codegen.from_mlir import compile_mlir
    from loopmorph.pipelines.compile import compile
    from loopmorph.pipelines.export import Exported, export
    from loopmorph.pipelines.legality.calibration import Calibration
    from loopmorph.pipelines.legality.calibration_file import load_calibration
    from loopmorph.pipelines.legality.fisher import FisherScore, fisher_potential
    from loopmorph.pipelines.program import Program, import_model
    from loopmorph.pipelines.schedules import load_schedule
    from loopmorph.pipelines.search.calibrate import calibrate
    from loopmorph.pipelines.search.job import Result
    from loopmorph.pipelines.search.legality import LegalityResult, legality
    from loopmorph.pipelines.search.optimize import optimize, optimize_points, replay
    from loopmorph.pipelines.search.saved_model import load_model, load_program, save_model
    from loopmorph.pipelines.search.settings import SearchSettings
    from loopmorph.pipelines.training.distillation import Teacher
    from loopmorph.pipelines.training.recipe import FineTuning
    from loopmorph.pipelines.training.train import Trained, finetune, train


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'loopmorph' has no attribute '{name}'")
    from loopmorph.pipelines.support.extras import needs_mlir

    with needs_mlir(f"loopmorph.{name}"):
        value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
