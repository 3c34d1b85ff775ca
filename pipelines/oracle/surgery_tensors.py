"""The tensors of a model in surgery, and what the rewritten program has in the place of each."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from loopmorph.passes.errors import IllegalTransform
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle import surgery_layers as layers
from loopmorph.pipelines.rewritten.module_tensors import named_tensors, own_tensors


@dataclass
class SurgeryTensors:
    """The tensors of one model.

    Attributes:
        program: the rewritten program.
        model: the model.
        values: the program's value of each parameter.
        sources: the imported parameter that each comes from; None for a new one.
        names: the qualified name of each of the model's tensors, by its identity.
        fresh: the new parameters.
    """

    program: Network
    model: nn.Module
    values: Mapping[str, torch.Tensor] = field(init=False)
    sources: Mapping[str, str | None] = field(init=False)
    names: dict[int, str] = field(init=False)
    fresh: dict[str, nn.Parameter] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sources = self.program.sources
        whole = {name: self._joined(name) for name in filter(self._is_whole, self._cut())}
        self.values = {**self.program.parameters, **whole}
        # Tied parameters have one name in the program; the tensor tells which.
        known = {*self.values, *self.sources.values()}
        self.names = {id(t): name for name, t in named_tensors(self.model) if name in known}

    def copied(self, module: nn.Module) -> nn.Module:
        """A copy of one module of the model, whose tensors are known by their names as well."""
        twin = copy.deepcopy(module)
        for (_, old), (_, new) in zip(named_tensors(module), named_tensors(twin), strict=True):
            if id(old) in self.names:
                self.names[id(new)] = self.names[id(old)]
        return twin

    def names_of(self, module: nn.Module) -> set[str]:
        """The names of what a module itself holds."""
        return {self.names[id(t)] for _, t in own_tensors(module) if id(t) in self.names}

    def weight_and_bias(self, module: layers.AnyConv | nn.Linear) -> tuple[str, str | None]:
        """The names of a contraction's two parameters."""
        return self.names[id(module.weight)], None if module.bias is None else self.names[id(module.bias)]

    def changed(self, module: nn.Module) -> list[str]:
        """The module's own parameters and buffers whose shape the program changed, by their local names."""
        own = [(name, t, self.names.get(id(t))) for name, t in own_tensors(module)]
        return [
            name
            for name, t, source in own
            if source is not None and (source not in self.values or self.values[source].shape != t.shape)
        ]

    def adopt(self, module: nn.Module) -> None:
        """The program's values for a module that stays; a user's own parameters may change their shape.

        Raises:
            IllegalTransform: there is no one value, since a parameter was cut into pieces that differ.
        """
        for name, tensor in list(own_tensors(module)):
            source = self.names.get(id(tensor))
            if source is None:
                continue
            if source not in self.values:
                reason = "it was cut into pieces that differ now; only convolutions and nn.Linear can take such"
                raise IllegalTransform(f"parameter '{source}'", reason)
            value = self.values[source]
            if value.shape == tensor.shape and source not in self.fresh:
                with torch.no_grad():
                    tensor.copy_(value)
            elif isinstance(tensor, nn.Parameter):
                module.register_parameter(name, self._parameter(source, tensor))
            else:
                setattr(module, name, value.to(tensor).clone())

    def with_values(self, new: nn.Module, old: layers.AnyConv | nn.Linear, weight: str, bias: str | None) -> nn.Module:
        """A new contraction with the program's values of the parameters that have these names."""
        new.register_parameter("weight", self._parameter(weight, old.weight))
        new.register_parameter(
            "bias", None if bias is None else self._parameter(bias, old.weight if old.bias is None else old.bias)
        )
        return new

    def norm(self, path: str, module: nn.Module) -> nn.Module:
        """A normalisation with as many channels as the program's values have, and those values.

        Raises:
            IllegalTransform: these are of several shapes, or have more axes than one.
        """
        own = {name: self.names[id(t)] for name, t in own_tensors(module) if id(t) in self.names}
        sizes = {self.values[name].shape for name in own.values()}
        if len(sizes) != 1 or len(next(iter(sizes))) != 1:
            raise IllegalTransform(f"layer '{path}'", f"its parameters and statistics differ in shape: {sorted(sizes)}")
        new = layers.reshaped_norm(module, next(iter(sizes))[0])
        for name, tensor in own_tensors(module):
            if name not in own:
                new.register_buffer(name, tensor.detach().clone())
            elif isinstance(tensor, nn.Parameter):
                new.register_parameter(name, self._parameter(own[name], tensor))
            else:
                new.register_buffer(name, self.values[own[name]].to(tensor).clone())
        return new

    def check_held(self, taken: set[str]) -> None:
        """Checks that the rewritten model holds all that the program reads.

        Args:
            taken: the names of the parameters that a `NestModule` holds.

        Raises:
            IllegalTransform: a new parameter, or a constant in another order, that no module holds.
        """
        for name, source in self.sources.items():
            if source is None and name not in taken:
                layer = name.rpartition(".")[0]
                reason = (
                    f"'{name}' has no place in PyTorch: only convolutions and nn.Linear can be extended by a parameter"
                )
                raise IllegalTransform(f"layer '{layer}'", reason)
        held = {*taken, *self.names.values()}
        for name in [n for n, source in self.sources.items() if n == source and n not in held]:
            value, imported = self.values[name], self.program.imported[name]
            if value is not imported and value.shape == imported.shape and not torch.equal(value, imported):
                reason = "the model's own code makes it, and cannot be told that its elements have another order now"
                raise IllegalTransform(f"constant '{name}'", reason)

    def _parameter(self, name: str, old: torch.Tensor) -> nn.Parameter:
        """The one new parameter of this name, so that what was tied stays tied."""
        if name not in self.fresh:
            self.fresh[name] = nn.Parameter(self.values[name].to(old).clone(), requires_grad=old.requires_grad)
        return self.fresh[name]

    def _cut(self) -> set[str]:
        """The imported parameters of which there are pieces."""
        return {source for name, source in self.sources.items() if source is not None and source != name}

    def _is_whole(self, source: str) -> bool:
        """Whether the pieces of a parameter are still all of it, each element once, so that they can be joined."""
        positions = torch.cat([self.program.origins[name].flatten() for name in self._pieces(source)])
        return len(positions) == len(positions.unique()) == self.program.imported[source].numel()

    def _pieces(self, source: str) -> list[str]:
        """The pieces of an imported parameter."""
        return [name for name, of in self.sources.items() if of == source != name]

    def _joined(self, source: str) -> torch.Tensor:
        """The pieces of a parameter in their places."""
        whole = self.program.imported[source].detach().clone(memory_format=torch.contiguous_format)
        for name in self._pieces(source):
            positions = self.program.origins[name].flatten()
            whole.view(-1)[positions] = self.program.parameters[name].detach().to(whole).flatten()
        return whole
