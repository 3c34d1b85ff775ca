"""Modules in inference form, or in that for training."""

from __future__ import annotations

from torch import nn


def switch_to_inference(model: nn.Module) -> nn.Module:
    """`model.eval()`, in place, also for a module that `torch.export` made, whose graph has its mode fixed."""
    return _switched(model, training=False)


def switch_to_training(model: nn.Module) -> nn.Module:
    """`model.train()`, in place, also for a module that `torch.export` made, whose graph has its mode fixed."""
    return _switched(model, training=True)


def _switched(model: nn.Module, *, training: bool) -> nn.Module:
    try:
        return model.train() if training else model.eval()
    except NotImplementedError:
        for module in model.modules():
            module.training = training
        return model
