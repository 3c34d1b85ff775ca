"""What a trained module has for the parameters of the program that it was made from: `to_module` backwards."""

from __future__ import annotations

import torch
from torch import nn

from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.module_tensors import named_tensors
from loopmorph.pipelines.oracle.nest_module import NestModule


def values_in(program: Network, module: nn.Module) -> dict[str, torch.Tensor]:
    """Name -> value of each of the program's parameters that the module holds.

    Args:
        program: the program.
        module: what `to_module` made of it, with any values.
    """
    held = dict(named_tensors(module))
    for path, each in module.named_modules():
        if isinstance(each, NestModule):
            prefix = f"{path}." if path else ""
            held |= {name: held[prefix + local] for local, name in each.parameter_names.items()}
    found = {}
    for name, present in program.parameters.items():
        if name in held and held[name].shape == present.shape:
            found[name] = held[name].detach()
        elif name in program.origins and (source := program.sources[name]) in held:
            whole = held[source].detach()  # the program has it in pieces
            if whole.shape == program.imported[source].shape:
                found[name] = whole.flatten()[program.origins[name].to(whole.device)]
    return found
