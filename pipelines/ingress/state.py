"""Weights for a model from files: a state dictionary, whole or in pieces."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from loopmorph.passes.errors import DataError
from loopmorph.pipelines.support.archives import UNREADABLE, load_tensors


def load_state(model: nn.Module, path: Path) -> None:
    """Gives a model the weights of a state dictionary, in place; half precision is widened to the model's own.

    Args:
        model: the model.
        path: a `.pt` file, or a folder with the pieces `NAME.0.pt`, `NAME.1.pt` ... of one; also one that holds it as
            `state_dict`, as a `model.pt` and many checkpoints do. No code in it is run.

    Raises:
        DataError: no such file, one that is damaged or holds something else, or weights that do not fit the model.
    """
    files = sorted(path.glob("*.pt")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path}: holds no .pt file")
    state: dict[str, torch.Tensor] = {}
    for file in files:
        state.update(_piece(file))
    own = model.state_dict()
    missing, unknown = own.keys() - state.keys(), state.keys() - own.keys()
    if missing or unknown:
        what = f"'{min(missing)}' is missing" if missing else f"it has '{min(unknown)}', which the model has not"
        raise DataError(f"{path}: does not fit the model: {what}")
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            shapes = f"has shape {tuple(tensor.shape)}, the model's {tuple(own[name].shape)}"
            raise DataError(f"{path}: does not fit the model: '{name}' {shapes}")
    model.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in state.items()})


def _piece(file: Path) -> dict[str, torch.Tensor]:
    try:
        found = load_tensors(file)
    except UNREADABLE as error:
        raise DataError(f"{file}: cannot be read as weights: {str(error).splitlines()[0]}") from error
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in found.items()
    ):
        raise DataError(f"{file}: holds something else than a state dictionary")
    return found
