"""From an `nn.Module` to linalg on tensors: `torch.export`, then torch-mlir's FX importer.

Parameters, buffers and constants become named function arguments, so the IR holds no weights and shapes may change.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.export.graph_signature import ConstantArgument, InputKind
from torch.utils import _pytree as pytree
from torch_mlir import ir
from torch_mlir.dialects import torch as torch_dialect
from torch_mlir.passmanager import PassManager

from loopmorph.passes import marks
from loopmorph.passes.errors import ArgumentError, ImportRefused
from loopmorph.pipelines.ingress.composites import run_decompositions
from loopmorph.pipelines.ingress.constants import lift_constants
from loopmorph.pipelines.ingress.containers import register_containers
from loopmorph.pipelines.ingress.core_graph import core_graph
from loopmorph.pipelines.ingress.culprit import node_without_lowering
from loopmorph.pipelines.ingress.empty_tensors import refuse_empty_operands, without_empty_values
from loopmorph.pipelines.ingress.import_cache import KeptImport, find_import, import_key, keep_import
from loopmorph.pipelines.ingress.place import layer_and_node, module_path, named_location
from loopmorph.pipelines.ingress.quiet import quiet_torch
from loopmorph.pipelines.ingress.refusal import (
    export_refusal,
    import_refusal,
    lowering_refusal,
    refuse_unsupported,
    rule_refusal,
)
from loopmorph.pipelines.ingress.signature import distinct_tensors, only_tensors, refuse_effects, structure_of
from loopmorph.pipelines.ingress.supported import check_supported, refuse_open_division
from loopmorph.pipelines.support.collection import paused_collection
from loopmorph.pipelines.support.inference import switch_to_inference
from loopmorph.pipelines.support.structure import CONSTANTS, Structure

_TO_LINALG = (
    "builtin.module(func.func(torch-match-quantized-custom-ops),"
    "torchdynamo-export-to-torch-backend-pipeline{extra-library=})",
    "builtin.module(torch-backend-to-linalg-on-tensors-backend-pipeline{allow-non-finites=true})",
)


@dataclass(frozen=True)
class ImportedNetwork:
    """A network as linalg on tensors, the tensors that its marked arguments stand for, and how it is called."""

    module: ir.Module
    parameters: dict[str, torch.Tensor]
    structure: Structure


def import_to_linalg(
    model: nn.Module, example_inputs: tuple[Any, ...], example_kwargs: Mapping[str, Any] | None = None
) -> ImportedNetwork:
    """Imports the inference form (`eval()`) of a model; the model itself is left as it is.

    Args:
        model: any module that `torch.export` accepts; its tensors may be on any device.
        example_inputs: positional arguments: tensors, whose shapes and dtypes become static, in tuples, lists and
            dictionaries as `forward` takes them; numbers, text and None, whose values are compiled in.
        example_kwargs: keyword arguments, likewise.

    Raises:
        ArgumentError: `model` is no module, or the arguments hold something else.
        ImportRefused: `torch.export` or torch-mlir refuses the model, or it changes a buffer or an input in place, or
            draws random numbers; says which operation and where.
    """
    if example_kwargs is not None and not isinstance(example_kwargs, Mapping):
        raise ArgumentError("example_kwargs", f"expected a dictionary, got a {type(example_kwargs).__name__}")
    kwargs = dict(example_kwargs or {})
    _check_arguments(model, example_inputs, kwargs)
    with paused_collection():
        return _import(model, example_inputs, kwargs)


def _import(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ImportedNetwork:
    model = switch_to_inference(copy.deepcopy(model)) if model.training else model
    exported = _export(model, *distinct_tensors(model, args, kwargs))
    check_supported(exported.graph)
    structure = structure_of(exported)
    leaves = _leaf_layers(model)
    context = ir.Context()
    torch_dialect.register_dialect(context)
    key = import_key(exported.graph, (repr(_signature(exported)), repr(sorted(leaves))))
    kept = find_import(key, context)
    if kept is None:
        refuse_unsupported(exported.graph)
        core, graph = _decompose(exported)
        refuse_effects(exported, core)
        refuse_unsupported(graph)
        only_tensors(graph, exported)
        constants = lift_constants(graph, _tensors(core))
        refuse_open_division(graph, {**_placeholders(core), **constants})
        kept = KeptImport(_lower(core, graph, constants, leaves, context), constants)
        if _signature(core) == _signature(exported):
            keep_import(key, kept)
        exported = core
    return ImportedNetwork(kept.module, {**_tensors(exported), **kept.constants}, structure)


def core_operations(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[torch.fx.Graph, list[Any]]:
    """A network's graph in core operations, whose nodes give layers their names, and what its placeholders stand for.

    Raises:
        ImportRefused: `torch.export` refuses the model.
    """
    args, named = distinct_tensors(model, args, dict(kwargs))
    core, graph = _decompose(_export(model, args, named))
    given = iter(pytree.tree_leaves((args, named)))
    tensors, specs = _tensors(core), core.graph_signature.input_specs
    return graph, [next(given) if s.kind == InputKind.USER_INPUT else tensors[s.target] for s in specs]


def _lower(
    exported: torch.export.ExportedProgram,
    graph: torch.fx.Graph,
    constants: Collection[str],
    leaves: frozenset[str],
    context: ir.Context,
) -> ir.Module:
    """The graph as linalg on tensors.

    Raises:
        ImportRefused: torch-mlir refuses an operation; says which and where.
    """
    from torch_mlir.extras import fx_importer

    class LayerLocations(fx_importer.ContextCache):
        """Locations that name layer and node instead of call sites in Python files."""

        def get_node_location(self, node: torch.fx.Node) -> ir.Location:
            path = module_path(node)
            layer = path if re.sub(r"@\d+", "", path) in leaves else "|".join(filter(None, [path, node.name]))
            return named_location(layer, node, self._c)

    importer = fx_importer.FxImporter(context=context)
    importer._cc = LayerLocations(context, py_attr_tracker=importer._py_attr_tracker)
    try:
        importer.import_stateless_graph(graph, func_name="main")
    except Exception as error:  # the exception types there are no fixed set
        raise import_refusal(error, graph) from error
    module = importer.module
    _mark_arguments(module, exported, constants)
    with context:
        for pipeline in _TO_LINALG:
            try:
                PassManager.parse(pipeline).run(module.operation)
            except ir.MLIRError as error:
                raise lowering_refusal(
                    error, graph, lambda: node_without_lowering(graph, _TO_LINALG, context)
                ) from error
        _mark_operations(module)
    return module


def _leaf_layers(model: nn.Module) -> frozenset[str]:
    """Modules that are one layer each: PyTorch's own without children. A user's module may compute several."""
    return frozenset(
        name
        for name, module in model.named_modules()
        if name and next(module.children(), None) is None and type(module).__module__.startswith("torch.nn.")
    )


def _check_arguments(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if not isinstance(model, nn.Module):
        raise ArgumentError("model", f"expected an nn.Module, got {type(model).__name__}")
    if not isinstance(args, tuple):
        raise ArgumentError("example_inputs", "expected a tuple of tensors, one per positional argument of forward()")
    for name, given in (("example_inputs", args), ("example_kwargs", kwargs)):
        for leaf in pytree.tree_leaves(given):
            if not isinstance(leaf, (torch.Tensor, *CONSTANTS)):
                expected = "tensors, numbers, text or None, also in tuples, lists and dictionaries"
                raise ArgumentError(name, f"expected {expected}, got a {type(leaf).__name__}")


def _export(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.export.ExportedProgram:
    with _quiet_exporter():
        try:
            return torch.export.export(model, args, kwargs, strict=False)
        except RuntimeError as error:
            if "not a known type" not in str(error) or not register_containers(model, args, kwargs):
                raise
            return torch.export.export(model, args, kwargs, strict=False)


def _decompose(exported: torch.export.ExportedProgram) -> tuple[torch.export.ExportedProgram, torch.fx.Graph]:
    """The program, perhaps with other arguments, and its graph in core operations."""
    without_empty_values(exported.graph)
    graph = core_graph(exported)
    if graph is not None:
        return exported, graph
    with _quiet_exporter():
        exported = run_decompositions(exported)
    without_empty_values(exported.graph)
    refuse_empty_operands(exported.graph)
    return exported, exported.graph


def _signature(exported: torch.export.ExportedProgram) -> list[tuple[str, str | None]]:
    """Kind and name of each of the graph's arguments."""
    return [(spec.kind.name, spec.target) for spec in exported.graph_signature.input_specs]


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Lets PyTorch's exporter run without gradients and without a word; what it raises becomes one line."""
    with warnings.catch_warnings(), quiet_torch(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            yield
        except ImportRefused as error:  # a rule's own, to which PyTorch has added what it was doing
            raise rule_refusal(error) from error
        except Exception as error:  # the exception types there are no fixed set
            raise export_refusal(error) from error


def _mark_arguments(module: ir.Module, exported: torch.export.ExportedProgram, constants: Collection[str]) -> None:
    """Says of each argument which input, parameter or buffer it is; lifted constants come last."""
    all_marks: list[dict[str, ir.Attribute]] = []
    position = 0
    with module.context:
        for spec in exported.graph_signature.input_specs:
            if isinstance(spec.arg, ConstantArgument):
                continue
            if spec.kind == InputKind.USER_INPUT:
                all_marks.append({marks.INPUT: ir.IntegerAttr.get(ir.IntegerType.get_signless(64), position)})
                position += 1
            else:
                all_marks.append({marks.PARAM: ir.StringAttr.get(spec.target)})
        all_marks += [{marks.PARAM: ir.StringAttr.get(name)} for name in constants]
        marks.set_argument_marks(module.body.operations[0], all_marks)


def _mark_operations(module: ir.Module) -> None:
    """Writes each location's layer and node into attributes, which survive printing without debug info."""

    def visit(op: ir.Operation) -> ir.WalkResult:
        if op.name.startswith(("linalg.", "tensor.")) and not op.name.endswith(".yield"):
            named = layer_and_node(op.location)
            if named is not None:
                op.attributes[marks.LAYER], op.attributes[marks.NODE] = map(ir.StringAttr.get, named)
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)


def _tensors(exported: torch.export.ExportedProgram) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for spec in exported.graph_signature.input_specs:
        if spec.kind not in (InputKind.USER_INPUT, InputKind.TOKEN):
            source = exported.state_dict if spec.target in exported.state_dict else exported.constants
            tensors[spec.target] = source[spec.target].detach()
    return tensors


def _placeholders(exported: torch.export.ExportedProgram) -> dict[str, torch.Tensor]:
    """Parameters, buffers and constants by the name of their placeholder."""
    tensors, specs = _tensors(exported), exported.graph_signature.input_specs
    return {spec.arg.name: tensors[spec.target] for spec in specs if spec.target in tensors}
