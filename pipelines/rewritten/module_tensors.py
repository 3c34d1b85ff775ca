"""The tensors that a module holds, by name."""

from __future__ import annotations

import torch
from torch import nn


def own_tensors(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Local name and tensor of each parameter and buffer that a module itself holds."""
    named = [*module.named_parameters(recurse=False, remove_duplicate=False)]
    return [*named, *module.named_buffers(recurse=False, remove_duplicate=False)]


def named_tensors(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Qualified name and tensor of each parameter and buffer, as often as it is held."""
    named = [*model.named_parameters(remove_duplicate=False)]
    return [*named, *model.named_buffers(remove_duplicate=False)]


def is_torch_own(module: nn.Module) -> bool:
    """Whether a module is one of PyTorch's."""
    return type(module).__module__.startswith("torch.nn.")
