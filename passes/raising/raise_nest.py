"""Raising: telling from a layer's nests alone, however they are scheduled, that it is a convolution or a linear layer.

Nothing depends on the order, the names or the number of the loops: what is compared is the set of (output, input,
weight) index tuples that the layer multiplies and adds up (see `access_blocks`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch_mlir import ir

from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Nest
from loopmorph.passes.raising.access_blocks import AccessBlock, Vector, access_block, union
from loopmorph.passes.raising.index_forms import Form
from loopmorph.passes.raising.nest_extract import Extraction, extract
from loopmorph.passes.raising.nest_recipe import Load, Recipe, Statement, accumulation, flatten
from loopmorph.passes.raising.raise_bias import added, raise_bias

Pair = tuple[int, int]


@dataclass(frozen=True)
class Convolution:
    """A two-dimensional convolution over NCHW activations and OIHW weights, as `torch.nn.functional.conv2d` has it.

    Attributes:
        kernel, stride, dilation: height, width. A stride that one output row (column) leaves open is the smallest
            that gives no second one; a dilation that a kernel of 1 leaves open is 1.
        padding: zeros added ((top, bottom), (left, right)); a negative number leaves that many rows (columns) out.
        groups, in_channels, out_channels: as in `nn.Conv2d`; `in_channels` counts the channels that are read.
        input_size, output_size: height, width of one sample.
        channels: the input's channels that are read, in order, where these are not all; else None.
        source_channels: how many channels the input has.
        weight, bias: qualified names of the parameters.
        input, output: the memrefs.
    """

    kernel: Pair
    stride: Pair
    dilation: Pair
    padding: tuple[Pair, Pair]
    groups: int
    in_channels: int
    out_channels: int
    input_size: Pair
    output_size: Pair
    channels: tuple[int, ...] | None
    weight: str
    bias: str | None
    input: ir.Value = field(compare=False, repr=False)
    output: ir.Value = field(compare=False, repr=False)
    source_channels: int = field(compare=False, repr=False)

    def equals(self, stride: Pair, dilation: Pair, padding: tuple[Pair, Pair]) -> bool:
        """Whether a convolution with these attributes computes the same from inputs of this size."""
        return self.padding == padding and all(
            (self.stride[k] == stride[k] or self.output_size[k] == 1)
            and (self.dilation[k] == dilation[k] or self.kernel[k] == 1)
            and output_extent(self.input_size[k], self.kernel[k], stride[k], dilation[k], padding[k])
            == self.output_size[k]
            for k in range(2)
        )


@dataclass(frozen=True)
class Linear:
    """A linear layer `input @ weight.T + bias`.

    Attributes:
        in_features, out_features: as in `nn.Linear`; `in_features` counts those that are read.
        source_features: features of the input, of which the first `in_features` are read.
        weight, bias: qualified names of the parameters.
        input, output: the memrefs.
    """

    in_features: int
    out_features: int
    source_features: int
    weight: str
    bias: str | None
    input: ir.Value = field(compare=False, repr=False)
    output: ir.Value = field(compare=False, repr=False)


def raise_convolution(nests_of_layer: Sequence[Nest]) -> Convolution | None:
    """The convolution that a layer's nests (padding, start values and main nest) compute; None if they do not."""
    found = _contraction(nests_of_layer)
    return None if found is None else _convolution(found)


def raise_linear(nests_of_layer: Sequence[Nest]) -> Linear | None:
    """The linear layer that a layer's nests compute; None if they do not."""
    found = _contraction(nests_of_layer)
    return None if found is None else _linear(found)


def multiplies_parameters(nests_of_layer: Sequence[Nest]) -> bool:
    """Whether a layer adds up products with parameters, or might, as its nests are none that can be raised."""
    try:
        recipe = extract(nests_of_layer).recipe
    except IllegalTransform:
        return True
    return any(_products(recipe, statement) for statement in recipe.statements)


def output_extent(extent: int, kernel: int, stride: int, dilation: int, padding: Pair) -> int:
    """Rows (columns) of a convolution's output."""
    return (extent + sum(padding) - dilation * (kernel - 1) - 1) // stride + 1


@dataclass(frozen=True)
class _Contraction:
    """`result = bias + sum(source * weight)`, with the statements that set each up; buffers by number."""

    extraction: Extraction
    products: tuple[tuple[Load, Load, Load, Statement], ...]
    result: int
    output: int
    source: int
    weight: int
    bias: str | None

    @property
    def recipe(self) -> Recipe:
        return self.extraction.recipe

    def shape(self, buffer: int) -> tuple[int, ...]:
        return self.recipe.buffers[buffer].shape


