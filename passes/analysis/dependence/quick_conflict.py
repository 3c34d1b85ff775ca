"""Cheap tests that two accesses to one memref do not touch the same element; what they leave open is for isl.

Copies of an unrolled body differ in constants only, and there are many of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from loopmorph.passes.nest import Access, Loop, Nest


class QuickTest:
    """`never_meet` for accesses of one nest. Those whose indices differ in constants only are sorted into classes once:
    two of different classes never meet.
    """

    def __init__(self, accesses: Sequence[Access]) -> None:
        kinds: dict[object, int] = {}
        self._classes = {a.order: _class(a, kinds) for a in accesses}

    def never_meet(self, a: Access, b: Access) -> bool:
        """Whether a quick test shows that no instances of `a` and `b` touch the same element."""
        (kind, place), (other, other_place) = self._classes[a.order], self._classes[b.order]
        return place != other_place if kind == other else never_meet(a, b)


def _class(access: Access, kinds: dict[object, int]) -> tuple[int, tuple[int, ...]]:
    """A number for memref and coefficients, and the constants modulo the greatest common divisors of these."""
    forms = [form for form in access.forms if form is not None]
    if access.lanes > 1 or len(forms) < len(access.exprs):
        return -1 - access.order, ()
    steps = [math.gcd(*form.coefficients.values()) for form in forms]
    kind = (access.memref, *(tuple(sorted(form.coefficients.items())) for form in forms))
    place = tuple(f.constant % step if step else f.constant for f, step in zip(forms, steps, strict=True))
    return kinds.setdefault(kind, len(kinds)), place


def never_meet(a: Access, b: Access) -> bool:
    """Whether a quick test (greatest common divisor) shows that no instances of `a` and `b` touch the same element."""
    if a.memref != b.memref:
        return False
    for axis, (form, other) in enumerate(zip(a.forms, b.forms, strict=True)):
        if form is None or other is None:
            continue
        step = math.gcd(*form.coefficients.values(), *other.coefficients.values())
        last = axis == len(a.exprs) - 1
        low = other.constant - form.constant - (a.lanes - 1 if last else 0)
        high = other.constant - form.constant + (b.lanes - 1 if last else 0)
        meet = low <= 0 <= high if step == 0 else high // step * step >= low
        if not meet:
            return True
    return False


def meet_in_one_iteration(nest: Nest, loop: Loop, a: Access, b: Access) -> bool:
    """Whether it is plain that two instances touch the same element in one iteration of `loop` only.

    The loops around `loop` are at the same iteration for both. It is plain where an axis has the same linear index,
    which only `loop` and loops around it enter.
    """
    if a.memref != b.memref:
        return False
    shared = {*nest.around(loop.position), loop.position}
    for axis, (form, other) in enumerate(zip(a.forms, b.forms, strict=True)):
        one_element = axis < len(a.exprs) - 1 or a.lanes == b.lanes == 1
        if form is None or form != other or not one_element:
            continue
        if loop.position in form.coefficients and shared.issuperset(form.coefficients):
            return True
    return False
