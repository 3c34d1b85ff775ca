"""Winograd's filtering of windows that move by 2."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from jit import run_affine
from torch import nn
from torch_mlir import ir
from winograd_programs import Conv

from loopmorph.passes.address import find_nest, layer_nests
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.loop.winograd import WinogradFiltering
from loopmorph.passes.scheduling.algorithm import winograd_tile
from loopmorph.passes.scheduling.choose import Choose
from loopmorph.passes.target.target import named_target
from loopmorph.passes.winograd.matrices import ALGORITHMS
from loopmorph.pipelines.compile import compile
from loopmorph.pipelines.program import import_model

pytestmark = pytest.mark.usefixtures("context")


def test_the_matrices_filter_one_dimension_exactly():
    f = ALGORITHMS[2][2]
    rng = np.random.default_rng(0)
    d, g = rng.standard_normal(f.reach), rng.standard_normal(3)
    y = np.array(f.result) @ ((np.array(f.kernel) @ g) * (np.array(f.data) @ d))
    np.testing.assert_allclose(y, np.correlate(d, g, "valid")[::2], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "conv",
    [
        Conv(stride=2, height=2, width=2),
        Conv(stride=2, batch=2, outputs=4, inputs=6, height=5, width=8, start="bias", offset=1),
        Conv(stride=2, outputs=16, inputs=32, lanes=16, height=7, width=7, start="given"),
        Conv(stride=2, groups=2, outputs=32, inputs=64, lanes=16, height=6, width=3, start="bias"),
    ],
    ids=str,
)
def test_computes_the_convolution(conv: Conv):
    module = ir.Module.parse(conv.text)
    WinogradFiltering("net", 2).apply(module.operation)
    (products,) = (nest for nest in layer_nests(module.operation, "net") if nest.role == "main")
    assert products.extents[0] == 25
    arrays = conv.arrays()
    wanted = conv.expected(arrays)
    got = run_affine(module.operation, arrays)[3]
    assert np.abs(got - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_other_tiles_are_refused():
    module = ir.Module.parse(Conv(stride=2).text)
    with pytest.raises(IllegalTransform, match="its stride is 2, for which a tile of 2 is required, not 4"):
        WinogradFiltering("net", 4).apply(module.operation)


@pytest.mark.parametrize(("height", "inputs", "tile"), [(16, 64, 2), (2, 512, None)])
def test_the_model_weighs_fewer_products_against_larger_weights(height: int, inputs: int, tile: int | None):
    conv = Conv(stride=2, outputs=64, inputs=inputs, height=height, width=height, lanes=8)
    module = ir.Module.parse(conv.text)
    assert winograd_tile(find_nest(module.operation, "net"), named_target("x86-64-v3")) == tile


def test_a_network_computes_what_pytorch_does():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()).eval()
    x = torch.randn(2, 16, 15, 15)
    executable = compile(import_model(model, (x,)).apply(str(Choose("0", algorithm="winograd2"))))
    assert 'algorithm = "winograd2"' in executable.schedule
    with torch.no_grad():
        torch.testing.assert_close(executable(x), model(x), rtol=1e-4, atol=1e-4)


def test_a_choice_that_a_stride_of_2_forbids_is_taken_back():
    model = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()).eval()
    program = import_model(model, (torch.randn(1, 8, 16, 16),)).apply("morph-choose{layer=0 algorithm=winograd4}")
    coarse = program.apply("morph-bottleneck{layer=0 iter=oh factor=2},morph-bottleneck{layer=0 iter=ow factor=2}")
    root = find_nest(coarse.module.operation, "0").root
    assert "morph.algorithm" not in root.attributes