def _contraction(nests_of_layer: Sequence[Nest]) -> _Contraction | None:
    try:
        extraction = extract(nests_of_layer)
    except IllegalTransform:
        return None
    recipe = extraction.recipe
    outputs = recipe.numbers("output")
    if len(outputs) != 1 or any(s.guards for s in recipe.statements):
        return None
    products: list[tuple[Load, Load, Load, Statement]] = []
    rest: list[Statement] = []
    for statement in recipe.statements:
        found = _products(recipe, statement)
        products += found
        if not found:
            rest.append(statement)
    buffers = {(p[0].buffer, p[1].buffer, p[2].buffer) for p in products}
    if len(buffers) != 1:
        return None
    ((result, source, weight),) = buffers
    bias = raise_bias(recipe, rest, result, outputs[0])
    if bias is None:
        return None
    return _Contraction(extraction, tuple(products), result, outputs[0], source, weight, bias or None)


def _products(recipe: Recipe, statement: Statement) -> list[tuple[Load, Load, Load, Statement]]:
    """The (target, source, weight) of a statement that only adds up products of an activation and a parameter."""
    found = accumulation(statement)
    if found is None or found[0] != "sum":
        return []
    result = []
    for term in found[1]:
        factors = flatten(term, "arith.mulf")
        weights = [f for f in factors if isinstance(f, Load) and recipe.buffers[f.buffer].kind == "parameter"]
        others = [f for f in factors if isinstance(f, Load) and f not in weights]
        if len(factors) != 2 or len(weights) != 1 or len(others) != 1:
            return []
        result.append((statement.target, others[0], weights[0], statement))
    return result


# -- convolutions


def _convolution(c: _Contraction) -> Convolution | None:
    source, weight, result = c.shape(c.source), c.shape(c.weight), c.shape(c.result)
    if len(source) != 4 or len(weight) != 4:
        return None
    joined = _joined(c, [(c.products[k][0].index, p[1].index, p[2].index) for k, p in enumerate(c.products)])
    if joined is None:
        return None
    rank = len(result)
    strides = c.recipe.buffers[c.result].strides
    found: dict[str, tuple[int, int, Vector, int]] = {}
    for vector, count in joined.generators:
        out = sum(x * s for x, s in zip(vector[:rank], strides, strict=True))
        iterator = _iterator(vector[:rank], vector[rank : rank + 4], vector[rank + 4 :])
        if iterator is None or iterator in found:
            return None
        found[iterator] = (out, count, vector[rank:], sum(vector[rank : rank + 4]))
    return _from_iterators(c, joined.base[rank:], found) if not any(joined.base[:rank]) else None


def _iterator(out: Vector, source: Vector, weight: Vector) -> str | None:
    """Which of a convolution's iterators moves these indices: n, g, co, oh, ow, ci, kh or kw."""
    axes = [k for k in range(4) if source[k]]
    weight_axes = [k for k in range(4) if weight[k]]
    if len(axes) > 1 or len(weight_axes) > 1:
        return None
    axis, weight_axis = (axes or [-1])[0], (weight_axes or [-1])[0]
    by_axes = {
        (True, 0, -1): "n",
        (True, 1, 0): "g",
        (True, -1, 0): "co",
        (True, 2, -1): "oh",
        (True, 3, -1): "ow",
        (False, 1, 1): "ci",
        (False, 2, 2): "kh",
        (False, 3, 3): "kw",
    }
    return by_axes.get((any(out), axis, weight_axis))


def _from_iterators(
    c: _Contraction, base: Vector, found: dict[str, tuple[int, int, Vector, int]]
) -> Convolution | None:
    def count(name: str) -> int:
        return found[name][1] if name in found else 1

    height, width, per_group = count("oh"), count("ow"), count("co")
    pixels, out_channels = height * width, count("g") * per_group
    expected = {"ow": 1, "oh": width, "co": pixels, "g": per_group * pixels, "n": out_channels * pixels}
    weight = c.shape(c.weight)
    consistent = (
        all(found[name][0] == step for name, step in expected.items() if name in found)
        and weight == (out_channels, count("ci"), count("kh"), count("kw"))
        and math.prod(c.shape(c.result)) == count("n") * out_channels * pixels
        and c.shape(c.source)[0] == count("n")
        and all(found[name][2][4:] == step for name, step in _weight_steps(per_group).items() if name in found)
        and not any(base[4:])
        and base[0] == 0
        and ("n" not in found or found["n"][3] == 1)
    )
    padded = _padding(c) if consistent else None
    if padded is None:
        return None
    first, group_step, channel_step = (
        base[1],
        found["g"][3] if "g" in found else 0,
        found["ci"][3] if "ci" in found else 1,
    )
    reads = [first + g * group_step + i * channel_step for g in range(count("g")) for i in range(count("ci"))]
    buffer, around, channel_offset, sizes = padded
    channels = tuple(r + channel_offset for r in reads)
    available = c.recipe.buffers[buffer].shape[1]
    kernel = (count("kh"), count("kw"))
    dilation = tuple(found[k][3] if k in found else 1 for k in ("kh", "kw"))
    known = [found[name][3] if name in found else None for name in ("oh", "ow")]
    reaches = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    rows, columns = (
        _steps(sizes[k], reaches[k], (height, width)[k], known[k], around[k], base[2 + k]) for k in range(2)
    )
    result = Convolution(
        kernel=kernel,
        stride=(rows[0], columns[0]),
        dilation=(dilation[0], dilation[1]),
        padding=(rows[1], columns[1]),
        groups=count("g"),
        in_channels=len(channels),
        out_channels=out_channels,
        input_size=sizes,
        output_size=(height, width),
        channels=None if channels == tuple(range(available)) else channels,
        weight=c.recipe.buffers[c.weight].name,
        bias=c.bias,
        input=c.extraction.memrefs[buffer],
        output=c.extraction.memrefs[c.output],
        source_channels=available,
    )
    return result if result.equals(result.stride, result.dilation, result.padding) else None


