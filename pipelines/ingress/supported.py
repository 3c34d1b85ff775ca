"""Which exported graphs have values that compiled code can compute at all: types of elements, no random numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx
from torch.utils._pytree import tree_leaves

from loopmorph.passes.errors import ImportRefused
from loopmorph.pipelines.ingress.place import operator_at, operator_name
from loopmorph.pipelines.ingress.refusal import ADVICE

DTYPES = frozenset(
    {
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
    }
)
_NAMES = "float64, float32, float16, bfloat16, int64, int32, int16, int8, bool, and uint8 that is converted at once"
_SWITCHES = ("train", "training", "dropout_p")  # arguments that say whether an operation draws random numbers
# Operations that take bytes without computing with them, which torch-mlir does as if they had a sign.
_OF_BYTES = frozenset(
    {
        *("to", "_to_copy", "type_as", "clone", "contiguous", "alias", "detach", "view", "reshape", "permute"),
        *("transpose", "t", "flatten", "unflatten", "squeeze", "unsqueeze", "expand", "select", "slice", "cat"),
        *("stack", "split", "chunk", "unbind", "numpy_T", "movedim", "expand_as", "eq", "ne", "getitem"),
        *("_assert_tensor_metadata", "split_with_sizes", "narrow"),
    }
)
_EXPORTED_OTHERWISE = frozenset({"multi_margin_loss"})  # decomposed below the reach of our rules
_DIVISIONS = frozenset({"div", "divide", "floor_divide", "remainder", "fmod"})
_REARRANGING = frozenset({"clone", "alias", "view", "expand", "unsqueeze", "squeeze", "permute", "slice", "select"})


def check_supported(graph: fx.Graph) -> None:
    """Looks at each value of a graph, as exported.

    Raises:
        ImportRefused: complex or other elements that are not compiled, arithmetic on bytes, random numbers; names the
            operator and its place.
    """
    for node in graph.nodes:
        if node.op == "placeholder":
            _check_dtypes(node, f"input '{node.name}'")
        elif node.op == "call_function":
            _check_dtypes(node, operator_at(node))
            _check_exported(node)
            _check_random(node)
            _check_bytes(node)


def refuse_open_division(graph: fx.Graph, known: Mapping[str, torch.Tensor]) -> None:
    """Looks at each division of integers: by 0 it raises in PyTorch, and would end the process in compiled code.

    Args:
        graph: the graph in core operations.
        known: tensors that placeholders stand for, by the placeholder's name.

    Raises:
        ImportRefused: a divisor that is 0, or depends on the inputs; names the operator and its place.
    """
    for node in graph.nodes:
        if node.op != "call_function" or operator_name(node) not in _DIVISIONS or len(node.args) < 2:
            continue
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor) or value.is_floating_point() or value.dtype == torch.bool:
            continue
        divisor = _known_value(node.args[1], known)
        if divisor is None or bool((torch.as_tensor(divisor) == 0).any()):
            what = "0" if divisor is not None else "integers that depend on data and may be 0"
            advice = "convert to torch.float32 before"
            raise ImportRefused(f"{operator_at(node)} divides by {what}, which raises in PyTorch; {advice}. {ADVICE}")


def _known_value(value: Any, known: Mapping[str, torch.Tensor]) -> Any:
    """A number, or the elements that a node's are among; None where they depend on data."""
    while isinstance(value, fx.Node) and operator_name(value) in _REARRANGING:
        value = value.args[0]
    if not isinstance(value, fx.Node):
        return value
    if value.op == "call_function" and operator_name(value) == "full":
        return value.args[1]
    return known.get(value.name) if value.op == "placeholder" else None


def _check_dtypes(node: fx.Node, what: str) -> None:
    for value in _tensors(node.meta.get("val")):
        if value.dtype not in DTYPES:
            raise ImportRefused(f"{what} is of {value.dtype}; what can be compiled is {_NAMES}. {ADVICE}")
        if value.layout is not torch.strided:
            raise ImportRefused(f"{what} is of {value.layout}; only dense tensors can be compiled. {ADVICE}")


def _check_exported(node: fx.Node) -> None:
    if operator_name(node) in _EXPORTED_OTHERWISE:
        reason = "PyTorch exports it as operations that differ where there is a NaN"
        raise ImportRefused(f"{operator_at(node)}: {reason}. {ADVICE}")


def _check_random(node: fx.Node) -> None:
    if not isinstance(node.target, torch._ops.OpOverload) or torch.Tag.nondeterministic_seeded not in node.target.tags:
        return
    arguments = node.target._schema.arguments
    values = {a.name: a.default_value for a in arguments if a.has_default_value()}
    values |= dict(zip((a.name for a in arguments), node.args, strict=False)) | node.kwargs
    switches = [values[name] for name in _SWITCHES if name in values]
    if not switches or any(switches):
        advice = ": call eval() on it" if switches else ""
        raise ImportRefused(
            f"{operator_at(node)} draws random numbers; only deterministic inference is compiled{advice}. {ADVICE}"
        )


def _check_bytes(node: fx.Node) -> None:
    taken = [v.dtype for n in node.all_input_nodes for v in _tensors(n.meta.get("val"))]
    made = [v.dtype for v in _tensors(node.meta.get("val"))]
    name = operator_name(node)
    computes = torch.uint8 in taken and name not in _OF_BYTES
    narrows = torch.uint8 in made and any(dtype not in (torch.uint8, torch.bool) for dtype in taken)
    if computes or narrows:
        advice = "convert to torch.int32 or torch.float32 before"
        raise ImportRefused(f"{operator_at(node)} computes with torch.uint8, which is not compiled; {advice}")


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]
