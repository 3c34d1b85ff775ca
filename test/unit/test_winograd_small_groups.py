"""Winograd's filtering of groups of fewer output channels than a vector has: their products fill whole vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from jit import run_affine
from loop_programs import program
from torch import nn
from torch_mlir import ir

from loopmorph.passes.address import find_nest, layer_nests
from loopmorph.passes.analysis.contraction_nest import split_lane
from loopmorph.passes.loop.winograd import WinogradFiltering
from loopmorph.passes.scheduling.algorithm import winograd_tile
from loopmorph.passes.scheduling.contraction_schedules import transform_schedule
from loopmorph.passes.target.target import named_target
from loopmorph.pipelines.compile import compile
from loopmorph.pipelines.program import import_model

pytestmark = pytest.mark.usefixtures("context")

AVX2 = named_target("x86-64-v3")
SHAPES = {"x": (4, 18, 14, 8), "w": (2, 8, 3, 3, 2, 4), "y": (2, 16, 12, 8)}
BODY = """%a = affine.load %x[%g0 * 2 + %g1, %oh + %kh, %ow + %kw, %ci] : {x}
    %b = affine.load %w[%g0, %ci, %kh, %kw, %g1, %co] : {w}
    %d = affine.load %y[%g0, %oh, %ow, %g1 * 4 + %co] : {y}
    %p = arith.mulf %a, %b : f32
    %s = arith.addf %d, %p : f32
    affine.store %s, %y[%g0, %oh, %ow, %g1 * 4 + %co] : {y}"""


def grouped() -> ir.Module:
    """Four groups, from 8 channels to 4 each; two groups share a vector of the result."""
    loops = {"g0": 2, "g1": 2, "co": 4, "oh": 16, "ow": 12, "ci": 8, "kh": 3, "kw": 3}
    return ir.Module.parse(program(loops, BODY, SHAPES).text)


def test_the_model_takes_it_where_digits_fill_a_vector():
    module = grouped()
    nest = find_nest(module.operation, "net")
    assert winograd_tile(nest, AVX2) == 4
    assert winograd_tile(nest, named_target("x86_64_v4")) is None


def test_products_of_several_groups_lie_in_one_vector():
    module = grouped()
    WinogradFiltering("net", 4).apply(module.operation)
    nests = {nest.role: nest for nest in layer_nests(module.operation, "net")}
    products, result = nests["main"], nests["output-transform"]
    assert products.iterators == ("p", "t", "g0", "g1", "co", "ci")
    assert tuple(ir.MemRefType(products.stores[0].memref.type).shape) == (2, 12, 36, 8)
    assert result.iterators == ("g0", "ty", "tx", "g1", "co")
    assert split_lane(products, 8) == split_lane(result, 8) == ("g1", "co")


def test_the_result_is_transformed_in_vectors():
    module = grouped()
    WinogradFiltering("net", 4).apply(module.operation)
    for step in transform_schedule(module.operation, "net#output-transform.0", AVX2):
        step.apply(module.operation)
    (result,) = (nest for nest in layer_nests(module.operation, "net") if nest.role == "output-transform")
    assert result.is_vectorised


@pytest.mark.parametrize("tile", [2, 4])
def test_computes_the_convolution(tile: int):
    module = grouped()
    WinogradFiltering("net", tile).apply(module.operation)
    rng = np.random.default_rng(0)
    x, w, y = (rng.standard_normal(shape).astype(np.float32) for shape in SHAPES.values())
    got = run_affine(module.operation, [x, w, y])[2]
    images = torch.from_numpy(x).double().permute(0, 3, 1, 2).flatten(0, 1)
    kernels = torch.from_numpy(w).double().permute(0, 4, 5, 1, 2, 3).flatten(0, 2)
    sums = torch.nn.functional.conv2d(images[None], kernels, groups=4)[0]
    wanted = y + sums.unflatten(0, (2, 8)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-3)


def test_a_network_computes_what_pytorch_does():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(64, 16, 3, padding=1, groups=4), nn.ReLU()).eval()
    x = torch.randn(2, 64, 18, 16)
    executable = compile(import_model(model, (x,)), target=AVX2)
    assert 'algorithm = "winograd4"' in executable.schedule
    with torch.no_grad():
        torch.testing.assert_close(executable(x), model(x), rtol=1e-4, atol=1e-4)
