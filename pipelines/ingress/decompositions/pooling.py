"""Pooling of one, two and three axes, with ceil mode, as two-axis poolings of a padded tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch._ops import OpOverload

from loopmorph.pipelines.ingress.decompositions.axes import in_float32
from loopmorph.pipelines.ingress.decompositions.windows import Greatest, Windows, greatest_along

_aten = torch.ops.aten


@dataclass(frozen=True)
class _Axis:
    """One pooled axis, as `torch.nn.MaxPool1d` has it; `outputs` windows start at `i * stride - padding`."""

    extent: int
    kernel: int
    stride: int
    padding: int
    dilation: int
    ceil: bool

    @property
    def outputs(self) -> int:
        reach = self.extent + 2 * self.padding - self.dilation * (self.kernel - 1) - 1
        number = (-(-reach // self.stride) if self.ceil else reach // self.stride) + 1
        starts_in_right_padding = self.ceil and (number - 1) * self.stride >= self.extent + self.padding
        return number - starts_in_right_padding

    @property
    def behind(self) -> int:
        """Elements after the axis that windows read; negative where no window reads the axis's last elements."""
        last = (self.outputs - 1) * self.stride - self.padding + self.dilation * (self.kernel - 1) + 1
        return last - self.extent

    @property
    def windows(self) -> Windows:
        """The windows over the padded axis."""
        return Windows(0, self.kernel, self.stride, self.outputs, self.dilation)

    def places(self, device: torch.device) -> torch.Tensor:
        """For each element of the padded axis its place in the axis, that of the nearest one for padding."""
        return torch.arange(-self.padding, self.extent + self.behind, device=device).clamp(0, self.extent - 1)

    def counts(self, include_padding: bool, device: torch.device) -> torch.Tensor:
        """How many elements each window of an average counts, int64."""
        starts = torch.arange(self.outputs, device=device) * self.stride - self.padding
        ends = (starts + self.kernel).clamp(max=self.extent + self.padding)
        return ends - starts if include_padding else ends.clamp(max=self.extent) - starts.clamp(min=0)

    @property
    def fits(self) -> bool:
        """Whether every window lies within the padded axis, as it does without ceil mode."""
        return self.behind <= self.padding


def _axes(
    x: torch.Tensor,
    rank: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil: bool,
) -> list[_Axis]:
    def each(value: Sequence[int]) -> Sequence[int]:
        return list(value) * rank if len(value) == 1 else value

    numbers = zip(each(kernel), each(stride or kernel), each(padding), each(dilation), strict=True)
    return [_Axis(x.shape[x.dim() - rank + k], *four, ceil) for k, four in enumerate(numbers)]


def _padded(x: torch.Tensor, axes: Sequence[_Axis], value: float) -> torch.Tensor:
    amounts = [amount for axis in reversed(axes) for amount in (axis.padding, axis.behind)]
    return torch.constant_pad_nd(x, amounts, value) if any(amounts) else x


def _lowest(dtype: torch.dtype) -> float:
    return -math.inf if dtype.is_floating_point else torch.iinfo(dtype).min


def _max_values(x: torch.Tensor, axes: Sequence[_Axis]) -> torch.Tensor:
    """The greatest element of each window: of the last two axes together, then of the first of three."""
    x = _padded(x, axes, _lowest(x.dtype))
    shape = [*x.shape[: x.dim() - len(axes)], *(axis.outputs for axis in axes)]
    last = axes[-2:]
    if x.dim() != 4 or len(axes) != 2:
        x = x.reshape(1, -1, *([1] * (2 - len(last))), *x.shape[-len(last) :])
    if any(axis.kernel * axis.stride != 1 for axis in last):
        numbers = [
            [1] * (2 - len(last)) + [getattr(a, name) for a in last] for name in ("kernel", "stride", "dilation")
        ]
        x = core_max_pool(x, numbers[0], numbers[1], [0, 0], numbers[2])
    if len(axes) == 3:
        first, plane = axes[0], shape[-1] * shape[-2]
        rows = x.reshape(1, -1, first.padding + first.extent + first.behind, plane)
        x = core_max_pool(rows, [first.kernel, 1], [first.stride, 1], [0, 0], [first.dilation, 1])
    return x.reshape(shape)


def _max_places(x: torch.Tensor, axes: Sequence[_Axis]) -> torch.Tensor:
    """The place of each window's greatest element in the flattened space, int64."""
    places = torch.zeros([], dtype=torch.int64, device=x.device)
    for axis in axes:
        places = places.unsqueeze(-1) * axis.extent + axis.places(x.device)
    x = _padded(x, axes, _lowest(x.dtype))
    found = Greatest(x, places.expand(x.shape))
    for k, axis in reversed(list(enumerate(axes))):
        found = greatest_along(found, x.dim() - len(axes) + k, [axis.windows])
    return found.places


_emitting_core_pool: ContextVar[bool] = ContextVar("emitting_core_pool", default=False)


