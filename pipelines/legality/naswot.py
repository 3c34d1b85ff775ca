"""NASWOT: how differently a network at initialisation treats the images of a minibatch.

Mellor et al., "Neural Architecture Search without Training" (ICML 2021), section 3.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.legality.initialisation import check_images, fresh_copy
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.support.foreign import run_model

_aten = torch.ops.aten
_ALWAYS = frozenset(
    {
        _aten.relu.default,
        _aten.relu_.default,
        _aten.leaky_relu.default,
        _aten.leaky_relu_.default,
        _aten.prelu.default,
        _aten._prelu_kernel.default,
        _aten.rrelu_with_noise.default,
        _aten.rrelu_with_noise_.default,
        _aten.rrelu_with_noise_functional.default,
    }
)
_IF_AT_ZERO = frozenset(  # the second argument is where the kink is
    {
        _aten.hardtanh.default,
        _aten.hardtanh_.default,
        _aten.clamp.default,
        _aten.clamp_.default,
        _aten.clamp_min.default,
        _aten.clamp_min_.default,
        _aten.threshold.default,
        _aten.threshold_.default,
    }
)
_EXACT = 1 << 24  # float32 counts no further


def naswot(
    model: nn.Module,
    images: torch.Tensor,
    *,
    seed: int = 0,
    reset: bool = True,
    device: torch.device | str | None = None,
) -> Score:
    """The log-determinant of the kernel of binary activation codes.

    A ReLU splits its inputs into those above 0 and the others: one bit a unit. With M the number of units of all ReLUs
    of the network and d_ij in how many of them images i and j differ, `K_ij = M - d_ij`, and the score is `log det K`
    (Mellor et al. 2021, eq. 1 and 2). It is large where no two images have similar codes.

    Every activation that is piecewise linear with its kink at 0 counts as a ReLU: ReLU, ReLU6, leaky, parametric and
    randomised ReLU, `clamp(min=0)`, `threshold(0)`, as modules and as functions within the model's own code. One whose
    input does not have the images as its first axis does not count. Train mode, as in the authors' code.

    Cost: one forward pass, and the product of an (N, units) matrix with itself for each ReLU. Labels are not used.

    Args:
        model: any network that takes the images.
        images: (N, C, H, W), floating point, at least 2.
        seed: of the weights (see `reinitialize`).
        reset: whether to initialise the weights; False measures them as they are.
        device: where to compute; None takes a CUDA device when there is one.

    Returns:
        The score, without error. -inf where the kernel is singular, NaN where an activation is; `doubt` says so.

    Raises:
        ArgumentError: an argument of the wrong shape, type or range, a model without ReLUs, or one that fails or
            cannot be put in train mode.
    """
    check_images(images, least=2)
    with fresh_copy(model, images, seed=seed, reset=reset, device=device) as (twin, batch), torch.no_grad():
        with _Codes(len(batch)) as codes:
            run_model(twin, batch)
        if codes.units == 0:
            raise ArgumentError("model", "it runs no ReLU, of which NASWOT takes the codes; another signal is needed")
        if not codes.finite:
            return Score(math.nan, doubt="the original's is NaN: an activation overflows")
        return _log_determinant(codes.kernel.cpu(), codes.units)


def _log_determinant(kernel: torch.Tensor, units: int) -> Score:
    """Args: kernel: (N, N) float64, symmetric, positive semi-definite, `units` on its diagonal."""
    others = kernel - torch.diag(torch.full((len(kernel),), math.inf, dtype=torch.float64))
    if float(others.max()) >= units:
        return Score(-math.inf, doubt="the original's is -inf: two images have the same activation code")
    eigenvalues = torch.linalg.eigvalsh(kernel)
    if float(eigenvalues[0]) <= len(kernel) * torch.finfo(torch.float64).eps * float(eigenvalues[-1]):
        return Score(-math.inf, doubt="the original's is -inf: the activation codes are linearly dependent")
    return Score(float(eigenvalues.log().sum()))


class _Codes(TorchDispatchMode):
    """Adds up the kernel of all ReLUs that run within it.

    Attributes:
        units: how many units they have for each image.
        finite: whether none of them met a NaN.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.units = 0
        self.finite = True
        self._count = count
        self._both: torch.Tensor | None = None

    @property
    def kernel(self) -> torch.Tensor:
        """(N, N) float64: in how many units each two images agree."""
        if self._both is None:
            return torch.zeros(self._count, self._count, dtype=torch.float64)
        positive = self._both.diag()
        return self.units + 2 * self._both - positive[:, None] - positive[None, :]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _ALWAYS or (func in _IF_AT_ZERO and _kink(func, args, kwargs) == 0):
            self._add(args[0])
        return func(*args, **kwargs)

    def _add(self, activation: torch.Tensor) -> None:
        if activation.ndim < 2 or len(activation) != self._count:
            return
        flat = activation.flatten(1)
        self.finite = self.finite and not bool(flat.sum().isnan())
        bits = (flat > 0).to(torch.float64 if flat.shape[1] >= _EXACT else torch.float32)
        both = (bits @ bits.T).double()  # in how many units two images are both above 0
        self._both = both if self._both is None else self._both + both
        self.units += flat.shape[1]


def _kink(func: Any, args: Any, kwargs: Any) -> Any:
    """Where the activation bends, -1 by default for `hardtanh`, None for a `clamp` without a lower end."""
    if len(args) > 1:
        return args[1]
    default = -1 if func in (_aten.hardtanh.default, _aten.hardtanh_.default) else None
    return next((kwargs[name] for name in ("min", "min_val", "threshold") if name in kwargs), default)
