"""A rewritten network again, from its original and the changes that a file names: surgery without nests."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from loopmorph.passes.errors import DataError, LoopmorphError
from loopmorph.pipelines.rewritten.changes import RESHAPED, qualified, sizes
from loopmorph.pipelines.rewritten.fast_paths import avoid_fast_paths
from loopmorph.pipelines.rewritten.fields import Fields
from loopmorph.pipelines.rewritten.layer_data import KINDS
from loopmorph.pipelines.rewritten.module_tensors import own_tensors
from loopmorph.pipelines.rewritten.nested_code import NestedCode
from loopmorph.pipelines.rewritten.substitution import substitute
from loopmorph.pipelines.support.foreign import describe
from loopmorph.pipelines.support.module_paths import is_within

_UNFIT = "its weights do not fit the rebuilt network"
_MOST = 1 << 64  # of the whole numbers that a module keeps, which may be seeds
_CLASSES = {cls.__name__: cls for cls in KINDS}
# What PyTorch's constructors, and those of own nests, raise about arguments that do not go together.
_WRONG = (LoopmorphError, ValueError, RuntimeError, TypeError, KeyError, OverflowError)


def rebuild(
    where: str,
    original: nn.Module,
    changes: Sequence[Any],
    tied: Sequence[Any],
    state: Mapping[str, torch.Tensor],
    loose: Mapping[str, torch.Tensor],
) -> nn.Module:
    """The rewritten network with its weights: a copy of the original in which the changed modules are replaced.

    Nothing is allocated beyond what `state` holds. Modules keep the original's mode, dtype and device.

    Args:
        where: what messages call the file.
        original: the network that was rewritten, with any weights; left as it is.
        changes: what `describe_changes` gave, as a file has it.
        tied: what `tied_names` gave, as a file has it.
        state: the rewritten network's state dict.
        loose: name -> values of buffers that are not in it, and not the original's.

    Raises:
        DataError: the changes are malformed, are those of another network, or have other shapes than the weights; says
            which field.
    """
    work = _Rebuilding(where, copy.deepcopy(original), {**state, **loose})
    model = work.with_changes(changes)
    for names in tied:
        work.tie(model, names)
    try:
        model.load_state_dict(dict(state))
    except (RuntimeError, AttributeError, TypeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        told = " ".join(lines[1:2] or lines)
        raise DataError(f"{where}: {_UNFIT}: {told}") from error
    work.set_loose(model, loose)
    return model


@dataclass(frozen=True)
class _Rebuilding:
    """A copy of the original under way.

    Attributes:
        where: what messages call the file.
        model: the copy.
        state: the rewritten network's tensors by name.
    """

    where: str
    model: nn.Module
    state: Mapping[str, torch.Tensor]

    def with_changes(self, changes: Sequence[Any]) -> nn.Module:
        """The copy with its modules replaced, or their tensors reshaped."""
        modules = dict(self.model.named_modules(remove_duplicate=False))
        replaced: dict[str, nn.Module] = {}
        for number, content in enumerate(changes):
            where = f"{self.where}: changes[{number}]"
            fields = Fields.of(where, content, ("at", "kind", "arguments", "frozen"))
            path = fields.text("at")
            if path not in modules:
                raise DataError(f"{where}: the original network has no module '{path}'; was it made from another one?")
            if any(is_within(path, other) and not isinstance(new, NestedCode) for other, new in replaced.items()):
                raise DataError(f"{where}: the module '{path}' was replaced by an earlier one")
            fields = Fields(f"{where} ('{path}')", fields.content)
            if fields.text("kind", of=(*_CLASSES, RESHAPED)) == RESHAPED:
                self.reshape(fields, path, modules[path])
            else:
                replaced[path] = self.layer(fields, path, modules[path])
        model = substitute(self.model, {id(modules[path]): new for path, new in replaced.items()})
        avoid_fast_paths(model, replaced.values())
        return model

    def layer(self, fields: Fields, path: str, old: nn.Module) -> nn.Module:
        """What takes the place of a module."""
        cls = _CLASSES[fields.text("kind")]
        kind = KINDS[cls]
        like = self.like(old)
        arguments = Fields.of(f"{fields.where}: arguments", fields.content["arguments"], kind.names)
        try:
            new = kind.build(arguments, path, like.dtype)
        except DataError:
            raise
        except _WRONG as error:
            raise DataError(f"{fields.where}: field 'arguments': {describe(error)}") from error
        if isinstance(new, NestedCode):
            new.take(old)
        frozen = self.frozen(fields, new)
        for name, tensor in own_tensors(new):
            value = self.value(fields.where, qualified(path, name), tuple(tensor.shape), like)
            if isinstance(tensor, nn.Parameter):
                if not value.is_floating_point():
                    reason = f"{_UNFIT}: '{qualified(path, name)}' is of {value.dtype}; floating numbers are expected"
                    raise DataError(f"{fields.where}: {reason}")
                new.register_parameter(name, nn.Parameter(value, requires_grad=name not in frozen))
            else:
                new.register_buffer(name, value)
        return new.train(old.training)

    def reshape(self, fields: Fields, path: str, module: nn.Module) -> None:
        """Gives the tensors of a user's own module other shapes, and the module other sizes."""
        own = dict(own_tensors(module))
        content = fields.content["arguments"]
        known = ("shapes", "sizes") if isinstance(content, dict) and "sizes" in content else ("shapes",)
        arguments = Fields.of(f"{fields.where}: arguments", content, known)
        if "sizes" in known:
            self.resize(Fields.of(f"{arguments.where}: sizes", arguments.content["sizes"], sizes(module)), module)
        asked = Fields.of(f"{arguments.where}: shapes", arguments.content["shapes"], own)
        frozen = self.frozen(fields, module)
        for name, tensor in own.items():
            shape = asked.integers(name, least=0)
            if shape == tuple(tensor.shape):
                continue
            value = self.value(fields.where, qualified(path, name), shape, tensor)
            if isinstance(tensor, nn.Parameter):
                module.register_parameter(name, nn.Parameter(value, requires_grad=name not in frozen))
            else:
                setattr(module, name, value)

    def resize(self, fields: Fields, module: nn.Module) -> None:
        """Gives the sizes that a module keeps other values."""
        for name, now in sizes(module).items():
            if isinstance(now, int):
                setattr(module, name, fields.integer(name, -_MOST, _MOST))
            else:
                setattr(module, name, fields.integers(name, -_MOST, len(now), _MOST))

    def frozen(self, fields: Fields, module: nn.Module) -> tuple[str, ...]:
        """The parameters of a module that are not trained."""
        names = fields.texts("frozen")
        if not set(names) <= {name for name, _ in module.named_parameters(recurse=False, remove_duplicate=False)}:
            fields.wrong("frozen", "a list of the layer's parameters")
        return names

    def value(self, where: str, name: str, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """The weights' tensor of this name; floating numbers as those of `like`."""
        if name not in self.state:
            raise DataError(f"{where}: {_UNFIT}: they have no '{name}'")
        given = self.state[name]
        if tuple(given.shape) != shape:
            raise DataError(f"{where}: {_UNFIT}: '{name}' has shape {tuple(given.shape)}; {shape} is expected")
        return given.to(like.device, like.dtype if given.is_floating_point() else given.dtype, copy=True)

    def like(self, module: nn.Module) -> torch.Tensor:
        """A tensor of the dtype and on the device that a module has, or else its network."""
        tensors = (t for each in (module, self.model) for t in (*each.parameters(), *each.buffers()))
        return next((t for t in tensors if t.is_floating_point()), torch.empty(0))

    def set_loose(self, model: nn.Module, loose: Mapping[str, torch.Tensor]) -> None:
        """Gives buffers that no state dict has their values."""
        held = dict(model.named_buffers(remove_duplicate=False))
        for name in loose:
            if name not in held:
                raise DataError(f"{self.where}: buffers: the rebuilt network has no buffer '{name}'")
            path, _, local = name.rpartition(".")
            value = self.value(f"{self.where}: buffers", name, tuple(held[name].shape), held[name])
            setattr(model.get_submodule(path), local, value)

    def tie(self, model: nn.Module, names: Any) -> None:
        """Makes several parameters one."""
        where = f"{self.where}: tied"
        held = dict(model.named_parameters(remove_duplicate=False))
        if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, str) for name in names):
            raise DataError(f"{where}: each of it is a list of two or more names of parameters")
        for name in names:
            if name not in held or held[name].shape != held[names[0]].shape:
                raise DataError(f"{where}: '{name}' is no parameter of the shape of '{names[0]}'")
        for name in names[1:]:
            path, _, local = name.rpartition(".")
            model.get_submodule(path).register_parameter(local, held[names[0]])
