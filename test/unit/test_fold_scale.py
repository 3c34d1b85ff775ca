"""`morph-fold-scale`: which steps are folded, which are left, and that the values stay."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_mlir import ir

import loopmorph as lm
from loopmorph.passes import marks
from loopmorph.passes.lowering.fold_scale import FoldScale
from loopmorph.passes.nest import nests
from loopmorph.pipelines.network import copy_module
from loopmorph.pipelines.program import Program, import_model


def folded(model: nn.Module, *shape: int) -> ir.Module:
    module = copy_module(import_model(model.eval(), (torch.randn(*shape),)).module)
    FoldScale().run(module.operation)
    assert module.operation.verify()
    return module


def main_layers(module: ir.Module) -> list[str]:
    return [nest.layer for nest in nests(module.operation) if nest.role == marks.MAIN]


def shapes(module: ir.Module, role: str, layer: str) -> list[tuple[int | None, ...]]:
    return [n.extents for n in nests(module.operation) if n.role == role and n.layer == layer]


@pytest.mark.parametrize(
    ("convolution", "weight"),
    [
        (nn.Conv2d(4, 6, 3, bias=False), (6, 4, 3, 3)),
        (nn.Conv2d(4, 6, 3), (6, 4, 3, 3)),
        (nn.Conv2d(4, 6, 3, groups=2), (6, 2, 3, 3)),
        (nn.Conv2d(4, 4, 3, groups=4, bias=False), (4, 1, 3, 3)),
        (nn.Conv2d(4, 8, 3, groups=4), (8, 1, 3, 3)),
        (nn.Conv2d(4, 1, 3), (1, 4, 3, 3)),
    ],
    ids=["dense", "bias", "groups", "depthwise", "depthwise multiplier", "one channel"],
)
def test_batch_norm_disappears(convolution: nn.Conv2d, weight: tuple[int, ...]) -> None:
    module = folded(nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels)), 2, 4, 6, 6)
    assert main_layers(module) == ["0"]
    assert shapes(module, marks.PROLOGUE, "0").count(weight) == 1


def test_bias_of_a_linear_layer_becomes_the_start_value() -> None:
    module = folded(nn.Linear(5, 3), 2, 5)
    roles = [nest.role for nest in nests(module.operation)]
    assert marks.EPILOGUE not in roles
    assert (3, 5) not in shapes(module, marks.PROLOGUE, "")  # the weight itself is not copied


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 3), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.first(x), self.second(x)


def test_the_first_operation_may_be_folded_away() -> None:
    """Both biases fold, and the first layer's buffer, where the function began, is the output's then."""
    model, x = TwoHeads().eval(), torch.randn(2, 5)
    module = folded(model, 2, 5)
    assert marks.EPILOGUE not in [nest.role for nest in nests(module.operation)]
    torch.testing.assert_close(lm.compile(model, (x,))(x), model(x))


def test_two_in_a_row_are_both_folded() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.BatchNorm2d(4))
    assert main_layers(folded(model, 1, 3, 6, 6)) == ["0"]


class Residual(nn.Module):
    """The convolution's result has two readers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, bias=False)
        self.bn = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.bn(y) + y


class Between(nn.Module):
    """Something that is not linear stands between the two."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, bias=False)
        self.bn = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(torch.relu(self.conv(x)))


class AfterPool(nn.Module):
    """A maximum does not commute with a scale, whose sign is not known."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.bn = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.pool(x))


