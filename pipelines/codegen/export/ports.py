"""The inputs and outputs of a network as a C header has them: names, types, extents."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from loopmorph.passes.errors import ArgumentError, one_line
from loopmorph.passes.nest import functions
from loopmorph.pipelines.codegen.signature import index_limits, signature_of
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.support.structure import Leaf, TensorLeaf

# What C has no type for is passed as its bits.
_C_TYPES = {
    torch.float64: "double",
    torch.float32: "float",
    torch.float16: "uint16_t",
    torch.bfloat16: "uint16_t",
    torch.int64: "int64_t",
    torch.int32: "int32_t",
    torch.int16: "int16_t",
    torch.int8: "int8_t",
    torch.uint8: "uint8_t",
    torch.bool: "uint8_t",
}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# Of C23 and C++23, and what compilers define.
_TAKEN = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl concept const const_cast
consteval constexpr constinit continue co_await co_return co_yield decltype default delete do double dynamic_cast
else enum explicit export extern false float for friend goto if inline int linux long main mutable namespace new
noexcept not not_eq nullptr operator or or_eq private protected public register reinterpret_cast requires restrict
return short signed sizeof static static_assert static_cast struct switch template this thread_local throw true try
typedef typeid typename typeof typeof_unqual union unix unsigned using virtual void volatile wchar_t while xor
xor_eq
"""
_KEYWORDS = frozenset(_TAKEN.split())
_FIRST = "model"  # what `NAME_run` takes before the inputs


@dataclass(frozen=True)
class Port:
    """One input or output.

    Attributes:
        name: a C identifier, different from those of all others.
        dtype: the type of an element.
        shape: the extents; elements lie densely in row-major order.
        below: for an input whose elements are indices: into how many elements.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    below: int | None = None

    @property
    def c_type(self) -> str:
        return _C_TYPES[self.dtype]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.elements * self.dtype.itemsize

    def __str__(self) -> str:
        """`x float32[1,3,224,224]`, with `<1000` after it for indices below 1000."""
        limit = "" if self.below is None else f"<{self.below}"
        return f"{self.name} {str(self.dtype).removeprefix('torch.')}[{','.join(map(str, self.shape))}]{limit}"


@dataclass(frozen=True)
class Ports:
    """The inputs and the outputs of a network, each at its position in the compiled code."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.inputs))}) -> ({', '.join(map(str, self.outputs))})"


def ports_of(network: Network) -> Ports:
    """What a network takes and gives.

    Inputs are called as `forward` calls them, with the places in lists and dictionaries after that; outputs by their
    keys, or "output".

    Raises:
        ArgumentError: an element of a type that C cannot be passed.
    """
    (function,) = functions(network.module.operation)
    limits = index_limits(function)
    declared = {int(a.key): a for a in signature_of(function) if a.role == "output"}
    shapes = [a.shape for _, a in sorted(declared.items())]
    dtypes = [getattr(torch, a.dtype) for _, a in sorted(declared.items())]
    names = ["output" if len(shapes) == 1 else f"output_{k}" for k in range(len(shapes))]
    if network.structure is not None:
        leaves, spec = network.structure.outputs.leaves, network.structure.outputs.spec
        names = _output_names(leaves, spec)
        dtypes = [leaf.dtype for leaf in _tensors(leaves)]
    names = _identifiers([*_input_names(network), *names])
    tensors = network.example_tensors
    taken = [(x.dtype, tuple(x.shape), limits.get(k)) for k, x in enumerate(tensors)]
    given = [(dtype, shape, None) for dtype, shape in zip(dtypes, shapes, strict=True)]
    ports = [Port(name, *rest) for name, rest in zip(names, [*taken, *given], strict=True)]
    for port in ports:
        if port.dtype not in _C_TYPES:
            raise ArgumentError("model", f"'{port.name}' is of type {port.dtype}, which cannot be passed from C")
    return Ports(tuple(ports[: len(tensors)]), tuple(ports[len(tensors) :]))


def check_name(argument: str, name: str) -> None:
    """Raises:
    ArgumentError: a name that C cannot have for a network.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in _KEYWORDS:
        wanted = "a C identifier: a letter, then letters, digits and underscores, no keyword"
        raise ArgumentError(argument, f"expected {wanted}; got '{name}'")


def _with_paths(tree: Any) -> list[tuple[Any, Any]]:
    """The leaves of a pytree with the keys that lead to them.

    Raises:
        ArgumentError: a class in it was registered without keys.
    """
    try:
        return pytree.tree_flatten_with_path(tree)[0]
    except ValueError as error:
        reason = f"what it takes and returns has to have names: {one_line(str(error))}"
        raise ArgumentError("model", reason) from error


def _input_names(network: Network) -> list[str]:
    """The names of the tensors that `forward` takes."""
    parameters = inspect.signature(network.model.forward).parameters.values()
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    tree = (tuple(network.example_inputs), dict(network.example_kwargs))
    found = []
    for path, leaf in _with_paths(tree):
        if isinstance(leaf, torch.Tensor):
            kind, first, *inner = [_key(each) for each in path]
            by_position = kind == "0"
            name = positional[int(first)] if by_position and int(first) < len(positional) else f"input_{first}"
            found.append("_".join([name if by_position else first, *inner]))
    return found


def _output_names(leaves: Sequence[Leaf], spec: Any) -> list[str]:
    """The names of the tensors that `forward` returns, by position."""
    tree = pytree.tree_unflatten(list(range(len(leaves))), spec)
    names: dict[int, str] = {}
    for path, number in _with_paths(tree):
        leaf, name = leaves[number], "_".join(_key(each) for each in path)
        if isinstance(leaf, TensorLeaf):
            names.setdefault(leaf.position, name if _NAME.match(name) else f"output_{name}".rstrip("_"))
    return [names[position] for position in sorted(names)]


def _tensors(leaves: Iterable[Leaf]) -> list[TensorLeaf]:
    by_position = {leaf.position: leaf for leaf in leaves if isinstance(leaf, TensorLeaf)}
    return [by_position[position] for position in sorted(by_position)]


def _key(entry: Any) -> str:
    """A step of a path in a tree: an index, a key, the name of an attribute."""
    return str(next(getattr(entry, each) for each in ("key", "idx", "name") if hasattr(entry, each)))


def _identifiers(names: Iterable[str]) -> list[str]:
    """The names as different C identifiers."""
    found: list[str] = []
    for name in names:
        base = re.sub(r"[^A-Za-z0-9_]", "_", name)
        base = base if _NAME.fullmatch(base) else f"a{base}"
        base = f"{base}_" if base in (*_KEYWORDS, _FIRST) else base
        tries = [base, *(f"{base}_{k}" for k in range(1, len(found) + 2))]
        found.append(next(each for each in tries if each.upper() not in {f.upper() for f in found}))
    return found
