"""Where in the user's model a node of an exported graph comes from: operator, module, file and line."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import fx
from torch_mlir import ir

import loopmorph

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_NAMED = re.compile(r'"([^"]*)@([^"@]*)"')
# Frames of PyTorch's modules say less than the line that calls them. A user's folder may have either name.
_OWN = tuple(f"{Path(package.__file__ or '').parent}/" for package in (torch, loopmorph))


def operator_name(node: fx.Node) -> str:
    """`add_` for `aten.add_.Tensor`; that of the operation inside where PyTorch has wrapped it for its effects."""
    target = node.args[1] if has_effects(node) else node.target
    packet = getattr(target, "overloadpacket", None)
    return packet.__name__ if packet is not None else getattr(target, "__name__", str(target))


def has_effects(node: fx.Node) -> bool:
    """Whether PyTorch keeps the operation in order because it does more than compute its results."""
    return getattr(node.target, "__name__", "") == "with_effects"


def module_path(node: fx.Node) -> str:
    """Qualified name of the module whose `forward` made the node; export marks its k-th repeated call by `@k`."""
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return ""
    key, (path, _) = list(stack.items())[-1]
    repeated = re.search(r"@\d+$", key)
    return path + (repeated[0] if repeated else "")


def user_place(node: fx.Node) -> tuple[str, int] | None:
    """File and line of the innermost frame, outside of PyTorch, that made the node."""
    return innermost_place(node.meta.get("stack_trace") or "")


def innermost_place(trace: str) -> tuple[str, int] | None:
    """File and line of the innermost frame, outside of PyTorch, of a trace as Python prints it."""
    frames = _FRAME.findall(trace)
    own = [(file, int(line)) for file, line in frames if not file.startswith(_OWN)]
    return own[-1] if own else None


def place_of(node: fx.Node) -> str:
    """` of module 'layer1.bn' (model.py:12)`, as much as is known; begins with a blank, or is empty."""
    module, place = re.sub(r"@\d+", "", module_path(node)), user_place(node)
    line = f" ({place[0]}:{place[1]})" if place else ""
    return (f" of module '{module}'" if module else "") + line


def operator_at(node: fx.Node) -> str:
    """`operator 'add_' of module 'layer1.bn' (model.py:12)`."""
    return f"operator '{operator_name(node)}'{place_of(node)}"


def named_location(layer: str, node: fx.Node, context: ir.Context) -> ir.Location:
    """A `NameLoc("layer@node")` around the user's line."""
    place = user_place(node)
    line = ir.Location.file(*place, 0, context=context) if place else None
    return ir.Location.name(f"{layer}@{node.name}", line, context=context)


def layer_and_node(location: ir.Location) -> tuple[str, str] | None:
    """What `named_location` wrote into a location, wherever it stands in there."""
    match = _NAMED.search(str(location))
    return (match[1], match[2]) if match else None
