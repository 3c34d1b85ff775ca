"""PyTorch's fused kernels for inference read the weights of inner layers, which replaced layers have in other forms."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn


def avoid_fast_paths(model: nn.Module, replaced: Collection[nn.Module]) -> None:
    """Makes the modules that would read the weights of a replaced `nn.Linear` call it instead.

    A transformer's encoder layer calls its layers where hooks are attached to it; a hook of a module's top level stays
    in copies and pickled files. An encoder packs padded sequences for that fused kernel alone.
    """
    changed = {id(module) for module in replaced if type(module) is not nn.Linear}
    for module in model.modules():
        known = isinstance(module, nn.TransformerEncoderLayer | nn.TransformerEncoder)
        if known and any(id(inner) in changed for inner in module.modules()):
            if isinstance(module, nn.TransformerEncoder):
                module.use_nested_tensor = False
            else:
                module.register_forward_pre_hook(_call_layers)


def _call_layers(module: nn.Module, args: Any) -> None:
    """Does nothing; that it is there keeps the module from reading its layers' weights."""
