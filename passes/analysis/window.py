"""Windows: pairs of a pixel and a tap that together index an activation, and how many of them meet its padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loopmorph.passes.affine_expr import LinearForm
from loopmorph.passes.analysis.contraction_nest import ContractionNest
from loopmorph.passes.analysis.memory.zero_halo import live_box
from loopmorph.passes.nest import Loop


@dataclass(frozen=True)
class Window:
    """A tap iterator that moves a pixel iterator's reads along an axis of the data.

    Attributes:
        tap: the tap iterator, `kh` or `kw` of a convolution.
        live: the share of the pairs (pixel, tap) whose element is not surely a zero of the padding.
    """

    tap: Loop
    live: float


def windows(view: ContractionNest, pixels: Sequence[Loop]) -> dict[Loop, Window]:
    """The windows of those of the pixel iterators that have one and whose data has a halo of zeros."""
    box = live_box(view.data.memref)
    found: dict[Loop, Window] = {}
    if box is None:
        return found
    taps = {loop.position: loop for loop in view.reductions}
    for axis, form in enumerate(view.data.forms):
        for pixel in pixels:
            if form is None or form.coefficients.keys() - taps.keys() != {pixel.position}:
                continue
            moving = [taps[p] for p in form.coefficients if p in taps]
            if len(moving) == 1 and moving[0].extent != 1:
                live = _live(form, pixel, moving[0], box.begin[axis], box.end[axis])
                found[pixel] = Window(moving[0], live)
    return found


def _live(form: LinearForm, pixel: Loop, tap: Loop, begin: int, end: int) -> float:
    steps = (form.coefficients[pixel.position], form.coefficients[tap.position])
    indices = [
        form.constant + steps[0] * p + steps[1] * t for p in range(pixel.extent or 1) for t in range(tap.extent or 1)
    ]
    return sum(begin <= index < end for index in indices) / len(indices)
