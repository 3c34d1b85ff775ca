"""Why a model cannot be imported, in one line that its owner can act on: the operator, the module, the line of code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx
from torch_mlir import ir

from loopmorph.passes.diagnostics import file_location, one_line
from loopmorph.passes.errors import ImportRefused

ADVICE = 'Use torch.compile(model, backend="loopmorph"), which runs such a part in PyTorch'
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_LIBRARY = re.compile(r"/(site-packages|dist-packages)/torch/")


def user_place(node: fx.Node) -> tuple[str, int] | None:
    """File and line of the innermost frame outside of PyTorch that made the node."""
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    own = [(file, int(line)) for file, line in frames if not _LIBRARY.search(file)]
    return own[-1] if own else None


def module_path(node: fx.Node) -> str:
    """Qualified name of the module whose `forward` made the node; export marks its k-th repeated call by `@k`."""
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return ""
    key, (path, _) = list(stack.items())[-1]
    repeated = re.search(r"@\d+$", key)
    return path + (repeated[0] if repeated else "")


def operator_at(node: fx.Node) -> str:
    """`operator aten.inverse (module 'head', net.py:12)`."""
    place = user_place(node)
    where = [f"module '{module_path(node)}'"] if module_path(node) else []
    where += [f"{place[0]}:{place[1]}"] if place else []
    return f"operator {_operator(node)}" + (f" ({', '.join(where)})" if where else "")


def refuse_unsupported(graph: fx.Graph) -> None:
    """Refuses what no program of fixed shapes and values can stand for.

    Raises:
        ImportRefused: an operator that draws random numbers, whose result's size depends on data, whose result is
            complex, or that has effects beyond its result; names it and its place.
    """
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        for reason in _reasons(node):
            raise ImportRefused(f"{operator_at(node)}: {reason}. {ADVICE}")


def _reasons(node: fx.Node) -> Iterator[str]:
    target = node.target
    if _has_effects(node):
        yield "it has effects beyond its result (a check that may raise)"
    tags = target.tags if isinstance(target, torch._ops.OpOverload) else []
    if torch.Tag.nondeterministic_seeded in tags and not _is_inference(node):
        yield "it draws random numbers; only deterministic inference is compiled"
    values = [value for value in _flat(node.meta.get("val"))]
    if any(isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool) for value in values):
        yield "its result is a number that depends on data; shapes and control flow must be fixed"
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    if any(isinstance(extent, torch.SymInt) for value in tensors for extent in value.shape):
        yield "the size of its result depends on data; shapes must be fixed"
    for value in tensors:
        if value.dtype.is_complex:
            yield f"it computes {str(value.dtype).removeprefix('torch.')}; complex numbers are not compiled"
        if value.layout is not torch.strided:
            yield f"its result is {value.layout}; only dense tensors are compiled"


def _has_effects(node: fx.Node) -> bool:
    return getattr(node.target, "__name__", "") == "with_effects"


def _is_inference(node: fx.Node) -> bool:
    """Whether the operator's own flag for training is off."""
    target: Any = node.target
    names = [argument.name for argument in target._schema.arguments]
    values = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    return any(values.get(flag) is False for flag in ("train", "training")) or values.get("p") == 0


def export_refusal(error: Exception) -> ImportRefused:
    """What `torch.export` raised, as one line; the exception types there are no fixed set."""
    text = _first_line(error)
    place = _user_frame(error)
    return ImportRefused(f"torch.export refuses the model{place}: {text}. {ADVICE}")


def import_refusal(error: Exception, graph: fx.Graph) -> ImportRefused:
    """What torch-mlir's importer raised, with the operator that it is about where the text names one."""
    text = _first_line(error)
    for node in graph.nodes:
        if node.op == "call_function" and (str(node.target) in text or _operator(node).split(".")[-1] in text):
            return ImportRefused(f"{operator_at(node)}: torch-mlir cannot import it: {text}. {ADVICE}")
    return ImportRefused(f"torch-mlir cannot import the model: {text}. {ADVICE}")


def lowering_refusal(error: ir.MLIRError, graph: fx.Graph) -> ImportRefused:
    """What a pass of torch-mlir reported, with the operator of the graph that it is about."""
    diagnostics = list(error.error_diagnostics)
    text = _short(diagnostics[0].message if diagnostics else str(error))
    node = _node_of(diagnostics[0].location, graph) if diagnostics else None
    if node is not None and "torch.operator" in text:
        text = "it has no lowering"
    operator = f"{operator_at(node)}: " if node is not None else ""
    place = "" if node is not None or not diagnostics else _file_text(diagnostics[0].location)
    return ImportRefused(f"{operator}torch-mlir cannot lower it to linalg{place}: {text}. {ADVICE}")


def _node_of(location: ir.Location, graph: fx.Graph) -> fx.Node | None:
    """The node that a `NameLoc("layer@node")` names."""
    match = re.search(r'"([^"]*)@([^"@]*)"', str(location))
    return next((node for node in graph.nodes if match and node.name == match[2]), None)


def _file_text(location: ir.Location) -> str:
    place = file_location(location)
    return f" ({place.filename}:{place.start_line})" if place else ""


def _operator(node: fx.Node) -> str:
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        return f"{target.namespace}.{target._schema.name.split('::')[-1]}"
    original = node.args[1] if _has_effects(node) else node.meta.get("original_aten")
    return str(original) if original is not None else str(getattr(target, "__name__", target))


def _first_line(error: Exception) -> str:
    lines = [one_line(line) for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return _short(f"{text.rstrip('.')} ({type(error).__name__})")


def _short(text: str, limit: int = 300) -> str:
    """One line, without the operands that MLIR appends."""
    text = one_line(text).split(": %")[0]
    return text if len(text) <= limit else text[:limit].rsplit(" ", 1)[0] + " ..."


def _user_frame(error: Exception) -> str:
    """The innermost line of code outside of installed packages that was running when the error was raised."""
    found = ""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "-packages/" not in file and trace.tb_frame.f_code.co_name == "forward":
            found = f" ({file}:{trace.tb_lineno})"
        trace = trace.tb_next
    return found


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for part in value:
            yield from _flat(part)
    else:
        yield value
