"""The norm of the gradient at initialisation, as a signal (grad_norm of Abdelfattah et al., ICLR 2021)."""

from __future__ import annotations

import torch
from torch import nn

from loopmorph.pipelines.legality.initialisation import fresh_copy
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.legality.signals import AtInitialisation, SignalEntry
from loopmorph.pipelines.training.task import Task


def gradient_norm(model: nn.Module, task: Task, *, seed: int, device: str | None) -> Score:
    """The sum over parameters of the Euclidean norm of the loss's gradient, on one minibatch."""
    (images,) = task.inputs
    with fresh_copy(model, images, seed=seed, reset=True, device=device) as (twin, batch):
        weights = list(twin.requires_grad_().parameters())
        loss = task.loss(twin(batch).cpu())  # its targets are there
        gradients = torch.autograd.grad(loss, weights, materialize_grads=True)
        return Score(float(sum(gradient.norm() for gradient in gradients)))


SIGNALS = {
    "test-gradient-norm": SignalEntry(
        "sum of the norms of the loss's gradients",
        "Abdelfattah et al., ICLR 2021",
        "one forward and one backward pass",
        lambda setting: AtInitialisation("test-gradient-norm", "gradient norm", gradient_norm, setting),
    )
}
