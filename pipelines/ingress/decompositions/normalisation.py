"""Normalisation as means over views, and what depends on parameters alone by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch._ops import OpOverload

from loopmorph.pipelines.ingress.decompositions.axes import wide

_aten = torch.ops.aten
_Tensors3 = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def batch_norm_inference(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    mean: torch.Tensor,
    variance: torch.Tensor,
    momentum: float,
    epsilon: float,
) -> _Tensors3:
    """`aten._native_batch_norm_legit_no_training` as `x * scale + shift`, `x` of shape `(N, C, *space)`."""
    inverse = torch.rsqrt(variance + epsilon)
    scale = inverse if weight is None else weight * inverse
    shift = -mean * scale if bias is None else bias - mean * scale
    shape = [1, -1] + [1] * (x.dim() - 2)
    return x * scale.view(shape) + shift.view(shape), x.new_empty(0), x.new_empty(0)


def group_norm(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    batch: int,
    channels: int,
    extent: int,
    groups: int,
    epsilon: float,
) -> _Tensors3:
    """`aten.native_group_norm`: `x` is `(N, C, *space)`; the means and inverse deviations are `(N, groups)`.

    Each channel is averaged by itself, then the channels of a group, so that no nest sees anything but channels and
    pixels: a view of a group's values as one row would keep its neighbours from being laid out in blocks of channels.
    """
    source = wide(x)
    space = list(range(2, x.dim()))

    def of_groups(values: torch.Tensor) -> torch.Tensor:
        each = values.mean(space) if space else values
        return each.reshape(batch, groups, channels // groups).mean(2, keepdim=True)

    def of_channels(values: torch.Tensor) -> torch.Tensor:
        each = values.expand(batch, groups, channels // groups)
        return each.reshape(batch, channels, *(1 for _ in space))

    mean = of_groups(source)
    centred = source - of_channels(mean)
    inverse = torch.rsqrt(of_groups(centred * centred) + epsilon)
    shape = [1, channels, *(1 for _ in space)]
    scale = _affine(of_channels(inverse), weight, None, shape)
    result = source * scale + _affine(-of_channels(mean) * scale, None, bias, shape)
    return result.to(x.dtype), mean.reshape(batch, groups).to(x.dtype), inverse.reshape(batch, groups).to(x.dtype)


def group_norm_of_layer(
    x: torch.Tensor,
    groups: int,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> torch.Tensor:
    """`aten.group_norm`: `x` is `(N, C, *space)`."""
    return group_norm(x, weight, bias, x.shape[0], x.shape[1], math.prod(x.shape[2:]), groups, eps)[0]


def layer_norm(
    x: torch.Tensor,
    shape: Sequence[int],
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    epsilon: float,
) -> _Tensors3:
    """`aten.native_layer_norm` over the last `len(shape)` axes."""
    normal, mean, inverse = _standardised(x, list(range(x.dim() - len(shape), x.dim())), epsilon)
    return _affine(normal, weight, bias, list(shape)).to(x.dtype), mean, inverse


def instance_norm(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    mean: torch.Tensor | None,
    variance: torch.Tensor | None,
    use_input_stats: bool,
    momentum: float,
    epsilon: float,
    cudnn_enabled: bool,
) -> object:
    """`aten.instance_norm`: `x` is `(N, C, *space)`; with running means it is BatchNorm, left to PyTorch's rule."""
    if not use_input_stats or mean is not None or variance is not None:
        return NotImplemented
    normal, _, _ = _standardised(x, list(range(2, x.dim())), epsilon)
    return _affine(normal, weight, bias, [1, x.shape[1]] + [1] * (x.dim() - 2)).to(x.dtype)


def rms_norm(
    x: torch.Tensor, shape: Sequence[int], weight: torch.Tensor | None = None, eps: float | None = None
) -> torch.Tensor:
    """`aten.rms_norm` over the last `len(shape)` axes; without `eps`, the precision that PyTorch computes in."""
    return fused_rms_norm(x, shape, weight, eps)[0]


def fused_rms_norm(
    x: torch.Tensor, shape: Sequence[int], weight: torch.Tensor | None, eps: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """`aten._fused_rms_norm`: the result, and the inverse root of the mean square."""
    source = wide(x)
    epsilon = torch.finfo(source.dtype).eps if eps is None else eps
    inverse = torch.rsqrt((source * source).mean(list(range(x.dim() - len(shape), x.dim())), keepdim=True) + epsilon)
    return _affine(source * inverse, weight, None, list(shape)).to(x.dtype), inverse


def _standardised(x: torch.Tensor, axes: list[int], epsilon: float) -> _Tensors3:
    """`(x - mean) / sqrt(variance + epsilon)` in float32 or more, the mean, and the inverse root."""
    source = wide(x)
    mean = source.mean(axes, keepdim=True)
    centred = source - mean
    inverse = torch.rsqrt((centred * centred).mean(axes, keepdim=True) + epsilon)
    return centred * inverse, mean, inverse


def _affine(x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, shape: list[int]) -> torch.Tensor:
    if weight is not None:
        x = x * weight.view(shape)
    return x if bias is None else x + bias.view(shape)


DECOMPOSITIONS: dict[OpOverload, Callable[..., object]] = {
    _aten._native_batch_norm_legit_no_training.default: batch_norm_inference,
    _aten.native_group_norm.default: group_norm,
    _aten.group_norm.default: group_norm_of_layer,
    _aten.native_layer_norm.default: layer_norm,
    _aten.instance_norm.default: instance_norm,
    _aten.rms_norm.default: rms_norm,
    _aten._fused_rms_norm.default: fused_rms_norm,
}
