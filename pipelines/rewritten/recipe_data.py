"""A `Recipe` as lists, dictionaries, numbers and texts, and back; a file of strangers is checked on the way.

A form is `[constant, [[atom, coefficient], ...]]`, where an atom is the number of a loop or `[numerator, divisor]`. A
value is a list in the order of its evaluation (operands, then their operation): `[buffer, [form, ...]]` for what is
loaded, numbers, and `[operation, predicate]`. Which axis is the batch is not kept: `free_batch` finds it again.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, get_args

from loopmorph.passes.errors import DataError, IllegalTransform
from loopmorph.passes.raising.index_forms import Form, Quotient, bounds, used_loops
from loopmorph.passes.raising.nest_recipe import (
    Buffer,
    BufferKind,
    Call,
    Constant,
    Load,
    Recipe,
    Statement,
    Value,
    loads,
)
from loopmorph.pipelines.rewritten.fields import Fields, is_integer
from loopmorph.pipelines.rewritten.nest_executor import ARITIES, PREDICATES, check_supported

_MOST_FORMS = 100_000  # of a recipe; a rewritten layer has some dozens
_MOST_POINTS = 1 << 44  # of a statement; a convolution of a large network and batch has 2^37
DEEPEST = 300  # floor divisions, and operations, within each other


def recipe_data(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain data."""
    return {
        "layer": recipe.layer,
        "buffers": [{"kind": b.kind, "shape": list(b.shape), "name": b.name} for b in recipe.buffers],
        "statements": [_statement_data(statement) for statement in recipe.statements],
    }


def _statement_data(statement: Statement) -> dict[str, Any]:
    return {
        "loops": list(statement.loops),
        "extents": list(statement.extents),
        "target": _load_data(statement.target),
        "value": _value_data(statement.value),
        "guards": [_form_data(form) for form in statement.guards],
        "role": statement.role,
    }


def _value_data(value: Value) -> list[Any]:
    if isinstance(value, Load):
        return [_load_data(value)]
    if isinstance(value, Constant):
        return [float(value.value)]
    return [*(item for argument in value.args for item in _value_data(argument)), [value.op, value.predicate]]


def _load_data(load: Load) -> list[Any]:
    return [load.buffer, [_form_data(form) for form in load.index]]


def _form_data(form: Form) -> list[Any]:
    return [form.constant, [[_atom_data(atom), coefficient] for atom, coefficient in form.terms]]


def _atom_data(atom: int | Quotient) -> int | list[Any]:
    return atom if isinstance(atom, int) else [_form_data(atom.numerator), atom.divisor]


def read_recipe(where: str, content: Any, written: Collection[int] = ()) -> Recipe:
    """The recipe that plain data stands for; `execute` can run it, and it reads and writes within its buffers.

    Args:
        where: what messages call the data.
        content: the data.
        written: numbers of buffers that others write.

    Raises:
        DataError: it stands for none; says which field, and what is expected there.
    """
    fields = Fields.of(where, content, ("layer", "buffers", "statements"))
    buffers = tuple(_buffer(f"{where}: buffers[{k}]", each) for k, each in enumerate(fields.sequence("buffers")))
    forms = itertools.count(1)
    statements = [
        _Reader(f"{where}: statements[{k}]", buffers, forms).statement(each)
        for k, each in enumerate(fields.sequence("statements"))
    ]
    recipe = Recipe(fields.text("layer"), buffers, tuple(statements))
    if not recipe.numbers("input") or any(not recipe.buffers[k].shape for k in recipe.numbers("input")):
        fields.wrong("buffers", "an input with an axis of its batch")
    if len(recipe.numbers("output")) != 1:
        fields.wrong("buffers", "one output")
    if not {*written, *(each.target.buffer for each in statements)}.issuperset(recipe.numbers("output")):
        fields.wrong("statements", "one that writes the output")
    try:
        check_supported(recipe)
    except IllegalTransform as error:
        raise DataError(f"{where}: field 'statements': {error.reason}") from error
    return recipe


def _buffer(where: str, content: Any) -> Buffer:
    fields = Fields.of(where, content, ("kind", "shape", "name"))
    kind: Any = fields.text("kind", of=get_args(BufferKind))
    return Buffer(kind, fields.shape("shape"), fields.text("name"))


