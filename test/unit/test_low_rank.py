"""Products of two linear terms: as good as the best of their rank, and told from what is no such product."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import loopmorph as lm
from loopmorph.pipelines.oracle.linear_terms import linear_terms
from loopmorph.pipelines.oracle.repair.fittable import layer_recipe
from loopmorph.pipelines.oracle.repair.low_rank import factors, product_of
from loopmorph.pipelines.oracle.repair.term_fit import FitSettings
from loopmorph.pipelines.program import Program

EXACT = FitSettings(ridges=(1e-12,), rows=None)
LOW_RANK = "morph-mix{layer=0 iter=co},morph-bottleneck{layer=0 iter=co factor=4}"
CASES = {
    "3x3": (nn.Conv2d(8, 16, 3, padding=1, bias=False), 8),
    "strided": (nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False), 8),
    "pointwise with a bias": (nn.Conv2d(8, 12, 1), 8),
    "wide taps": (nn.Conv2d(4, 8, (1, 5), padding=(0, 2), bias=False), 4),
}


def image(batch: int, channels: int) -> torch.Tensor:
    return torch.randn(batch, channels, 8, 8, generator=torch.Generator().manual_seed(0))


def least_loss(layer: nn.Conv2d, x: torch.Tensor, rank: int) -> float:
    """The squares of the singular values of W G^(1/2) that a rank leaves out; a bias is a weight of the constant 1."""
    with torch.no_grad():
        columns = nn.functional.unfold(x, layer.kernel_size, padding=layer.padding, stride=layer.stride)
    rows = columns.permute(0, 2, 1).reshape(-1, columns.shape[1]).double().numpy()
    weight = layer.weight.detach().double().reshape(len(layer.weight), -1).numpy()
    if layer.bias is not None:
        rows = np.concatenate([rows, np.ones((len(rows), 1))], 1)
        weight = np.concatenate([weight, layer.bias.detach().double().numpy()[:, None]], 1)
    values, vectors = np.linalg.eigh(rows.T @ rows)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    return float(np.square(np.linalg.svd(weight @ root, compute_uv=False)[rank:]).sum())


@pytest.mark.parametrize("name", CASES)
def test_loses_what_the_truncated_decomposition_does(name: str) -> None:
    layer, channels = CASES[name]
    torch.manual_seed(0)
    layer.reset_parameters()
    model = nn.Sequential(layer).eval()
    x = image(24, channels)
    program = lm.import_model(model, (x[:2],)).apply(LOW_RANK)
    with torch.no_grad():
        difference = program.repair(x, EXACT).to_module().eval()(x) - model(x)
    expected = least_loss(layer, x, layer.out_channels // 4)
    assert float(difference.double().square().sum()) == pytest.approx(expected, rel=1e-4)


def test_a_low_rank_layer_loses_nothing() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 16, 3, padding=1, bias=False)
    with torch.no_grad():
        layer.weight.copy_((torch.randn(16, 4) @ torch.randn(4, 72)).reshape(16, 8, 3, 3))
    model = nn.Sequential(layer).eval()
    x = image(24, 8)
    with torch.no_grad():
        y = model(x)
        found = lm.import_model(model, (x[:2],)).apply(LOW_RANK).repair(x).to_module().eval()(x)
    assert float((found - y).square().sum() / y.square().sum()) < 1e-6


def test_factors_are_the_best_of_their_rank() -> None:
    rng = np.random.default_rng(0)
    weight, samples = rng.standard_normal((7, 5)), rng.standard_normal((50, 7))
    given = samples @ weight
    first, second = (part.numpy() for part in factors(torch.tensor(weight), torch.tensor(given.T @ given), 2))
    assert first.shape == (7, 2) and second.shape == (2, 5)
    expected = np.square(np.linalg.svd(given, compute_uv=False)[2:]).sum()
    assert np.square(samples @ first @ second - given).sum() == pytest.approx(expected, rel=1e-9)


def products(program: Program) -> list[str]:
    """The layer's terms that make a product with the next one."""
    recipe = layer_recipe(program.nests_by_layer["0"])
    terms = [term for term in linear_terms(recipe) if product_of(recipe, term) is not None]
    return [recipe.buffers[term.weight.buffer].name for term in terms]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (LOW_RANK, ["0.weight"]),
        (f"morph-mix{{layer=0 iter=ci}},{LOW_RANK}", ["0.weight"]),
        ("morph-mix{layer=0 iter=co}", []),  # of full rank
        ("morph-mix{layer=0 iter=co},morph-depthwise{layer=0}", ["0.weight"]),
        ("morph-mix{layer=0 iter=co},morph-group{layer=0 iters=co,ci factor=2}", []),  # of several problems
        ("morph-mix{layer=0 iter=ci},morph-bottleneck{layer=0#mix-in iter=co factor=2}", []),  # read at nine points
        ("morph-bottleneck{layer=0 iter=ci factor=2}", []),
    ],
)
def test_what_is_a_product(steps: str, expected: list[str]) -> None:
    program = lm.import_model(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1)).eval(), (image(2, 8),))
    assert products(program.apply(steps)) == expected
