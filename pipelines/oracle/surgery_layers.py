"""For one layer of PyTorch: whether its nests still compute what the module does, and if not, the module that does."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from loopmorph.passes.raising.raise_nest import Convolution, Linear, output_extent
from loopmorph.pipelines.rewritten.nest_module import NestModule
from loopmorph.pipelines.rewritten.rewritten_layers import SlicedConv2d, SlicedLinear

Pair = tuple[int, int]
NORMS = (_NormBase, nn.LayerNorm, nn.RMSNorm)  # of which the program's tensors tell the number of channels
AnyConv = nn.Conv1d | nn.Conv2d | nn.Conv3d


def is_same(module: AnyConv | nn.Linear, raised: Convolution | Linear) -> bool:
    """Whether the raised layer is the module's own."""
    if isinstance(module, nn.Conv2d):
        return isinstance(raised, Convolution) and _is_same_convolution(module, raised)
    return isinstance(module, nn.Linear) and isinstance(raised, Linear) and _is_same_linear(module, raised)


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


def reshaped_convolution(module: AnyConv, weight_shape: Sequence[int], groups: int | None = None) -> AnyConv:
    """The module with as many channels as its new weight has, perhaps in other groups; without values."""
    groups = groups or module.groups
    options: dict[str, Any] = {
        "kernel_size": tuple(weight_shape[2:]),
        "stride": module.stride,
        "padding": module.padding,
        "dilation": module.dilation,
        "groups": groups,
        "bias": module.bias is not None,
        "padding_mode": module.padding_mode,
        "device": "meta",
        "dtype": module.weight.dtype,
    }
    return type(module)(weight_shape[1] * groups, weight_shape[0], **options)


def plain_convolution(module: AnyConv, nests: NestModule, weight: str, bias: str | None) -> AnyConv | None:
    """A convolution of other channels or groups without values, if that is what a layer's nests compute.

    Told on random numbers in the place of the inputs and of the parameters.

    Args:
        module: the convolution as imported.
        nests: the layer's nests.
        weight, bias: the qualified names of its parameters.
    """
    numbers = nests.recipe.numbers("input")
    local = {name: own for own, name in nests.parameter_names.items()}
    if len(numbers) != 1 or local.keys() != {weight, bias} - {None}:
        return None
    twin, generator = copy.deepcopy(nests), torch.Generator().manual_seed(0)
    source, shape = nests.recipe.buffers[numbers[0]].shape, getattr(nests, local[weight]).shape
    if len(source) != len(shape) or source[1] % shape[1] or shape[0] % (source[1] // shape[1]):
        return None
    groups = source[1] // shape[1]
    trial = reshaped_convolution(module, shape, groups)
    for own, name in ((local[weight], "weight"), (local.get(bias or "", ""), "bias")):
        if own:
            tensor = getattr(twin, own).data
            tensor.copy_(torch.rand(tensor.shape, generator=generator))
            trial.register_parameter(name, nn.Parameter(tensor))
    x = torch.rand(source, generator=generator).to(trial.weight)
    return reshaped_convolution(module, shape, groups) if _agree(trial, twin, x) else None


def _agree(new: nn.Module, nests: NestModule, x: torch.Tensor) -> bool:
    with torch.no_grad():
        expected = nests(x)
        try:
            got = new(x)
        except RuntimeError:  # windows that do not fit
            return False
    same = expected.numel() == got.numel()
    return same and torch.allclose(got, expected.reshape(got.shape), rtol=1e-3, atol=1e-4)


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


def reshaped_norm(module: nn.Module, num_features: int) -> nn.Module:
    """A normalisation like the module over another number of channels, or of features; without values."""
    if isinstance(module, nn.LayerNorm):
        affine, bias = module.elementwise_affine, module.bias is not None
        return nn.LayerNorm(num_features, module.eps, elementwise_affine=affine, bias=bias, device="meta")
    if isinstance(module, nn.RMSNorm):
        affine = module.elementwise_affine
        return nn.RMSNorm(num_features, module.eps, elementwise_affine=affine, device="meta")
    assert isinstance(module, _NormBase)
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