@dataclass(frozen=True)
class _Reader:
    """Reads one statement.

    Attributes:
        where: what messages call it.
        buffers: those of the recipe.
        forms: numbers the forms of the recipe: lists that a file holds once may stand in many places.
    """

    where: str
    buffers: tuple[Buffer, ...]
    forms: Iterator[int]

    def statement(self, content: Any) -> Statement:
        fields = Fields.of(self.where, content, ("loops", "extents", "target", "value", "guards", "role"))
        loops = fields.integers("loops", least=0)
        if len(set(loops)) < len(loops):
            fields.wrong("loops", "a list of different numbers")
        extents = fields.integers("extents", count=len(loops))
        if math.prod(extents) > _MOST_POINTS:
            fields.wrong("extents", f"a list with a product of at most {_MOST_POINTS:,}")
        target = self.load("target", fields.content["target"])
        value = self.value("value", fields.sequence("value"))
        guards = tuple(self.form("guards", form) for form in fields.sequence("guards"))
        statement = Statement(loops, extents, target, value, guards, fields.text("role"))
        self.check_loops(statement)
        return statement

    def check_loops(self, statement: Statement) -> None:
        extents = statement.extent_of
        for load in (statement.target, *loads(statement.value)):
            shape = self.buffers[load.buffer].shape
            for form, extent in zip(load.index, shape, strict=True):
                self.known(form, extents.keys())
                low, high = bounds(form, extents)
                # The bounds of divisions are wider than what is reached; guards leave out points.
                if form.is_linear and not statement.guards and not 0 <= low <= high < extent:
                    raise DataError(f"{self.where}: an index from {low} to {high} on an axis of {extent}")
        for form in statement.guards:
            self.known(form, extents.keys())

    def known(self, form: Form, loops: Any) -> None:
        for number in used_loops(form) - set(loops):
            raise DataError(f"{self.where}: an index by loop {number}, which field 'loops' does not have")

    def value(self, name: str, items: Sequence[Any]) -> Value:
        done: list[tuple[Value, int]] = []  # with how many operations are within each other
        for item in items:
            if isinstance(item, float):
                done.append((Constant(item), 0))
            elif isinstance(item, list) and item and isinstance(item[0], str):
                operation, predicate, count = self.operation(name, item)
                if count > len(done):
                    self.malformed(name, f"{count} operands before {operation}")
                operands = [done.pop() for _ in range(count)][::-1]
                depth = 1 + max(depth for _, depth in operands)
                if depth > DEEPEST:
                    self.malformed(name, f"a value of at most {DEEPEST} operations within each other")
                done.append((Call(operation, tuple(operand for operand, _ in operands), predicate), depth))
            else:
                done.append((self.load(name, item), 0))
        if len(done) != 1:
            self.malformed(name, "one value")
        return done[0][0]

    def operation(self, name: str, item: Sequence[Any]) -> tuple[str, str, int]:
        operation, predicate = item if len(item) == 2 else (item[0], None)
        if operation not in ARITIES:
            raise DataError(f"{self.where}: field '{name}': there is no operation {operation!r:.40}")
        if not isinstance(predicate, str) or predicate not in (PREDICATES if operation == "arith.cmpf" else ("",)):
            self.malformed(name, f"[{operation}, predicate]")
        return operation, predicate, ARITIES[operation]

    def load(self, name: str, content: Any) -> Load:
        shaped = isinstance(content, list) and len(content) == 2 and isinstance(content[1], list)
        if not shaped or not is_integer(content[0], 0, len(self.buffers) - 1):
            self.malformed(name, "[buffer, [form, ...]]")
        buffer, index = content
        if len(index) != len(self.buffers[buffer].shape):
            self.malformed(name, f"an index of buffer {buffer}, which has {len(self.buffers[buffer].shape)} axes")
        return Load(buffer, tuple(self.form(name, form) for form in index))

    def form(self, name: str, content: Any, depth: int = 0) -> Form:
        shaped = isinstance(content, list) and len(content) == 2 and isinstance(content[1], list)
        if depth > DEEPEST or not shaped or not _is_coefficient(content[0]):
            self.malformed(name, "[constant, [[atom, coefficient], ...]]")
        if next(self.forms) > _MOST_FORMS:
            self.malformed(name, f"at most {_MOST_FORMS:,} forms in a recipe")
        terms = []
        for term in content[1]:
            if not isinstance(term, list) or len(term) != 2 or not _is_coefficient(term[1]) or term[1] == 0:
                self.malformed(name, "[atom, coefficient]")
            terms.append((self.atom(name, term[0], depth), int(term[1])))
        if len({atom for atom, _ in terms}) < len(terms):
            self.malformed(name, "different atoms in a form")
        return Form(tuple(terms), int(content[0]))

    def atom(self, name: str, content: Any, depth: int) -> int | Quotient:
        if is_integer(content, 0):
            return int(content)
        if not isinstance(content, list) or len(content) != 2 or not is_integer(content[1], 1):
            self.malformed(name, "a loop or [numerator, divisor]")
        return Quotient(self.form(name, content[0], depth + 1), int(content[1]))

    def malformed(self, name: str, expected: str) -> NoReturn:
        raise DataError(f"{self.where}: field '{name}' is malformed where {expected} is expected")


def _is_coefficient(value: Any) -> bool:
    return is_integer(value, -(1 << 40))