class ScaleFromInput(nn.Module):
    """The scale depends on an input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) * x.mean((0, 2, 3)).view(1, 3, 1, 1)


@pytest.mark.parametrize("build", [Residual, Between, AfterPool, ScaleFromInput])
def test_what_does_not_fit_is_left(build: type[nn.Module]) -> None:
    program = import_model(build().eval(), (torch.randn(2, 3, 6, 6),))
    module = copy_module(program.module)
    FoldScale().run(module.operation)
    assert sorted(main_layers(module)) == sorted(layer.name for layer in program.layers)


class Affine(nn.Module):
    """Every operation of which a linear form can be made."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.a = nn.Parameter(torch.rand(4, 1, 1) + 0.5)
        self.b = nn.Parameter(torch.rand(4, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.b - -(self.conv(x) - self.b) / self.a) * 3 + self.a


def test_any_affine_expression() -> None:
    torch.manual_seed(0)
    model, x = Affine().eval(), torch.randn(2, 3, 6, 6)
    program = import_model(model, (x,))
    torch.testing.assert_close(lm.compile(program)(x), model(x).detach(), rtol=1e-4, atol=1e-4)


SPLIT = """
func.func @main(%w: memref<8x4xf32> {morph.param = "w"}, %a: memref<8xf32> {morph.param = "a"},
                %x: memref<4xf32> {morph.input = 0}, %y: memref<8xf32> {morph.output = 0}) {
  %zero = arith.constant 0.0 : f32
  %t = memref.alloc() : memref<8xf32>
  affine.for %i = 0 to 8 { affine.store %zero, %t[%i] : memref<8xf32> }
  affine.for %i = 0 to 4 {
    affine.for %j = 0 to 2 {
      affine.for %k = 0 to 4 {
        %0 = affine.load %x[%k] : memref<4xf32>
        %1 = affine.load %w[%i * 2 + %j, %k] : memref<8x4xf32>
        %2 = affine.load %t[INDEX] : memref<8xf32>
        %3 = arith.mulf %0, %1 : f32
        %4 = arith.addf %2, %3 : f32
        affine.store %4, %t[INDEX] : memref<8xf32>
      }
    }
  }
  affine.for %i = 0 to 8 {
    %0 = affine.load %t[%i] : memref<8xf32>
    %1 = affine.load %a[%i] : memref<8xf32>
    %2 = arith.mulf %0, %1 : f32
    affine.store %2, %y[%i] : memref<8xf32>
  }
  return
}
"""


@pytest.mark.parametrize(
    ("index", "n_nests"),
    [("%j + %i * 2", 5), ("7 - %i * 2 - %j", 5), ("%i + %j * 4", 3)],
    ids=["the weight's own index", "an affine function of it", "no affine function of it"],
)
def test_channel_is_found_from_the_access_maps(index: str, n_nests: int) -> None:
    with ir.Context() as context, ir.Location.unknown():
        context.allow_unregistered_dialects = True
        module = ir.Module.parse(SPLIT.replace("INDEX", index))
        FoldScale().run(module.operation)
        assert module.operation.verify()
        assert len(nests(module.operation)) == n_nests  # scale, shift, scaled weight, start, contraction; or as before


@pytest.fixture(scope="module")
def program() -> Program:
    torch.manual_seed(0)
    layers = nn.Conv2d(4, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1)
    model = nn.Sequential(*layers).eval()
    model[1].running_mean.normal_()
    model[1].running_var.uniform_(0.5, 2)
    return import_model(model, (torch.randn(2, 4, 8, 8),))


@pytest.mark.parametrize(
    "schedule",
    [
        "morph-interchange{layer=0 order=ci,n,co,oh,ow,kh,kw}",
        "morph-split{layer=0 iter=co factor=2}",
        "morph-tile{layer=0 iters=co,oh sizes=4,4}",
        "morph-unroll{layer=0 iter=kw factor=3}",
        "morph-group{layer=0 iters=co,ci factor=2}",
        "morph-bottleneck{layer=0 iter=co factor=2}",
    ],
)
def test_transformed_nests_are_folded_too(program: Program, schedule: str) -> None:
    after = program.apply(schedule)
    (x,) = after.example_inputs
    module = copy_module(after.module)
    FoldScale().run(module.operation)
    assert main_layers(module) == ["0", "2", "3"]
    expected = after.to_module().eval()(x).detach()
    torch.testing.assert_close(lm.compile(after)(x), expected, rtol=1e-4, atol=1e-5)
