"""Imported networks kept across runs: what an exported graph became as linalg on tensors."""

from __future__ import annotations

import base64
import io
import operator
import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch_mlir import ir

from loopmorph.passes.errors import one_line
from loopmorph.pipelines.store.code_cache import Entry, code_cache, key_of

_PLAIN = (int, float, bool, str, torch.dtype, torch.device, torch.layout, torch.memory_format, type(None))


def import_key(graph: fx.Graph, about: Iterable[str]) -> str | None:
    """What identifies the module that is made of a graph; None where the module cannot be kept.

    Args:
        graph: the network as exported, before any decomposition.
        about: what else the module depends on.
    """
    text = _text(graph)
    return None if text is None else key_of("import", text, *about)


@dataclass(frozen=True)
class KeptImport:
    """What an exported graph became.

    Attributes:
        module: linalg on tensors.
        constants: tensors that the graph computes of no argument, by the name of the module's argument.
    """

    module: ir.Module
    constants: dict[str, torch.Tensor]


def find_import(key: str | None, context: ir.Context) -> KeptImport | None:
    """What was kept under a key, in this context; None where there is nothing."""
    with code_cache() as cache:
        entry = cache.get(key) if cache is not None and key is not None else None
        if cache is None or key is None or entry is None:
            return None
        try:
            return KeptImport(ir.Module.parse(entry.content, context), _tensors_of(entry.about))
        except (ir.MLIRError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            cache.reject(key, one_line(str(error)))
            return None


def keep_import(key: str | None, kept: KeptImport) -> None:
    """Keeps an import under a key."""
    with code_cache() as cache:
        if cache is not None and key is not None:
            content = io.BytesIO()
            kept.module.operation.write_bytecode(content)
            cache.put(key, Entry(_text_of(kept.constants), content.getvalue()))


def _text_of(tensors: dict[str, torch.Tensor]) -> str | None:
    """Tensors as text that JSON can hold."""
    data = io.BytesIO()
    torch.save(tensors, data)
    return base64.b64encode(data.getvalue()).decode() if tensors else None


def _tensors_of(text: str | None) -> dict[str, torch.Tensor]:
    """What `_text_of` made a text of."""
    return {} if text is None else torch.load(io.BytesIO(base64.b64decode(text)), weights_only=True)


def _text(graph: fx.Graph) -> str | None:
    """Equal for graphs that compute the same, in the same places of a network; None where that is not sure."""
    lines = []
    for node in graph.nodes:
        known = node.op in ("placeholder", "output") or node.target is operator.getitem or _is_built_in(node.target)
        if not known or not all(isinstance(each, (fx.Node, *_PLAIN)) for each in _leaves((node.args, node.kwargs))):
            return None
        stack = {key: path for key, (path, _) in node.meta.get("nn_module_stack", {}).items()}
        values = [_value(each) for each in _leaves(node.meta.get("val"))]
        where = node.meta.get("stack_trace")  # what messages say about a layer: file and line
        lines.append(f"{node.op} {node.name} {node.target} {node.args} {node.kwargs} {stack} {values} {where}")
    return "\n".join(lines)


def _is_built_in(target: Any) -> bool:
    return isinstance(target, torch._ops.OpOverload) and target.namespace in ("aten", "prims")


def _leaves(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, list | tuple | slice):
        parts = (value.start, value.stop, value.step) if isinstance(value, slice) else value
        return [leaf for part in parts for leaf in _leaves(part)]
    return (value,)


def _value(value: Any) -> str:
    if not isinstance(value, torch.Tensor):
        return repr(value)
    return f"{value.dtype} {tuple(value.shape)} {tuple(value.stride())} {value.device} {value.layout}"
