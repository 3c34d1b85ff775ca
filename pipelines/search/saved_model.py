"""`model.pt`: a rewritten network in a file, and back; with PyTorch alone."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING

import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.ingress.models import resolve_model
from loopmorph.pipelines.rewritten.model_file import ModelFile, describe_origin, read_model, write_model
from loopmorph.pipelines.rewritten.origin import Origin, origin_of
from loopmorph.pipelines.support.extras import needs_mlir
from loopmorph.pipelines.support.files import write_atomically
from loopmorph.pipelines.zoo import is_in_zoo

if TYPE_CHECKING:
    from loopmorph.pipelines.program import Program

Original = str | nn.Module | tuple[nn.Module, tuple[torch.Tensor, ...]]


def save_model(
    file: str | Path | IO[bytes],
    module: nn.Module,
    *,
    model: str | None = None,
    seed: int = 0,
    original: nn.Module | None = None,
    schedule: str = "",
) -> None:
    """Writes a network so that `load_model` gives it back: its weights, and what distinguishes it from its original.

    A network that `load_model` gave needs no more than `save_model("tuned.pt", module)`, also after it was trained or
    copied; pass the module itself, not a wrapper of it (`DistributedDataParallel`, a compiled one).

    Args:
        file: where to write; a path gets all of the file or stays as it was.
        module: the network.
        model, seed: for one that was not loaded: what `resolve_model` makes the original network from.
        original: that network, where it is there; its weights do not matter.
        schedule: the schedule that turned the original into `module`, as text. Without it the file is as good for
            PyTorch, but compiled code starts from what the module computes.

    Raises:
        ArgumentError: where the network is from is not known; it differs from its original in other layers than those
            that transformations replace; or the path cannot be written.
    """
    origin = origin_of(module) if model is None else _described(module, model, seed, original, schedule)
    if origin is None:
        reason = "where it is from is not known; only what load_model gave (not a wrapper of it) can do without model="
        raise ArgumentError("module", reason)
    if isinstance(file, str | Path):
        write_atomically(Path(file), lambda opened: write_model(opened, module, origin))
    else:
        write_model(file, module, origin)


def load_model(path: str | Path, original: Original | None = None) -> nn.Module:
    """The optimised network from a `model.pt`, ready to use or to fine-tune: `lm.load_model("out/model.pt")`.

    The original network is built again, its changed modules are replaced, and the weights loaded. This takes PyTorch
    alone (2.6 or newer). The file may name a network of the zoo, which is built without more ado. What else it names is
    code, which runs only where the caller names it, too, as `original`: no file chooses what is run.

    Gradients flow through all of it; `train()`, `to(device)` and autocast work as for any module.

    Args:
        path: a file that `loopmorph optimize --out` or `save_model` wrote.
        original: the original network with any weights: `package.module:factory` or the path of a `.pt2`, or the
            module itself, perhaps with its example inputs. None for the zoo's.

    Raises:
        DataError: the file is missing, damaged, no such file, or of another network; says which field is wrong.
        ArgumentError: the original network cannot be found, or has to be named.
        MissingPackage: the file has the format of an earlier version, which takes torch-mlir to read.
    """
    file = read_model(path)
    model, inputs = _original(file, original)
    if not file.former:
        return file.rebuilt(model)
    with needs_mlir(f"{path} has the format of an earlier version (save_model writes a new one where MLIR is), which"):
        from loopmorph.pipelines.saved_program import replayed
    if inputs is None:
        reason = "the file has the format of an earlier version; give example inputs, too"
        raise ArgumentError("original", f"{reason}: original=(module, inputs)")
    return replayed(file, model, inputs)


def load_program(path: str | Path, original: Original | None = None) -> Program:
    """The optimised network from a `model.pt` as a program, to be compiled as the search had compiled it.

    Its original is imported, the file's schedule applied, and the file's weights put in. `compile(load_model(path),
    inputs)` computes the same, but starts from what the loaded module computes.

    Args:
        path: as for `load_model`.
        original: the same; a module comes with its example inputs.

    Raises:
        DataError: as for `load_model`; or its schedule makes another network than the one that it holds.
        ArgumentError: the original network cannot be found, or has to be named; or its example inputs are missing.
        ImportRefused: it cannot be imported.
        MissingPackage: torch-mlir is not installed.
    """
    with needs_mlir("load_program"):
        from loopmorph.pipelines.saved_program import replayed, saved_program
    file = read_model(path)
    model, inputs = _original(file, original)
    if inputs is None:
        raise ArgumentError("original", "example inputs are missing: original=(module, inputs)")
    module = replayed(file, model, inputs) if file.former else file.rebuilt(model)
    return saved_program(str(path), module, model, inputs)


def _described(module: nn.Module, model: str, seed: int, original: nn.Module | None, schedule: str) -> Origin:
    before = resolve_model(model, seed=seed).model if original is None else original
    return describe_origin(module, before, model, seed, schedule)


def _original(file: ModelFile, given: Original | None) -> tuple[nn.Module, tuple[torch.Tensor, ...] | None]:
    if isinstance(given, nn.Module):
        return given, None
    if given is not None and not isinstance(given, str):
        return given
    named = file.origin.model
    if given is None and not is_in_zoo(named):
        reason = f"{file.path} was made from '{named}', which is code of its own; name it if you trust it"
        raise ArgumentError("original", f"{reason}: load_model(path, original={named!r})")
    loaded = resolve_model(named if given is None else given, seed=file.origin.seed)
    return loaded.model, loaded.example_inputs
