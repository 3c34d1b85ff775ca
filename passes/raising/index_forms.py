"""Index expressions as plain data: linear forms over loops and `floordiv`s of linear forms.

Unlike `ir.AffineExpr` these need no MLIR context, so what is built from them can be copied, compared and pickled.
`e mod d` is `e - d * (e floordiv d)`. Loops are numbers; an `extents` argument maps each to how many values 0, 1, ...
it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Extents = Mapping[int, int]


@dataclass(frozen=True)
class Quotient:
    """`numerator floordiv divisor`, rounded towards minus infinity."""

    numerator: Form
    divisor: int


@dataclass(frozen=True)
class Form:
    """`constant + sum(coefficient * atom)`; the atoms are loops (numbers) or quotients, sorted, no coefficient is 0."""

    terms: tuple[tuple[int | Quotient, int], ...] = ()
    constant: int = 0

    @property
    def is_linear(self) -> bool:
        """Whether every atom is a loop."""
        return all(isinstance(atom, int) for atom, _ in self.terms)

    @property
    def coefficients(self) -> dict[int, int]:
        """Loop -> coefficient, of the loops that stand outside of quotients."""
        return {atom: c for atom, c in self.terms if isinstance(atom, int)}


def constant(value: int) -> Form:
    """A form without atoms."""
    return Form((), value)


def loop(number: int, coefficient: int = 1) -> Form:
    """`coefficient * loop`."""
    return Form(((number, coefficient),) if coefficient else ())


def add(*forms: Form) -> Form:
    """The sum."""
    total: dict[int | Quotient, int] = {}
    for form in forms:
        for atom, c in form.terms:
            total[atom] = total.get(atom, 0) + c
    terms = sorted(((a, c) for a, c in total.items() if c), key=_sort_key)
    return Form(tuple(terms), sum(f.constant for f in forms))


def scale(form: Form, factor: int) -> Form:
    """`factor * form`."""
    if factor == 0:
        return Form()
    return Form(tuple((a, c * factor) for a, c in form.terms), form.constant * factor)


def bounds(form: Form, extents: Extents) -> tuple[int, int]:
    """Bounds, both included, of the form's values; attained where it is linear."""
    low = high = form.constant
    for atom, c in form.terms:
        if isinstance(atom, int):
            ends = (0, c * (extents[atom] - 1))
        else:
            inner = bounds(atom.numerator, extents)
            ends = (c * (inner[0] // atom.divisor), c * (inner[1] // atom.divisor))
        low, high = low + min(ends), high + max(ends)
    return low, high


def quotient(form: Form, divisor: int, extents: Extents) -> Form:
    """`form floordiv divisor`, resolved as far as the ranges of the loops allow."""
    if divisor == 1:
        return form
    whole = Form(tuple((a, c // divisor) for a, c in form.terms if c % divisor == 0), form.constant // divisor)
    rest = Form(tuple((a, c) for a, c in form.terms if c % divisor), form.constant % divisor)
    low, high = bounds(rest, extents)
    if 0 <= low and high < divisor:
        return whole
    for step in sorted({abs(c) for _, c in rest.terms if abs(c) > 1 and divisor % c == 0}, reverse=True):
        # (step * x + r) floordiv (step * d) == x floordiv d for r in 0 .. step - 1
        fine = Form(tuple((a, c) for a, c in rest.terms if c % step), rest.constant % step)
        fine_low, fine_high = bounds(fine, extents)
        if 0 <= fine_low and fine_high < step:
            coarse = Form(tuple((a, c // step) for a, c in rest.terms if c % step == 0), rest.constant // step)
            return add(whole, quotient(coarse, divisor // step, extents))
    if len(rest.terms) == 1 and rest.constant == 0:
        atom, c = rest.terms[0]
        if isinstance(atom, Quotient) and c == 1:
            return add(whole, quotient(atom.numerator, atom.divisor * divisor, extents))
    return add(whole, Form(((Quotient(rest, divisor), 1),)))


def remainder(form: Form, divisor: int, extents: Extents) -> Form:
    """`form mod divisor`."""
    return add(form, scale(quotient(form, divisor, extents), -divisor))


def substitute(form: Form, replacement: Mapping[int, Form], extents: Extents) -> Form:
    """The form with loops replaced; `extents` are those of the loops in the result."""
    parts = [constant(form.constant)]
    for atom, c in form.terms:
        if isinstance(atom, int):
            parts.append(scale(replacement.get(atom, loop(atom)), c))
        else:
            parts.append(scale(quotient(substitute(atom.numerator, replacement, extents), atom.divisor, extents), c))
    return add(*parts)


def used_loops(form: Form) -> frozenset[int]:
    """The loops that the form mentions, inside quotients too."""
    used: set[int] = set()
    for atom, _ in form.terms:
        used |= {atom} if isinstance(atom, int) else used_loops(atom.numerator)
    return frozenset(used)


def linear_parts(form: Form) -> Iterator[Form]:
    """The form itself and the numerators of all quotients in it."""
    yield form
    for atom, _ in form.terms:
        if isinstance(atom, Quotient):
            yield from linear_parts(atom.numerator)


def evaluate(form: Form, value_of: Callable[[int], Any], zero: Any) -> Any:
    """The form's value in integers, arrays or integer tensors; `value_of` gives each loop's, `zero` is the zero."""
    total = zero + form.constant
    for atom, c in form.terms:
        value = value_of(atom) if isinstance(atom, int) else evaluate(atom.numerator, value_of, zero) // atom.divisor
        total = total + value * c
    return total


def isl_text(form: Form, names: Mapping[int, str]) -> str:
    """The form in isl's syntax."""
    parts = [str(form.constant)]
    for atom, c in form.terms:
        text = names[atom] if isinstance(atom, int) else f"floor(({isl_text(atom.numerator, names)})/{atom.divisor})"
        parts.append(f"{c}*{text}")
    return " + ".join(parts)


def _sort_key(term: tuple[int | Quotient, int]) -> tuple[int, int, str]:
    atom = term[0]
    return (0, atom, "") if isinstance(atom, int) else (1, 0, repr(atom))
