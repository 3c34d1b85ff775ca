"""Fisher Potential of every layer, counted once for each weight: what most published tables call "fisher".

The code of Abdelfattah et al., "Zero-Cost Proxies for Lightweight NAS" (ICLR 2021), from which NAS-Bench-Suite-Zero
(Krishnakumar et al., NeurIPS 2022) has it.
"""

from __future__ import annotations

from torch import nn

from loopmorph.pipelines.legality.fisher import fisher_potential
from loopmorph.pipelines.legality.proxy import Score, fisher_doubt
from loopmorph.pipelines.rewritten.nest_module import NestModule
from loopmorph.pipelines.training.task import Task


def fisher_of_weights(
    model: nn.Module, task: Task, *, seed: int = 0, reset: bool = True, device: str | None = None
) -> Score:
    """Each channel's D_c (see `fisher_potential`) at the output of each convolution and linear layer, once a weight.

    That code probes layers where BlockSwap probes blocks, and gives each weight the score of its output channel before
    it adds up the weights, so that D_c counts as often as the channel has weights. For a channel of C inputs and a
    window of K x K that is C * K^2 times.

    Cost: one forward and one backward pass.

    Args:
        model: gives what the task's loss takes.
        task: the minibatch.
        seed: of the weights (see `reinitialize`).
        reset: whether to initialise the weights; False measures them as they are.
        device: where to compute; None takes a CUDA device when there is one.

    Raises:
        ArgumentError: see `fisher_potential`.
    """
    (images,) = task.inputs
    found = fisher_potential(
        model, images, task.targets, seed=seed, probes="layers", reset=reset, device=device, loss=task.function
    )
    modules = dict(model.named_modules())
    value = sum(score * _weights_of_a_channel(modules[name]) for name, score in found.probes.items())
    return Score(value, doubt=fisher_doubt(found, images))


def _weights_of_a_channel(layer: nn.Module) -> int:
    if isinstance(layer, NestModule):
        return layer.fan_in
    weight = layer.get_parameter("weight")
    return weight.numel() // len(weight)
