"""The nests that compute a convolution by Winograd's minimal filtering: three transforms and the products."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from torch_mlir import ir
from torch_mlir.dialects import arith, memref

from loopmorph.passes import marks
from loopmorph.passes.building.nest_builder import NestHeader, build_nest, load, store
from loopmorph.passes.winograd.arithmetic import Arithmetic, Scalar, sandwich
from loopmorph.passes.winograd.chunks import LOOP, Chunks
from loopmorph.passes.winograd.match import Convolution, Operand, at
from loopmorph.passes.winograd.matrices import Winograd, reach
from loopmorph.passes.winograd.shared_data import TileLayout, find_made, shared_axes
from loopmorph.passes.winograd.start import Start, StartValues


@dataclass(frozen=True)
class Region:
    """Neighbouring tiles along one axis that hold equally many outputs.

    Attributes:
        first: number of the first tile.
        count: number of tiles.
        outputs: how many outputs of each tile exist, from its first on.
    """

    first: int
    count: int
    outputs: int


def regions(extent: int, tile: int) -> tuple[Region, ...]:
    """The whole tiles of an axis, and the one that reaches beyond its end if there is one."""
    whole, rest = divmod(extent, tile)
    full = [Region(0, whole, tile)] if whole else []
    return (*full, Region(whole, 1, rest)) if rest else tuple(full)


@dataclass(frozen=True)
class WinogradPlan:
    """A convolution, the algorithm, and the nest of the start values if it is to be merged into the result's.

    With `samples`, the nests run over chunks of so many iterations of the outermost loop over images.
    """

    convolution: Convolution
    algorithm: Winograd
    start: Start | None
    samples: int | None = None


def build_winograd(plan: WinogradPlan) -> ir.Operation:
    """Builds the nests ahead of the convolution's, and removes that; returns the loop nest of the products."""
    nest = plan.convolution.nest
    root = nest.root.operation
    with ir.InsertionPoint(root), root.location:
        products = _Builder(plan).build()
    root.erase()
    if plan.start is not None:
        plan.start.body.nest.root.operation.erase()
    return products


T = TypeVar("T")

# For loops of the convolution, what stands for them in a new nest.
Frame = dict[int, ir.AffineExpr]


