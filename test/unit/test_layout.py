"""Copies forwarded, memrefs packed, whole networks in blocked layouts: the same values, and less to do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jit import run_affine
from networks import Dense, Plain, Residual, Separable
from torch import nn
from torch_mlir import ir
from torch_mlir.passmanager import PassManager
from transformed import network

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import simplify
from loopmorph.passes.analysis.memory.box import Box, remainder, whole
from loopmorph.passes.building.layout import Blocking, cuts_for
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.layout.forward_copies import ForwardCopies
from loopmorph.passes.loop.pack import Pack
from loopmorph.passes.nest import Nest, functions, nests
from loopmorph.pipelines.network import copy_module
from loopmorph.pipelines.program import Program

FOLD = "morph-fold-scale,morph-fuse-elementwise"
FORWARD = f"{FOLD},morph-forward-copies"


class Inception(nn.Module):
    """Branches of odd channel counts, concatenated, read by a padded convolution, a pool and a plain one."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 20, 3, padding=1)
        self.right = nn.Conv2d(3, 12, 1)
        self.padded = nn.Conv2d(32, 100, 3, padding=1)
        self.plain = nn.Conv2d(32, 16, 1)
        self.linear = nn.Linear(116, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = torch.cat([self.left(x), self.right(x)], 1)
        ends = torch.cat([self.padded(both), self.plain(both)], 1)
        return self.linear(ends.amax((2, 3)) + torch.relu(ends).mean((2, 3)))


class Dilated(nn.Module):
    """A transposed convolution spreads its input over every second element of a zero-filled image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 8, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(self.conv(x))


def output(program: Program) -> np.ndarray:
    """What the program computes for its example input."""
    module = copy_module(program.module)
    with module.context:
        PassManager.parse("builtin.module(func.func(math-expand-ops{ops=rsqrt}))").run(module.operation)
    return run_affine(module.operation, _arguments(program))[-1]


def _arguments(program: Program) -> list[np.ndarray]:
    (main,) = functions(program.module.operation)
    arrays = []
    for argument, attributes in zip(main.entry_block.arguments, marks.argument_marks(main), strict=True):
        if marks.PARAM in attributes:
            arrays.append(program.parameters[ir.StringAttr(attributes[marks.PARAM]).value].detach().numpy())
        elif marks.INPUT in attributes:
            arrays.append(program.example_inputs[0].numpy())
        else:
            arrays.append(np.full(ir.MemRefType(argument.type).shape, np.nan, np.float32))
    return arrays


def check(model: type[nn.Module], pipeline: str, size: int = 8, batch: int = 1) -> Program:
    """The program after the pipeline, which computes what the model does."""
    program = network(model, size, batch)
    changed = program.apply(pipeline)
    assert changed.module.operation.verify()
    with torch.no_grad():
        wanted = program.model(program.example_inputs[0]).numpy()
    got = output(changed)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    return changed


def views(program: Program) -> list[Nest]:
    return nests(program.module.operation)


def copies(program: Program) -> int:
    """Nests that move elements of one activation to another and do nothing else."""
    activations = [n for n in views(program) if len(n.loops) > 2 and len(n.accesses) == 2 and len(n.body) == 2]
    return sum(len(set(n.body[1].operands) & set(n.body[0].results)) for n in activations if n.loads and n.stores)


def buffers(program: Program) -> list[tuple[int, ...]]:
    """Shapes of the local memrefs of rank 4 or more."""
    made = {a.memref for nest in views(program) for a in nest.accesses if not isinstance(a.memref.owner, ir.Block)}
    return sorted(s for m in made if len(s := tuple(ir.MemRefType(m.type).shape)) > 3)


def has_division(program: Program) -> bool:
    return "floordiv" in str(program) or " mod " in str(program)


# ---- forward-copies


@pytest.mark.parametrize(("model", "size"), [(Residual, 8), (Residual, 13), (Separable, 7), (Plain, 8)])
def test_forwarding_leaves_no_copy_but_that_of_the_input(model, size):
    after = check(model, FORWARD, size)
    assert copies(after) <= 1 + sum(nest.role == "init" for nest in views(after) if nest.loads)
    assert not [n for n in views(after) if n.role == "pad" and len(n.body) == 2 and n.layer != "conv1"]


def test_a_dense_block_shares_one_memref():
    before = network(Dense, 7).apply(FOLD)
    after = check(Dense, FORWARD, 7)
    assert [n for n in views(before) if n.role == "copy"]
    assert not [n for n in views(after) if n.role == "copy"]
    assert (
        len(buffers(after)) == len(buffers(before)) - 4
    )  # the first layer's result, the new channels twice, the first concatenation
    assert (1, 16, 7, 7) in buffers(after)


def test_a_concatenation_that_is_padded_is_computed_inside_the_padding():
    after = check(Inception, FORWARD, 7, batch=2)
    assert not [n for n in views(after) if n.role == "copy"]
    assert (2, 32, 9, 9) in buffers(after)
    assert (2, 32, 7, 7) not in buffers(after)


def test_every_second_element_of_a_filled_image():
    before = network(Dilated, 5).apply(FOLD)
    after = check(Dilated, FORWARD, 5)
    assert (copies(before), copies(after)) == (5, 4)


def test_padding_is_written_once():
    after = check(Residual, FORWARD, 8)
    writes = [n for n in views(after) if n.layer == "block1.conv1" and n.role == "init" and not n.loads]
    assert sum(n.points for n in writes) == 8 * (10 * 10 - 8 * 8)


boxes = st.tuples(st.integers(0, 4), st.integers(1, 4), st.integers(0, 4), st.integers(1, 4)).map(
    lambda t: Box((t[0], t[2]), (t[0] + t[1], t[2] + t[3]))
)


@given(st.lists(boxes, max_size=4))
def test_a_box_without_holes_is_covered_once(holes):
    counts = np.zeros((6, 7), dtype=int)
    for piece in remainder(whole((6, 7)), holes):
        counts[tuple(slice(b, e) for b, e in zip(piece.begin, piece.end, strict=True))] += 1
    wanted = np.ones_like(counts)
    for hole in holes:
        wanted[tuple(slice(b, e) for b, e in zip(hole.begin, hole.end, strict=True))] = 0
    np.testing.assert_array_equal(counts, wanted)


@st.composite
def copied(draw: st.DrawFn) -> str:
    """x in t, t copied to a part of y, which was filled before or is written again; both are read at the end."""
    n, low, high = draw(st.integers(1, 4)), draw(st.integers(0, 2)), draw(st.integers(0, 2))
    stride, size = draw(st.integers(1, 2)), 12
    middle = f"""affine.for %i = 0 to {n} {{
        %a = affine.load %t[%i] : memref<{n}xf32>
        affine.store %a, %y[%i * {stride} + {low}] : memref<{size}xf32> }}"""
    begin = draw(st.integers(0, 5))
    steps = {
        "fill": f"affine.for %i = 0 to {size} {{ affine.store %zero, %y[%i] : memref<{size}xf32> }}",
        "part": f"affine.for %i = 0 to 3 {{ affine.store %one, %y[%i + {begin}] : memref<{size}xf32> }}",
        "scale": f"""affine.for %i = 0 to 3 {{ %a = affine.load %y[%i + {begin}] : memref<{size}xf32>
            %b = arith.addf %a, %one : f32  affine.store %b, %y[%i + {begin}] : memref<{size}xf32> }}""",
        "again": f"""affine.for %i = 0 to {n} {{ %a = affine.load %t[%i] : memref<{n}xf32>
            %b = arith.addf %a, %a : f32  affine.store %b, %t[%i] : memref<{n}xf32> }}""",
        "use": f"""affine.for %i = 0 to {n} {{ %a = affine.load %t[%i] : memref<{n}xf32>
            %b = arith.addf %a, %one : f32  affine.store %b, %u[%i] : memref<8xf32> }}""",
        "peek": f"""affine.for %i = 0 to 4 {{ %a = affine.load %y[%i + {high}] : memref<{size}xf32>
            affine.store %a, %u[%i + 4] : memref<8xf32> }}""",
    }
    names = st.lists(st.sampled_from(sorted(steps)), max_size=3, unique=True)
    before, between, after = (draw(names) for _ in range(3))
    return f"""func.func @main(%x: memref<{n}xf32> {{morph.input = 0 : i64}},
          %out: memref<{size}xf32> {{morph.output = 0 : i64}}, %u: memref<8xf32> {{morph.output = 1 : i64}}) {{
        %zero = arith.constant 0.0 : f32
        %t = memref.alloc() : memref<{n}xf32>
        %y = memref.alloc() : memref<{size}xf32>
        {steps["fill"]}
        {" ".join(steps[s] for s in before if s not in ("again", "use")).replace("%one", "%zero")}
        %one = arith.constant 1.0 : f32
        affine.for %i = 0 to {n} {{ %a = affine.load %x[%i] : memref<{n}xf32>
          %b = arith.addf %a, %one : f32  affine.store %b, %t[%i] : memref<{n}xf32> }}
        {" ".join(steps[s] for s in between)}
        {middle}
        {" ".join(steps[s] for s in after)}
        affine.for %i = 0 to {size} {{ %a = affine.load %y[%i] : memref<{size}xf32>
          %b = arith.addf %a, %a : f32  affine.store %b, %out[%i] : memref<{size}xf32> }}
        return }}"""


@settings(max_examples=30, deadline=None)
@given(copied())
def test_forwarding_keeps_the_values_whatever_else_happens_to_the_memrefs(text):
    with ir.Context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        n = ir.MemRefType(module.body.operations[0].arguments[0].type).shape[0]
        arrays = [np.arange(1, n + 1, dtype=np.float32), np.zeros(12, np.float32), np.zeros(8, np.float32)]
        ForwardCopies().run(module.operation)
        assert module.operation.verify()
        for got, wanted in zip(run_affine(str(module), arrays), run_affine(text, arrays), strict=True):
            np.testing.assert_array_equal(got, wanted)


# ---- pack


@pytest.mark.parametrize(
    ("operand", "axes", "factors"),
    [("output", (1,), (4,)), ("input", (1,), (8,)), ("weight", (1, 0), (4, 8)), ("output", (1, 3), (2, 4))],
)
def test_packing_keeps_values(operand, axes, factors):
    after = check(Residual, f"{FOLD},{Pack('block1.conv2', operand, axes, factors)}")
    assert after.steps[-1] == str(Pack("block1.conv2", operand, axes, factors))


def test_a_packed_parameter_is_a_copy_that_depends_on_parameters_alone():
    after = check(Dense, "morph-pack{layer=layer1.conv2 operand=weight axes=1,0 factors=8,4}")
    (pack,) = [n for n in views(after) if n.role == "pack"]
    assert pack.layer == "layer1.conv2"
    assert after.parameters["layer1.conv2.weight"].shape == (4, 8, 3, 3)
    assert (1, 1, 3, 3, 8, 4) in buffers(after)


@pytest.mark.parametrize(
    ("transformation", "error", "match"),
    [
        (Pack("conv1", "output", (1,), (3,)), IllegalTransform, "'conv1': 3 does not divide 8, the extent of axis 1"),
        (Pack("conv1", "output", (4,), (2,)), ArgumentError, "the output of layer 'conv1' has axes 0 to 3, not 4"),
        (Pack("nowhere", "output", (1,), (2,)), ArgumentError, "no layer 'nowhere'"),
        (Pack("relu", "weight", (1,), (2,)), IllegalTransform, "which memref is its weight is not clear"),
    ],
)
def test_packing_is_refused_with_a_reason(transformation, error, match):
    program = network(Residual)
    before = str(program)
    with pytest.raises(error, match=match):
        transformation.apply(program.module.operation)
    assert str(program) == before


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (("sum", (1,), (4,)), "expected one of output, input, weight, got 'sum'"),
        (("output", (), ()), "expected one or more different axes, got none"),
        (("output", (1, 1), (4, 4)), "expected one or more different axes, got 1,1"),
        (("output", (1, 2), (4,)), "expected one factor for each of 2 axes: got 1"),
        (("output", (1,), (1,)), "expected factors of at least 2, got 1"),
    ],
)
def test_pack_checks_its_options(options, match):
    with pytest.raises(ArgumentError, match=match):
        Pack("conv1", *options)


# ---- blocked layout


@pytest.mark.parametrize("forward", [FOLD, FORWARD])
@pytest.mark.parametrize(
    ("model", "size", "width"),
    [(Residual, 8, 4), (Residual, 13, 8), (Dense, 7, 4), (Separable, 7, 4), (Separable, 8, 8), (Inception, 7, 16)],
)
def test_blocked_networks_compute_the_same(model, size, width, forward):
    after = check(model, f"{forward},morph-blocked-layout{{width={width}}}", size)
    assert not has_division(after)
    assert any(shape[-1] == width and len(shape) >= 5 for shape in buffers(after))


def test_blocked_layout_of_a_residual_network():
    after = check(Residual, f"{FORWARD},morph-blocked-layout{{width=8}}", batch=2)
    assert (2, 1, 8, 8, 8) in buffers(after)
    assert (2, 2, 6, 6, 8) in buffers(after)
    assert (2, 2, 3, 3, 8, 8) in buffers(after)  # a weight of 16 x 16 channels, blocked by input and output channel
    assert (1, 3, 3, 3, 8) in buffers(after)  # the first layer's, whose 3 input channels stay
    assert (2, 3, 10, 10) in buffers(after)


def test_depthwise_and_grouped_weights_have_the_channel_last():
    after = check(Separable, f"{FORWARD},morph-blocked-layout{{width=8}}")
    assert (2, 1, 3, 3, 8) in buffers(after)
    assert (2, 4, 3, 3, 8) in buffers(after)


def test_channels_that_the_width_does_not_divide_stay():
    after = check(Inception, f"{FORWARD},morph-blocked-layout", 13)
    assert (1, 32, 15, 15) in buffers(after)  # its parts of 20 and 12 channels would straddle blocks
    assert (1, 116, 13, 13) in buffers(after)
    assert (2, 2, 3, 3, 16, 16) not in buffers(after)
    assert (1, 2, 1, 1, 16, 16) in buffers(after)  # the plain convolution's weight


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([1, 2, 3, 4, 8, 16]), st.integers(1, 32)), min_size=1, max_size=3),
    st.integers(0, 32),
    st.sampled_from([4, 8]),
)
def test_cuts_make_every_index_free_of_division(terms, constant, width):
    with ir.Context(), ir.Location.unknown():
        expr = ir.AffineExpr.get_constant(constant)
        for d, (coefficient, _) in enumerate(terms):
            expr = expr + ir.AffineExpr.get_dim(d) * coefficient
        cuts = cuts_for(expr, [extent for _, extent in terms], width)
        if cuts is None:
            return
        limits, old = [], []
        for d, (_, extent) in enumerate(terms):
            inner = cuts.get(d, 1)
            assert extent % inner == 0
            old.append(ir.AffineExpr.get_dim(len(limits)) * inner + ir.AffineExpr.get_dim(len(limits) + 1))
            limits += [extent // inner, inner]
        new = expr.compose(ir.AffineMap.get(len(limits), 0, old))
        text = " ".join(str(simplify(e, limits)) for e in Blocking((0,), (width,)).exprs([new]))
        assert "floordiv" not in text
        assert " mod " not in text
