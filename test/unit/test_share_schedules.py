"""Equal layers share one schedule, and nothing of it shows but the time."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import pytest
import torch
from torch import nn
from torch_mlir import ir

import loopmorph as lm
from loopmorph.passes import marks
from loopmorph.passes.address import find_nest, layer_nests
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.loop.fuse_epilogue import FuseEpilogue
from loopmorph.passes.loop.interchange import Interchange
from loopmorph.passes.loop.split import Split
from loopmorph.passes.lowering.to_llvm import plan_functions
from loopmorph.passes.marks import recorded_steps
from loopmorph.passes.nest import Nest
from loopmorph.passes.pipeline import run_pipeline
from loopmorph.passes.scheduling.default_schedule import DefaultSchedule, vectorize_rest
from loopmorph.passes.scheduling.layer_group import LayerGroup, layer_group
from loopmorph.passes.scheduling.share_schedules import SharedSchedules, Step
from loopmorph.passes.target.detect import native_target
from loopmorph.passes.target.target import named_target
from loopmorph.pipelines.network import copy_module

LAYOUT = "morph-fold-scale,morph-fuse-elementwise{scope=function},morph-forward-copies,morph-blocked-layout"


class Chain(nn.Sequential):
    """Padded convolutions, each with BatchNorm and ReLU."""

    def __init__(self, *convolutions: nn.Conv2d) -> None:
        blocks = [nn.Sequential(c, nn.BatchNorm2d(c.out_channels), nn.ReLU()) for c in convolutions]
        super().__init__(*blocks)


def conv(kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(32, 32, kernel, stride=stride, padding=kernel // 2)


PLAIN = (3, 1)  # kernel and stride


@functools.cache
def chain(*kernels: tuple[int, int]) -> ir.Module:
    """`laid_out` of convolutions with these kernels and strides; for readers, or to be copied."""
    return laid_out(Chain(*(conv(kernel, stride) for kernel, stride in kernels)))


def laid_out(model: nn.Module) -> ir.Module:
    """The program just before the default schedule."""
    module = copy_module(lm.import_model(model.eval(), (torch.randn(1, 32, 16, 16),)).module)
    run_pipeline(module, LAYOUT)
    return module


def schedule_one_by_one(module: ir.Module, layers: Sequence[str], default: DefaultSchedule) -> None:
    """The default schedule of these layers, every step of each run, and then of the element-wise nests."""
    with module.context, ir.Location.unknown():
        for layer in layers:
            for step in default.steps(module.operation, layer, named_target("x86_64_v4")):
                try:
                    step.apply(module.operation)
                except (IllegalTransform, ArgumentError):
                    if not isinstance(step, FuseEpilogue | Interchange):
                        raise
        vectorize_rest(module.operation, frozenset(), named_target("x86_64_v4"))


def located(module: ir.Module) -> str:
    return module.operation.get_asm(enable_debug_info=True)


@pytest.mark.parametrize("kernel", [3, 1])
def test_sharing_gives_the_module_that_the_steps_give(kernel: int) -> None:
    shared, single = (copy_module(chain(*4 * [(kernel, 1)])) for _ in range(2))
    default = DefaultSchedule()
    default.run(shared.operation)
    schedule_one_by_one(single, (*NAMES, "3.0"), default)
    assert recorded_steps(shared.operation) == recorded_steps(single.operation)
    assert str(shared) == str(single)
    assert located(shared) == located(single)


class Growing(nn.Module):
    """Two equal convolutions that write to memrefs of different extents, as in a dense block."""

    def __init__(self) -> None:
        super().__init__()
        self.begin, self.first, self.second = conv(1), conv(), conv()
        self.narrow, self.last = nn.Conv2d(64, 32, 1), nn.Conv2d(96, 32, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        begun = self.begin(x)
        narrowed = self.narrow(torch.cat([begun, self.first(begun)], 1))
        return self.last(torch.cat([begun, narrowed, self.second(narrowed)], 1))


def test_layers_that_write_to_memrefs_of_other_extents_are_equal() -> None:
    module = laid_out(Growing())
    places = [group(module, name).place for name in ("first", "second")]
    shapes = [ir.MemRefType(place.memref.type).shape for place in places if place is not None]
    assert shapes == [[1, 4, 16, 16, 16], [1, 6, 16, 16, 16]]
    assert group(module, "first").text == group(module, "second").text
    shared, single = copy_module(module), copy_module(module)
    direct = DefaultSchedule(algorithm="direct")
    direct.run(shared.operation)
    schedule_one_by_one(single, ("begin", "first", "narrow", "second", "last"), direct)
    assert located(shared) == located(single)


def test_every_layer_keeps_its_marks() -> None:
    module = copy_module(chain(*4 * [PLAIN]))
    nodes = {name: {marks.get_text(n.root, marks.NODE) for n in layer_nests(module.operation, name)} for name in NAMES}
    DefaultSchedule().run(module.operation)
    for name in NAMES:
        after = layer_nests(module.operation, name)
        assert after and {marks.get_text(n.root, marks.NODE) for n in after} <= nodes[name]
    first, second = ([s.replace(name, "layer") for s in steps_of(module, name)] for name in NAMES[1:])
    assert first == second and first


NAMES = ("0.0", "1.0", "2.0")


def steps_of(module: ir.Module, layer: str) -> list[str]:
    return [s for s in recorded_steps(module.operation) if re.search(rf"layer={layer}[ #}}]", s)]


def test_the_numbers_are_those_of_the_model() -> None:
    torch.manual_seed(0)
    model = Chain(conv(), conv(), conv(1), conv(), conv(1)).eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.2, 0.2)
            layer.running_var.uniform_(0.5, 2.0)
    x = torch.randn(1, 32, 16, 16)
    torch.testing.assert_close(lm.compile(model, (x,))(x), model(x).detach(), rtol=1e-4, atol=1e-4)


def group(module: ir.Module, layer: str) -> LayerGroup:
    with module.context:
        found = layer_group(layer, find_nest(module.operation, layer).root.operation)
    assert found is not None
    return found


def test_equal_layers_have_equal_texts() -> None:
    module = chain(*4 * [PLAIN])
    assert group(module, "1.0").text == group(module, "2.0").text


@pytest.mark.parametrize("other", [(1, 1), (3, 2), (5, 1)])
def test_layers_that_differ_have_different_texts(other: tuple[int, int]) -> None:
    module = chain(PLAIN, PLAIN, other)
    assert group(module, "1.0").text != group(module, "2.0").text


class PaddedTwice(nn.Module):
    """Two equal convolutions, the second one on an activation padded by ones."""

    def __init__(self) -> None:
        super().__init__()
        self.zeros, self.first = nn.ZeroPad2d(1), nn.Conv2d(32, 32, 3)
        self.ones, self.second = nn.ConstantPad2d(1, 1.0), nn.Conv2d(32, 32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.ones(self.first(self.zeros(x)).relu()))


def test_layers_are_kept_apart_where_only_one_is_padded_with_zeros() -> None:
    module = laid_out(PaddedTwice())
    assert group(module, "first").text != group(module, "second").text


class Repeated(nn.Module):
    """A convolution that runs twice, on the same weight."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(32, 64, 3, padding=1)
        self.back = nn.Conv2d(64, 32, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(self.back(self.layer(x).relu()))


@pytest.mark.parametrize("model", [PaddedTwice(), Repeated()])
def test_what_layers_share_with_others_stays_right(model: nn.Module) -> None:
    model, x = model.eval(), torch.randn(1, 32, 8, 8)
    torch.testing.assert_close(lm.compile(model, (x,))(x), model(x).detach(), rtol=1e-4, atol=1e-4)


def test_a_refused_step_leaves_the_layer_in_the_program() -> None:
    module = copy_module(chain(*4 * [PLAIN]))
    before = str(module)

    def apply(part: ir.Operation, step: Step) -> None:
        step.apply(part)

    def apply_to(nest: Nest, step: Step) -> ir.Operation:
        return step.apply_to(nest)

    with module.context, ir.Location.unknown():
        shared = SharedSchedules(module.operation, apply, apply_to)
        main = find_nest(module.operation, "1.0").root
        with pytest.raises(ArgumentError, match="no iterator 'nowhere'"):
            shared.schedule("1.0", main, lambda part: [Split("1.0", "nowhere", 2)])
    assert str(module) == before


def test_start_values_that_differ_in_a_constant_keep_layers_apart() -> None:
    module = ir.Module.parse(CONSTANTS, context=ir.Context())
    texts = {name: group(module, name).text for name in ("a", "b", "c")}
    assert texts["a"] == texts["b"] != texts["c"]


def test_start_values_from_elsewhere_are_not_shared() -> None:
    text = CONSTANTS.replace('morph.layer = "a", morph.role = "init"', 'morph.layer = "z", morph.role = "init"')
    module = ir.Module.parse(text, context=ir.Context())
    with module.context:
        assert layer_group("a", find_nest(module.operation, "a").root.operation) is None


def _layer(name: str, start: str) -> str:
    return f"""
      affine.for %i = 0 to 16 {{
        affine.store {start}, %{name}[%i] : memref<16xf32>
      }} {{morph.iter = "c", morph.layer = "{name}", morph.role = "init"}}
      affine.for %i = 0 to 16 {{
        affine.for %k = 0 to 8 {{
          %p = affine.load %x[%k] : memref<8xf32>
          %q = affine.load %w[%k, %i] : memref<8x16xf32>
          %s = affine.load %{name}[%i] : memref<16xf32>
          %m = arith.mulf %p, %q : f32
          %t = arith.addf %s, %m : f32
          affine.store %t, %{name}[%i] : memref<16xf32>
        }} {{morph.iter = "k"}}
      }} {{morph.iter = "c", morph.layer = "{name}", morph.role = "main"}}"""


CONSTANTS = f"""
    func.func @main(%x: memref<8xf32>, %w: memref<8x16xf32>, %a: memref<16xf32>, %b: memref<16xf32>,
                    %c: memref<16xf32>) {{
      %zero = arith.constant 0.0 : f32
      %one = arith.constant 1.0 : f32
      {_layer("a", "%zero")}
      {_layer("b", "%zero")}
      {_layer("c", "%one")}
      return
    }}"""


def test_the_whole_lowering_accepts_shared_nests() -> None:
    module = copy_module(chain(*4 * [PLAIN]))
    plan_functions(module, native_target())
    assert module.operation.verify()