def _steps(size: int, reach: int, count: int, stride: int | None, around: Pair, first: int) -> tuple[int, Pair]:
    """The stride along an axis, and the zeros to add so that there are just as many windows.

    Args:
        size: rows of the input.
        reach: rows that a window spans.
        count: the number of windows.
        stride: rows from one to the next; None where there is just one.
        around: zeros around the input.
        first: where the first window begins, counted from the first of these zeros.
    """
    before = around[0] - first
    if stride is None:
        stride = max(1, size + sum(around) - first - reach + 1)
    least = stride * (count - 1) + reach - size - before
    if first == 0 and least <= around[1] < least + stride:
        return stride, around
    after = next((n for n in (before, 0) if least <= n < least + stride), least if least > 0 else least + stride - 1)
    return stride, (before, after)


def _weight_steps(per_group: int) -> dict[str, Vector]:
    return {
        "g": (per_group, 0, 0, 0),
        "co": (1, 0, 0, 0),
        "ci": (0, 1, 0, 0),
        "kh": (0, 0, 1, 0),
        "kw": (0, 0, 0, 1),
    }


def _padding(c: _Contraction) -> tuple[int, tuple[Pair, Pair], int, Pair] | None:
    """Through the padding nests: the input's buffer, the zeros around it, the channel offset and the size."""
    shape = c.shape(c.source)
    writers = [s for s in c.recipe.statements if s.target.buffer == c.source]
    if not writers:
        return c.source, ((0, 0), (0, 0)), 0, (shape[2], shape[3])
    fills = [s for s in writers if not isinstance(s.value, Load)]
    copies = [s for s in writers if isinstance(s.value, Load)]
    buffers = {s.value.buffer for s in copies if isinstance(s.value, Load)}
    if len(buffers) != 1 or (fills and added(c.recipe, fills, c.source, None) != ""):
        return None
    (buffer,) = buffers
    inner = c.shape(buffer)
    boxes = [access_block([*s.target.index, *s.value.index], s.extent_of) for s in copies if isinstance(s.value, Load)]
    joined = union(b for b in boxes if b is not None) if None not in boxes else None
    if joined is None or len(inner) != 4 or c.recipe.buffers[buffer].kind != "input":
        return None
    counts = [1, 1, 1, 1]
    for vector, n in joined.generators:
        axes = [k for k in range(4) if vector[k] == 1 and vector[4 + k] == 1]
        if len(axes) != 1 or sum(map(abs, vector)) != 2:
            return None
        counts[axes[0]] = n
    offset, start = joined.base[:4], joined.base[4:]
    whole = [counts[k] == inner[k] and start[k] == 0 for k in (0, 2, 3)]
    if not all(whole) or offset[:2] != (0, 0) or counts[:2] != list(shape[:2]):
        return None
    around = [(offset[k], shape[k] - offset[k] - counts[k]) for k in (2, 3)]
    if not fills and any(map(any, around)):
        return None
    return buffer, (around[0], around[1]), start[1], (inner[2], inner[3])


# -- linear layers


def _linear(c: _Contraction) -> Linear | None:
    weight, buffers = c.shape(c.weight), c.recipe.buffers
    if len(weight) != 2 or buffers[c.source].kind != "input":
        return None
    joined = _joined(c, [tuple((load.address(buffers),) for load in p[:3]) for p in c.products])
    if joined is None or any(joined.base):
        return None
    out_features, in_features = weight
    size, total = math.prod(c.shape(c.source)), math.prod(c.shape(c.result))
    rows = total // out_features
    source_features = size // rows
    expected = {
        ((out_features, source_features, 0), rows),
        ((1, 0, in_features), out_features),
        ((0, 1, 1), in_features),
    }
    if set(joined.generators) != {g for g in expected if g[1] != 1} or source_features < in_features:
        return None
    return Linear(
        in_features=in_features,
        out_features=out_features,
        source_features=source_features,
        weight=buffers[c.weight].name,
        bias=c.bias,
        input=c.extraction.memrefs[c.source],
        output=c.extraction.memrefs[c.output],
    )


def _joined(c: _Contraction, indices: Sequence[tuple[tuple[Form, ...], ...]]) -> AccessBlock | None:
    """The index tuples of all products as one box."""
    boxes = [
        access_block([f for index in tuples for f in index], p[3].extent_of)
        for tuples, p in zip(indices, c.products, strict=True)
    ]
    return union(b for b in boxes if b is not None) if None not in boxes else None
