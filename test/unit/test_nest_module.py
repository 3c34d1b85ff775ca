"""The general executor against PyTorch's own operators: values, gradients, schedules, refusals."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch_mlir import ir

import loopmorph as lm
from loopmorph.passes.address import layer_nests
from loopmorph.passes.nest import nests
from loopmorph.pipelines.oracle.nests_as_module import nests_as_module
from loopmorph.pipelines.rewritten.nest_module import NestModule


def module_of(p: lm.Program, layer: str = "0") -> NestModule:
    return nests_as_module(layer_nests(p.module.operation, layer), p.parameters, layer)


def program(layer: nn.Module, *shape: int) -> lm.Program:
    return lm.import_model(nn.Sequential(layer), (torch.randn(*shape),))


def from_text(body: str, arguments: str, parameters: dict[str, torch.Tensor] | None = None) -> NestModule:
    """The executor of hand-written nests; memref arguments may be marked, unmarked ones that are stored are outputs."""
    with ir.Context(), ir.Location.unknown():
        module = ir.Module.parse(f"func.func @main({arguments}) {{\n{body}\n return }}")
        return nests_as_module(nests(module.operation), parameters or {})


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_a_convolution_and_its_gradients_equal_pytorchs(data: st.DataObject) -> None:
    groups, per_group_in, per_group_out = (data.draw(st.integers(1, 3)) for _ in range(3))
    kernel = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    layer = nn.Conv2d(
        groups * per_group_in,
        groups * per_group_out,
        kernel,
        stride=data.draw(st.integers(1, 2)),
        dilation=data.draw(st.integers(1, 2)),
        padding=data.draw(st.integers(0, 2)),
        groups=groups,
        bias=data.draw(st.booleans()),
    )
    batch = data.draw(st.integers(1, 2))
    p = program(layer, batch, layer.in_channels, 7, 8)
    einsum = module_of(p).double()
    layer = layer.double()
    assert einsum.is_convolution
    x = torch.randn(3, layer.in_channels, 7, 8, dtype=torch.float64)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    want, got = layer(a), einsum(b)
    torch.testing.assert_close(got, want)
    seed = torch.randn_like(want)
    want.backward(seed)
    got.backward(seed)
    torch.testing.assert_close(b.grad, a.grad)
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(einsum.get_parameter(name).grad, parameter.grad)


@pytest.mark.parametrize(
    "text",
    [
        "morph-split{layer=0 iter=ow factor=3}",
        "morph-fuse{layer=0 iters=oh,ow}",
        "morph-tile{layer=0 iters=co,ci sizes=4,2}",
        "morph-unroll{layer=0 iter=kw factor=3}",
        "morph-unroll{layer=0 iter=co factor=4}",
        "morph-group{layer=0 iters=co,ci factor=2}",
        "morph-group{layer=0 iters=co,ci factor=4},morph-unroll{layer=0 iter=kh factor=3}",
    ],
)
def test_scheduled_nests_compute_what_the_convolution_computes(text: str) -> None:
    p = program(nn.Conv2d(4, 8, 3, padding=1), 2, 4, 8, 8).apply(text)
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    weight, bias = p.parameters["0.weight"].clone().requires_grad_(), p.parameters["0.bias"]
    want = functional.conv2d(x, weight, bias, padding=1, groups=4 // weight.shape[1])
    module = module_of(p)
    got = module(x)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    (dx, dw) = torch.autograd.grad(want.square().sum(), (x, weight))
    (ex, ew) = torch.autograd.grad(got.square().sum(), (x, module.weight))
    torch.testing.assert_close(ex, dx, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(ew, dw, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(12, 5), (2, 12)),
        (nn.BatchNorm2d(4), (2, 4, 5, 5)),
        (nn.ReLU6(), (1, 3, 4, 4)),
        (nn.Hardswish(), (1, 3, 4, 4)),
        (nn.GELU(), (2, 6)),
        (nn.Sigmoid(), (2, 6)),
        (nn.Tanh(), (2, 6)),
        (nn.MaxPool2d(3, 2, 1), (2, 3, 8, 8)),
        (nn.AvgPool2d(2), (1, 3, 8, 8)),
        (nn.PReLU(3), (2, 3, 4, 4)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_any_layer_runs(layer: nn.Module, shape: tuple[int, ...]) -> None:
    layer = layer.eval()
    p = program(layer, *shape)
    (name,) = {x.name for x in p.layers}
    if len({n.layer for n in nests(p.module.operation)}) > 1:
        pytest.skip("computed as several layers")
    x = torch.randn(5, *shape[1:])
    torch.testing.assert_close(module_of(p, name)(x), layer(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "morph-split{layer=0 iter=co factor=2}",
        "morph-mix{layer=0 iter=co},morph-bottleneck{layer=0 iter=co factor=4}",
        "morph-mix{layer=0 iter=co},morph-bottleneck{layer=0 iter=co factor=2},"
        "morph-group{layer=0 iters=co,ci factor=2}",
    ],
)
def test_images_keep_their_order_in_memory(text: str) -> None:
    # GPUs convolve channels last, and whatever loses that order makes copies of all that comes after it.
    p = program(nn.Conv2d(8, 12, 3, padding=1, bias=False), 1, 8, 6, 7).apply(text)
    module, x = module_of(p), torch.randn(3, 8, 6, 7)
    last = module(x.to(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, module(x))


def test_what_it_repeats_can_be_changed_in_place() -> None:
    body = """affine.for %i = 0 to 2 { affine.for %j = 0 to 3 {
      %0 = affine.load %a[%i] : memref<2xf32>
      affine.store %0, %b[%i, %j] : memref<2x3xf32>
    } }"""
    module = from_text(body, "%a: memref<2xf32>, %b: memref<2x3xf32>")
    changed = module(torch.tensor([1.0, 2.0])).add_(torch.arange(3.0))
    assert changed.tolist() == [[1, 2, 3], [2, 3, 4]]


def test_it_is_copied_and_pickled_like_any_module() -> None:
    module = module_of(program(nn.Conv2d(3, 4, 3), 1, 3, 6, 6))
    x = torch.randn(2, 3, 6, 6)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin(x), module(x))
        assert list(twin.state_dict()) == ["weight", "bias"]
        assert "layer='0'" in repr(twin)


def test_fresh_parameters_are_drawn_like_those_of_a_convolution() -> None:
    layer = nn.Conv2d(8, 64, 3)
    module = module_of(program(layer, 1, 8, 5, 5))
    assert module.fan_in == 72
    torch.manual_seed(0)
    module.reset_parameters()
    torch.manual_seed(0)
    layer.reset_parameters()
    torch.testing.assert_close(module.weight, layer.weight)
    torch.testing.assert_close(module.bias, layer.bias)


def test_untrained_parameters_become_buffers() -> None:
    p = program(nn.BatchNorm2d(3).eval(), 1, 3, 4, 4)
    module = nests_as_module(layer_nests(p.module.operation, "0"), p.parameters, "0", frozenset({"0.weight", "0.bias"}))
    assert {n for n, _ in module.named_parameters()} == {"weight", "bias"}
    assert {n for n, _ in module.named_buffers()} == {"running_mean", "running_var"}


# -- nests that no layer of PyTorch gives


def test_a_coarse_input_is_read_through_floordiv() -> None:
    module = from_text(
        """affine.for %n = 0 to 1 { affine.for %i = 0 to 8 {
          %v = affine.load %x[%n, %i floordiv 2] : memref<1x4xf32>
          affine.store %v, %y[%n, %i] : memref<1x8xf32> } }""",
        "%x: memref<1x4xf32>, %y: memref<1x8xf32>",
    )
    x = torch.randn(3, 4)
    assert torch.equal(module(x), x.repeat_interleave(2, 1))


def test_an_index_that_stays_quasi_affine_is_gathered() -> None:
    module = from_text(
        """affine.for %n = 0 to 1 { affine.for %i = 0 to 6 { affine.for %k = 0 to 3 {
          %v = affine.load %x[%n, (%i + %k) floordiv 2] : memref<1x4xf32>
          %w = affine.load %f[%k] : memref<3xf32>
          %a = affine.load %y[%n, %i] : memref<1x6xf32>
          %m = arith.mulf %v, %w : f32
          %s = arith.addf %a, %m : f32
          affine.store %s, %y[%n, %i] : memref<1x6xf32> } } }""",
        '%x: memref<1x4xf32>, %f: memref<3xf32> {morph.param = "f"}, %y: memref<1x6xf32>',
        {"f": torch.tensor([1.0, 2.0, 3.0])},
    )
    x = torch.randn(2, 4, requires_grad=True)
    index = (torch.arange(6)[:, None] + torch.arange(3)) // 2
    want = (x[:, index] * torch.tensor([1.0, 2.0, 3.0])).sum(-1)
    torch.testing.assert_close(module(x), want)
    module(x).sum().backward()
    assert x.grad is not None


def test_stores_that_meet_in_one_element_add_up() -> None:
    module = from_text(
        """affine.for %n = 0 to 1 { affine.for %i = 0 to 4 { affine.for %k = 0 to 3 {
          %v = affine.load %x[%n, %i] : memref<1x4xf32>
          %a = affine.load %y[%n, %i + %k] : memref<1x6xf32>
          %s = arith.addf %a, %v : f32
          affine.store %s, %y[%n, %i + %k] : memref<1x6xf32> } } }""",
        "%x: memref<1x4xf32>, %y: memref<1x6xf32>",
    )
    x = torch.randn(2, 4)
    want = functional.conv_transpose1d(x[:, None], torch.ones(1, 1, 3))[:, 0]
    torch.testing.assert_close(module(x), want)


def test_a_remainder_loop_with_a_minimum_as_bound() -> None:
    module = from_text(
        """affine.for %n = 0 to 1 { affine.for %o = 0 to 3 {
          affine.for %i = 0 to min affine_map<(d0) -> (4, 10 - 4 * d0)>(%o) {
            %v = affine.load %x[%n, %o * 4 + %i] : memref<1x10xf32>
            %e = math.exp %v : f32
            affine.store %e, %y[%n, %o * 4 + %i] : memref<1x10xf32> } } }""",
        "%x: memref<1x10xf32>, %y: memref<1x10xf32>",
    )
    x = torch.randn(2, 10)
    torch.testing.assert_close(module(x), x.exp())


def test_a_tiled_loop_with_a_lower_bound_and_a_step() -> None:
    module = from_text(
        """affine.for %n = 0 to 1 { affine.for %o = 0 to 10 step 5 {
          affine.for %i = affine_map<(d0) -> (d0)>(%o) to affine_map<(d0) -> (d0 + 5)>(%o) {
            %v = affine.load %x[%n, %i] : memref<1x10xf32>
            %e = arith.negf %v : f32
            affine.store %e, %y[%n, %i] : memref<1x10xf32> } } }""",
        "%x: memref<1x10xf32>, %y: memref<1x10xf32>",
    )
    x = torch.randn(2, 10)
    assert torch.equal(module(x), -x)


def test_an_imperfect_nest_with_its_own_start_value() -> None:
    module = from_text(
        """%zero = arith.constant 0.0 : f32
        affine.for %n = 0 to 2 { affine.for %i = 0 to 3 {
          affine.store %zero, %y[%n, %i] : memref<2x3xf32>
          affine.for %k = 0 to 4 {
            %v = affine.load %x[%n, %k] : memref<2x4xf32>
            %a = affine.load %y[%n, %i] : memref<2x3xf32>
            %s = arith.maximumf %a, %v : f32
            affine.store %s, %y[%n, %i] : memref<2x3xf32> } } }""",
        "%x: memref<2x4xf32>, %y: memref<2x3xf32>",
    )
    x = torch.randn(5, 4)
    assert torch.equal(module(x), x.amax(1, keepdim=True).clamp(min=0).expand(5, 3))


def test_samples_that_mix_fix_the_batch() -> None:
    module = from_text(
        """affine.for %n = 0 to 2 { affine.for %i = 0 to 3 {
          %v = affine.load %x[1 - %n, %i] : memref<2x3xf32>
          affine.store %v, %y[%n, %i] : memref<2x3xf32> } }""",
        "%x: memref<2x3xf32>, %y: memref<2x3xf32>",
    )
    x = torch.randn(2, 3)
    assert torch.equal(module(x), x.flip(0))
    with pytest.raises(lm.ArgumentError, match="scheduled for batches of 2, got 3"):
        module(torch.randn(3, 3))


# -- refusals


def _element_wise(operation: str) -> str:
    return f"""affine.for %n = 0 to 1 {{ affine.for %i = 1 to 4 {{
          %v = affine.load %x[%n, %i] : memref<1x4xf32>
          {operation}
          affine.store %r, %y[%n, %i] : memref<1x4xf32> }} }}"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (_element_wise("%r = math.atan2 %v, %v : f32"), "operation 'math.atan2' has no case in PyTorch"),
        (
            _element_wise("%p = affine.load %y[%n, %i - 1] : memref<1x4xf32>\n %r = arith.mulf %p, %v : f32"),
            "its points depend on one another",
        ),
        (
            """affine.for %n = 0 to 1 { affine.for %i = 0 to 4 {
              %v = affine.load %x[%n, %i] : memref<1x4xf32>
              affine.store %v, %y[%n, 0] : memref<1x4xf32> } }""",
            "its points depend on one another",
        ),
        (
            """%t = memref.alloc() : memref<1xf32>
            affine.for %n = 0 to 1 { affine.for %i = 0 to 4 {
              %v = affine.load %x[%n, %i] : memref<1x4xf32>
              affine.store %v, %t[%i * 0] : memref<1xf32>
              %w = affine.load %t[0] : memref<1xf32>
              affine.store %w, %y[%n, %i] : memref<1x4xf32> } }""",
            "depend on one another",
        ),
        (
            """affine.for %n = 0 to 1 { affine.for %i = 0 to 3 {
              %v = affine.load %x[%n, %i] : memref<1x4xf32>
              affine.store %v, %y[%n, %i] : memref<1x4xf32>
              %w = affine.load %y[%n, %i + 1] : memref<1x4xf32>
              affine.store %w, %z[%n, %i] : memref<1x4xf32> } }""",
            "its statements depend on one another across iterations",
        ),
        (
            """affine.for %n = 0 to 1 { affine.for %i = 0 to 4 {
              %v = affine.load %x[%n, %i] : memref<1x4xf32>
              %o = affine.load %y[%n, %i] : memref<1x4xf32>
              %a = arith.addf %o, %v : f32
              affine.store %a, %y[%n, %i] : memref<1x4xf32>
              %b = arith.addf %o, %v : f32
              affine.store %b, %y[%n, %i] : memref<1x4xf32> } }""",
            "keeps a value in a register while the memory that it is from changes",
        ),
        (
            """affine.for %n = 0 to 1 { affine.for %i = 0 to 4 { affine.for %j = 0 to affine_map<(d0) -> (d0)>(%i) {
              %v = affine.load %x[%n, %i] : memref<1x4xf32>
              %o = affine.load %y[%n, %j] : memref<1x4xf32>
              %a = arith.maximumf %o, %v : f32
              affine.store %a, %y[%n, %j] : memref<1x4xf32> } } }""",
            "a loop bound that depends on other loops",
        ),
    ],
    ids=[
        "operation",
        "recurrence",
        "overwritten",
        "scratch used again",
        "read before written",
        "stale",
        "triangle",
    ],
)
def test_what_cannot_be_executed_is_refused(body: str, message: str) -> None:
    with pytest.raises(lm.IllegalTransform, match=message):
        from_text(body, "%x: memref<1x4xf32>, %y: memref<1x4xf32>, %z: memref<1x4xf32>")


def test_wrong_inputs_are_refused() -> None:
    module = module_of(program(nn.Conv2d(3, 4, 3), 1, 3, 6, 6))
    with pytest.raises(lm.ArgumentError, match="layer '0' has 1 inputs, got 2"):
        module(torch.randn(1, 3, 6, 6), torch.randn(1, 3, 6, 6))
    with pytest.raises(lm.ArgumentError, match=r"reads \(3, 6, 6\) elements a sample, got \(3, 7, 6\)"):
        module(torch.randn(1, 3, 7, 6))


def test_a_parameter_of_another_shape_is_refused() -> None:
    p = program(nn.Conv2d(3, 4, 3, bias=False), 1, 3, 6, 6)
    with pytest.raises(lm.ArgumentError, match=r"'0.weight' has shape \(4, 3, 1, 1\)"):
        nests_as_module(layer_nests(p.module.operation, "0"), {"0.weight": torch.zeros(4, 3, 1, 1)})
    with pytest.raises(lm.ArgumentError, match=r"no tensor for '0\.weight'"):
        nests_as_module(layer_nests(p.module.operation, "0"), {})
