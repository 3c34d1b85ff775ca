"""Jacobian covariance (jacov): how differently a network at initialisation answers to changes of each image.

The score of the first version of Mellor et al., "Neural Architecture Search without Training" (2020,
arXiv:2006.04647v1), which Abdelfattah et al., "Zero-Cost Proxies for Lightweight NAS" (ICLR 2021) call jacob_cov.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from loopmorph.pipelines.legality.initialisation import check_images, check_logits, fresh_copy
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.support.foreign import run_model

_SHIFT = 1e-5  # the k of the definition
_SAME = 1 - 1e-6  # a correlation of Jacobians that differ by rounding alone


def jacov(
    model: nn.Module,
    images: torch.Tensor,
    *,
    seed: int = 0,
    reset: bool = True,
    device: torch.device | str | None = None,
) -> Score:
    """How far the Jacobians of different images are from being correlated.

    Row n of J is the gradient of the sum of all logits with respect to image n; v_1 .. v_N are the eigenvalues of the
    (N, N) matrix of correlations of J's rows, and the score is `-sum_n ( log(v_n + k) + 1 / (v_n + k) )`, k = 1e-5
    (Mellor et al. 2020, eq. 2 and 3). It is at most -N, for Jacobians without any correlation. Train mode, as in the
    authors' code: BatchNorm takes the statistics of the minibatch.

    Cost: one forward and one backward pass, and the eigenvalues of an (N, N) matrix. Labels are not used.

    Args:
        model: gives (N, classes) logits for the images.
        images: (N, C, H, W), floating point, at least 2.
        seed: of the weights (see `reinitialize`).
        reset: whether to initialise the weights; False measures them as they are.
        device: where to compute; None takes a CUDA device when there is one.

    Returns:
        The score, without error. NaN where the Jacobian of an image is constant (then correlations are not defined) or
        overflows; `doubt` says so, and also where two images have the same Jacobian.

    Raises:
        ArgumentError: an argument of the wrong shape, type or range, or a model that gives no logits, fails, or cannot
            be put in train mode.
    """
    check_images(images, least=2)
    with fresh_copy(model, images, seed=seed, reset=reset, device=device) as (twin, batch):
        batch.requires_grad_(True)
        logits = run_model(twin, batch.clone())  # the clone admits in-place operations
        check_logits(logits, len(batch))
        if not logits.requires_grad:
            return _undefined("no gradient reaches the images")
        (jacobian,) = torch.autograd.grad(logits.sum(), batch, materialize_grads=True)
    return _decorrelation(jacobian.flatten(1).cpu().double())


def _decorrelation(jacobian: torch.Tensor) -> Score:
    """Args: jacobian: (N, pixels) float64."""
    if not bool(jacobian.isfinite().all()):
        return _undefined("the gradient of an image overflows")
    if bool((jacobian.amax(1) == jacobian.amin(1)).any()):
        return _undefined("the gradient of an image is constant (dead activations, or nothing that reads the image)")
    correlations = torch.corrcoef(jacobian)
    shifted = torch.linalg.eigvalsh(correlations) + _SHIFT
    value = -float((shifted.log() + 1 / shifted).sum())
    largest = float((correlations - 2 * torch.eye(len(jacobian), dtype=torch.float64)).max())
    doubt = "two images have the same Jacobian (the same image twice, or a network that is linear)"
    return Score(value, doubt=doubt if largest > _SAME else "")


def _undefined(reason: str) -> Score:
    return Score(math.nan, doubt=f"the original's is NaN: {reason}")
