"""Classes that a network returns its results in and that PyTorch does not know as pytrees."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from loopmorph.passes.errors import ImportRefused
from loopmorph.pipelines.support.structure import CONSTANTS

_KNOWN = "tensors, numbers, text and None, in tuples, lists, dictionaries and dataclasses"


def register_containers(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Runs a model once and makes the dataclasses and dictionary classes that it returns known as pytrees.

    As `torch.export.register_dataclass` does, this lasts as long as the process.

    Returns:
        Whether there were any.

    Raises:
        ImportRefused: it returns something else that cannot be taken apart; says where and what.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        result = model(*args, **kwargs)
    found = False
    while True:
        leaves = pytree.tree_flatten_with_path(result)[0]
        unknown = next(
            ((path, leaf) for path, leaf in leaves if not isinstance(leaf, (torch.Tensor, *CONSTANTS))), None
        )
        if unknown is None:
            return found
        path, leaf = unknown
        kind = type(leaf)
        if dataclasses.is_dataclass(kind):
            _register_dataclass(kind)
        elif issubclass(kind, dict):
            _register(kind, lambda value: (list(value.values()), list(value)), _dictionary(kind))
        else:
            where = f"output {pytree.keystr(path)}" if path else "the output"
            raise ImportRefused(f"{where} is a {kind.__module__}.{kind.__qualname__}; what can be returned is {_KNOWN}")
        found = True


def _register_dataclass(kind: type) -> None:
    names = [each.name for each in dataclasses.fields(kind)]

    def flatten(value: Any) -> tuple[list[Any], list[str]]:
        return [getattr(value, name) for name in names], names

    def build(values: Any, context: Any) -> Any:
        given = dict(zip(names, values, strict=True))
        made = kind(**{each.name: given.pop(each.name) for each in dataclasses.fields(kind) if each.init})
        for name, value in given.items():
            object.__setattr__(made, name, value)
        return made

    _register(kind, flatten, build)


def _register(kind: type, flatten: Callable[[Any], tuple[list[Any], list[Any]]], build: Callable[..., Any]) -> None:
    def with_keys(value: Any) -> tuple[list[tuple[pytree.KeyEntry, Any]], list[Any]]:
        values, names = flatten(value)
        return [(pytree.MappingKey(name), each) for name, each in zip(names, values, strict=True)], names

    pytree.register_pytree_node(kind, flatten, build, flatten_with_keys_fn=with_keys)


def _dictionary(kind: type) -> Any:
    return lambda values, keys: kind(zip(keys, values, strict=True))
