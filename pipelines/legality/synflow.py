"""Synaptic flow: how much signal all weights of a network carry from its input to its output, without data.

Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic flow" (NeurIPS 2020),
added up over the weights as in Abdelfattah et al., "Zero-Cost Proxies for Lightweight NAS" (ICLR 2021).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.legality.initialisation import fresh_copy
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.support.foreign import run_model
from loopmorph.pipelines.support.inference import switch_to_inference

_BATCH_NORMS = (F.batch_norm, torch.batch_norm)


def synflow(
    model: nn.Module,
    images: torch.Tensor,
    *,
    seed: int = 0,
    reset: bool = True,
    device: torch.device | str | None = None,
) -> Score:
    """The synaptic flow of all weights.

    With every parameter replaced by its absolute value and R the sum of the outputs for one image of ones, the score is
    `sum |w * dR/dw|` over all weights (Tanaka et al. 2020, eq. 2; Abdelfattah et al. 2021, eq. 1). Weights are the
    parameters of two and more axes: those of convolutions and linear layers, and of what stands for them in a rewritten
    network; biases take part in R, but are not added up. As in the code of Abdelfattah et al., a BatchNorm passes its
    input on unchanged, whether a module or a function, and all is computed in float64, since R grows with every layer.
    Other normalisations stay. Dropout is off.

    Cost: one forward and one backward pass on one image. Neither the images' values nor labels are used.

    Args:
        model: any network that gives one tensor for the images.
        images: (N, C, H, W), floating point; tells C, H and W.
        seed: of the weights (see `reinitialize`).
        reset: whether to initialise the weights; False measures them as they are.
        device: where to compute; None takes a CUDA device when there is one.

    Returns:
        The score, without error; `doubt` where it is 0, infinite or NaN.

    Raises:
        ArgumentError: an argument of the wrong shape, type or range, or a model that has no weights, gives no tensor,
            fails, or cannot be put in train mode.
    """
    with fresh_copy(model, images, seed=seed, reset=reset, device=device) as (twin, batch):
        weights = _absolute_weights(switch_to_inference(twin.double()))
        with _WithoutBatchNorm():
            outputs = run_model(twin, torch.ones_like(batch[:1], dtype=torch.float64))
        if not isinstance(outputs, torch.Tensor):
            raise ArgumentError("model", f"it gives a {type(outputs).__name__}; one tensor is expected")
        if not outputs.requires_grad:
            return _scored(0.0)
        gradients = torch.autograd.grad(outputs.sum(), weights, materialize_grads=True)
        return _scored(sum(float((w.detach() * g).abs().sum()) for w, g in zip(weights, gradients, strict=True)))


def _absolute_weights(model: nn.Module) -> list[nn.Parameter]:
    """Makes all parameters absolute, in place; those that are weights, which need gradients then."""
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1 and parameter.is_floating_point()]
    if not weights:
        raise ArgumentError("model", "it has no weights, of which synaptic flow is the sum")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    for weight in weights:
        weight.requires_grad_(True)
    return weights


def _scored(value: float) -> Score:
    if value == 0:
        return Score(value, doubt="the original's is 0: its weights carry nothing from the input to the output")
    if not 0 < value < float("inf"):
        return Score(value, doubt=f"the original's is {value}: the network overflows")
    return Score(value)


class _WithoutBatchNorm(TorchFunctionMode):
    """Makes BatchNorm the identity, in modules and in the model's own code."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _BATCH_NORMS:
            return args[0] if args else kwargs["input"]
        return func(*args, **(kwargs or {}))
