"""`model.pt`: a rewritten network as its weights, the name of its original, and the changes between the two.

All of it is plain data in PyTorch's own container; reading it runs no code, and needs PyTorch alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.pipelines.rewritten.changes import changed_paths, describe_changes, loose_buffers, tied_names
from loopmorph.pipelines.rewritten.fields import Fields
from loopmorph.pipelines.rewritten.origin import Origin, origin_of, remember, state_shapes
from loopmorph.pipelines.rewritten.rebuild import rebuild
from loopmorph.pipelines.support.archives import MAX_UNPACKED, UNREADABLE, load_tensors

FORMAT = "loopmorph-model-2"
FORMER = "loopmorph-model-1"  # has one schedule and no changes: the network is its original after the schedule
_NAMES = ("format", "model", "seed", "schedules", "changes", "tied", "buffers", "state_dict")
_FORMER_NAMES = ("format", "model", "seed", "schedule", "state_dict")
_SEEDS = 1 << 63


@dataclass(frozen=True)
class ModelFile:
    """What a file holds.

    Attributes:
        path: of the file.
        origin: where the network is from; of the former format without changes.
        state: the state dict, on the CPU.
        loose: buffers that no state dict has.
        former: whether it has the former format.
    """

    path: str
    origin: Origin
    state: dict[str, torch.Tensor]
    loose: dict[str, torch.Tensor]
    former: bool = False

    def rebuilt(self, original: nn.Module) -> nn.Module:
        """The network, from its original with any weights.

        Raises:
            DataError: the file is damaged, or of another network.
        """
        origin = self.origin
        module = rebuild(self.path, original, origin.changes, origin.tied, self.state, self.loose)
        remember(module, origin)
        return module


def read_model(path: str | Path) -> ModelFile:
    """Reads a file; the changes in it are looked at when the network is rebuilt.

    Raises:
        DataError: it is missing, damaged, no such file, or unpacks to more than is read; a field is wrong.
    """
    path = Path(path)
    try:
        content = load_tensors(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except UNREADABLE as error:
        raise DataError(f"{path}: not a readable model file ({type(error).__name__})") from error
    format_ = content.get("format") if isinstance(content, dict) else None
    if format_ not in (FORMAT, FORMER):
        raise DataError(f"{path}: not a model file of loopmorph (format '{FORMAT}' expected)")
    return _read(str(path), content, former=format_ == FORMER)


def _read(path: str, content: Any, former: bool) -> ModelFile:
    fields = Fields.of(f"{path}: a damaged model file", content, _FORMER_NAMES if former else _NAMES)
    state = _tensors(fields, "state_dict")
    model, seed = fields.text("model"), fields.integer("seed", -_SEEDS, _SEEDS - 1)
    if former:
        return ModelFile(path, Origin(model, seed, (fields.text("schedule"),)), state, {}, former=True)
    loose = _tensors(fields, "buffers")
    changes, tied = list(fields.sequence("changes")), list(fields.sequence("tied"))
    origin = Origin(model, seed, fields.texts("schedules"), changes, tied, list(loose), state_shapes(state))
    return ModelFile(path, origin, state, loose)


def _tensors(fields: Fields, name: str) -> dict[str, torch.Tensor]:
    """Name -> tensor; none that says it has more elements than are there."""
    content = fields.content[name]
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        fields.wrong(name, "a dictionary of tensors")
    for key, tensor in content.items():
        if not isinstance(tensor, torch.Tensor) or not _is_plain(tensor):
            raise DataError(f"{fields.where}: field '{name}': '{key}' is no plain tensor")
    total = sum(tensor.numel() * tensor.element_size() for tensor in content.values())
    if total > MAX_UNPACKED:
        raise DataError(f"{fields.where}: field '{name}': its tensors have {total:,} bytes; {MAX_UNPACKED:,} are read")
    return content


def _is_plain(tensor: torch.Tensor) -> bool:
    dense = tensor.layout == torch.strided and not tensor.is_nested
    return dense and not (tensor.is_quantized or tensor.is_meta or tensor.is_complex())


def describe_origin(module: nn.Module, original: nn.Module, model: str, seed: int, schedule: str) -> Origin:
    """Where a rewritten network is from.

    Args:
        module: the network.
        original: what it was made from; where that is from a file, the network is said to be from its original.
        model, seed: the name of `original`, where it is not from a file.
        schedule: what turned `original` into `module`; empty where nothing did, or that is not known.

    Raises:
        ArgumentError: the two differ in what no file can hold.
    """
    former = origin_of(original) or Origin(model, seed)
    differing = changed_paths(original, module)
    paths = {*differing, *(change["at"] for change in former.changes)}
    schedules = (*former.schedules, schedule) if schedule else () if differing else former.schedules
    origin = Origin(
        former.model,
        former.seed,
        schedules,
        describe_changes(module, paths),
        tied_names(module, paths),
        sorted({*loose_buffers(original, module), *former.loose} & _buffers(module).keys()),
        state_shapes(module.state_dict()),
    )
    _check_rebuilt(module, original, origin)
    return origin


def write_model(file: IO[bytes], module: nn.Module, origin: Origin) -> None:
    """Writes a network.

    Raises:
        ArgumentError: it has other weights than a network of this origin.
    """
    state = {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()}
    _check_shapes(state_shapes(state), origin.shapes)
    buffers = _buffers(module)
    content = {
        "format": FORMAT,
        "model": origin.model,
        "seed": origin.seed,
        "schedules": list(origin.schedules),
        "changes": origin.changes,
        "tied": origin.tied,
        "buffers": {name: buffers[name].detach().cpu() for name in origin.loose},
        "state_dict": state,
    }
    torch.save(content, file)


def _check_shapes(present: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]) -> None:
    for name in (*expected, *present):
        found, wanted = (of.get(name) for of in (present, expected))
        if found != wanted:
            there = "it is missing" if found is None else f"its shape is {found}"
            before = "it was not there" if wanted is None else f"it was {wanted}"
            reason = f"of '{name}' {there}, and {before} in the network that was loaded"
            raise ArgumentError("module", f"{reason}; save another network with model= and original=")


def _check_rebuilt(module: nn.Module, original: nn.Module, origin: Origin) -> None:
    """Raises:
    ArgumentError: what is to be written cannot be read.
    """
    loose = {name: buffer for name, buffer in _buffers(module).items() if name in origin.loose}
    try:
        rebuild("its file", original, origin.changes, origin.tied, module.state_dict(), loose)
    except DataError as error:
        raise ArgumentError("module", f"no file can hold it: {error}") from error


def _buffers(module: nn.Module) -> dict[str, torch.Tensor]:
    return dict(module.named_buffers(remove_duplicate=False))
