"""Module surgery: the rewritten network as an ordinary PyTorch module.

In a copy of the imported module the layers whose nests or parameters changed are replaced, by qualified name;
everything else stays the user's code. Convolutions and linear layers are raised from their nests and become
`nn.Conv2d` and `nn.Linear`; one that is neither any more becomes a `NestModule`, which also holds what transformations
have made of its parameters: pieces (`weight_part0`) and new ones (`mix`). BatchNorms get their new number of channels.
What was dropped gives zeros (see `dropped.py`).
Code of a module that fixes what has changed, as the heads of attention, gives way to its nests (`surgery_nested.py`).
Whether something changed is told by comparing what was raised with the module's own attributes.

A layer that is not recognised, and that no recorded step other than a loop transformation names, keeps its own
attributes and takes the shapes of its parameters: such are layers that read their input through a view (a channel
shuffle) or pad it by reflection.

A program that was not transformed, and has the imported weights, is the model itself.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from torch import nn
from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.history import layer_of
from loopmorph.passes.loop.fuse_epilogue import FuseEpilogue
from loopmorph.passes.nest import Nest
from loopmorph.passes.raising.nest_extract import extract
from loopmorph.passes.raising.nest_recipe import Constant, Load, accumulation, summands
from loopmorph.passes.raising.raise_nest import Convolution, Linear, raise_convolution, raise_linear
from loopmorph.pipelines.network import Network, called_module, owning_module
from loopmorph.pipelines.oracle import surgery_layers as layers
from loopmorph.pipelines.oracle.dropped import dropped_modules
from loopmorph.pipelines.oracle.nests_as_module import nests_as_module
from loopmorph.pipelines.oracle.surgery_check import CodeDiffers, check_runs, fused_layers
from loopmorph.pipelines.oracle.surgery_nested import reindexed_code, with_nested_code
from loopmorph.pipelines.oracle.surgery_own_code import check_own_code
from loopmorph.pipelines.oracle.surgery_tensors import SurgeryTensors
from loopmorph.pipelines.oracle.surgery_views import behind_view, require_no_view
from loopmorph.pipelines.rewritten.fast_paths import avoid_fast_paths
from loopmorph.pipelines.rewritten.module_tensors import is_torch_own, named_tensors
from loopmorph.pipelines.rewritten.nest_module import NestModule
from loopmorph.pipelines.rewritten.substitution import substitute
from loopmorph.pipelines.support.module_paths import is_within

_REPLACED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_ANY_CONVOLUTION = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def to_module(program: Network) -> nn.Module:
    """The rewritten network: a copy of `program.model` with `program.parameters`, in the model's own mode.

    Parameters keep their names, `requires_grad`, dtype and device; BatchNorm statistics are inherited. Hooks on
    replaced layers are not carried over. The copy is run once on the example inputs.

    Raises:
        IllegalTransform: a layer that changed and has no rewritten form, or the model's own code fails with the new
            shapes.
    """
    if program.module is program.origin and not program.repaired:
        return copy.deepcopy(program.model)
    owners = reindexed_code(program)
    while True:
        surgery = _Surgery(program, copy.deepcopy(program.model), behind_views=True)
        own_code = {name: surgery.by_layer[name] for name in surgery.in_own_code()}
        model = surgery.rewritten(surgery.model)
        surgery.tensors.check_held(surgery.taken)
        as_nests = {path: nests for path, nests in surgery.as_nests.items() if not _is_nested(path, owners)}
        try:
            require_no_view(program, as_nests)
            model = with_nested_code(program, model, owners)
            check_runs(program, model)
        except CodeDiffers as error:
            if error.path in owners or not any(owning_module(n) == error.path and "|" in n for n in surgery.by_layer):
                raise
            owners = {*owners, error.path}
            continue
        check_own_code(program, model, {n: nests for n, nests in own_code.items() if not _is_nested(n, owners)})
        return model


def _is_nested(layer: str, owners: Collection[str]) -> bool:
    """Whether a layer is in a module whose code gives way to its nests."""
    return any(is_within(owning_module(layer), owner) for owner in owners)


def raise_layer(program: Network, layer: str) -> nn.Module:
    """The module that surgery has for one layer; it maps the layer's input activation to its output.

    Args:
        program: the rewritten program.
        layer: a layer's name, as in `program.layers`. A layer that is no module of its own (an operation of a
            module's `forward`) gives a `NestModule`, which may have several inputs.

    Raises:
        ArgumentError: no such layer.
        IllegalTransform: as `to_module`, but only this layer is looked at and nothing is run.
    """
    surgery = _Surgery(program, program.model)
    if layer not in surgery.by_layer:
        raise ArgumentError("layer", f"no layer '{layer}' in the program")
    path = called_module(layer)
    modules = dict(program.model.named_modules())
    if path in modules and path:
        twin = surgery.tensors.copied(modules[path])
        new = surgery.replacement(path, twin)
        return twin if new is None else new
    return surgery.nest_module([layer], path.partition("|")[0])


def raise_block(program: Network, path: str) -> nn.Module:
    """One module of the rewritten network with all that it holds, as `to_module` has it; a copy.

    Only the layers in it are raised, and the rewritten network is not run, so that this costs a small part of
    `to_module`; where blocks were dropped, the original is run once on the example inputs for the shapes in it.

    Args:
        program: the rewritten program.
        path: the module's qualified name; "" for the network.

    Raises:
        ArgumentError: no such module.
        IllegalTransform: as `to_module`, but that the module's code fails with the new shapes shows when it is run.
    """
    modules = dict(program.model.named_modules())
    if path not in modules:
        raise ArgumentError("path", f"the model has no module '{path}'")
    if not path or program.module is program.origin:
        return to_module(program).get_submodule(path)
    surgery = _Surgery(program, program.model, behind_views=True)
    own_code = any(is_within(called_module(name), path) for name in surgery.in_own_code())
    if own_code or any(is_within(owner, path) or is_within(path, owner) for owner in reindexed_code(program)):
        return to_module(program).get_submodule(path)  # which compares what its code computes
    block = surgery.rewritten(surgery.tensors.copied(modules[path]), path)
    try:
        require_no_view(program, surgery.as_nests)
    except CodeDiffers:
        return to_module(program).get_submodule(path)  # where the code gives way
    return block


@dataclass
class _Surgery:
    """What is known of the model and the program, and what has been replaced so far.

    Attributes:
        program: the rewritten program.
        model: the model whose modules are to be replaced.
        behind_views: whether the modules are called by the model's own code, which may hand them views.
        by_layer: the nests of each layer.
        tensors: the model's, and the program's values for them.
        renested: the layers of which a network-changing step names the nests that it changes.
        taken: the names of the parameters that a `NestModule` holds.
        as_nests: path of each module that became a `NestModule` -> its nests as imported.
    """

    program: Network
    model: nn.Module
    behind_views: bool = False
    by_layer: Mapping[str, list[Nest]] = field(init=False)
    tensors: SurgeryTensors = field(init=False)
    renested: frozenset[str] = field(init=False)
    taken: set[str] = field(default_factory=set)
    as_nests: dict[str, list[Nest]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by_layer = self.program.nests_by_layer
        self.tensors = SurgeryTensors(self.program, self.model)
        neural = [step for step in self.program.history if step.kind == "neural" and not step.keeps_nests]
        self.renested = frozenset(filter(None, map(layer_of, neural)))

    def rewritten(self, model: nn.Module, path: str = "") -> nn.Module:
        """A module with replacements for what it holds, itself included; `path` is its name in the network."""
        replacements: dict[int, nn.Module] = {}
        dropped = dropped_modules(self.program)
        for name, module in list(model.named_modules(prefix=path)):
            new = dropped[name].train(module.training) if name in dropped else self.replacement(name, module)
            if new is not None:
                replacements[id(module)] = new
        model = substitute(model, replacements)
        avoid_fast_paths(model, replacements.values())
        return model

    def replacement(self, path: str, module: nn.Module) -> nn.Module | None:
        """The module to put at `path`; None where the present one stays (with the program's values)."""
        new: nn.Module | None = None
        if type(module) in _REPLACED:
            new = self._contraction(path, module)  # type: ignore[arg-type]
        elif self.tensors.changed(module) and isinstance(module, layers.NORMS) and is_torch_own(module):
            new = self.tensors.norm(path, module)
        elif self.tensors.changed(module) and is_torch_own(module):
            names = ", ".join(f"'{n}'" for n in self.tensors.changed(module))
            raise IllegalTransform(
                f"layer '{path}'", f"a {type(module).__name__} cannot take the new shape of its {names}"
            )
        if new is None:
            self.tensors.adopt(module)
            return None
        new.train(module.training)
        return new

    def nest_module(self, names: list[str], path: str) -> NestModule:
        """The nests of a layer as they are."""
        if len(names) != 1:
            raise IllegalTransform(f"layer '{path}'", f"it is used {len(names)} times and no longer a known operation")
        parameters = {n for n, t in named_tensors(self.model) if isinstance(t, nn.Parameter)}
        trainable = frozenset(n for n, source in self.tensors.sources.items() if source is None or source in parameters)
        self.taken |= self._parameters_of(names)
        return nests_as_module(self.by_layer[names[0]], self.tensors.values, path, trainable)

    def in_own_code(self) -> list[str]:
        """The layers that were rewritten, but are computed by code that no replacement of a module changes."""
        modules = dict(self.model.named_modules(remove_duplicate=False))
        own = [n for n in self.by_layer if n in self.renested and type(modules.get(called_module(n))) not in _REPLACED]
        roots = [n for n in own if type(self.model) in _REPLACED and n in self._layers_of("", self.model)]
        return [n for n in own if n not in roots]

    # -- layers that are contractions

    def _contraction(self, path: str, module: layers.AnyConv | nn.Linear) -> nn.Module | None:
        names = self._layers_of(path, module)
        if not names:
            return None
        raised = [self._raise(name, module) for name in names]
        first = raised[0]
        if first is None or None in raised:
            return self._unrecognised(path, module, names)
        if any(other != first for other in raised):
            differing = next(n for n, other in zip(names, raised, strict=True) if other != first)
            raise IllegalTransform(f"layer '{differing}'", f"it shares its parameters with '{names[0]}' but differs")
        if layers.is_same(module, first):
            return None
        if isinstance(module, nn.Conv2d) and isinstance(first, Convolution):
            return self.tensors.with_values(layers.build_convolution(module, first), module, first.weight, first.bias)
        if isinstance(module, nn.Linear) and isinstance(first, Linear):
            return self.tensors.with_values(layers.build_linear(module, first), module, first.weight, first.bias)
        return None

    def _raise(self, name: str, module: layers.AnyConv | nn.Linear) -> Convolution | Linear | None:
        if isinstance(module, nn.Conv1d | nn.Conv3d):
            return None
        raiser = raise_convolution if isinstance(module, nn.Conv2d) else raise_linear
        raised = raiser(self.by_layer[name])
        if raised is None or not self.behind_views or layers.is_same(module, raised):
            return raised
        return behind_view(module, raised, raiser(self._as_imported(name)))

    def _as_imported(self, name: str) -> list[Nest]:
        """The nests of a layer before any transformation."""
        original = self.program.original
        return [] if original is None else original.nests_by_layer.get(name, [])

    def _unrecognised(self, path: str, module: layers.AnyConv | nn.Linear, names: list[str]) -> nn.Module | None:
        own = self.tensors.names_of(module)
        sources = {p: self.tensors.sources[p] for p in self._parameters_of(names)}
        if self.renested.intersection(names) or any(p != source for p, source in sources.items()):
            foreign = sorted(p for p, source in sources.items() if source not in {None, *own})
            if foreign:
                raise IllegalTransform(f"layer '{path}'", f"its nests also read parameters of others: {foreign[0]}")
            self._require_plain_layout(path, names, module.weight.dim())
            self._require_own_work(path, names)
            self.as_nests[path] = self._as_imported(names[0])
            nests = self.nest_module(names, path)
            return self._plain_convolution(module, nests) or self._in_place_of(nests, module)
        if not self.tensors.changed(module):
            return None
        weight, bias = self.tensors.weight_and_bias(module)
        shape = self.tensors.values[weight].shape
        if isinstance(module, nn.Linear):
            return self.tensors.with_values(layers.reshaped_linear(module, shape), module, weight, bias)
        return self.tensors.with_values(layers.reshaped_convolution(module, shape), module, weight, bias)

    def _plain_convolution(self, module: layers.AnyConv | nn.Linear, nests: NestModule) -> nn.Module | None:
        """A convolution over one or three axes of other channels or groups, if that is what the nests are."""
        weight = self.tensors.names.get(id(module.weight), "")
        if not isinstance(module, nn.Conv1d | nn.Conv3d) or weight not in self.tensors.values:
            return None
        bias = None if module.bias is None else self.tensors.names[id(module.bias)]
        new = layers.plain_convolution(module, nests, weight, bias)
        return None if new is None else self.tensors.with_values(new, module, weight, bias)

    def _in_place_of(self, new: NestModule, old: layers.AnyConv | nn.Linear) -> NestModule:
        """The new module with what the old one is known for: what is trained, and whether it is a convolution."""
        known = self.tensors.names
        trained = {known[id(t)]: t.requires_grad for t in old.parameters(recurse=False) if id(t) in known}
        for local, name in new.parameter_names.items():
            tensor, source = getattr(new, local), self.tensors.sources[name]
            if isinstance(tensor, nn.Parameter) and source is not None:
                tensor.requires_grad_(trained.get(source, True))
        new.is_convolution = isinstance(old, _ANY_CONVOLUTION)
        if isinstance(old, nn.Linear):
            new.take_rows()
        return new

    def _require_plain_layout(self, path: str, names: list[str], rank: int) -> None:
        """Raises:
        IllegalTransform: an activation that the layer shares with others has more axes than a module gives and takes,
            since it lies in blocks.
        """
        if not any(step.kind == "loop" and step.scope == "network" for step in self.program.history):
            return
        ours = {a.memref for name in names for nest in self.by_layer[name] for a in nest.accesses}
        blocked = {memref for memref in ours if ir.MemRefType(memref.type).rank > rank}
        for layer in [name for name in self.by_layer if name not in names]:
            if any(a.memref in blocked for nest in self.by_layer[layer] for a in nest.accesses):
                reason = f"morph-pack has laid out an activation that it shares with '{layer}' in blocks"
                raise IllegalTransform(f"layer '{path}'", f"{reason}, and no module gives and takes those")

    def _require_own_work(self, path: str, names: list[str]) -> None:
        """Raises:
        IllegalTransform: the layer's nests also compute what comes after it, which the model's code computes anyway.
        """
        fused = fused_layers(self.program)
        for name in [n for n in names if n in fused]:
            recipe = extract(self.by_layer[name]).recipe
            values = [s.value for s in recipe.statements if accumulation(s) is None]
            terms = [term for value in values for term in summands(value)]
            if len(recipe.numbers("input")) > 1 or not all(isinstance(term, Load | Constant) for term in terms):
                reason = f"{FuseEpilogue.name} has put into its nests what comes after it"
                raise IllegalTransform(f"layer '{path}'", f"{reason}, which the model's own code computes, too")

    def _layers_of(self, path: str, module: nn.Module) -> list[str]:
        """The layers that are calls of this module; the network itself, if it is one, is found by its parameters."""
        if path:
            return [name for name in self.by_layer if called_module(name) == path]
        own = self.tensors.names_of(module)
        return [name for name in self.by_layer if self._parameters_of([name]) & own]

    def _parameters_of(self, names: list[str]) -> set[str]:
        accesses = [a for name in names for nest in self.by_layer[name] for a in nest.accesses]
        return {p for a in accesses if (p := marks.parameter_name(a.memref)) is not None}
