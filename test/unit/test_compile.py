"""`lm.compile` against PyTorch on small networks, and what it refuses."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch_mlir import ir

import loopmorph as lm
from loopmorph.passes.lowering.to_llvm import lower_to_llvm


def seeded(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.5, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            if module.affine:
                module.weight.data.uniform_(0.5, 1.5, generator=generator)
                module.bias.data.normal_(0, 0.3, generator=generator)
    return model.eval()


class Join(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 1)
        self.b = nn.Conv2d(3, 2, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(torch.cat([self.a(x), self.b(x)], 1))


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a = self.conv(x)
        return a + y, a.amax((2, 3))


class Wrapped(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (x * 2,)


def with_batch_norm(convolution: nn.Conv2d) -> nn.Module:
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU())


SMALL: dict[str, Callable[[], nn.Module]] = {
    "convolution": lambda: nn.Conv2d(3, 4, 3),
    "stride and padding": lambda: with_batch_norm(nn.Conv2d(3, 8, 3, stride=2, padding=1)),
    "dilation": lambda: with_batch_norm(nn.Conv2d(3, 4, 3, dilation=2, padding=2, bias=False)),
    "one by one": lambda: with_batch_norm(nn.Conv2d(3, 5, 1)),
    "rectangular kernel": lambda: with_batch_norm(nn.Conv2d(3, 5, (1, 5), padding=(0, 2))),
    "groups": lambda: with_batch_norm(nn.Conv2d(3, 6, 3, padding=1, groups=3)),
    "depthwise": lambda: with_batch_norm(nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False)),
    "depthwise with bias": lambda: with_batch_norm(nn.Conv2d(3, 3, 5, padding=2, groups=3)),
    "two groups": lambda: nn.Sequential(nn.Conv2d(3, 8, 1), with_batch_norm(nn.Conv2d(8, 12, 3, groups=2, bias=False))),
    "plain BatchNorm": lambda: nn.BatchNorm2d(3),
    "BatchNorm twice": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)),
    "BatchNorm without weights": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)),
    "max pool": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(3, 2, 1)),
    "average pool": lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AvgPool2d(2)),
    "concat": lambda: Join(),
    "linear": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 7)),
    "activations": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.GELU(), nn.Conv2d(4, 4, 1), nn.Sigmoid(), nn.Hardtanh()
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_equals_pytorch(name: str) -> None:
    torch.manual_seed(0)
    model = seeded(SMALL[name]())
    x = torch.randn(3, 3, 10, 10)
    with torch.no_grad():
        expected = model(x)
    got = lm.compile(model, (x,), check=False)(x)
    assert got.shape == expected.shape and got.dtype == expected.dtype
    assert (got - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.fixture(scope="module")
def convolution() -> lm.Executable:
    torch.manual_seed(0)
    return lm.compile(nn.Conv2d(3, 4, 3).eval(), (torch.randn(2, 3, 8, 8),))


def test_several_inputs_and_outputs() -> None:
    model, x, y = Several().eval(), torch.randn(2, 3, 8, 8), torch.randn(2, 4, 6, 6)
    got = lm.compile(model, (x, y))(x, y)
    assert isinstance(got, tuple)
    torch.testing.assert_close(got, model(x, y))


def test_a_tuple_of_one_stays_a_tuple() -> None:
    x = torch.randn(2, 3)
    got = lm.compile(Wrapped(), (x,))(x)
    assert isinstance(got, tuple)
    torch.testing.assert_close(got, (x * 2,))


def test_results_do_not_alias(convolution: lm.Executable) -> None:
    first, second = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    kept = convolution(first)
    before = kept.clone()
    convolution(second)
    assert torch.equal(kept, before)


def test_inputs_may_be_strided_and_need_gradients(convolution: lm.Executable) -> None:
    x = torch.randn(2, 8, 8, 3).permute(0, 3, 1, 2).requires_grad_()
    got = convolution(x)
    assert not got.requires_grad
    torch.testing.assert_close(got, convolution.program.model(x).detach())


def test_nan_and_infinity_survive() -> None:
    x = torch.randn(1, 3, 8, 8)
    x[0, 0, 2, 2], x[0, 1, 5, 5] = float("nan"), float("inf")
    model = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(3, 3, 1)).eval()
    torch.testing.assert_close(lm.compile(model, (x,))(x), model(x).detach(), equal_nan=True)


def test_calls_from_several_threads(convolution: lm.Executable) -> None:
    inputs = [torch.randn(2, 3, 8, 8) for _ in range(4)]
    expected = [convolution(x) for x in inputs]
    wrong: list[int] = []

    def work(k: int) -> None:
        wrong.extend(k for _ in range(50) if not torch.equal(convolution(inputs[k]), expected[k]))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_weights_are_a_copy() -> None:
    model, x = nn.Conv2d(3, 4, 3).eval(), torch.randn(1, 3, 8, 8)
    executable = lm.compile(model, (x,))
    before = executable(x)
    model.weight.data.zero_()
    assert torch.equal(executable(x), before)


def test_schedule() -> None:
    model, x = with_batch_norm(nn.Conv2d(4, 4, 3)).eval(), torch.randn(1, 4, 8, 8)
    executable = lm.compile(model, (x,), schedule="morph-group{layer=0 iters=co,ci factor=2}")
    assert executable.program.steps == ("morph-group{layer=0 iters=co,ci factor=2}",)
    torch.testing.assert_close(executable(x), executable.program.to_module().eval()(x).detach(), rtol=1e-4, atol=1e-5)
    with pytest.raises(lm.ArgumentError, match="no layer 'nothing'"):
        lm.compile(executable.program, schedule="morph-group{layer=nothing iters=co,ci factor=2}")


def test_the_program_is_not_changed() -> None:
    program = lm.import_model(with_batch_norm(nn.Conv2d(3, 4, 3)).eval(), (torch.randn(1, 3, 8, 8),))
    before = str(program)
    executable = lm.compile(program)
    assert str(program) == before
    assert executable.program is program
    assert executable.compile_seconds > 0


@pytest.mark.parametrize(
    ("tensors", "match"),
    [
        ((), r"expected 1 input tensor\(s\), got 0"),
        ((torch.zeros(2, 3, 8, 8),) * 2, r"expected 1 input tensor\(s\), got 2"),
        ((torch.zeros(1, 3, 8, 8),), r"input 0: expected a dense CPU tensor \(2, 3, 8, 8\).*got \(1, 3, 8, 8\)"),
        ((torch.zeros(2, 3, 8, 8, dtype=torch.float64),), "input 0: expected .*float32, got .*float64"),
        (([1, 2],), "input 0: expected .*, got a list"),
        ((torch.zeros(2, 3, 8, 8, device="meta"),), "input 0: expected .*on meta"),
    ],
)
def test_wrong_inputs(convolution: lm.Executable, tensors: tuple[object, ...], match: str) -> None:
    with pytest.raises(lm.ArgumentError, match=match):
        convolution(*tensors)


@pytest.mark.parametrize(
    ("threads", "match"),
    [(0, "expected a positive number"), (-1, "expected a positive number"), (100_000, r"expected at most \d+, 4 for")],
)
def test_wrong_thread_counts(threads: int, match: str) -> None:
    with pytest.raises(lm.ArgumentError, match=f"argument 'threads': .*{match}"):
        lm.compile(nn.Conv2d(3, 4, 3), (torch.zeros(1, 3, 8, 8),), threads=threads)


def test_wrong_models_and_example_inputs(convolution: lm.Executable) -> None:
    with pytest.raises(lm.ArgumentError, match=r"expected an nn\.Module or a Program, got str"):
        lm.compile("resnet18")
    with pytest.raises(lm.ArgumentError, match=r"'example_inputs': needed to compile an nn\.Module"):
        lm.compile(nn.ReLU())
    with pytest.raises(lm.ArgumentError, match="has its example inputs already"):
        lm.compile(convolution.program, (torch.zeros(2, 3, 8, 8),))


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ('"test.unknown"() : () -> ()', "'test.unknown'"),
        ("memref.copy %x, %y : memref<4xf32> to memref<4xf32>", "'memref.copy'"),
    ],
)
def test_what_cannot_be_lowered_is_named(body: str, match: str) -> None:
    with ir.Context() as context, ir.Location.unknown():
        context.allow_unregistered_dialects = True
        module = ir.Module.parse(
            'func.func @run(%x: memref<4xf32>, %y: memref<4xf32>) { BODY loc("layer1.conv@op")\n return }'.replace(
                "BODY", body
            )
        )
        with pytest.raises(lm.CompilationFailed, match=f"{match} of layer 'layer1.conv'"):
            lower_to_llvm(module)
