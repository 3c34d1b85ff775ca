"""From the scalar convolution to the nest that a hand-written kernel would have, by passes alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from jit import run_affine
from loop_programs import Program, program
from torch_mlir import ir

from loopmorph.passes.address import find_nest
from loopmorph.passes.loop.interchange import Interchange
from loopmorph.passes.loop.promote import Promote
from loopmorph.passes.loop.unroll import Unroll
from loopmorph.passes.loop.unroll_jam import UnrollJam
from loopmorph.passes.loop.vectorize import Vectorize
from loopmorph.passes.transformation import Transformation

LANES = 16
ORDER = ("co.0.0", "oh", "ow.0", "ci.0", "kh", "kw", "ci.1", "ow.1", "co.0.1", "co.1")


def blocked_convolution(channels: tuple[int, int], size: int, pixels: int, blocks: int, stride: int) -> Program:
    """3x3; channels in blocks of 16: x[ci.0][h][w][16], w[co.0][ci.0][kh][kw][16 ci][16 co], y[co.0][h][w][16]."""
    n_in, n_out = (c // LANES for c in channels)
    reach = (size - 1) * stride + 3
    co, row = f"%co.0.0 * {blocks} + %co.0.1", f"%ow.0 * {pixels} + %ow.1"
    return program(
        {
            **{"co.0.0": n_out // blocks, "oh": size, "ow.0": size // pixels, "co.0.1": blocks, "co.1": LANES},
            **{"ow.1": pixels, "ci.0": n_in, "ci.1": LANES, "kh": 3, "kw": 3},
        },
        f"""%a = affine.load %x[%ci.0, %oh * {stride} + %kh, ({row}) * {stride} + %kw, %ci.1] : {{x}}
        %b = affine.load %w[{co}, %ci.0, %kh, %kw, %ci.1, %co.1] : {{w}}
        %c = affine.load %y[{co}, %oh, {row}, %co.1] : {{y}}
        %p = arith.mulf %a, %b : f32
        %s = arith.addf %c, %p : f32
        affine.store %s, %y[{co}, %oh, {row}, %co.1] : {{y}}""",
        {
            "x": (n_in, reach, reach, LANES),
            "w": (n_out, n_in, 3, 3, LANES, LANES),
            "y": (n_out, size, size, LANES),
        },
    )


def schedule(pixels: int, blocks: int, unrolled: int) -> list[Transformation]:
    return [
        Interchange("net", ORDER),
        UnrollJam("net", "co.0.1", blocks),
        UnrollJam("net", "ow.1", pixels),
        Vectorize("net", "co.1", LANES),
        Unroll("net", "ci.1", unrolled),
        Promote("net"),
    ]


@pytest.mark.parametrize("stride", [1, 2])
def test_accumulation_in_vector_registers(stride):
    pixels, blocks, size, channels = 4, 2, 8, (32, 64)
    source = blocked_convolution(channels, size, pixels, blocks, stride)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((channels[0], source.shapes[0][1], source.shapes[0][2]), dtype=np.float32)
    w = rng.standard_normal((channels[1], channels[0], 3, 3), dtype=np.float32)
    packed_x = x.reshape(-1, LANES, *x.shape[1:]).transpose(0, 2, 3, 1)
    packed_w = w.reshape(-1, LANES, channels[0] // LANES, LANES, 3, 3).transpose(0, 2, 4, 5, 3, 1)
    y = np.zeros(source.shapes[2], np.float32)
    with ir.Context(), ir.Location.unknown():
        module = ir.Module.parse(source.text)
        for step in schedule(pixels, blocks, 4):
            step.apply(module.operation)
        nest = find_nest(module.operation, "net")
        assert nest.iterators == ("co.0.0", "oh", "ow.0", "ci.0", "kh", "kw", "ci.1")
        registers = pixels * blocks
        assert [len(loop.op.operation.results) for loop in nest.loops] == [0, 0, 0, *[registers] * 4]
        assert [nest.iterators[a.loops[-1]] for a in nest.stores] == ["ow.0"] * registers
        assert all(a.lanes == LANES for a in nest.stores)
        got = run_affine(module.operation, [packed_x, packed_w, y])[2]
    wanted = torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(w), stride=stride).numpy()
    unpacked = got.transpose(0, 3, 1, 2).reshape(wanted.shape)
    np.testing.assert_allclose(unpacked, wanted, rtol=1e-4, atol=1e-4)
