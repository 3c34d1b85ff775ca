"""Depthwise convolutions that torch-mlir has no lowering for: transposed ones, and those over three axes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

_aten = torch.ops.aten


def _convolution(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> torch.Tensor:
    """(N, C, ...) by (C, 1, ...) with C groups; another convolution is left as it is."""
    axes = x.dim() - 2
    if groups == 1 or groups != x.shape[1] or weight.shape[:2] != (groups, 1) or (axes < 3 and not transposed):
        return NotImplemented
    if transposed:
        spread, kernel = x, weight.shape[2:]
        stride, padding, dilation, output_padding = (
            _each(v, axes) for v in (stride, padding, dilation, output_padding)
        )
        for axis in range(axes):
            spread = _spread(spread, 2 + axis, stride[axis])
        edges = [d * (k - 1) - p for d, k, p in zip(dilation, kernel, padding, strict=True)]
        pads = [
            n for edge, more in reversed(list(zip(edges, output_padding, strict=True))) for n in (edge, edge + more)
        ]
        padded = _aten.constant_pad_nd.default(spread, pads, 0.0)
        flipped = weight.flip(tuple(range(2, 2 + axes)))
        ones, zeros = [1] * axes, [0] * axes
        return _aten.convolution.default(padded, flipped, bias, ones, zeros, dilation, False, zeros, groups)
    # Of two output channels a group torch-mlir makes a grouped convolution; every second one is wanted.
    doubled = torch.stack([weight, weight], 1).flatten(0, 1)
    both = _aten.convolution.default(x, doubled, None, stride, padding, dilation, False, output_padding, groups)
    result = both[:, ::2]
    return result if bias is None else result + bias.view(1, -1, *[1] * axes)


def _each(values: Sequence[int], axes: int) -> list[int]:
    return list(values) * axes if len(values) == 1 else list(values)


def _spread(x: torch.Tensor, axis: int, stride: int) -> torch.Tensor:
    """Zeros between neighbours along an axis, so that they stand `stride` apart."""
    if stride == 1:
        return x
    extent, behind = x.shape[axis], x.dim() - axis - 1
    apart = _aten.constant_pad_nd.default(x.unsqueeze(axis + 1), [0, 0] * behind + [0, stride - 1], 0.0)
    return apart.flatten(axis, axis + 1).narrow(axis, 0, (extent - 1) * stride + 1)


DECOMPOSITIONS = {_aten.convolution.default: _convolution}
