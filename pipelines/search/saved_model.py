"""`model.pt`: the optimised network's weights, and how to rebuild the module that they fit."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn

from loopmorph.passes.errors import DataError
from loopmorph.pipelines.ingress.models import resolve_model
from loopmorph.pipelines.program import import_model

FORMAT = "loopmorph-model-1"
_TEXTS = ("model", "schedule")
_BROKEN = (RuntimeError, OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError)


def save_model(file: IO[bytes], module: nn.Module, *, model: str, seed: int, schedule: str) -> None:
    """Writes a module's state dict with what `load_model` needs to rebuild the module.

    Args:
        file: where to write.
        module: the optimised network.
        model, seed: what `resolve_model` made the original network from.
        schedule: the schedule that turned the original into `module`, as text.
    """
    state = {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()}
    content = {"format": FORMAT, "model": model, "seed": seed, "schedule": schedule, "state_dict": state}
    torch.save(content, file)


def load_model(path: str | Path) -> nn.Module:
    """The optimised network from a `model.pt`, ready to use or to fine-tune: `lm.load_model("out/model.pt")`.

    The original network is built again by its name (a zoo network, a factory or a `.pt2`), the schedule applied to
    it, and the weights loaded. No code in the file itself runs.

    Args:
        path: a file that `loopmorph optimize --out` or `save_model` wrote.

    Raises:
        DataError: the file is missing, damaged, or no such file.
        ArgumentError: the original network cannot be found.
    """
    content = _read(Path(path))
    original = resolve_model(content["model"], seed=content["seed"])
    module = import_model(original.model, original.example_inputs).apply(content["schedule"]).to_module()
    try:
        module.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise DataError(f"{path}: its weights do not fit the rebuilt network: {str(error).splitlines()[0]}") from error
    return module


def _read(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except _BROKEN as error:
        raise DataError(f"{path}: not a readable model file ({type(error).__name__})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"{path}: not a model file of loopmorph (format '{FORMAT}' expected)")
    texts = all(isinstance(content.get(name), str) for name in _TEXTS)
    if not texts or not isinstance(content.get("seed"), int) or not isinstance(content.get("state_dict"), dict):
        raise DataError(f"{path}: a damaged model file: a field is missing or of the wrong type")
    return content
