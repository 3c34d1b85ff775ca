"""Why a model cannot be imported, in one line that its owner can act on: the operator, the module, the line of code."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import fx
from torch.utils._pytree import tree_leaves
from torch_mlir import ir

from loopmorph.passes.diagnostics import file_location
from loopmorph.passes.errors import ImportRefused, one_line
from loopmorph.pipelines.ingress.place import has_effects, innermost_place, layer_and_node, operator_at, operator_name

ADVICE = 'Use torch.compile(model, backend="loopmorph"), which runs such a part in PyTorch'


def refuse_unsupported(graph: fx.Graph) -> None:
    """Refuses what no program of fixed shapes can stand for.

    Raises:
        ImportRefused: an operator whose result's size depends on data, or that has effects beyond its result; names it
            and its place.
    """
    for node in graph.nodes:
        reason = _reason(node) if node.op == "call_function" else None
        if reason is not None:
            raise ImportRefused(f"{operator_at(node)}: {reason}. {ADVICE}")


def _reason(node: fx.Node) -> str | None:
    values = tree_leaves(node.meta.get("val"))
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    if has_effects(node):
        return "it has effects beyond its result (a check that may raise)"
    if any(isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool) for value in values):
        return "its result is a number that depends on data; shapes and control flow must be fixed"
    if any(isinstance(extent, torch.SymInt) for value in tensors for extent in value.shape):
        return "the size of its result depends on data; shapes must be fixed"
    return None


def export_refusal(error: Exception) -> ImportRefused:
    """What `torch.export` raised, as one line; the exception types there are no fixed set."""
    text = _first_line(error)
    if type(error).__name__ == "PendingUnbackedSymbolNotFound":
        text = "the size of a result depends on data; shapes must be fixed"
    place, operator = _user_frame(error), _running_operator(error)
    return ImportRefused(f"torch.export refuses the model{place}: {operator}{text}. {ADVICE}")


def rule_refusal(error: ImportRefused) -> ImportRefused:
    """What a rule of ours raised within the exporter, which appends where in the graph and the model it was."""
    first, *rest = str(error).splitlines()
    if not rest:
        return error
    place = innermost_place("\n".join(rest))
    name, _, reason = one_line(first).partition(": ")
    return ImportRefused(f"operator '{name}'{f' ({place[0]}:{place[1]})' if place else ''}: {reason}. {ADVICE}")


def import_refusal(error: Exception, graph: fx.Graph) -> ImportRefused:
    """What torch-mlir's importer raised, with the operator that it is about where the text names one."""
    text = _first_line(error)
    for node in graph.nodes:
        if node.op == "call_function" and (str(node.target) in text or operator_name(node) in text):
            return ImportRefused(f"{operator_at(node)}: torch-mlir cannot import it: {text}. {ADVICE}")
    return ImportRefused(f"torch-mlir cannot import the model: {text}. {ADVICE}")


def lowering_refusal(error: ir.MLIRError, graph: fx.Graph, find_culprit: Callable[[], fx.Node | None]) -> ImportRefused:
    """What a pass of torch-mlir reported, with the operator of the graph that it is about.

    Args:
        error: what the pass raised.
        graph: what was lowered.
        find_culprit: looks for the operator, where the report is about a constant or the like.
    """
    diagnostics = list(error.error_diagnostics)
    text = _short(diagnostics[0].message if diagnostics else str(error))
    node = _node_of(diagnostics[0].location, graph) if diagnostics else None
    about_constant = re.search(r"'torch\.(constant|vtensor|prim)", text) is not None
    if node is None or about_constant:
        node = find_culprit() or node
    if node is not None and (about_constant or "torch.operator" in text):
        text = "it has no lowering"
    operator = f"{operator_at(node)}: " if node is not None else ""
    place = "" if node is not None or not diagnostics else _file_text(diagnostics[0].location)
    return ImportRefused(f"{operator}torch-mlir cannot lower it to linalg{place}: {text}. {ADVICE}")


def _node_of(location: ir.Location, graph: fx.Graph) -> fx.Node | None:
    named = layer_and_node(location)
    return next((node for node in graph.nodes if named and node.name == named[1]), None)


def _file_text(location: ir.Location) -> str:
    place = file_location(location)
    return f" ({place.filename}:{place.start_line})" if place else ""


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


def _running_operator(error: Exception) -> str:
    """`operator 'x' of module 'y' (file:line): ` where a node of the exported graph was being run again."""
    found = ""
    trace = error.__traceback__
    while trace is not None:
        node = trace.tb_frame.f_locals.get("n") if trace.tb_frame.f_code.co_name == "run_node" else None
        if isinstance(node, fx.Node) and node.op == "call_function":
            found = f"{operator_at(node)}: "
        trace = trace.tb_next
    return found