class _Builder:
    def __init__(self, plan: WinogradPlan) -> None:
        self.plan = plan
        self.convolution = convolution = plan.convolution
        self.nest = convolution.nest
        self.algorithm = plan.algorithm
        self.element = ir.MemRefType(convolution.result.memref.type).element_type
        self.regions = [regions(convolution.extent(p), plan.algorithm.tile) for p in convolution.space]
        self.tiles = [sum(r.count for r in axis) for axis in self.regions]
        self.chunks = chunks = Chunks(convolution, plan.samples)
        self.n_tiles = math.prod([*self.tiles, *(chunks.extent(p) for p in chunks.loops() if p != LOOP)])
        self.shared = shared_axes(convolution)
        self.heads = convolution.result_channels[: -len(convolution.result_lane)]
        self.names = {name: _fresh(name, self.nest.iterators) for name in ("p", "t", "ty", "tx")}

    def build(self) -> ir.Operation:
        convolution, n = self.convolution, self.algorithm.reach**2
        heads = self.heads
        lane = [math.prod(self._extents(convolution.result_lane))] if convolution.result_lane else []
        kernels = self._allocate([n, *self._extents((*heads, *convolution.inputs)), *lane])
        self.arithmetic = Arithmetic(self.element, kernels.owner.operation)
        data = self._made_data()
        is_made = data is not None
        if data is None:
            data = self._allocate(self._data_layout().shape)
        products = self._allocate([*self.chunks.axis, *_by_tile(n, self.n_tiles, [*self._extents(heads), *lane])])
        self._transform_kernels(kernels)
        for rows, columns in [] if is_made else itertools.product(*self.regions):
            self._transform_data(data, rows, columns)
        self._clear(products)
        root = self._multiply(data, kernels, products)
        for rows, columns in itertools.product(*self.regions):
            self._transform_products(products, rows, columns)
        return root

    # -- where transformed data lies

    def _data_layout(self) -> TileLayout:
        """Its memref's layout: by the digits of the nest's channels, or where others may share it by the data's own."""
        odd = self.n_tiles | 1  # planes a power of two apart would displace one another from cache
        convolution = self.convolution
        if self.shared is None:
            digits = self._extents(convolution.data_channels)
        else:
            digits = [convolution.data.shape[axis] for axis in self.shared]
        steps, step = [1, self.tiles[1]], math.prod(self.tiles)
        for loop in reversed([p for p in self.chunks.loops() if p != LOOP]):
            steps.append(step)
            step *= self.chunks.extent(loop)
        shape = (*self.chunks.axis, *_by_plane(self.algorithm.reach**2, odd, digits))
        return TileLayout(shape, tuple(steps))

    def _made_data(self) -> ir.Value | None:
        """The memref where what another nest of the layer has transformed is all that this one needs."""
        return None if self.shared is None else find_made(self.convolution, self.shared, self._data_layout())

    def _data_digits(self, frame: Frame) -> list[ir.AffineExpr]:
        """The index of a channel in it."""
        if self.shared is None:
            return [frame[p] for p in self.convolution.data_channels]
        exprs = at(self.convolution.data, dict.fromkeys(range(len(self.nest.loops)), _number(0)) | frame)
        return [exprs[axis] for axis in self.shared]

    # -- the four nests

    def _transform_kernels(self, target: ir.Value) -> None:
        convolution = self.convolution
        loops = (*self.heads, *convolution.inputs, *convolution.result_lane)

        def body(variables: list[ir.Value], frame: Frame) -> None:
            def read(i: int, j: int) -> Scalar:
                tap = {p: _number(k) for p, k in zip(convolution.kernel, (i, j), strict=True)}
                return _load(convolution.weight, frame | tap, variables)

            extent = self.algorithm.reach
            write = self._writer(target, lambda point: [point, *self._kernel_digits(frame)], variables)
            sandwich(self.arithmetic, self.algorithm.kernel, read, write, (extent, extent))

        self._nest(loops, {}, marks.FILTER_TRANSFORM, body)

    def _transform_data(self, target: ir.Value, rows: Region, columns: Region) -> None:
        convolution = self.convolution
        channels, stride = convolution.data_channels, convolution.stride

        def body(variables: list[ir.Value], frame: Frame) -> None:
            def read(i: int, j: int) -> Scalar:
                if i >= reach(stride, rows.outputs) or j >= reach(stride, columns.outputs):
                    return None  # reached by outputs that do not exist only
                return _load(convolution.data, frame | self._read_by_tile(frame, i, j), variables)

            tile, digits = self._tile(frame), self._data_digits(frame)
            extent = self.algorithm.reach
            chunk = self.chunks.place(frame)
            write = self._writer(target, lambda point: [*chunk, *_by_plane(point, tile, digits)], variables)
            sandwich(self.arithmetic, self.algorithm.data, read, write, (extent, extent))

        loops = self._tile_loops(channels[:-1], channels[-1:])
        self._nest(loops, self._spans(rows, columns), marks.INPUT_TRANSFORM, body)

    def _clear(self, target: ir.Value) -> None:
        shape = ir.MemRefType(target.type).shape
        outputs = [self.nest.iterators[p] for p in (*self.heads, *self.convolution.result_lane[-1:])]
        chunk = [self.chunks.name(LOOP)] if self.chunks.axis else []
        names = [*chunk, *_by_tile(self.names["p"], self.names["t"], outputs)]

        def body(variables: list[ir.Value]) -> None:
            store(self.arithmetic.constant(0.0), target, ir.AffineMap.get_identity(len(shape)), variables)

        build_nest(NestHeader(tuple(names), tuple(shape), self._marks(marks.INIT)), body, self.nest.root.location)

    def _multiply(self, data: ir.Value, kernels: ir.Value, target: ir.Value) -> ir.Operation:
        convolution, iterators = self.convolution, self.nest.iterators
        channels = (*convolution.result_channels, *convolution.inputs)
        chunked = [self.chunks.name(LOOP)] if self.chunks.axis else []
        names = (*chunked, self.names["p"], self.names["t"], *(iterators[p] for p in channels))
        extents = (*self.chunks.axis, self.algorithm.reach**2, self.n_tiles, *self._extents(channels))
        exprs = [ir.AffineExpr.get_dim(k) for k in range(len(names))]
        chunk, (p, t, *rest) = exprs[: len(chunked)], exprs[len(chunked) :]
        dims = dict(zip(channels, rest, strict=True))
        of_target = ir.AffineMap.get(len(names), 0, [*chunk, *_by_tile(p, t, self._result_digits(dims))])
        of_data = ir.AffineMap.get(len(names), 0, [*chunk, *_by_plane(p, t, self._data_digits(dims))])
        of_kernels = ir.AffineMap.get(len(names), 0, [p, *self._kernel_digits(dims)])

        def body(variables: list[ir.Value]) -> None:
            x, w = load(data, of_data, variables), load(kernels, of_kernels, variables)
            product = arith.MulFOp(x, w).result
            total = arith.AddFOp(load(target, of_target, variables), product).result
            store(total, target, of_target, variables)

        root = build_nest(NestHeader(names, extents, self._marks(marks.MAIN)), body, self.nest.root.location)
        return cast(ir.Operation, root)  # it has loops

    def _transform_products(self, source: ir.Value, rows: Region, columns: Region) -> None:
        convolution = self.convolution
        extent = self.algorithm.reach
        loops, spans = self._tile_loops(self.heads, convolution.result_lane), self._spans(rows, columns)

        def body(variables: list[ir.Value], frame: Frame) -> None:
            start = None
            if self.plan.start is not None:
                start = StartValues(self.plan.start, variables, self._spanned(loops, spans))
            tile, digits = self._tile(frame), self._result_digits(frame)

            def read(i: int, j: int) -> Scalar:
                index = [*self.chunks.place(frame), *_by_tile(_number(i * extent + j), tile, digits)]
                return load(source, ir.AffineMap.get(len(variables), 0, index), variables)

            def write(r: int, s: int, value: Scalar) -> None:
                target = frame | self._in_tile(frame, r, s)
                if start is None:
                    value = self.arithmetic.combine([(1, _load(convolution.result, target, variables)), (1, value)])
                else:
                    value = self.arithmetic.combine([(1, start.at(target)), (1, value)])
                map_ = ir.AffineMap.get(len(variables), 0, list(at(convolution.result, target)))
                store(self._present(value), convolution.result.memref, map_, variables)

            sandwich(self.arithmetic, self.algorithm.result, read, write, (rows.outputs, columns.outputs))

        self._nest(loops, spans, marks.OUTPUT_TRANSFORM, body)

    # -- what they share

    def _kernel_digits(self, frame: Frame) -> list[ir.AffineExpr]:
        """The index in the transformed kernels behind the point: the result's lane last, as in the products."""
        return [*(frame[p] for p in (*self.heads, *self.convolution.inputs)), *self.convolution.in_lane(frame)]

    def _result_digits(self, frame: Frame) -> list[ir.AffineExpr]:
        """The index of a channel in the products."""
        return [*(frame[p] for p in self.heads), *self.convolution.in_lane(frame)]

    def _tile_loops(self, heads: Sequence[int], lane: Sequence[int]) -> tuple[int, ...]:
        """The loops of a transform of tiles, the last digits of the channel innermost."""
        return (*self.chunks.loops(), *heads, *self.convolution.space, *lane)

    def _nest(
        self,
        loops: Sequence[int],
        spans: Mapping[int, tuple[str, Region]],
        role: str,
        body: Callable[[list[ir.Value], Frame], None],
    ) -> None:
        """A nest over loops of the convolution; those in `spans` run over tiles and stand for the tile's number."""
        names = tuple(spans[p][0] if p in spans else self.chunks.name(p) for p in loops)
        extents = self._spanned(loops, spans)
        frame = {p: ir.AffineExpr.get_dim(k) + (spans[p][1].first if p in spans else 0) for k, p in enumerate(loops)}
        if not loops:  # one kernel alone: a loop of one iteration makes a nest of it
            names, extents = (self.names["p"],), (1,)
        header = NestHeader(names, extents, self._marks(role))
        build_nest(header, lambda variables: body(variables, frame), self.nest.root.location)

    def _spans(self, rows: Region, columns: Region) -> dict[int, tuple[str, Region]]:
        y, x = self.convolution.space
        return {y: (self.names["ty"], rows), x: (self.names["tx"], columns)}

    def _spanned(self, loops: Sequence[int], spans: Mapping[int, tuple[str, Region]]) -> tuple[int, ...]:
        """The extents of the loops of a nest, tiles in place of the elements of an axis."""
        return tuple(spans[p][1].count if p in spans else self.chunks.extent(p) for p in loops)

    def _in_tile(self, frame: Frame, i: int, j: int) -> Frame:
        """The frame for the output in row i and column j of the tile."""
        y, x = self.convolution.space
        tile = self.algorithm.tile
        place = {y: frame[y] * tile + i, x: frame[x] * tile + j}
        return self.chunks.whole(frame) | place | {p: _number(0) for p in self.convolution.kernel}

    def _read_by_tile(self, frame: Frame, i: int, j: int) -> Frame:
        """The frame for the input in row i and column j of those that the tile reads: where its first window has it."""
        within = zip(self.convolution.kernel, (i, j), strict=True)
        return self._in_tile(frame, 0, 0) | {p: _number(k) for p, k in within}

    def _tile(self, frame: Frame) -> ir.AffineExpr:
        """The number of the tile among those of all images of its chunk."""
        y, x = self.convolution.space
        return self.chunks.tile(frame, [(frame[y], self.tiles[0]), (frame[x], self.tiles[1])])

    def _writer(
        self, target: ir.Value, place: Callable[[ir.AffineExpr], list[ir.AffineExpr]], variables: Sequence[ir.Value]
    ) -> Callable[[int, int, Scalar], None]:
        def write(r: int, s: int, value: Scalar) -> None:
            index = place(_number(r * self.algorithm.reach + s))
            store(self._present(value), target, ir.AffineMap.get(len(variables), 0, index), variables)

        return write

    def _present(self, value: Scalar) -> ir.Value:
        return self.arithmetic.constant(0.0) if value is None else value

    def _extents(self, loops: Sequence[int]) -> list[int]:
        return [self.convolution.extent(p) for p in loops]

    def _allocate(self, shape: Sequence[int]) -> ir.Value:
        return memref.AllocOp(ir.MemRefType.get(list(shape), self.element), [], []).result

    def _marks(self, role: str) -> dict[str, str]:
        root = self.nest.root
        texts = {name: marks.get_text(root, name) for name in (marks.LAYER, marks.NODE)}
        return {name: text for name, text in texts.items() if name in root.attributes} | {marks.ROLE: role}


def _by_plane(point: T, tile: T, digits: Sequence[T]) -> list[T]:
    """The order of the axes of the transformed data: what the products read for one point lies in one piece, which
    stays in the first-level cache for all channels of the result.
    """
    return [point, *digits[:-1], tile, *digits[-1:]]


def _by_tile(point: T, tile: T, digits: Sequence[T]) -> list[T]:
    """The order of the axes of the products: what the last transform reads for one tile lies side by side."""
    return [*digits[:-1], tile, point, *digits[-1:]]


def _load(operand: Operand, index: Frame, variables: Sequence[ir.Value]) -> ir.Value:
    return load(operand.memref, ir.AffineMap.get(len(variables), 0, list(at(operand, index))), variables)


def _number(value: int) -> ir.AffineExpr:
    return ir.AffineExpr.get_constant(value)


def _fresh(name: str, taken: Sequence[str]) -> str:
    """The name, with underscores after it as long as it is taken."""
    while name in taken:
        name += "_"
    return name
