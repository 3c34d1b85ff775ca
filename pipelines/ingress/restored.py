"""An exported program as modules again: layers that have a train mode, in the hierarchy that they were exported from.

An exported graph is one flat list of operators that carry the mode of the export. torch.export.unflatten gives the
hierarchy back; here its leaves become `nn.Conv2d`, `nn.Linear`, BatchNorm and dropout where they are that, and its
blocks an `ExportedBlock` each, which can be copied, pickled, trained and rewritten.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves, tree_unflatten

from loopmorph.pipelines.ingress.exported_block import ExportedBlock, adopt
from loopmorph.pipelines.ingress.quiet import quiet_torch

_aten = torch.ops.aten
_CONVOLUTIONS: dict[Any, type[nn.Conv1d | nn.Conv2d | nn.Conv3d]] = {
    _aten.conv1d.default: nn.Conv1d,
    _aten.conv1d.padding: nn.Conv1d,
    _aten.conv2d.default: nn.Conv2d,
    _aten.conv2d.padding: nn.Conv2d,
    _aten.conv3d.default: nn.Conv3d,
    _aten.conv3d.padding: nn.Conv3d,
}
_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_LAYERS = {*_CONVOLUTIONS.values(), *_NORMS.values(), nn.Linear, nn.Dropout}
_TOLERANCE = 1e-5
_Values = dict[str, Any]  # an operator's arguments by name; tensors of the module itself stand for their nodes


def restore(exported: torch.export.ExportedProgram) -> nn.Module | None:
    """The program as modules, in eval mode, with the parameters of the program; None where that is not possible.

    It computes what the program does; that is tried on the example inputs.
    """
    try:
        with quiet_torch(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's own deprecations, when it copies what it has exported
            unflattened = torch.export.unflatten(exported)
            model = _block(unflattened, unflattened.module_call_graph[0].signature).eval()
            # A module that runs twice, in two ways, is two modules there.
            same = not any("@" in name for name, _ in model.named_modules()) and _agree(model, exported)
    except Exception:  # PyTorch's own code for graphs, which may raise anything; the graph itself can still be used
        return None
    return model if same else None


def describe_restored(model: nn.Module) -> str:
    """What was restored, and which operators keep the mode of the export, in one line."""
    layers = sum(type(module) in _LAYERS for module in model.modules())
    blocks = [module for module in model.modules() if isinstance(module, ExportedBlock)]
    fixed = sorted({str(step.target) for block in blocks for step in block.steps if step.carries_mode})
    text = f"an exported graph, {layers} layers restored as modules"
    return f"{text}; {', '.join(fixed)} in the mode of the export" if fixed else text


def _agree(model: nn.Module, exported: torch.export.ExportedProgram) -> bool:
    positional, named = exported.example_inputs or ((), {})
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        found, expected = (tree_leaves(m(*positional, **named)) for m in (model, exported.module()))
    pairs = zip(found, expected, strict=True)
    return all(torch.allclose(a, b, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True) for a, b in pairs)


def _block(module: nn.Module, signature: Any = None) -> nn.Module:
    """A module of `torch.export.unflatten` and all below it; `signature` says how the network's outputs nest."""
    graph = getattr(module, "graph", None)
    if not isinstance(graph, fx.Graph) or all(node.op != "output" for node in graph.nodes):
        return _container(module)
    layer = _layer(module, graph)
    if layer is not None:
        return layer
    for name, child in list(module.named_children()):
        setattr(module, name, _block(child))
    if signature is None:
        return ExportedBlock(module, graph)
    return ExportedBlock(module, graph, lambda results: tree_unflatten(list(_flat(results)), signature.out_spec))


def _container(module: nn.Module) -> nn.Module:
    """A module that does not run itself, as an nn.ModuleList."""
    plain = nn.Module()
    adopt(plain, module)
    for name, child in module.named_children():
        setattr(plain, name, _block(child))
    return plain


def _flat(results: Any) -> tuple[Any, ...]:
    return tuple(results) if isinstance(results, tuple | list) else (results,)


