"""What distinguishes a rewritten network from its original, as plain data: the changed modules by qualified name."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.rewritten.layer_data import KINDS
from loopmorph.pipelines.rewritten.module_tensors import own_tensors

RESHAPED = "reshaped"  # the kind of a user's own module whose tensors have other shapes, or that keeps other sizes


def changed_paths(original: nn.Module, module: nn.Module) -> list[str]:
    """The qualified names of the modules in which a rewritten network differs from its original, in its order.

    A module that the network holds several times has its first name.

    Raises:
        ArgumentError: a difference that no file can hold: a module that the original does not have, or one of another
            class that is none of those that surgery puts in.
    """
    before = dict(original.named_modules(remove_duplicate=False))
    paths = []
    for path, new in module.named_modules():
        if path not in before:
            reason = f"it has a module '{path}', which the original does not have"
            raise ArgumentError("module", f"{reason}; only layers that loopmorph has rewritten may differ from it")
        if _differs(path, before[path], new):
            paths.append(path)
    return paths


def describe_changes(module: nn.Module, paths: Collection[str]) -> list[dict[str, Any]]:
    """Those of these modules that are there, each as plain data: `at`, `kind`, `arguments` and the `frozen` tensors."""
    return [_describe(path, each) for path, each in module.named_modules() if path in paths]


def tied_names(module: nn.Module, paths: Iterable[str]) -> list[list[str]]:
    """The qualified names of each parameter that several modules, one of these among them, hold as one."""
    held: dict[int, list[tuple[str, str]]] = {}
    for path, each in module.named_modules():
        for name, tensor in own_tensors(each):
            if isinstance(tensor, nn.Parameter):
                held.setdefault(id(tensor), []).append((path, qualified(path, name)))
    changed = set(paths)
    shared = [places for places in held.values() if len(places) > 1 and any(path in changed for path, _ in places)]
    return [[name for _, name in places] for places in shared]


def loose_buffers(original: nn.Module, module: nn.Module) -> list[str]:
    """The qualified names of the buffers that no state dict has, and that are not the original's any more."""
    before = dict(original.named_buffers(remove_duplicate=False))
    names = [
        qualified(path, name)
        for path, each in module.named_modules()
        for name in sorted(each._non_persistent_buffers_set)
        if each._buffers[name] is not None
    ]
    now = dict(module.named_buffers(remove_duplicate=False))
    return [name for name in names if name not in before or not torch.equal(before[name].cpu(), now[name].cpu())]


def qualified(path: str, name: str) -> str:
    """The name of what a module at `path` holds."""
    return f"{path}.{name}" if path else name


def shapes(tensors: Iterable[tuple[str, torch.Tensor]]) -> dict[str, list[int]]:
    """Name -> shape."""
    return {name: list(tensor.shape) for name, tensor in tensors}


def sizes(module: nn.Module) -> dict[str, int | list[int]]:
    """Name -> value of the whole numbers, and tuples of them, that a module keeps: `head_dim`, `normalized_shape`."""
    public = {name: each for name, each in vars(module).items() if not name.startswith("_")}
    single: dict[str, int | list[int]] = {name: each for name, each in public.items() if type(each) is int}
    tuples = {name: list(each) for name, each in public.items() if _is_shape(each)}
    return {**single, **tuples}


def _differs(path: str, old: nn.Module, new: nn.Module) -> bool:
    if type(old) is not type(new) and not (isinstance(old, GraphModule) and isinstance(new, GraphModule)):
        if type(new) not in KINDS:
            reason = f"its module '{path}' is a {type(new).__name__}, the original's a {type(old).__name__}"
            raise ArgumentError("module", f"{reason}; only layers that loopmorph has rewritten may differ from it")
        return True
    kind = KINDS.get(type(new))
    if kind is not None and kind.describe(old) != kind.describe(new):
        return True
    if kind is None and sizes(old) != sizes(new):
        return True
    return shapes(own_tensors(old)) != shapes(own_tensors(new))


def _describe(path: str, module: nn.Module) -> dict[str, Any]:
    own = own_tensors(module)
    kind = KINDS.get(type(module))
    frozen = [name for name, tensor in own if isinstance(tensor, nn.Parameter) and not tensor.requires_grad]
    return {
        "at": path,
        "kind": RESHAPED if kind is None else type(module).__name__,
        "arguments": _reshaped(module) if kind is None else kind.describe(module),
        "frozen": frozen,
    }


def _reshaped(module: nn.Module) -> dict[str, Any]:
    kept = sizes(module)
    return {"shapes": shapes(own_tensors(module)), **({"sizes": kept} if kept else {})}


def _is_shape(value: Any) -> bool:
    return type(value) is tuple and len(value) > 0 and all(type(each) is int for each in value)
