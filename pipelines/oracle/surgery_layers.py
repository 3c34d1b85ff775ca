"""For one layer of PyTorch: whether its nests still compute what the module does, and if not, the module that does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from loopmorph.passes.raising.raise_nest import Convolution, Linear, output_extent
from loopmorph.pipelines.oracle.rewritten_layers import SlicedConv2d, SlicedLinear

Pair = tuple[int, int]


def is_same(module: nn.Conv2d | nn.Linear, raised: Convolution | Linear) -> bool:
    """Whether the raised layer is the module's own."""
    if isinstance(module, nn.Conv2d):
        return isinstance(raised, Convolution) and _is_same_convolution(module, raised)
    return isinstance(raised, Linear) and _is_same_linear(module, raised)


def _is_same_convolution(module: nn.Conv2d, raised: Convolution) -> bool:
    return (
        raised.channels is None
        and (raised.in_channels, raised.out_channels) == (module.in_channels, module.out_channels)
        and (raised.groups, raised.kernel) == (module.groups, module.kernel_size)
        and (raised.bias is not None) == (module.bias is not None)
        and raised.equals(_pair(module.stride), _pair(module.dilation), padding_of(module))
    )


def padding_of(module: nn.Conv2d) -> tuple[Pair, Pair]:
    """The zeros that a convolution adds: ((top, bottom), (left, right))."""
    left, right, top, bottom = module._reversed_padding_repeated_twice
    return (top, bottom), (left, right)


def build_convolution(module: nn.Conv2d, raised: Convolution) -> nn.Conv2d:
    """The raised convolution as a module without values (on the meta device)."""
    stride = [_stride(module, raised, axis) for axis in range(2)]
    even = all(low == high >= 0 for low, high in raised.padding)
    options: dict[str, Any] = {
        "kernel_size": raised.kernel,
        "stride": tuple(stride),
        "dilation": raised.dilation,
        "groups": raised.groups,
        "padding": tuple(low for low, _ in raised.padding) if even else 0,
        "bias": raised.bias is not None,
        "dtype": module.weight.dtype,
        "device": "meta",
    }
    if even and raised.channels is None:
        return nn.Conv2d(raised.in_channels, raised.out_channels, **options)
    (top, bottom), (left, right) = raised.padding
    uneven = (0, 0, 0, 0) if even else (left, right, top, bottom)
    return SlicedConv2d(
        raised.in_channels, raised.out_channels, channels=raised.channels, uneven_padding=uneven, **options
    )


def reshaped_convolution(module: nn.Conv2d, weight_shape: Sequence[int]) -> nn.Conv2d:
    """The module with as many channels as its new weight has, nothing else changed; without values."""
    return nn.Conv2d(
        weight_shape[1] * module.groups,
        weight_shape[0],
        kernel_size=(weight_shape[2], weight_shape[3]),
        stride=_pair(module.stride),
        padding=module.padding if isinstance(module.padding, str) else _pair(module.padding),
        dilation=_pair(module.dilation),
        groups=module.groups,
        bias=module.bias is not None,
        padding_mode=module.padding_mode,
        device="meta",
        dtype=module.weight.dtype,
    )


def _is_same_linear(module: nn.Linear, raised: Linear) -> bool:
    return (
        raised.in_features == raised.source_features
        and (raised.in_features, raised.out_features) == (module.in_features, module.out_features)
        and (raised.bias is not None) == (module.bias is not None)
    )


def build_linear(module: nn.Linear, raised: Linear) -> nn.Linear:
    """The raised linear layer as a module without values."""
    cls = nn.Linear if raised.in_features == raised.source_features else SlicedLinear
    bias = raised.bias is not None
    return cls(raised.in_features, raised.out_features, bias=bias, device="meta", dtype=module.weight.dtype)


def reshaped_linear(module: nn.Linear, weight_shape: Sequence[int]) -> nn.Linear:
    """The module with as many features as its new weight has; without values."""
    bias = module.bias is not None
    return nn.Linear(weight_shape[1], weight_shape[0], bias=bias, device="meta", dtype=module.weight.dtype)


def reshaped_norm(module: _NormBase, num_features: int) -> nn.Module:
    """A BatchNorm like the module over another number of channels; without values."""
    return type(module)(
        num_features,
        eps=module.eps,
        momentum=module.momentum,
        affine=module.affine,
        track_running_stats=module.track_running_stats,
        device="meta",
    )


def _stride(module: nn.Conv2d, raised: Convolution, axis: int) -> int:
    """The raised stride; where one output row leaves it open, the module's own if that gives one row too."""
    own = _pair(module.stride)[axis]
    size, kernel = raised.input_size[axis], raised.kernel[axis]
    rows = output_extent(size, kernel, own, raised.dilation[axis], raised.padding[axis])
    return own if rows == raised.output_size[axis] == 1 else raised.stride[axis]


def _pair(value: Sequence[int]) -> Pair:
    return value[0], value[1]
