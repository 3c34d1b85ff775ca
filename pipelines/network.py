"""`Network`: a network as affine nests, with the tensors that it was imported with. Nothing here runs in PyTorch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import nn
from torch_mlir import ir

from loopmorph.dialects.morph import apply_schedule
from loopmorph.passes import marks
from loopmorph.passes.address import Address
from loopmorph.passes.analysis.cost import macs
from loopmorph.passes.analysis.coupling.inheritance import Term, inherited_terms
from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.history import Step, history, pipeline_text
from loopmorph.passes.lowering.anonymous_layer import anonymous_text
from loopmorph.passes.lowering.extract_layer import extract_layer
from loopmorph.passes.nest import Nest, NestsByLayer, functions, nests
from loopmorph.passes.nest_text import layer_texts
from loopmorph.passes.pipeline import run_pipeline
from loopmorph.pipelines.support.structure import Structure, tensors_in

_DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32, "f64": torch.float64}
ENTRY = "transform.named_sequence"  # what a schedule holds and a pipeline does not


@dataclass(frozen=True)
class Layer:
    """One layer of a program.

    Attributes:
        name: qualified module name (`layer1.0.conv1`), or `module|node` for an operation of a module's own forward.
        extents: iterator name -> extent, outermost loop first, of the layer's main nest, the first if it has several.
        macs: multiply-accumulate operations of its main nests and of those that mix channels before and after them; 0
            unless there are contractions among them.
        nests: the address of each of these nests, as transformations take it (`a`; `a#main.0` and `a#main.1` once it
            is partitioned; `a#mix`) -> the nest's extents; in program order.
    """

    name: str
    extents: Mapping[str, int | None]
    macs: int
    nests: Mapping[str, Mapping[str, int | None]]


@dataclass(frozen=True)
class Repaired:
    """A parameter's values, and its shape and `morph.inherit` when it was given them."""

    value: torch.Tensor
    inherit: str


