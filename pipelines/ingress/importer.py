"""From an `nn.Module` to linalg on tensors: `torch.export`, then torch-mlir's FX importer.

Parameters, buffers and constants become named function arguments, so the IR holds no weights and shapes may change.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections import namedtuple
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.export.graph_signature import InputKind
from torch_mlir import ir
from torch_mlir.dialects import torch as torch_dialect
from torch_mlir.passmanager import PassManager

from loopmorph.passes import marks
from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.ingress.constants import lift_constants
from loopmorph.pipelines.ingress.core_graph import core_graph
from loopmorph.pipelines.ingress.decompositions import decomposition_table
from loopmorph.pipelines.ingress.import_cache import KeptImport, find_import, import_key, keep_import
from loopmorph.pipelines.ingress.quiet import quiet_torch
from loopmorph.pipelines.ingress.refusal import (
    export_refusal,
    import_refusal,
    lowering_refusal,
    module_path,
    refuse_unsupported,
    user_place,
)
from loopmorph.pipelines.support.collection import paused_collection

_TO_LINALG = (
    "builtin.module(func.func(torch-match-quantized-custom-ops),"
    "torchdynamo-export-to-torch-backend-pipeline{extra-library=})",
    "builtin.module(torch-backend-to-linalg-on-tensors-backend-pipeline{allow-non-finites=true})",
)


RETURNS_TUPLE = "morph.returns_tuple"  # on the module: the network wraps its only output in a tuple or list


@dataclass(frozen=True)
class ImportedNetwork:
    """A network as linalg on tensors, and the tensors that its marked arguments stand for."""

    module: ir.Module
    parameters: dict[str, torch.Tensor]


def import_to_linalg(model: nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> ImportedNetwork:
    """Imports the inference form (`eval()`) of a model; the model itself is left as it is.

    Args:
        model: any module that `torch.export` accepts; its tensors may be on any device.
        example_inputs: positional arguments; their shapes and dtypes become static.

    Raises:
        ArgumentError: `model` is no module, or `example_inputs` no tuple of tensors.
        ImportRefused: `torch.export` or torch-mlir refuses the model; says which operation and where.
    """
    _check_arguments(model, example_inputs)
    with paused_collection():
        return _import(model, example_inputs)


def _import(model: nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> ImportedNetwork:
    model = copy.deepcopy(model).eval() if model.training else model
    exported = _export(model, example_inputs)
    leaves = _leaf_layers(model)
    context = ir.Context()
    torch_dialect.register_dialect(context)
    key = import_key(exported.graph, (repr(_signature(exported)), repr(sorted(leaves)), repr(_wraps_output(exported))))
    kept = find_import(key, context)
    if kept is None:
        refuse_unsupported(exported.graph)
        core, graph = _decompose(exported)
        refuse_unsupported(graph)
        constants = lift_constants(graph, _tensors(core))
        kept = KeptImport(_lower(core, graph, constants, leaves, context), constants)
        if _signature(core) == _signature(exported):
            keep_import(key, kept)
        exported = core
    return ImportedNetwork(kept.module, {**_tensors(exported), **kept.constants})


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
        """Locations `NameLoc("layer@fx node")` around the user's line instead of call sites in Python files."""

        def get_node_location(self, node: torch.fx.Node) -> ir.Location:
            path = module_path(node)
            layer = path if re.sub(r"@\d+", "", path) in leaves else "|".join(filter(None, [path, node.name]))
            place = user_place(node)
            file = ir.Location.file(*place, 0, context=self._c) if place else None
            return ir.Location.name(f"{layer}@{node.name}", file, context=self._c)

    importer = fx_importer.FxImporter(context=context)
    importer._cc = LayerLocations(context, py_attr_tracker=importer._py_attr_tracker)
    try:
        importer.import_stateless_graph(graph, func_name="main")
    except Exception as error:  # the exception types there are no fixed set
        raise import_refusal(error, graph) from error
    module = importer.module
    _mark_arguments(module, exported, constants)
    with context:
        if _wraps_output(exported):
            module.operation.attributes[RETURNS_TUPLE] = ir.UnitAttr.get()
        for pipeline in _TO_LINALG:
            try:
                PassManager.parse(pipeline).run(module.operation)
            except ir.MLIRError as error:
                raise lowering_refusal(error, graph) from error
        _mark_operations(module)
    return module


def _leaf_layers(model: nn.Module) -> frozenset[str]:
    """Modules that are one layer each: PyTorch's own without children. A user's module may compute several."""
    return frozenset(
        name
        for name, module in model.named_modules()
        if name and next(module.children(), None) is None and type(module).__module__.startswith("torch.nn.")
    )


def _check_arguments(model: nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> None:
    if not isinstance(model, nn.Module):
        raise ArgumentError("model", f"expected an nn.Module, got {type(model).__name__}")
    if not isinstance(example_inputs, tuple) or not all(isinstance(x, torch.Tensor) for x in example_inputs):
        raise ArgumentError("example_inputs", "expected a tuple of tensors, one per positional argument of forward()")


def _export(model: nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> torch.export.ExportedProgram:
    with _quiet_exporter():
        return torch.export.export(model, example_inputs, strict=False)


def _decompose(exported: torch.export.ExportedProgram) -> tuple[torch.export.ExportedProgram, torch.fx.Graph]:
    """The program, perhaps with other arguments, and its graph in core operations."""
    graph = core_graph(exported)
    if graph is not None:
        return exported, graph
    with _quiet_exporter():
        exported = exported.run_decompositions(decomposition_table())
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
        except Exception as error:  # the exception types there are no fixed set
            raise export_refusal(error) from error


def _wraps_output(exported: torch.export.ExportedProgram) -> bool:
    spec = exported.call_spec.out_spec
    return spec is not None and spec.num_leaves == 1 and spec.type in (tuple, list, namedtuple)


def _mark_arguments(module: ir.Module, exported: torch.export.ExportedProgram, constants: Collection[str]) -> None:
    """Says of each argument which input, parameter or buffer it is; lifted constants come last."""
    all_marks: list[dict[str, ir.Attribute]] = []
    position = 0
    with module.context:
        for spec in exported.graph_signature.input_specs:
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
            match = re.search(r'"([^"]*)@([^"@]*)"', str(op.location))
            if match:
                op.attributes[marks.LAYER] = ir.StringAttr.get(match[1])
                op.attributes[marks.NODE] = ir.StringAttr.get(match[2])
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)


def _tensors(exported: torch.export.ExportedProgram) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for spec in exported.graph_signature.input_specs:
        if spec.kind not in (InputKind.USER_INPUT, InputKind.TOKEN):
            source = exported.state_dict if spec.target in exported.state_dict else exported.constants
            tensors[spec.target] = source[spec.target].detach()
    return tensors
