"""What a nest computes is told also where it computes with vectors and keeps its sums in registers."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_mlir import ir

import loopmorph as lm
from loopmorph.passes.address import layer_nests
from loopmorph.passes.nest import nests
from loopmorph.passes.raising.raise_nest import raise_convolution, raise_linear
from loopmorph.pipelines.oracle.nests_as_module import nests_as_module
from loopmorph.pipelines.rewritten.nest_module import NestModule


def program(*layers: nn.Module, shape: tuple[int, ...]) -> lm.Program:
    torch.manual_seed(0)
    return lm.import_model(nn.Sequential(*layers), (torch.randn(*shape),))


@pytest.fixture(scope="module")
def padded() -> lm.Program:
    return program(nn.Conv2d(4, 8, 3, padding=1), shape=(2, 4, 8, 8))


@pytest.fixture(scope="module")
def linear() -> lm.Program:
    return program(nn.Linear(12, 8), shape=(2, 12))


def module_of(p: lm.Program, layer: str = "0") -> NestModule:
    return nests_as_module(layer_nests(p.module.operation, layer), p.parameters, layer)


PIXELS_INNERMOST = "morph-interchange{layer=0 order=n,co,oh,ci,kh,kw,ow}"
SCHEDULES = {
    "vectors of pixels": f"{PIXELS_INNERMOST},morph-vectorize{{layer=0 iter=ow width=4}}",
    "a remainder": f"{PIXELS_INNERMOST},morph-vectorize{{layer=0 iter=ow width=3}}",
    "lanes apart": "morph-interchange{layer=0 order=n,oh,ow,ci,kh,kw,co},morph-vectorize{layer=0 iter=co width=8}",
    "start values": "morph-vectorize{layer=0#init.0 iter=w width=5},morph-vectorize{layer=0#init.1 iter=w width=8}",
    "a sum over lanes": "morph-interchange{layer=0 order=n,co,oh,ow,kh,kw,ci},morph-vectorize{layer=0 iter=ci width=4}",
    "a sum over taps": "morph-vectorize{layer=0 iter=kw width=2}",
    "registers": "morph-promote{layer=0}",
    "registers, unrolled sums": "morph-unroll{layer=0 iter=kw factor=3},morph-unroll{layer=0 iter=kh factor=3},"
    "morph-promote{layer=0}",
    "a register block": "morph-tile{layer=0 iters=co,ow sizes=4,4},"
    "morph-interchange{layer=0 order=n,co.0,oh,ow.0,ci,kh,kw,co.1,ow.1},morph-vectorize{layer=0 iter=ow.1 width=4},"
    "morph-unroll{layer=0 iter=co.1 factor=4},morph-promote{layer=0}",
    "start values in registers": "morph-promote{layer=0},morph-fuse-epilogue{layer=0}",
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_convolution_shows_through_its_schedule(padded: lm.Program, name: str) -> None:
    p = padded.apply(SCHEDULES[name])
    assert raise_convolution(layer_nests(p.module.operation, "0")) == raise_convolution(
        layer_nests(padded.module.operation, "0")
    )
    module = module_of(p)
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    torch.testing.assert_close(module(x), p.model(x), rtol=1e-4, atol=1e-5)
    module(x).square().sum().backward()
    gradient = x.grad.clone()
    x.grad = None
    p.model(x).square().sum().backward()
    torch.testing.assert_close(gradient, x.grad, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "text",
    [
        "morph-vectorize{layer=0 iter=ci width=4}",
        "morph-vectorize{layer=0 iter=ci width=5}",
        "morph-split{layer=0 iter=ci factor=6},morph-vectorize{layer=0 iter=ci.1 width=3},morph-promote{layer=0}",
        "morph-promote{layer=0}",
        "morph-interchange{layer=0 order=n,ci,co},morph-vectorize{layer=0 iter=co width=8}",
    ],
)
def test_a_linear_layer_shows_through_its_schedule(linear: lm.Program, text: str) -> None:
    p = linear.apply(text)
    assert raise_linear(layer_nests(p.module.operation, "0")) == raise_linear(layer_nests(linear.module.operation, "0"))


def test_what_a_maximum_compares_shows_through_its_schedule() -> None:
    p = program(nn.MaxPool2d(3, 2, 1), shape=(2, 3, 8, 8))
    (layer,) = {x.name for x in p.layers}
    x = torch.randn(2, 3, 8, 8)
    for text in ("promote{layer=LAYER}", "vectorize{layer=LAYER iter=kw width=2}"):
        module = module_of(p.apply(f"morph-{text}".replace("LAYER", layer)), layer)
        torch.testing.assert_close(module(x), p.model(x))


def test_winograds_transforms_in_vectors() -> None:
    p = program(nn.Conv2d(4, 8, 3, padding=1), shape=(1, 4, 8, 8))
    module = module_of(
        p.apply("morph-winograd{layer=0 tile=2},morph-vectorize{layer=0#input-transform iter=ci width=4}")
    )
    x = torch.randn(1, 4, 8, 8)
    torch.testing.assert_close(module(x), p.model(x), rtol=1e-4, atol=1e-5)


def test_registers_around_all_loops() -> None:
    p = program(nn.Conv2d(4, 2, 3), shape=(2, 4, 4, 4))
    unrolled = "".join(f"morph-unroll{{layer=0 iter={name} factor=2}}," for name in ("ow", "oh", "co", "n"))
    module = module_of(
        p.apply(f"morph-interchange{{layer=0 order=ci,kh,kw,n,co,oh,ow}},{unrolled}morph-promote{{layer=0}}")
    )
    x = torch.randn(2, 4, 4, 4)
    torch.testing.assert_close(module(x), p.model(x), rtol=1e-4, atol=1e-5)


def test_a_trimmed_sum_leaves_out_only_zeros(padded: lm.Program) -> None:
    module = module_of(padded.apply("morph-promote{layer=0},morph-trim{layer=0 iter=kh}"))
    x = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(module(x), padded.model(x), rtol=1e-4, atol=1e-5)


# -- nests that no schedule gives


def from_text(body: str, arguments: str) -> NestModule:
    with ir.Context(), ir.Location.unknown():
        module = ir.Module.parse(f"func.func @main({arguments}) {{\n{body}\n return }}")
        return nests_as_module(nests(module.operation), {})


def test_a_sum_that_is_used_in_another_way_than_being_stored() -> None:
    module = from_text(
        """affine.for %n = 0 to 2 {
          %z = arith.constant 0.0 : f32
          %s = affine.for %k = 0 to 5 iter_args(%a = %z) -> f32 {
            %v = affine.load %x[%n, %k] : memref<2x5xf32>
            %t = arith.addf %a, %v : f32
            affine.yield %t : f32
          }
          %e = math.exp %s : f32
          affine.store %e, %y[%n] : memref<2xf32> }""",
        "%x: memref<2x5xf32>, %y: memref<2xf32>",
    )
    x = torch.randn(2, 5)
    torch.testing.assert_close(module(x), x.sum(1).exp())


def test_a_sum_for_each_iteration_that_starts_from_the_same_value() -> None:
    module = from_text(
        """affine.for %n = 0 to 2 {
          %b = affine.load %x[%n, 0] : memref<2x5xf32>
          affine.for %i = 0 to 3 {
            %s = affine.for %k = 0 to 5 iter_args(%a = %b) -> f32 {
              %v = affine.load %x[%n, %k] : memref<2x5xf32>
              %t = arith.addf %a, %v : f32
              affine.yield %t : f32
            }
            affine.store %s, %y[%n, %i] : memref<2x3xf32> } }""",
        "%x: memref<2x5xf32>, %y: memref<2x3xf32>",
    )
    x = torch.randn(2, 5)
    torch.testing.assert_close(module(x), (x.sum(1) + x[:, 0])[:, None].expand(2, 3))


def test_values_that_change_places_from_iteration_to_iteration_are_refused() -> None:
    with pytest.raises(lm.IllegalTransform, match="keeps a value in a register while the memory that it is from"):
        from_text(
            """affine.for %n = 0 to 2 {
              %b = affine.load %x[%n, 0] : memref<2x5xf32>
              %c = affine.load %x[%n, 1] : memref<2x5xf32>
              %r:2 = affine.for %k = 0 to 5 iter_args(%a = %b, %d = %c) -> (f32, f32) {
                affine.yield %d, %a : f32, f32
              }
              affine.store %r#0, %y[%n] : memref<2xf32> }""",
            "%x: memref<2x5xf32>, %y: memref<2xf32>",
        )


def test_a_recurrence_is_refused() -> None:
    with pytest.raises(lm.IllegalTransform, match="points depend on one another other than by accumulation"):
        from_text(
            """affine.for %n = 0 to 2 {
              %b = affine.load %x[%n, 0] : memref<2x5xf32>
              %r = affine.for %k = 0 to 5 iter_args(%a = %b) -> f32 {
                %e = math.exp %a : f32
                affine.yield %e : f32
              }
              affine.store %r, %y[%n] : memref<2xf32> }""",
            "%x: memref<2x5xf32>, %y: memref<2xf32>",
        )


def test_vectors_that_overlap_from_one_iteration_to_the_next_are_refused() -> None:
    with pytest.raises(lm.IllegalTransform, match="its points depend on one another"):
        from_text(
            """affine.for %i = 0 to 4 {
              %v = affine.vector_load %y[%i] : memref<8xf32>, vector<4xf32>
              %w = arith.addf %v, %v : vector<4xf32>
              affine.vector_store %w, %y[%i + 1] : memref<8xf32>, vector<4xf32> }""",
            "%y: memref<8xf32>",
        )
