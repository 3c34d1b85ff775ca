"""What a pass is: a frozen dataclass whose fields are its options.

The same object is the pass `morph-NAME{...}` of a textual pipeline and the operation `morph.NAME` of a schedule.
A `Transformation` first analyses, changing nothing, and then builds from the plan; so none is ever half applied.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self, TypeVar

from torch_mlir import ir

from loopmorph.passes.errors import ArgumentError

if TYPE_CHECKING:
    from loopmorph.passes.nest import Nest

Kind = Literal["loop", "neural"]
OptionValue = int | str | bool | tuple[int, ...] | tuple[str, ...]
PlanT = TypeVar("PlanT")

_PLAIN = re.compile(r"[^\s,={}'\"]+")

SCHEDULE_ATTRIBUTE = "morph.schedule"


@dataclass(frozen=True)
class Pass(ABC):
    """One unit of work on a whole module.

    Subclasses are frozen dataclasses; their fields, of type `int`, `str`, `bool`, `tuple[int, ...]` or
    `tuple[str, ...]` (each also `| None`, with the default None), are the options of the pass.
    The module verifies before and after `run`.
    """

    name: ClassVar[str]

    @abstractmethod
    def run(self, module: ir.Operation) -> None:
        """Changes `module` (a `builtin.module`) in place, or raises and changes nothing.

        Raises:
            ArgumentError: an option names something that is not there.
            IllegalTransform: the program does not admit the change.
        """

    def options(self) -> dict[str, OptionValue]:
        """The options that differ from their defaults, by field name, in declaration order."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value != defaults[name]}

    def __str__(self) -> str:
        """The pass as it stands in a pipeline: `morph-split{layer=conv1 iter=ow factor=4}`."""
        words = [f"{name.replace('_', '-')}={_spell(value)}" for name, value in self.options().items()]
        return self.name + (f"{{{' '.join(words)}}}" if words else "")

    @classmethod
    def option_types(cls) -> dict[str, type]:
        """Field name -> `int`, `str`, `bool`, `tuple[int, ...]` or `tuple[str, ...]` (`| None` stripped)."""
        hints = typing.get_type_hints(cls)
        return {f.name: _strip_none(hints[f.name]) for f in dataclasses.fields(cls)}

    @classmethod
    def required_options(cls) -> tuple[str, ...]:
        """The fields without a default."""
        return tuple(f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING)

    def __post_init__(self) -> None:
        for name, kind in self.option_types().items():
            self._check_type(name, kind, getattr(self, name))

    def _check_type(self, name: str, kind: type, value: Any) -> None:
        default = {f.name: f.default for f in dataclasses.fields(self)}[name]
        if value is None and default is None:
            return
        origin = typing.get_origin(kind)
        if origin is tuple:
            (element, _) = typing.get_args(kind)
            good = isinstance(value, tuple) and all(type(v) is element for v in value)
            wanted = f"a list of {'integers' if element is int else 'names'}"
        else:
            good = type(value) is kind
            wanted = {int: "an integer", str: "a name", bool: "true or false"}[kind]
        if not good:
            raise ArgumentError(name, f"expected {wanted}, got {value!r} (in {self.name})")


class Transformation(Pass, Generic[PlanT]):
    """A pass that rewrites one layer's nests, in two steps: analyse, then rewrite.

    `kind` says which of the two kinds of legality judges it: "loop" keeps the computed values, "neural" changes
    the network. What was applied is recorded, in order, in the module's `morph.schedule` attribute.
    """

    kind: ClassVar[Kind]

    @classmethod
    def space(cls, nest: Nest) -> Sequence[Self]:
        """The parameterisations that a search may try on a layer's main nest, in a fixed order; none by default.

        Not all of them need be legal: `analyze` decides.
        """
        return ()

    @abstractmethod
    def analyze(self, module: ir.Operation) -> PlanT:
        """Checks everything and changes nothing; returns all that `rewrite` needs. The context is entered already.

        Raises:
            ArgumentError: an option names something that is not there, or is out of range.
            IllegalTransform: the program does not admit the transformation.
        """

    @abstractmethod
    def rewrite(self, plan: PlanT) -> ir.Operation:
        """Carries the plan out; returns the outermost loop of the (first) nest that it built or changed."""

    def apply(self, module: ir.Operation) -> ir.Operation:
        """`analyze`, `rewrite`, and the record in `morph.schedule`; returns what `rewrite` returns."""
        with module.context, ir.Location.unknown():
            nest = self._rewrite(module, self.analyze(module))
            record(module, str(self))
        return nest

    def _rewrite(self, module: ir.Operation, plan: PlanT) -> ir.Operation:
        """`rewrite`; a change of the network outdates what was chosen for the nests that it changes."""
        if self.kind == "loop":
            return self.rewrite(plan)
        from loopmorph.passes.outdated_choices import chosen_nests, drop_outdated  # which need this module

        before = chosen_nests(module)
        nest = self.rewrite(plan)
        drop_outdated(module, before)
        return nest

    def run(self, module: ir.Operation) -> None:
        self.apply(module)


def record(module: ir.Operation, *steps: str) -> None:
    """Appends steps to the module's `morph.schedule` attribute (an array of pass texts)."""
    if not steps:
        return
    texts = [ir.StringAttr.get(step, module.context) for step in steps]
    known = ir.ArrayAttr(module.attributes[SCHEDULE_ATTRIBUTE]) if SCHEDULE_ATTRIBUTE in module.attributes else []
    module.attributes[SCHEDULE_ATTRIBUTE] = ir.ArrayAttr.get([*known, *texts], module.context)


def recorded_steps(module: ir.Operation) -> list[str]:
    """The transformations applied so far, as pass texts, in order."""
    if SCHEDULE_ATTRIBUTE not in module.attributes:
        return []
    return [ir.StringAttr(a).value for a in ir.ArrayAttr(module.attributes[SCHEDULE_ATTRIBUTE])]


def _strip_none(hint: Any) -> Any:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return next(a for a in typing.get_args(hint) if a is not type(None))
    return hint


def _spell(value: OptionValue) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(_spell(v) for v in value)
    text = str(value)
    if not text or _PLAIN.fullmatch(text):
        return text
    quote = '"' if "'" in text else "'"
    return f"{quote}{text}{quote}"
