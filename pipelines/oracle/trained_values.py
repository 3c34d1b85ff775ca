"""The parameters of a program with the values that they have in its module, after that was trained."""

from __future__ import annotations

import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.rewritten.changes import qualified
from loopmorph.pipelines.rewritten.module_tensors import own_tensors
from loopmorph.pipelines.rewritten.nest_module import NestModule


def trained_values(program: Network, module: nn.Module) -> dict[str, torch.Tensor]:
    """Name -> value of each parameter of a program that its module holds, whole or as a part of another.

    What the module does not hold (a constant of the model's own code) is left out.

    Args:
        program: the rewritten network.
        module: what `to_module` gave for it, perhaps trained, saved and loaded since.

    Raises:
        ArgumentError: it is the module of another program.
    """
    held = _held(module)
    found: dict[str, torch.Tensor] = {}
    for name, present in program.parameters.items():
        source = program.sources[name]
        if name in held:
            value = held[name]
        elif name in program.origins and source is not None and source in held:
            value = _part(name, held[source], program.origins[name])
        else:
            continue
        if value.shape != present.shape:
            reason = f"'{name}' has shape {tuple(value.shape)}, and {tuple(present.shape)} in the program"
            raise ArgumentError("module", f"{reason}; the module of this program is expected")
        found[name] = value.detach().to(present.device, present.dtype, copy=True)
    return found


def _held(module: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of a module by the names that they have in its program."""
    held: dict[str, torch.Tensor] = {}
    for path, each in module.named_modules(remove_duplicate=False):
        names = each.parameter_names if isinstance(each, NestModule) else {}
        for local, tensor in own_tensors(each):
            held[names.get(local, qualified(path, local))] = tensor
    return held


def _part(name: str, whole: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    if int(positions.max()) >= whole.numel():
        raise ArgumentError("module", f"'{name}' is a part of a larger tensor; the module of this program is expected")
    return whole.flatten()[positions.to(whole.device)]
