"""Raising: what a layer's nests compute is told however they are scheduled."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch_mlir import ir

import loopmorph as lm
from loopmorph.passes.address import layer_nests
from loopmorph.passes.affine_expr import evaluate
from loopmorph.passes.raising import index_forms as forms
from loopmorph.passes.raising.access_blocks import AccessBlock, access_block, union
from loopmorph.passes.raising.affine_forms import from_expr
from loopmorph.passes.raising.raise_nest import Convolution, Linear, raise_convolution, raise_linear

CONVOLUTIONS = {
    "plain": {"args": (3, 4, 3)},
    "padded": {"args": (3, 4, 3), "padding": 1},
    "strided with bias": {"args": (4, 6, 3), "stride": 2, "padding": 1, "bias": True},
    "dilated": {"args": (3, 4, 3), "dilation": 2, "padding": 2},
    "oblong": {"args": (3, 4, (3, 5)), "stride": (2, 1), "padding": (0, 2), "bias": True},
    "pointwise": {"args": (5, 7, 1)},
    "pointwise strided": {"args": (5, 7, 1), "stride": 2, "bias": True},
    "grouped": {"args": (4, 6, 3), "groups": 2, "padding": 1, "bias": True},
    "depthwise": {"args": (4, 4, 3), "groups": 4, "padding": 1},
    "depthwise multiplied": {"args": (4, 8, 3), "groups": 4, "padding": 1, "bias": True},
    "one group channel": {"args": (2, 6, 3), "groups": 2},
    "same": {"args": (2, 3, 4), "padding": "same"},
    "one channel": {"args": (1, 1, 3), "padding": 1},
}


def convolution(name: str) -> nn.Conv2d:
    options = {"bias": False, **CONVOLUTIONS[name]}
    return nn.Conv2d(*options.pop("args"), **options)


def program(layer: nn.Module, *shape: int) -> lm.Program:
    return lm.import_model(nn.Sequential(layer), (torch.randn(*shape),))


def raised(p: lm.Program, layer: str = "0") -> Convolution | None:
    return raise_convolution(layer_nests(p.module.operation, layer))


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_is_raised_with_the_attributes_that_it_was_made_with(name: str) -> None:
    layer = convolution(name)
    result = raised(program(layer, 3, layer.in_channels, 9, 10))
    assert result is not None
    left, right, top, bottom = layer._reversed_padding_repeated_twice
    assert (result.kernel, result.stride, result.dilation) == (layer.kernel_size, layer.stride, layer.dilation)
    assert result.padding == ((top, bottom), (left, right))
    assert (result.groups, result.in_channels, result.out_channels) == (
        layer.groups,
        layer.in_channels,
        layer.out_channels,
    )
    assert (result.weight, result.bias) == ("0.weight", "0.bias" if layer.bias is not None else None)
    assert result.channels is None


def test_a_single_output_pixel_leaves_the_stride_open() -> None:
    result = raised(program(nn.Conv2d(2, 3, 3, stride=2), 1, 2, 4, 3))
    assert result is not None
    assert result.output_size == (1, 1)
    assert result.equals((2, 2), (1, 1), ((0, 0), (0, 0)))
    assert not result.equals((1, 2), (1, 1), ((0, 0), (0, 0)))  # would give two rows


SCHEDULES = {
    "split": "morph-split{layer=0 iter=ow factor=4}",
    "split with a remainder": "morph-split{layer=0 iter=oh factor=3}",
    "split twice": "morph-split{layer=0 iter=ow factor=4},morph-split{layer=0 iter=ow.1 factor=2}",
    "interchange": "morph-interchange{layer=0 order=kw,ci,co,oh,n,kh,ow}",
    "tile": "morph-tile{layer=0 iters=co,ci sizes=4,2}",
    "fuse": "morph-fuse{layer=0 iters=oh,ow}",
    "fuse and split": "morph-fuse{layer=0 iters=oh,ow},morph-split{layer=0 iter=oh_ow factor=16}",
    "unroll a reduction": "morph-unroll{layer=0 iter=kw factor=3}",
    "unroll the outer loop": "morph-unroll{layer=0 iter=co factor=4}",
    "unroll and jam": "morph-unroll-jam{layer=0 iter=co factor=4}",
    "unroll twice": "morph-unroll{layer=0 iter=kw factor=3},morph-unroll{layer=0 iter=kh factor=3}",
}


@pytest.fixture(scope="module")
def scheduled() -> lm.Program:
    return program(nn.Conv2d(4, 8, 3, padding=1), 1, 4, 8, 8)


@pytest.mark.parametrize("name", SCHEDULES)
def test_loop_transformations_do_not_hide_a_convolution(scheduled: lm.Program, name: str) -> None:
    text = SCHEDULES[name]
    if name == "fuse and split":
        fused = scheduled.apply(text.split("},")[0] + "}")
        iterator = next(i for i in fused.layers[0].extents if "oh" in i)
        text = text.replace("oh_ow", iterator)
    assert raised(scheduled.apply(text)) == raised(scheduled)


@pytest.mark.parametrize(
    "schedule", ["", ",morph-split{layer=0 iter=ow factor=4}", ",morph-unroll{layer=0 iter=kw factor=3}"]
)
def test_grouping_is_told_by_the_shared_iterator(scheduled: lm.Program, schedule: str) -> None:
    result = raised(scheduled.apply("morph-group{layer=0 iters=co,ci factor=2}" + schedule))
    assert result is not None
    assert (result.groups, result.in_channels, result.out_channels, result.channels) == (2, 4, 8, None)


def test_an_input_bottleneck_reads_the_first_channels(scheduled: lm.Program) -> None:
    p = lm.import_model(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 3, padding=1)), (torch.randn(1, 3, 8, 8),))
    result = raised(p.apply("morph-bottleneck{layer=1 iter=ci factor=2}"), "1")
    assert result is not None
    assert (result.channels, result.in_channels, result.padding) == ((0, 1), 2, ((1, 1), (1, 1)))


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_is_raised_also_through_a_flattened_activation(bias: bool) -> None:
    model = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2 * 3 * 3, 5, bias=bias))
    p = lm.import_model(model, (torch.randn(2, 2, 6, 6),))
    result = raise_linear(layer_nests(p.module.operation, "2"))
    assert isinstance(result, Linear)
    assert (result.in_features, result.out_features, result.source_features) == (18, 5, 18)
    assert (result.weight, result.bias) == ("2.weight", "2.bias" if bias else None)
    split = p.apply("morph-split{layer=2 iter=ci factor=6}")
    assert raise_linear(layer_nests(split.module.operation, "2")) == result


@pytest.mark.parametrize(
    "layer",
    [
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.BatchNorm2d(3),
    ],
    ids=lambda m: type(m).__name__,
)
def test_what_is_no_convolution_is_not_raised(layer: nn.Module) -> None:
    p = program(layer, 1, 3, 6, 6)
    for name in {x.name for x in p.layers}:
        nests = layer_nests(p.module.operation, name)
        assert raise_convolution(nests) is None
        assert raise_linear(nests) is None


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (r"(%\w+) \* 2 \+ (%\w+), (%\w+) \* 2 \+ (%\w+)\]", r"\1 * 2 + \2, \3 * 2 + \2]"),
        (r"arith.addf (%\w+), (%\w+)", r"arith.subf \1, \2"),
        (r"arith.mulf (%\w+), (%\w+)", r"arith.addf \1, \2"),
        (r"arith.constant 0.0+e\+00", r"arith.constant 1.0e+00"),
    ],
    ids=["kernel row used as column", "subtracted", "not multiplied", "started from one"],
)
def test_an_edited_nest_is_no_convolution_any_more(pattern: str, replacement: str) -> None:
    p = program(nn.Conv2d(3, 4, 3, stride=2, bias=False), 1, 3, 9, 9)
    edited, count = re.subn(pattern, replacement, str(p))
    assert count == 1
    module = ir.Module.parse(edited, p.module.context)
    assert raise_convolution(layer_nests(module.operation, "0")) is None


# -- the parts


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_plain_forms_evaluate_like_mlir_expressions(data: st.DataObject) -> None:
    extents = data.draw(st.lists(st.integers(1, 7), min_size=2, max_size=3))
    with ir.Context():
        dims = [ir.AffineExpr.get_dim(d) for d in range(len(extents))]

        def expression(depth: int) -> ir.AffineExpr:
            kind = data.draw(
                st.sampled_from(["dim", "const", "+", "*", "floordiv", "mod", "ceildiv"] if depth else ["dim"])
            )
            if kind == "dim":
                return data.draw(st.sampled_from(dims))
            if kind == "const":
                return ir.AffineExpr.get_constant(data.draw(st.integers(-9, 9)))
            left = expression(depth - 1)
            if kind == "+":
                return left + expression(depth - 1)
            if kind == "*":
                return left * data.draw(st.integers(-4, 8))
            build = {
                "floordiv": ir.AffineExpr.get_floor_div,
                "mod": ir.AffineExpr.get_mod,
                "ceildiv": ir.AffineExpr.get_ceil_div,
            }[kind]
            return build(left, ir.AffineExpr.get_constant(data.draw(st.integers(1, 8))))

        expr = expression(3)
        ranges = dict(enumerate(extents))
        form = from_expr(expr, [forms.loop(d) for d in ranges], ranges)
        grids = np.meshgrid(*[np.arange(e) for e in extents], indexing="ij")
        want = np.broadcast_to(evaluate(expr, grids), extents)
        got = np.broadcast_to(forms.evaluate(form, grids.__getitem__, np.int64(0)), extents)
        np.testing.assert_array_equal(got, want)
        low, high = forms.bounds(form, ranges)
        assert low <= want.min() and want.max() <= high


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_boxes_that_cut_one_up_join_to_it_again(data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(2, 8), min_size=1, max_size=3))
    whole = AccessBlock((0,) * len(counts), tuple(_unit(len(counts), k, n) for k, n in enumerate(counts)))
    pieces = [whole]
    for axis in data.draw(st.permutations(range(len(counts)))):
        if data.draw(st.booleans()):  # unrolled: one box for each index
            pieces = [_fixed(p, axis, k) for p in pieces for k in range(counts[axis])]
        elif data.draw(st.booleans()):  # a main part and a remainder
            cut = data.draw(st.integers(1, counts[axis] - 1))
            pieces = [q for p in pieces for q in _cut(p, axis, cut)]
    points = sorted(t for p in pieces for t in _points(p))
    assert points == sorted(_points(whole))
    joined = union(pieces)
    if joined is not None:
        assert sorted(_points(joined)) == points
    if all(len(p.generators) == len(pieces[0].generators) for p in pieces) and len(pieces) == 1:
        assert joined == pieces[0]


def test_split_loops_make_one_generator() -> None:
    split = access_block([forms.add(forms.loop(0, 4), forms.loop(1)), forms.loop(2)], {0: 3, 1: 4, 2: 5})
    assert split == access_block([forms.loop(7), forms.loop(2)], {7: 12, 2: 5})


def test_points_that_come_twice_are_not_taken_for_one() -> None:
    once = AccessBlock((0,), (((1,), 4),))
    assert union([once]) == once
    assert union([once, once]) is None


def _unit(rank: int, axis: int, count: int) -> tuple[tuple[int, ...], int]:
    return tuple(int(k == axis) for k in range(rank)), count


def _fixed(b: AccessBlock, axis: int, index: int) -> AccessBlock:
    base = tuple(x + index * (k == axis) for k, x in enumerate(b.base))
    return AccessBlock(base, tuple(g for g in b.generators if not g[0][axis]))


def _cut(b: AccessBlock, axis: int, cut: int) -> list[AccessBlock]:
    (generator,) = [g for g in b.generators if g[0][axis]]
    others = [g for g in b.generators if g is not generator]

    def part(start: int, count: int) -> AccessBlock:
        base = tuple(x + start * (k == axis) for k, x in enumerate(b.base))
        return AccessBlock(base, tuple(sorted([*others, (generator[0], count)] if count > 1 else others)))

    return [part(0, cut), part(cut, generator[1] - cut)]


def _points(b: AccessBlock) -> list[tuple[int, ...]]:
    ranges = [range(n) for _, n in b.generators]
    vectors = [v for v, _ in b.generators]
    return [
        tuple(x + sum(k * v[axis] for k, v in zip(ks, vectors, strict=True)) for axis, x in enumerate(b.base))
        for ks in itertools.product(*ranges)
    ]
