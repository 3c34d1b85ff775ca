"""Accesses that are boxes of a buffer, as slices: unlike other strided views these can be exported, and stored to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from loopmorph.passes.raising.index_forms import Form


@dataclass(frozen=True)
class BoxView:
    """A box of a buffer.

    Attributes:
        places: a slice for each axis.
        loops: the loops whose digits the places of the box are, axis by axis, most significant first.
        counts: number of places on each axis.
    """

    places: tuple[slice, ...]
    loops: tuple[int, ...]
    counts: tuple[int, ...]


def view_box(index: Sequence[Form], extents: Mapping[int, int]) -> BoxView | None:
    """The elements that an index reaches as a box; None where an axis is not indexed evenly by loops of its own."""
    places: list[slice] = []
    loops: list[int] = []
    counts: list[int] = []
    for form in index:
        digits = sorted(form.coefficients.items(), key=lambda item: (item[1], extents[item[0]]))
        count, step = 1, digits[0][1] if digits else 1
        if not form.is_linear or step < 1:
            return None
        for number, coefficient in digits:
            if coefficient != step * count:
                return None
            count *= extents[number]
        places.append(slice(form.constant, form.constant + step * (count - 1) + 1, step))
        loops += [number for number, _ in reversed(digits)]
        counts.append(count)
    return BoxView(tuple(places), tuple(loops), tuple(counts)) if len(set(loops)) == len(loops) else None


def take(tensor: torch.Tensor, box: BoxView, extents: Mapping[int, int], loops: Sequence[int]) -> torch.Tensor:
    """The elements of a box, with one axis for each of `loops`, which are those of the box in any order."""
    whole = all(p == slice(0, n, 1) for p, n in zip(box.places, tensor.shape, strict=True))
    part = tensor if whole else tensor[box.places]
    return part.reshape([extents[n] for n in box.loops]).permute([box.loops.index(n) for n in loops])


def put(
    tensor: torch.Tensor | None,
    shape: Sequence[int],
    box: BoxView,
    value: torch.Tensor,
    loops: Sequence[int],
    add: bool,
) -> torch.Tensor:
    """A copy of a buffer, None where it is all zero, with a value stored (or added) to a box of it.

    Args:
        tensor: the buffer.
        shape: of the buffer.
        box: where the value goes.
        value: has one axis for each of `loops`.
        loops: see there.
        add: whether to add to what is there.
    """
    part = value.permute([list(loops).index(n) for n in box.loops]).reshape(box.counts)
    if tensor is None and all(place.step == 1 for place in box.places):
        margins = [(place.start, size - place.stop) for place, size in zip(box.places, shape, strict=True)]
        return F.pad(part, [margin for pair in reversed(margins) for margin in pair])
    new = value.new_zeros(tuple(shape)) if tensor is None else tensor.clone()
    new[box.places] = new[box.places] + part if add else part
    return new
