"""A sum of products over sliding windows as one `conv2d`, which takes a tenth of the time that `einsum` does.

Which loop plays which part of a grouped convolution is read off the two factors; bands, slices and unusual strides are
a matter of the views that the factors are taken through.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from loopmorph.passes.raising import index_forms as forms
from loopmorph.passes.raising.index_forms import Form
from loopmorph.passes.raising.nest_recipe import Buffer, Load
from loopmorph.pipelines.rewritten.box_view import take, view_box


@dataclass(frozen=True)
class ConvolutionView:
    """The loops of a sum of products, by their part; each group in ascending order.

    Attributes:
        batch: index the source and the result.
        groups: index the source, the weight and the result.
        outputs: index the weight and the result.
        inputs: index the source and the weight, and are summed over.
        windows: one or two pairs of loops on one axis of the source: a position of the result, a tap of the weight.
        dilation, stride: of each pair, in elements of that axis.
        steps: elements of memory per element of that axis.
        axes: that axis, of each pair.
        source, weight: the two factors.
        addresses: theirs.
    """

    batch: tuple[int, ...]
    groups: tuple[int, ...]
    outputs: tuple[int, ...]
    inputs: tuple[int, ...]
    windows: tuple[tuple[int, int], ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    steps: tuple[int, ...]
    axes: tuple[int, ...]
    source: Load
    weight: Load
    addresses: tuple[Form, Form]

    @property
    def loops(self) -> tuple[int, ...]:
        """The loops of the result, in the order in which `convolve` gives its axes."""
        return (*self.batch, *self.groups, *self.outputs, *(position for position, _ in self.windows))


def view_convolution(
    source: Load, weight: Load, kept: frozenset[int], buffers: tuple[Buffer, ...]
) -> ConvolutionView | None:
    """How `sum(source * weight)` over the loops that are not `kept` is a convolution; None where it is none.

    A loop that neither factor uses, an index that is not linear or runs backwards, or a sum without windows (a matrix
    product) is none.
    """
    addresses = source.address(buffers), weight.address(buffers)
    if not all(a.is_linear and all(c > 0 for c in a.coefficients.values()) for a in addresses):
        return None
    in_source, in_weight = (forms.used_loops(a) for a in addresses)
    windows: list[tuple[int, int]] = []
    factors: list[tuple[int, int, int, int]] = []
    for axis, form in enumerate(source.index):
        coefficients = form.coefficients
        taps = [n for n in coefficients if n in in_weight - kept]
        positions = [n for n in coefficients if n in kept - in_weight]
        if not taps or not positions:
            continue
        if len(taps) != 1 or len(positions) != 1:
            return None
        windows.append((positions[0], taps[0]))
        factors.append((coefficients[positions[0]], coefficients[taps[0]], buffers[source.buffer].strides[axis], axis))
    paired = {n for pair in windows for n in pair}
    summed = (in_source | in_weight) - kept - paired
    if not 1 <= len(windows) <= 2 or len(paired) != 2 * len(windows) or not summed <= in_source & in_weight:
        return None
    if any(
        addresses[0].coefficients[n] != f[k] * f[2]
        for w, f in zip(windows, factors, strict=True)
        for k, n in enumerate(w)
    ):
        return None
    stride, dilation, steps, axes = zip(*factors, strict=True)
    return ConvolutionView(
        batch=tuple(sorted((in_source & kept) - in_weight - paired)),
        groups=tuple(sorted(in_source & in_weight & kept)),
        outputs=tuple(sorted((in_weight & kept) - in_source)),
        inputs=tuple(sorted(summed)),
        windows=tuple(windows),
        stride=stride,
        dilation=dilation,
        steps=steps,
        axes=axes,
        source=source,
        weight=weight,
        addresses=addresses,
    )


def convolve(
    view: ConvolutionView, source: torch.Tensor, weight: torch.Tensor, extents: Mapping[int, int]
) -> torch.Tensor:
    """The sum, with one axis for each of `view.loops`.

    Args:
        view: what is to be computed.
        source, weight: the two buffers.
        extents: of all loops.
    """
    lengths = [
        (extents[position] - 1) * stride + (extents[tap] - 1) * dilation + 1
        for (position, tap), stride, dilation in zip(view.windows, view.stride, view.dilation, strict=True)
    ]
    count = {
        part: math.prod(extents[n] for n in getattr(view, part)) for part in ("batch", "groups", "outputs", "inputs")
    }
    plain = (*view.batch, *view.groups, *view.inputs)
    image = _windows(view, source, plain, extents, lengths)
    taps = (*view.groups, *view.outputs, *view.inputs, *(tap for _, tap in view.windows))
    box = view_box(view.weight.index, extents)
    if box is not None and sorted(box.loops) == sorted(taps):
        filters = take(weight, box, extents, taps)
    else:
        filters = _strided(weight, view.addresses[1], taps, extents, [])
    kernel = [extents[tap] for _, tap in view.windows]
    convolution = functional.conv2d if len(lengths) == 2 else functional.conv1d
    result = convolution(
        image.reshape(count["batch"], count["groups"] * count["inputs"], *lengths),
        filters.reshape(count["groups"] * count["outputs"], count["inputs"], *kernel),
        stride=view.stride,
        dilation=view.dilation,
        groups=count["groups"],
    )
    return result.reshape([extents[n] for n in view.loops])


def _windows(
    view: ConvolutionView, source: torch.Tensor, plain: Sequence[int], extents: Mapping[int, int], lengths: list[int]
) -> torch.Tensor:
    """The source with one axis for each loop of `plain`, and one for each pair: all that its windows reach."""
    reach = dict(zip(view.axes, zip(view.windows, lengths, strict=True), strict=True))
    if all(view.source.index[axis].coefficients.keys() == set(pair) for axis, (pair, _) in reach.items()):
        stand_ins = {axis: -1 - axis for axis in view.axes}  # a loop over what the windows of an axis reach together
        index = [
            forms.add(forms.loop(stand_ins[axis]), forms.constant(form.constant)) if axis in reach else form
            for axis, form in enumerate(view.source.index)
        ]
        extended = {**extents, **{stand_ins[axis]: length for axis, (_, length) in reach.items()}}
        wanted = (*plain, *(stand_ins[axis] for axis in view.axes))
        box = view_box(index, extended)
        if box is not None and sorted(box.loops) == sorted(wanted):
            return take(source, box, extended, wanted)
    return _strided(source, view.addresses[0], plain, extents, list(zip(lengths, view.steps, strict=True)))


def _strided(
    tensor: torch.Tensor, address: Form, loops: Iterable[int], extents: Mapping[int, int], more: list[tuple[int, int]]
) -> torch.Tensor:
    """A view of a tensor's elements, row-major, with one axis for each loop, and for each (size, step) of `more`."""
    tensor = tensor.contiguous()
    axes = [*((extents[n], address.coefficients[n]) for n in loops), *more]
    sizes, steps = [size for size, _ in axes], [step for _, step in axes]
    return tensor.as_strided(sizes, steps, tensor.storage_offset() + address.constant)
