"""`model.pt`: the optimised network's weights, and how to rebuild the module that they fit."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.pipelines.ingress.models import resolve_model
from loopmorph.pipelines.oracle.module_values import values_in
from loopmorph.pipelines.program import Program, import_model
from loopmorph.pipelines.support.archives import UNREADABLE, TooLarge, load_tensors
from loopmorph.pipelines.zoo import ZOO

FORMAT = "loopmorph-model-1"
Original = str | tuple[nn.Module, tuple[torch.Tensor, ...]]
_TEXTS = ("model", "schedule")


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


def load_model(path: str | Path, original: Original | None = None) -> nn.Module:
    """The optimised network from a `model.pt`, ready to use or to fine-tune: `lm.load_model("out/model.pt")`.

    The original network is built again, the schedule applied to it, and the weights loaded. The file may name a network
    of the zoo, which is built without more ado. What else it names is code, which runs only where the caller names it,
    too, as `original`: no file chooses what is run.

    Args:
        path: a file that `loopmorph optimize --out` or `save_model` wrote.
        original: the original network: `package.module:factory` or the path of a `.pt2`, or a module with its example
            inputs. None for the zoo's.

    Raises:
        DataError: the file is missing, damaged, no such file, or has other weights than the rebuilt network.
        ArgumentError: the original network cannot be found, or has to be named.
        IllegalTransform: the original network does not admit the schedule.
    """
    return _rebuilt(path, original)[1]


def load_program(path: str | Path, original: Original | None = None) -> Program:
    """The optimised network from a `model.pt` as a program, with the loop transformations of its schedule.

    Args:
        path, original: see `load_model`.

    Raises:
        DataError, ArgumentError, IllegalTransform: see `load_model`.
    """
    program, module = _rebuilt(path, original)
    loaded = program.with_values(values_in(program, module))
    theirs, ours = module.state_dict(), loaded.to_module().state_dict()
    differing = [name for name, tensor in theirs.items() if not torch.equal(tensor, ours[name])]
    if differing:
        raise DataError(f"{path}: '{differing[0]}' has no place in the program; load_model gives the module")
    return loaded


def _rebuilt(path: str | Path, original: Original | None) -> tuple[Program, nn.Module]:
    """The program with the weights that it inherits, and the module with those of the file."""
    content = _read(Path(path))
    model, inputs = _original(path, content, original)
    program = import_model(model, inputs).apply(content["schedule"])
    module = program.to_module()
    try:
        module.load_state_dict(content["state_dict"])
    except (RuntimeError, AttributeError, TypeError) as error:
        raise DataError(f"{path}: its weights do not fit the rebuilt network: {str(error).splitlines()[0]}") from error
    return program, module


def _original(
    path: str | Path, content: dict[str, Any], given: Original | None
) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    if given is not None and not isinstance(given, str):
        return given
    named = content["model"]
    if given is None and named not in ZOO:
        reason = f"{path} was made from '{named}', which is code of its own; name it if you trust it"
        raise ArgumentError("original", f"{reason}: load_model(path, original={named!r})")
    loaded = resolve_model(named if given is None else given, seed=content["seed"])
    return loaded.model, loaded.example_inputs


def _read(path: Path) -> dict[str, Any]:
    try:
        content = load_tensors(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except TooLarge as error:
        raise DataError(f"{path}: refused: {error}") from error
    except UNREADABLE as error:
        raise DataError(f"{path}: not a readable model file ({type(error).__name__})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"{path}: not a model file of loopmorph (format '{FORMAT}' expected)")
    texts = all(isinstance(content.get(name), str) for name in _TEXTS)
    if not texts or not isinstance(content.get("seed"), int) or not isinstance(content.get("state_dict"), dict):
        raise DataError(f"{path}: a damaged model file: a field is missing or of the wrong type")
    return content
