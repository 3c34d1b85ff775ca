"""Other modules in the places of some."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn


def substitute(model: nn.Module, replacements: Mapping[int, nn.Module]) -> nn.Module:
    """Puts the replacements wherever a module, or another replacement, holds what they replace.

    Args:
        model: the module, which is changed.
        replacements: the identity of each module to be replaced -> what takes its place.

    Returns:
        The module, or what takes its own place.
    """
    for module in [*model.modules(), *replacements.values()]:
        for name, child in list(module._modules.items()):
            if id(child) in replacements:
                module._modules[name] = replacements[id(child)]
    return replacements.get(id(model), model)