@dataclass(frozen=True)
class Network:
    """A network as affine loop nests; immutable: `apply` returns a new one, of the same class.

    Attributes:
        module: the MLIR module: one function, weights as marked arguments (see `loopmorph.passes.marks`).
        model: the network that was imported, in inference form; never modified.
        example_inputs: the positional arguments of `forward` whose shapes the program has.
        imported: name -> tensor of each parameter, buffer and constant, as imported.
        origin: the module as it was imported, before any transformation; None where that is not known.
        example_kwargs: the keyword arguments of `forward`.
        structure: what `forward` takes and returns beyond tensors; None for tensors by position, and for a tuple of
            tensors, or one of them.
        repaired: name -> the values that a parameter was given instead of those that it inherits (see
            `Program.repair`), as long as transformations leave what it inherits as it was then.
    """

    module: ir.Module
    model: nn.Module
    example_inputs: tuple[Any, ...]
    imported: Mapping[str, torch.Tensor]
    origin: ir.Module | None = None
    example_kwargs: Mapping[str, Any] = field(default_factory=dict)
    structure: Structure | None = None
    repaired: Mapping[str, Repaired] = field(default_factory=dict)
    _layer_modules: dict[str, ir.Module] = field(default_factory=dict, init=False, repr=False, compare=False)
    _closed_layers: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def original(self) -> Self | None:
        """The network as it was imported, None where that is not known."""
        return None if self.origin is None else replace(self, module=self.origin, repaired={})

    @cached_property
    def example_tensors(self) -> tuple[torch.Tensor, ...]:
        """The tensors among the example arguments: the one at position k is passed for `morph.input = k`."""
        return tensors_in(self.example_inputs, self.example_kwargs)

    def arguments(self, tensors: Sequence[torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """How `forward` is called with some tensors in the place of `example_tensors`."""
        return (tuple(tensors), {}) if self.structure is None else self.structure.inputs.build(tensors)

    def results(self, returned: Any) -> list[torch.Tensor]:
        """The tensors among what `forward` returned: the one at position k is written to `morph.output = k`."""
        if self.structure is not None:
            return self.structure.outputs.tensors(returned)
        return list(returned) if isinstance(returned, tuple | list) else [returned]

    @cached_property
    def nests(self) -> tuple[Nest, ...]:
        """Views of all nests, in program order."""
        return tuple(nests(self.module.operation))

    @cached_property
    def nests_by_layer(self) -> Mapping[str, list[Nest]]:
        """Layer -> its nests in program order, the layers in the order of their first ones; viewed when asked for."""
        return NestsByLayer(self.module.operation)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers that have a main nest, in program order."""
        found: dict[str, list[Nest]] = {}
        for nest in self.nests:
            if nest.role in marks.COMPUTING:
                found.setdefault(nest.layer, []).append(nest)
        return tuple(_layer(name, group) for name, group in found.items() if any(n.role == marks.MAIN for n in group))

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations of all layers, for the whole example batch."""
        return sum(layer.macs for layer in self.layers)

    @cached_property
    def layer_texts(self) -> Mapping[str, str]:
        """Layer -> the text of its nests: equal in two networks where these compute the same."""
        return layer_texts(self.module.operation)

    def layer_module(self, name: str) -> ir.Module:
        """One layer as a module of its own that computes what the layer computes (see `extract_layer`).

        Raises:
            ArgumentError: no such layer, or one that goes on with what another layer has begun.
        """
        if name not in self._layer_modules:
            self._layer_modules[name] = extract_layer(self.module.operation, name)
        return self._layer_modules[name]

    def closed_layer(self, name: str) -> str:
        """One layer as it is in this network, without names: a module to be timed (see `anonymous_text`).

        Raises:
            ArgumentError: as for `layer_module`.
        """
        if name not in self._closed_layers:
            alone = extract_layer(self.module.operation, name, closed=True)
            self._closed_layers[name] = anonymous_text(alone)
        return self._closed_layers[name]

    @cached_property
    def parameters(self) -> dict[str, torch.Tensor]:
        """Name -> tensor for every parameter, buffer and constant that the program reads, in its present shape.

        A parameter whose shape a transformation changed inherits the imported values that its `morph.inherit` names,
        or their mean or sum; one that is a piece of an imported parameter, that parameter's; a new one, those of an
        identity matrix. Of integers, which have no mean, the first of the merged ones are inherited.

        Raises:
            ArgumentError: a `morph.inherit` that is malformed or does not fit; names the parameter.
        """
        return {name: self._present(name, type_, attributes) for name, type_, attributes in self._arguments()}

    @cached_property
    def sources(self) -> dict[str, str | None]:
        """Name of each of `parameters` -> the imported parameter that it inherits from (usually itself).

        None for a new parameter.
        """
        return {name: _source(name, attributes) for name, _, attributes in self._arguments()}

    @property
    def steps(self) -> tuple[str, ...]:
        """The transformations applied since import, as pass texts."""
        return tuple(marks.recorded_steps(self.module.operation))

    @cached_property
    def history(self) -> tuple[Step, ...]:
        """The transformations applied since import."""
        return history(self.module.operation)

    def after(self, steps: Sequence[Step]) -> Self:
        """The program after some transformations; itself where there are none.

        Raises:
            ArgumentError: a step names something that the program does not have.
            IllegalTransform: the program does not admit a step.
        """
        return self.apply(pipeline_text(steps)) if steps else self

    def apply(self, text: str) -> Self:
        """The program after a pass pipeline (`morph-group{...},...`) or a schedule (transform IR); `self` stays.

        Raises:
            ArgumentError: malformed text; an unknown pass, option, layer or iterator.
            IllegalTransform: the program does not admit a step.
        """
        module = copy_module(self.module)
        if ENTRY in text:
            apply_schedule(module.operation, text)
        else:
            run_pipeline(module.operation, text)
        return replace(self, module=module)

    def __str__(self) -> str:
        return str(self.module)

    @cached_property
    def origins(self) -> dict[str, torch.Tensor]:
        """Name of each parameter that is a piece of an imported one -> where its elements lie in that.

        The tensors, int64, have the shape of the piece and hold row-major positions.
        """
        return {
            name: _inherited(name, _positions(self.imported[source]), type_, attributes)
            for name, type_, attributes in self._arguments()
            if (source := _source(name, attributes)) not in (name, None)
        }

    def _arguments(self) -> Iterator[tuple[str, ir.MemRefType, Mapping[str, ir.Attribute]]]:
        """The name, the type and the marks of each argument that a parameter is passed for."""
        for function in functions(self.module.operation):
            arguments = function.entry_block.arguments
            for argument, attributes in zip(arguments, marks.argument_marks(function), strict=True):
                if marks.PARAM in attributes:
                    yield ir.StringAttr(attributes[marks.PARAM]).value, ir.MemRefType(argument.type), attributes

    def _present(self, name: str, type_: ir.MemRefType, attributes: Mapping[str, ir.Attribute]) -> torch.Tensor:
        repaired = self.repaired.get(name)
        if repaired is not None and repaired.inherit == _inherit_text(type_, attributes):
            return repaired.value
        source = _source(name, attributes)
        if source is not None:
            return _inherited(name, self.imported[source], type_, attributes)
        device = next((tensor.device for tensor in self.imported.values()), None)
        size, dtype = ir.IntegerAttr(attributes[marks.IDENTITY]).value, _DTYPES[str(type_.element_type)]
        return _inherited(name, torch.eye(size, dtype=dtype, device=device), type_, attributes)

    def inherit_from(self, name: str, imported: torch.Tensor) -> torch.Tensor:
        """What a parameter would inherit if `imported` stood in the place of the tensor that it inherits from."""
        for own, type_, attributes in self._arguments():
            if own == name:
                return _inherited(name, imported, type_, attributes)
        raise ArgumentError("name", f"the program has no parameter '{name}'")

    @cached_property
    def inherit_texts(self) -> dict[str, str]:
        """Name of each of `parameters` -> its shape and what it inherits; equal texts stand for equal elements."""
        return {name: _inherit_text(type_, attributes) for name, type_, attributes in self._arguments()}

    def identity_size(self, name: str) -> int:
        """Rows of the identity matrix that a new parameter began as; 0 for one that was imported."""
        for own, _, attributes in self._arguments():
            if own == name and marks.IDENTITY in attributes:
                return ir.IntegerAttr(attributes[marks.IDENTITY]).value
        return 0

    def with_values(self, values: Mapping[str, torch.Tensor]) -> Self:
        """The same network with other values of some parameters, until a transformation changes what they inherit."""
        given = {name: Repaired(value, self.inherit_texts[name]) for name, value in values.items()}
        return replace(self, repaired={**self.repaired, **given})


def _inherit_text(type_: ir.MemRefType, attributes: Mapping[str, ir.Attribute]) -> str:
    return f"{type_.shape} {attributes.get(marks.INHERIT, '')}"


def _inherited(
    name: str, tensor: torch.Tensor, type_: ir.MemRefType, attributes: Mapping[str, ir.Attribute]
) -> torch.Tensor:
    if marks.INHERIT not in attributes:
        return tensor
    try:
        terms = inherited_terms(attributes[marks.INHERIT], type_.shape)
    except ArgumentError as error:
        raise ArgumentError(error.argument, f"of parameter '{name}': {error.message}") from error
    found = [_gathered(name, tensor, term) for term in terms]
    if len(found) == 1 or not tensor.is_floating_point():
        return found[0].contiguous()
    exact = torch.promote_types(tensor.dtype, torch.float32)
    weights = [torch.from_numpy(term.weight.copy()).to(tensor.device, exact) for term in terms]
    parts = [w * part.to(exact) for w, part in zip(weights, found, strict=True)]
    return torch.stack(parts).sum(0).to(tensor.dtype)


def _gathered(name: str, tensor: torch.Tensor, term: Term) -> torch.Tensor:
    inside = len(term.indices) == tensor.dim() and all(
        not index.size or 0 <= index.min() <= index.max() < extent
        for index, extent in zip(term.indices, tensor.shape, strict=True)
    )
    if not inside:
        raise ArgumentError(
            marks.INHERIT, f"of parameter '{name}': it leads out of the imported shape {tuple(tensor.shape)}"
        )
    return tensor[tuple(torch.from_numpy(index) for index in term.indices)]


def _positions(tensor: torch.Tensor) -> torch.Tensor:
    return torch.arange(tensor.numel(), device=tensor.device).reshape(tensor.shape)


def _layer(name: str, group: Sequence[Nest]) -> Layer:
    mains = [nest for nest in group if nest.role == marks.MAIN]
    extents = [dict(zip(nest.iterators, nest.extents, strict=True)) for nest in group]
    addresses = [_address(nest, [other for other in group if other.role == nest.role]) for nest in group]
    first = extents[group.index(mains[0])]
    return Layer(name, first, sum(macs(nest) for nest in group), dict(zip(addresses, extents, strict=True)))


def _address(nest: Nest, alike: Sequence[Nest]) -> str:
    """How `find_nest` finds a nest, given all nests of its layer that have its role."""
    if nest.role == marks.MAIN and len(alike) == 1:
        return nest.layer
    return str(Address(nest.layer, nest.role, alike.index(nest) if len(alike) > 1 else None))


def _source(name: str, attributes: Mapping[str, ir.Attribute]) -> str | None:
    if marks.IDENTITY in attributes:
        return None
    return ir.StringAttr(attributes[marks.SOURCE]).value if marks.SOURCE in attributes else name


def called_module(layer: str) -> str:
    """The qualified name of the module that a layer is a call of: without the `@k` of its k-th repeated call."""
    return re.sub(r"@\d+", "", layer)


def owning_module(layer: str) -> str:
    """The qualified name of the module whose own code, or a call of which, a layer is."""
    return called_module(layer.partition("|")[0])


def copy_module(module: ir.Module) -> ir.Module:
    """A copy in the same context, locations included."""
    with module.context, module.operation.location:
        copied = ir.Module.create()
        for name in module.operation.attributes:
            copied.operation.attributes[name] = module.operation.attributes[name]
        for op in module.body.operations:
            copied.body.append(op.operation.clone())
    return copied
