"""How a network was trained and what came of it, as JSON."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import torch

import loopmorph
from loopmorph.pipelines.support.devices import resolve_device
from loopmorph.pipelines.training.accuracy import Accuracy
from loopmorph.pipelines.training.distillation import Teacher
from loopmorph.pipelines.training.recipe import FineTuning
from loopmorph.pipelines.training.train import Trained


def training_report(
    trained: Trained, settings: FineTuning, taught_by: Teacher | None, device: torch.device | str | None
) -> str:
    """Indented JSON: data, settings with the seed, the teacher's, what it was trained on, accuracies before and after.

    Args:
        trained: what came of it.
        settings, taught_by, device: what it was trained with, by and on.
    """
    place = resolve_device(device)
    content = {
        "data": trained.data,
        "settings": dataclasses.asdict(settings),
        "teacher_settings": None if taught_by is None else taught_by.describe(),
        "gpu": torch.cuda.get_device_name(place) if place.type == "cuda" else None,
        "versions": {"torch": torch.__version__, "loopmorph": loopmorph.__version__},
        "before": _shares(trained.before),
        "after": _shares(trained.after),
        "mirrored": _shares(trained.mirrored),
        "teacher": _shares(trained.teacher),
        "loss": trained.loss,
        "steps": trained.steps,
    }
    return json.dumps(content, indent=1) + "\n"


def _shares(accuracy: Accuracy | None) -> dict[str, Any] | None:
    return None if accuracy is None else {**dataclasses.asdict(accuracy), "percent": accuracy.percent}
