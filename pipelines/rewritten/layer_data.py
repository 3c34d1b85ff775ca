"""Layers that surgery puts in, as plain data and back: PyTorch's own, parts of these, own nests, and zeros."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from loopmorph.pipelines.rewritten.dropped_module import DroppedModule
from loopmorph.pipelines.rewritten.fields import Fields, is_integer
from loopmorph.pipelines.rewritten.nest_module import NestModule
from loopmorph.pipelines.rewritten.nested_code import CONSTANT, ModuleCall, NestedCode, Ports
from loopmorph.pipelines.rewritten.recipe_data import read_recipe, recipe_data
from loopmorph.pipelines.rewritten.rewritten_layers import SlicedConv2d, SlicedLinear

_META = torch.device("meta")
_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


@dataclass(frozen=True)
class LayerKind:
    """How one class of layers is told as plain data.

    Attributes:
        names: of the data's fields.
        describe: the data of a layer.
        build: a layer without values, on the meta device, from the data's fields, its qualified name and the dtype of
            its numbers. Raises DataError, or what PyTorch's own constructors do.
    """

    names: tuple[str, ...]
    describe: Callable[[Any], dict[str, Any]]
    build: Callable[[Fields, str, torch.dtype], nn.Module]


def _describe_convolution(module: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> dict[str, Any]:
    padding = module.padding
    return {
        "in_channels": module.in_channels,
        "out_channels": module.out_channels,
        "kernel_size": list(module.kernel_size),
        "stride": list(module.stride),
        "padding": padding if isinstance(padding, str) else list(padding),
        "dilation": list(module.dilation),
        "groups": module.groups,
        "bias": module.bias is not None,
        "padding_mode": module.padding_mode,
    }


def _describe_sliced(module: SlicedConv2d) -> dict[str, Any]:
    channels = None if module.channels is None else list(module.channels)
    return {**_describe_convolution(module), "channels": channels, "uneven_padding": list(module.uneven_padding)}


def _convolution_options(fields: Fields, axes: int) -> dict[str, Any]:
    padding: Any = fields.content["padding"]
    if padding not in ("same", "valid"):
        padding = fields.integers("padding", least=0, count=axes)
    return {
        "in_channels": fields.integer("in_channels"),
        "out_channels": fields.integer("out_channels"),
        "kernel_size": fields.integers("kernel_size", count=axes),
        "stride": fields.integers("stride", count=axes),
        "padding": padding,
        "dilation": fields.integers("dilation", count=axes),
        "groups": fields.integer("groups"),
        "bias": fields.flag("bias"),
        "padding_mode": fields.text("padding_mode", of=_PADDING_MODES),
    }


def _convolution(cls: type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d], axes: int) -> LayerKind:
    def build(fields: Fields, _: str, dtype: torch.dtype) -> nn.Module:
        return cls(**_convolution_options(fields, axes), device=_META, dtype=dtype)

    return LayerKind(_CONVOLUTION, _describe_convolution, build)


def _build_sliced(fields: Fields, _: str, dtype: torch.dtype) -> nn.Module:
    channels = None
    if fields.content["channels"] is not None:
        channels = fields.integers("channels", least=0, count=fields.integer("in_channels"))
    left, right, top, bottom = fields.integers("uneven_padding", least=-(1 << 20), count=4, most=1 << 20)
    options = _convolution_options(fields, 2)
    uneven = (left, right, top, bottom)
    return SlicedConv2d(**options, channels=channels, uneven_padding=uneven, device=_META, dtype=dtype)


def _describe_linear(module: nn.Linear) -> dict[str, Any]:
    return {
        "in_features": module.in_features,
        "out_features": module.out_features,
        "bias": module.bias is not None,
    }


def _linear(cls: type[nn.Linear]) -> LayerKind:
    def build(fields: Fields, _: str, dtype: torch.dtype) -> nn.Module:
        sizes = fields.integer("in_features"), fields.integer("out_features")
        return cls(*sizes, bias=fields.flag("bias"), device=_META, dtype=dtype)

    return LayerKind(("in_features", "out_features", "bias"), _describe_linear, build)


def _describe_norm(module: _NormBase) -> dict[str, Any]:
    return {
        "num_features": module.num_features,
        "eps": module.eps,
        "momentum": module.momentum,
        "affine": module.affine,
        "track_running_stats": module.track_running_stats,
    }


def _norm(cls: type[_NormBase]) -> LayerKind:
    def build(fields: Fields, _: str, dtype: torch.dtype) -> nn.Module:
        return cls(
            fields.integer("num_features"),
            eps=fields.number("eps"),
            momentum=None if fields.content["momentum"] is None else fields.number("momentum"),
            affine=fields.flag("affine"),
            track_running_stats=fields.flag("track_running_stats"),
            device=_META,
            dtype=dtype,
        )

    return LayerKind(("num_features", "eps", "momentum", "affine", "track_running_stats"), _describe_norm, build)


def _describe_nests(module: NestModule) -> dict[str, Any]:
    names = module.parameter_names
    trained = {local for local, _ in module.named_parameters(recurse=False)}
    return {
        "recipe": recipe_data(module.recipe),
        "tensors": list(names.values()),
        "trained": [name for local, name in names.items() if local in trained],
        "keeps_leading_axes": module.keeps_leading_axes,
        "is_convolution": module.is_convolution,
    }


def _build_nests(fields: Fields, path: str, dtype: torch.dtype) -> nn.Module:
    recipe = read_recipe(f"{fields.where}: recipe", fields.content["recipe"])
    parameters = [recipe.buffers[k] for k in recipe.numbers("parameter")]
    shapes = {buffer.name: buffer.shape for buffer in parameters}
    names, trained = fields.texts("tensors"), fields.texts("trained")
    if len(shapes) < len(parameters) or sorted(names) != sorted(shapes):
        fields.wrong("tensors", f"the recipe's parameters ({', '.join(shapes) or 'none'})")
    if not set(trained) <= set(names):
        fields.wrong("trained", "some of 'tensors'")
    tensors = {name: torch.empty(shapes[name], device=_META, dtype=dtype) for name in names}
    module = NestModule(recipe, tensors, path, frozenset(trained), is_convolution=fields.flag("is_convolution"))
    if len(module.parameter_names) < len(names):
        fields.wrong("tensors", "names that differ in more than dots")
    module.keeps_leading_axes = fields.flag("keeps_leading_axes")
    return module


def _describe_zeros(module: DroppedModule) -> dict[str, Any]:
    return {"shape": list(module.shape), "rows": module.rows}


def _build_zeros(fields: Fields, _: str, __: torch.dtype) -> nn.Module:
    shape = fields.shape("shape")
    if not shape:
        fields.wrong("shape", "a shape with an axis of its batch")
    return DroppedModule(shape, fields.integer("rows"))


_CONVOLUTION = (
    *("in_channels", "out_channels", "kernel_size", "stride", "padding"),
    *("dilation", "groups", "bias", "padding_mode"),
)
_NORMS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)


def _describe_layer_norm(module: nn.LayerNorm) -> dict[str, Any]:
    return {
        "normalized_shape": list(module.normalized_shape),
        "eps": module.eps,
        "elementwise_affine": module.elementwise_affine,
        "bias": module.bias is not None,
    }


def _build_layer_norm(fields: Fields, _: str, dtype: torch.dtype) -> nn.Module:
    return nn.LayerNorm(
        fields.shape("normalized_shape"),
        fields.number("eps"),
        fields.flag("elementwise_affine"),
        fields.flag("bias"),
        device=_META,
        dtype=dtype,
    )


def _describe_rms_norm(module: nn.RMSNorm) -> dict[str, Any]:
    return {
        "normalized_shape": list(module.normalized_shape),
        "eps": module.eps,
        "elementwise_affine": module.elementwise_affine,
    }


def _build_rms_norm(fields: Fields, _: str, dtype: torch.dtype) -> nn.Module:
    eps = None if fields.content["eps"] is None else fields.number("eps")
    shape, affine = fields.shape("normalized_shape"), fields.flag("elementwise_affine")
    return nn.RMSNorm(shape, eps, affine, device=_META, dtype=dtype)


def _describe_code(module: NestedCode) -> dict[str, Any]:
    return {
        "recipe": recipe_data(module.recipe),
        "calls": [[call.after, call.layer, list(call.inputs), call.output] for call in module.calls],
        "arguments": list(module.ports.arguments),
        "shape": list(module.ports.shape),
        "parameters": dict(module.names),
    }


def _build_code(fields: Fields, _: str, dtype: torch.dtype) -> nn.Module:
    calls = [_read_call(fields, each) for each in fields.sequence("calls")]
    written = [call.output for call in calls]
    recipe = read_recipe(f"{fields.where}: recipe", fields.content["recipe"], written)
    most = len(recipe.buffers) - 1
    if any(not is_integer(k, 0, most) for call in calls for k in (*call.inputs, call.output)):
        fields.wrong("calls", f"buffers from 0 to {most}")
    steps = [0, *(call.after for call in calls), len(recipe.statements)]
    if steps != sorted(steps):
        fields.wrong("calls", "calls in the order of the statements")
    names = fields.content["parameters"]
    read = {recipe.buffers[k].name: recipe.buffers[k].shape for k in recipe.numbers("parameter")}
    if not isinstance(names, dict) or names.keys() != read.keys() or not all(map(_is_text, names.values())):
        fields.wrong("parameters", f"a name for each of {', '.join(read) or 'no parameters'}")
    arguments = fields.integers("arguments", least=0, count=len(recipe.numbers("input")))
    module = NestedCode(recipe, calls, Ports(arguments, fields.shape("shape")), names)
    for name, local in names.items():
        if local.startswith(CONSTANT):
            module.register_buffer(local, torch.empty(read[name], device=_META, dtype=dtype))
    return module


def _read_call(fields: Fields, content: Any) -> ModuleCall:
    right = isinstance(content, list) and len(content) == 4 and _is_text(content[1]) and isinstance(content[2], list)
    if not right or not is_integer(content[0], 0):
        fields.wrong("calls", "a list of [statements before it, layer, inputs, output]")
    return ModuleCall(content[0], content[1], tuple(content[2]), content[3])


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


KINDS: Mapping[type[nn.Module], LayerKind] = {
    nn.Conv1d: _convolution(nn.Conv1d, 1),
    nn.Conv2d: _convolution(nn.Conv2d, 2),
    nn.Conv3d: _convolution(nn.Conv3d, 3),
    SlicedConv2d: LayerKind((*_CONVOLUTION, "channels", "uneven_padding"), _describe_sliced, _build_sliced),
    nn.Linear: _linear(nn.Linear),
    SlicedLinear: _linear(SlicedLinear),
    **{cls: _norm(cls) for cls in _NORMS},
    nn.LayerNorm: LayerKind(
        ("normalized_shape", "eps", "elementwise_affine", "bias"), _describe_layer_norm, _build_layer_norm
    ),
    nn.RMSNorm: LayerKind(("normalized_shape", "eps", "elementwise_affine"), _describe_rms_norm, _build_rms_norm),
    NestModule: LayerKind(
        ("recipe", "tensors", "trained", "keeps_leading_axes", "is_convolution"), _describe_nests, _build_nests
    ),
    NestedCode: LayerKind(("recipe", "calls", "arguments", "shape", "parameters"), _describe_code, _build_code),
    DroppedModule: LayerKind(("shape", "rows"), _describe_zeros, _build_zeros),
}
