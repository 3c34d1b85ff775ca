"""Modules in inference form."""

from __future__ import annotations

from torch import nn


def switch_to_inference(model: nn.Module) -> nn.Module:
    """`model.eval()`, in place, also for a module that `torch.export` made, whose graph has its mode fixed."""
    try:
        return model.eval()
    except NotImplementedError:
        for module in model.modules():
            module.training = False
        return model