def _layer(module: nn.Module, graph: fx.Graph) -> nn.Module | None:
    """The layer that a graph is, where it is one operator of the module's own parameters on one input."""
    calls = [node for node in graph.nodes if node.op not in ("placeholder", "get_attr", "output")]
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    output = next(node for node in graph.nodes if node.op == "output")
    if len(calls) != 1 or len(inputs) != 1 or calls[0].op != "call_function" or output.args[0] is not calls[0]:
        return None
    values = _arguments(calls[0], module)
    make = _maker(calls[0].target)
    if make is None or values is None or values.get("input") is not inputs[0]:
        return None
    layer = make(calls[0].target, values)
    if layer is None or {name for name, _ in module.named_parameters()} - {
        name for name, _ in layer.named_parameters()
    }:
        return None
    for name, buffer in module.named_buffers(recurse=False):
        if name in layer._buffers:
            layer._buffers[name] = buffer
    return layer


def _arguments(node: fx.Node, module: nn.Module) -> _Values | None:
    """The arguments by name, defaults too; the module's parameters and buffers in place of the nodes that read them."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return None
    values: _Values = {}
    for position, argument in enumerate(node.target._schema.arguments):
        value = (
            node.args[position] if position < len(node.args) else node.kwargs.get(argument.name, argument.default_value)
        )
        if isinstance(value, fx.Node) and value.op == "get_attr":
            value = getattr(module, str(value.target))
        values[argument.name] = value
    return values


def _maker(target: Any) -> Callable[[Any, _Values], nn.Module | None] | None:
    if target in _CONVOLUTIONS:
        return _convolution
    return {_aten.linear.default: _linear, _aten.batch_norm.default: _norm, _aten.dropout.default: _dropout}.get(target)


def _convolution(target: Any, values: _Values) -> nn.Module | None:
    weight, bias, groups = values["weight"], values["bias"], values["groups"]
    if not isinstance(weight, nn.Parameter):
        return None
    make = _CONVOLUTIONS[target]
    size, rank = tuple(weight.shape[2:]), weight.dim() - 2
    stride, dilation = (_each(values[name], rank) for name in ("stride", "dilation"))
    padding = values["padding"] if isinstance(values["padding"], str) else _each(values["padding"], rank)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "bias": bias is not None}
    layer = make(weight.shape[1] * groups, weight.shape[0], size, device="meta", **options)  # type: ignore[arg-type]
    return _filled(layer, weight=weight, bias=bias)


def _linear(_target: Any, values: _Values) -> nn.Module | None:
    weight, bias = values["weight"], values["bias"]
    if not isinstance(weight, nn.Parameter):
        return None
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    return _filled(layer, weight=weight, bias=bias)


def _norm(_target: Any, values: _Values) -> nn.Module | None:
    mean, variance, weight = values["running_mean"], values["running_var"], values["weight"]
    known = values["input"].meta.get("val")
    if values["training"] or mean is None or variance is None or known is None or known.dim() not in _NORMS:
        return None
    make = _NORMS[known.dim()]
    layer = make(len(mean), values["eps"], values["momentum"], affine=weight is not None)
    return _filled(layer, weight=weight, bias=values["bias"], running_mean=mean, running_var=variance)


def _dropout(_target: Any, values: _Values) -> nn.Module | None:
    return None if values["train"] else nn.Dropout(values["p"])


def _filled(layer: nn.Module, **tensors: torch.Tensor | None) -> nn.Module:
    for name, tensor in tensors.items():
        if name in layer._parameters:
            layer._parameters[name] = (
                tensor if tensor is None or isinstance(tensor, nn.Parameter) else nn.Parameter(tensor)
            )
        else:
            layer._buffers[name] = tensor
    return layer


def _each(value: Any, rank: int) -> tuple[int, ...]:
    """One number for each axis: an operator takes one for all of them, too."""
    given = tuple(value) if isinstance(value, tuple | list) else (value,)
    return given * rank if len(given) == 1 else given
