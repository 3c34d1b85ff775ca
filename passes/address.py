"""Addresses of nests: `LAYER`, `LAYER#ROLE`, `LAYER#ROLE.K`; and the nests that they name."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes import marks
from loopmorph.passes.errors import ArgumentError, first_of
from loopmorph.passes.nest import Nest, nest_roots, view_nest

_SHOWN = 8  # layers that a message lists


@dataclass(frozen=True)
class Address:
    """Which nest of a program is meant.

    Attributes:
        layer: qualified name of the layer.
        role: the nest's role for its layer (see `loopmorph.passes.marks`).
        number: which of the layer's nests of that role, counted from 0 in program order; None where it has one.
    """

    layer: str
    role: str = marks.MAIN
    number: int | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address that a text spells: `conv1`, `conv1#pad`, `conv1#main.0`; what is no number names no nest."""
        layer, _, part = text.partition("#")
        role, _, number = part.partition(".")
        if number and not number.isdecimal():
            return cls(layer, part)
        return cls(layer, role or marks.MAIN, int(number) if number else None)

    def on(self, layer: str) -> Address:
        """The same nest of another layer."""
        return replace(self, layer=layer)

    def __str__(self) -> str:
        number = "" if self.number is None else f".{self.number}"
        return f"{self.layer}#{self.role}{number}" if number or self.role != marks.MAIN else self.layer


def addressed_roots(module: ir.Operation) -> Iterator[tuple[Address, affine.AffineForOp]]:
    """The outermost loops of all nests, in program order, with addresses that have numbers."""
    met: Counter[tuple[str, str]] = Counter()
    for root in nest_roots(module):
        layer, role = name_of(root)
        yield Address(layer, role, met[layer, role]), root
        met[layer, role] += 1


def addresses(module: ir.Operation, layer: str, role: str) -> list[str]:
    """How to name each of a layer's nests of one role, each with its number."""
    roots = [root for root in nest_roots(module) if name_of(root) == (layer, role)]
    return [str(Address(layer, role, k)) for k in range(len(roots))]


def name_of(root: affine.AffineForOp) -> tuple[str, str]:
    """The layer and the role of a nest, given its outermost loop."""
    return marks.get_text(root, marks.LAYER), marks.get_text(root, marks.ROLE, marks.MAIN)


def root_at(module: ir.Operation, address: str) -> affine.AffineForOp | None:
    """The outermost loop of the nest that an address names; None where it names none, or several."""
    wanted = Address.parse(address)
    with module.context:
        return find_root(_roots_of(module, wanted.layer), wanted)


def find_nest(module: ir.Operation, address: str, argument: str = "layer") -> Nest:
    """The nest that an address names.

    Args:
        module: the module.
        address: `LAYER`, for the layer's main nest; or `LAYER#ROLE`, for its nest of another role (`conv1#pad`); or
            `LAYER#ROLE.K`, where it has several of them, counted from 0 in program order.
        argument: the argument's name in error messages.

    Raises:
        ArgumentError: no nest carries that layer's name (suggests the nearest) or role, or several do.
    """
    wanted = Address.parse(address)
    with module.context:
        found = [root for root in _roots_of(module, wanted.layer) if name_of(root)[1] == wanted.role]
        root = _meant(found, wanted)
        if root is None:
            raise _missing(module, address, wanted, len(found), argument)
        return view_nest(root)


def find_root(roots: Iterable[affine.AffineForOp], address: Address) -> affine.AffineForOp | None:
    """The nest that an address names where a layer's nests, in program order, are known; None if none or several."""
    return _meant([root for root in roots if name_of(root) == (address.layer, address.role)], address)


def _meant(alike: Sequence[affine.AffineForOp], address: Address) -> affine.AffineForOp | None:
    """Of the nests of an address's layer and role the one that it names; None where it names none or several."""
    if address.number is None:
        return alike[0] if len(alike) == 1 else None
    return alike[address.number] if address.number < len(alike) else None


def _missing(module: ir.Operation, text: str, wanted: Address, count: int, argument: str) -> ArgumentError:
    if count:
        first = f"{wanted.layer}#{wanted.role}.0"
        return ArgumentError(argument, f"'{text}' is computed by {count} nests; '{first}' is the first")
    roots = [name_of(root) for root in nest_roots(module)]
    if "#" in text and any(name == wanted.layer for name, _ in roots):
        roles = dict.fromkeys(role for name, role in roots if name == wanted.layer)
        reason = f"layer '{wanted.layer}' has no nest of role '{wanted.role}'; it has {', '.join(roles)}"
        return ArgumentError(argument, reason)
    layers = list(dict.fromkeys(name for name, role in roots if role == marks.MAIN))
    near = difflib.get_close_matches(wanted.layer, layers, n=3)
    hint = f"; nearest: {', '.join(near)}" if near else f"; the program has {_enumerate(layers)}"
    return ArgumentError(argument, f"no layer '{text}' in the program{hint}")


def layer_nests(module: ir.Operation, layer: str) -> list[Nest]:
    """All nests of a layer, helping ones included, in program order."""
    with module.context:
        return [view_nest(root) for root in _roots_of(module, layer)]


def _roots_of(module: ir.Operation, layer: str) -> list[affine.AffineForOp]:
    """The outermost loops of a layer's nests. Comparing attributes is faster than reading the text of each."""
    wanted = ir.StringAttr.get(layer)
    known = ((root, root.attributes) for root in nest_roots(module))
    return [r for r, own in known if (own[marks.LAYER] == wanted if marks.LAYER in own else not layer)]


def _enumerate(names: Sequence[str]) -> str:
    return first_of([f"'{n}'" for n in names], _SHOWN) or "no nest"
