"""Variants that no choice needs: another one does no more harm, costs no more, and decides no other layers."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np


def undominated(
    layers: Sequence[frozenset[str]],
    measures: np.ndarray,
    *,
    never: Collection[int] = (),
    always: Collection[int] = (),
) -> np.ndarray:
    """The variants that are left when those are taken out that another one, or none at all, could stand for.

    Args:
        layers: what each variant decides.
        measures: (variants, measures) what each adds to whatever is to be small.
        never: positions of variants that cannot stand for another.
        always: positions of variants that stay.

    Returns:
        Their positions, ascending; of equal ones the first.
    """
    places: dict[frozenset[str], list[int]] = {}
    for position, each in enumerate(layers):
        places.setdefault(each, []).append(position)
    out: np.ndarray = np.all(measures >= 0, axis=1)  # nothing in its place is no worse
    for place, members in places.items():
        for inner, others in places.items():
            if inner <= place:
                able = np.array([other for other in others if other not in never], dtype=int)
                out[members] |= _worse(measures, np.array(members), able, strict=inner == place)
    out[list(always)] = False
    return np.flatnonzero(~out)


def _worse(measures: np.ndarray, members: np.ndarray, others: np.ndarray, *, strict: bool) -> np.ndarray:
    """Which members have no less of anything than one of the others; of equals in one place the first is kept."""
    first, second = measures[members][:, None], measures[others][None]
    no_less = (second <= first).all(axis=2)
    if strict:
        less = (second < first).any(axis=2)
        no_less &= less | (others[None] < members[:, None])
    return no_less.any(axis=1)