def core_max_pool(
    x: torch.Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> torch.Tensor:
    """A plain pooling of two axes as the operation that torch-mlir lowers, without asking for a rule again."""
    token = _emitting_core_pool.set(True)
    try:
        given = [(padding, 0), (dilation, 1)]
        while given and all(each == given[-1][1] for each in given[-1][0]):  # as the exporter leaves defaults out
            given.pop()
        return _aten.max_pool2d_with_indices.default(x, kernel, stride, *(value for value, _ in given))[0]
    finally:
        _emitting_core_pool.reset(token)


def _max_pool_with_indices(rank: int) -> Callable[..., object]:
    def max_pool_with_indices(
        x: torch.Tensor,
        kernel_size: Sequence[int],
        stride: Sequence[int] = (),
        padding: Sequence[int] = (0,),
        dilation: Sequence[int] = (1,),
        ceil_mode: bool = False,
    ) -> object:
        """`aten.max_pool{1,2,3}d_with_indices`, batched or not; torch-mlir's own places miss a NaN."""
        if x.numel() == 0 or _emitting_core_pool.get():
            return NotImplemented
        axes = _axes(x, rank, kernel_size, stride, padding, dilation, ceil_mode)
        if _is_core(x, axes):
            values = core_max_pool(x, kernel_size, stride or kernel_size, padding, dilation)
        else:
            values = _max_values(x, axes)
        return values, _max_places(x, axes)

    return max_pool_with_indices


def _is_core(x: torch.Tensor, axes: Sequence[_Axis]) -> bool:
    padded = any(axis.padding for axis in axes) and not x.is_floating_point()
    return len(axes) == 2 and x.dim() == 4 and not padded and all(axis.fits for axis in axes)


def _max_pool(rank: int) -> Callable[..., object]:
    pool = _max_pool_with_indices(rank)

    def max_pool(x: torch.Tensor, *args: object, **kwargs: object) -> object:
        """`aten.max_pool{1,2,3}d`: the values of `aten.max_pool{1,2,3}d_with_indices`."""
        both = pool(x, *args, **kwargs)
        return both[0] if isinstance(both, tuple) else NotImplemented

    return max_pool


def _avg_pool(rank: int) -> Callable[..., object]:
    def avg_pool(
        x: torch.Tensor,
        kernel_size: Sequence[int],
        stride: Sequence[int] = (),
        padding: Sequence[int] = (0,),
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> object:
        """`aten.avg_pool{1,2,3}d`, batched or not; a plain one of two axes is a core operation."""
        axes = _axes(x, rank, kernel_size, stride, padding, (1,), ceil_mode)
        all_count = all(axis.fits and (count_include_pad or axis.padding == 0) for axis in axes)
        if x.numel() == 0 or (rank == 2 and x.dim() == 4 and all_count and divisor_override is None):
            return _core_avg_pool(x, axes) if ceil_mode and x.numel() else NotImplemented
        return in_float32(x, lambda wide: _averages(wide, axes, all_count, count_include_pad, divisor_override))

    return avg_pool


def _averages(
    x: torch.Tensor, axes: Sequence[_Axis], all_count: bool, include_padding: bool, divisor: int | None
) -> torch.Tensor:
    means = _means(_padded(x, axes, 0.0), axes)
    elements = math.prod(axis.kernel for axis in axes)
    if divisor is not None:
        return means * (elements / divisor)
    return means if all_count else means * (elements / _counts(x, axes, include_padding))


def _core_avg_pool(x: torch.Tensor, axes: Sequence[_Axis]) -> torch.Tensor:
    """Without ceil mode, which changed nothing but, perhaps, how much of the right padding is read."""
    amounts = [amount for axis in reversed(axes) for amount in (axis.padding, axis.behind)]
    x = torch.constant_pad_nd(x, amounts) if any(amounts) else x
    return _aten.avg_pool2d.default(x, [axis.kernel for axis in axes], [axis.stride for axis in axes])


def _means(x: torch.Tensor, axes: Sequence[_Axis]) -> torch.Tensor:
    """The mean of each window of a padded tensor: of the last two axes together, then of the first of three."""
    shape = [*x.shape[: x.dim() - len(axes)], *(axis.outputs for axis in axes)]
    last = axes[-2:]
    numbers = [[1] * (2 - len(last)) + [getattr(a, name) for a in last] for name in ("kernel", "stride")]
    rows = x.reshape(1, -1, *([1] * (2 - len(last))), *x.shape[-len(last) :])
    x = _aten.avg_pool2d.default(rows, *numbers)
    if len(axes) == 3:
        first, plane = axes[0], shape[-1] * shape[-2]
        rows = x.reshape(1, -1, first.padding + first.extent + first.behind, plane)
        x = _aten.avg_pool2d.default(rows, [first.kernel, 1], [first.stride, 1])
    return x.reshape(shape)


def _counts(x: torch.Tensor, axes: Sequence[_Axis], include_padding: bool) -> torch.Tensor:
    counts = torch.ones([], dtype=torch.int64, device=x.device)
    for axis in axes:
        counts = counts.unsqueeze(-1) * axis.counts(include_padding, x.device)
    return counts.to(x.dtype)


DECOMPOSITIONS: dict[OpOverload, Callable[..., object]] = {
    _aten.avg_pool1d.default: _avg_pool(1),
    _aten.avg_pool2d.default: _avg_pool(2),
    _aten.avg_pool3d.default: _avg_pool(3),
    _aten.max_pool1d.default: _max_pool(1),
    _aten.max_pool2d.default: _max_pool(2),
    _aten.max_pool3d.default: _max_pool(3),
    _aten.max_pool1d_with_indices.default: _max_pool_with_indices(1),
    _aten.max_pool2d_with_indices.default: _max_pool_with_indices(2),
    _aten.max_pool3d_with_indices.default: _max_pool_with_indices(3),
}
