"""How a network is called and what it returns, beyond tensors: the pytrees of its arguments and of its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias, TypeGuard

import torch
from torch.utils import _pytree as pytree

from loopmorph.passes.errors import ArgumentError

Constant: TypeAlias = "int | float | bool | str | None"
CONSTANTS = (int, float, bool, str, type(None))


@dataclass(frozen=True)
class TensorLeaf:
    """A tensor among the leaves.

    Attributes:
        position: which of the compiled code's inputs or outputs it is.
        dtype: its type in PyTorch.
    """

    position: int
    dtype: torch.dtype


@dataclass(frozen=True)
class ConstantLeaf:
    """A leaf that is no tensor; its value is compiled in."""

    value: Constant


Leaf: TypeAlias = "TensorLeaf | ConstantLeaf"


@dataclass(frozen=True)
class Tree:
    """Leaves, and what they are put into: tuples, lists, dictionaries, registered classes."""

    spec: pytree.TreeSpec
    leaves: tuple[Leaf, ...]

    def tensors(self, value: Any) -> list[torch.Tensor]:
        """The tensors in an object of this structure, by position."""
        leaves = pytree.tree_leaves(value)
        found = {leaf.position: each for leaf, each in zip(self.leaves, leaves, strict=True) if _is_tensor(leaf)}
        return [found[position] for position in sorted(found)]

    def build(self, tensors: Sequence[torch.Tensor]) -> Any:
        """The objects around some tensors, which are given by position, as the code has them."""
        values = [
            leaf.value if isinstance(leaf, ConstantLeaf) else _as_type(tensors[leaf.position], leaf.dtype)
            for leaf in self.leaves
        ]
        return pytree.tree_unflatten(values, self.spec)


@dataclass(frozen=True)
class Structure:
    """How a network is called and what it returns.

    Attributes:
        inputs: the tree of `(args, kwargs)`.
        outputs: the tree of what `forward` returns.
    """

    inputs: Tree
    outputs: Tree

    def flatten(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
        """The tensors among the arguments of a call, in the order of the compiled code's inputs.

        Raises:
            ArgumentError: the arguments are arranged otherwise than in the example, or a constant has another value.
        """
        if self.is_plain and not kwargs:
            if len(args) != len(self.inputs.leaves):
                raise ArgumentError("tensors", f"expected {len(self.inputs.leaves)} input tensor(s), got {len(args)}")
            return list(args)
        known = list(self._keywords)
        ordered = {name: kwargs[name] for name in [*known, *sorted(kwargs.keys() - set(known))] if name in kwargs}
        leaves, spec = pytree.tree_flatten((args, ordered))
        if spec != self.inputs.spec:
            raise ArgumentError("inputs", f"expected {self._describe()}, got {_arrangement(args, ordered)}")
        for number, (leaf, value) in enumerate(zip(self.inputs.leaves, leaves, strict=True)):
            if isinstance(leaf, ConstantLeaf) and not _same(value, leaf.value):
                got = f"a {type(value).__name__}" if isinstance(value, torch.Tensor) else repr(value)
                raise ArgumentError("inputs", f"leaf {number} is compiled in as {leaf.value!r}, got {got}")
        return [value for leaf, value in zip(self.inputs.leaves, leaves, strict=True) if _is_tensor(leaf)]

    @cached_property
    def is_plain(self) -> bool:
        """Whether a call takes tensors by position and nothing else."""
        args, kwargs = self.inputs.spec.children()
        plain = all(child.is_leaf() for child in args.children()) and not kwargs.num_leaves
        return plain and all(isinstance(leaf, TensorLeaf) for leaf in self.inputs.leaves)

    @property
    def _keywords(self) -> Sequence[str]:
        return self.inputs.spec.children()[1].context or ()

    def _describe(self) -> str:
        return _arrangement(*pytree.tree_unflatten(["*"] * len(self.inputs.leaves), self.inputs.spec))


def plain_structure(inputs: Sequence[torch.dtype], outputs: Sequence[torch.dtype]) -> Structure:
    """The structure of a network that takes tensors and returns one, or a tuple of several."""
    taken = tuple(TensorLeaf(k, dtype) for k, dtype in enumerate(inputs))
    given = tuple(TensorLeaf(k, dtype) for k, dtype in enumerate(outputs))
    tensor: Any = 0
    arguments = pytree.tree_structure(((tensor,) * len(taken), {}))
    results = pytree.tree_structure(tensor if len(given) == 1 else (tensor,) * len(given))
    return Structure(Tree(arguments, taken), Tree(results, given))


def tensors_in(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[torch.Tensor, ...]:
    """The tensors among the arguments of a call, in the order in which pytrees have them."""
    return tuple(leaf for leaf in pytree.tree_leaves((args, dict(kwargs))) if isinstance(leaf, torch.Tensor))


def _is_tensor(leaf: Leaf) -> TypeGuard[TensorLeaf]:
    return isinstance(leaf, TensorLeaf)


def _as_type(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Code knows no sign of integers: bytes are the same elements."""
    return tensor if tensor.dtype == dtype else tensor.view(dtype)


def _same(value: Any, expected: Constant) -> bool:
    return type(value) is type(expected) and (value == expected or (value != value and expected != expected))


def _arrangement(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """`(*, [*, *], mask=*)` for arguments of so many tensors."""
    stars = pytree.tree_map(lambda _: "*", (args, dict(kwargs)))
    parts = [*map(repr, stars[0]), *(f"{name}={value!r}" for name, value in stars[1].items())]
    return f"({', '.join(parts)})".replace("'*'", "*")
