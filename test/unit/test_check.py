"""`lm.compile` compares with PyTorch: what it finds, what it tells, and what it does not take for a fault."""

from __future__ import annotations

import runpy
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch_mlir import ir

import loopmorph as lm
from loopmorph.passes.errors import IllegalTransform
from loopmorph.pipelines.codegen import check
from loopmorph.pipelines.codegen.check import UncheckedWarning
from loopmorph.pipelines.support.agreement import Agreement
from loopmorph.pipelines.support.probes import nearby, probes

NAN, INFINITY = float("nan"), float("inf")


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.second = nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x)) * 3)


@pytest.fixture(autouse=True)
def reproducers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def small() -> lm.Program:
    torch.manual_seed(0)
    return lm.import_model(Small().eval(), (torch.randn(2, 6),))


def edited(program: lm.Program, before: str, after: str) -> lm.Program:
    """The program with a fault, as a wrong import would have it."""
    text = str(program.module)
    assert before in text
    return replace(program, module=ir.Module.parse(text.replace(before, after, 1), program.module.context))


def test_a_wrong_layer_is_named_and_can_be_reproduced(small: lm.Program, reproducers: Path) -> None:
    wrong = edited(small, "3.000000e+00", "2.000000e+00")
    with pytest.raises(lm.WrongResult, match=r"differs from PyTorch on the example inputs: .*layer .* is 'mul_2'; "):
        lm.compile(wrong)
    (script,) = reproducers.glob("loopmorph-wrong-*/reproduce.py")
    assert {path.name for path in script.parent.iterdir()} == {"reproduce.py", "model.pt2"}
    assert script.parent.stat().st_mode & 0o077 == 0
    runpy.run_path(str(script))  # compiles the network afresh, which is right
    torch.testing.assert_close(lm.compile(wrong, check=False)(*small.example_inputs).shape, torch.Size([2, 4]))


def test_zeros_as_example_hide_nothing() -> None:
    program = lm.import_model(nn.Linear(6, 5, bias=False).eval(), (torch.zeros(2, 6),))
    with pytest.raises(lm.WrongResult, match=r"on random inputs: it differs by .* of the largest output"):
        lm.compile(edited(program, "arith.addf", "arith.subf"))


def test_a_lost_nan_is_found() -> None:
    program = lm.import_model(nn.ReLU(), (torch.zeros(2, 6),))
    with pytest.raises(lm.WrongResult, match=r"on inputs with one NaN: 1 of 12 elements are finite where PyTorch has"):
        lm.compile(edited(program, "arith.cmpf ugt", "arith.cmpf ogt"))


def test_a_schedule_goes_with_the_reproducer(small: lm.Program, reproducers: Path) -> None:
    wrong = edited(small.apply("morph-split{layer=first iter=co factor=2}"), "3.000000e+00", "2.000000e+00")
    with pytest.raises(lm.WrongResult, match="'mul_2'"):
        lm.compile(wrong)
    (schedule,) = reproducers.glob("loopmorph-wrong-*/schedule.txt")
    assert schedule.read_text() == "morph-split{layer=first iter=co factor=2}"


def test_a_rewritten_network_is_compared_with_its_module(small: lm.Program) -> None:
    program = small.apply("morph-bottleneck{layer=first iter=co factor=5}")
    lm.compile(program)
    with pytest.raises(lm.WrongResult, match="on the example inputs"):
        lm.compile(edited(program, "3.000000e+00", "2.000000e+00"))


def test_what_has_no_module_is_not_compared(small: lm.Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(program: object) -> nn.Module:
        raise IllegalTransform("layer 'first'", "it has no rewritten form")

    monkeypatch.setattr(check, "to_module", refuse)
    with pytest.warns(
        UncheckedWarning, match="is not compared with PyTorch, .*: layer 'first': it has no rewritten form"
    ):
        lm.compile(small.apply("morph-bottleneck{layer=first iter=co factor=5}"))


def rounding() -> nn.Module:
    """Any difference in rounding may become one of 1."""
    return nn.Sequential(nn.Linear(16, 64), Rounds())


class Rounds(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return (x * 1000).round() % 2, x.argmax(-1), x.std(0) / x.std(0)


def saturating() -> nn.Module:
    """Large inputs make each rounding error one of the size of its outputs."""
    layers = [nn.Sequential(nn.Linear(16, 16), nn.Tanh()) for _ in range(4)]
    return nn.Sequential(nn.Linear(16, 16), *layers)


@pytest.mark.parametrize("model", [rounding, saturating, lambda: nn.Softmax(-1), lambda: nn.LayerNorm(16)])
def test_amplified_rounding_is_no_fault(model: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lm.compile(model().eval(), (torch.randn(8, 16),))


def test_inputs_that_the_model_does_not_accept_are_left_out() -> None:
    class Positive(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not torch.compiler.is_exporting() and not bool((x > 0).all()):
                raise ValueError("only positive numbers")
            return x * 2

    lm.compile(Positive().eval(), (torch.ones(3),))


def test_the_probes() -> None:
    floats, indices = torch.randn(2, 3), torch.tensor([2, 5, 4])
    found = {probe.kind: probe.tensors for probe in probes((floats, indices))}
    assert list(found) == ["example", "random", "negative", "zero", "large", "NaN", "infinite"]
    assert all(((2 <= i) & (i <= 5)).all() and i.dtype == torch.int64 for _, i in found.values())
    assert found["NaN"][0].isnan().sum() == found["infinite"][0].isinf().sum() == 1
    assert (found["negative"][0] <= 0).all() and not found["zero"][0].any() and found["large"][0].abs().max() > 1e3
    assert [p.kind for p in probes((indices,))] == ["example", "random"]
    assert [p.kind for p in probes((floats,), wild=False)] == ["example", "random", "negative", "zero"]
    again = {probe.kind: probe.tensors for probe in probes((floats, indices))}
    assert all(torch.equal(a, b) for a, b in zip(found["random"], again["random"], strict=True))


def test_nearby_inputs() -> None:
    (probe, *_) = probes((torch.tensor([1.0, NAN, -100.0]), torch.tensor([3])))
    for x, i in nearby(probe, 2):
        assert x[1].isnan() and i == 3
        assert 0 < (x - probe.tensors[0])[[0, 2]].abs().max() <= 2e-3


A = torch.tensor([1.0, -2.0, 0.0])


@pytest.mark.parametrize(
    ("result", "expected", "rule", "text"),
    [
        (A, A + 1e-4, Agreement(), None),
        (A, A + 1e-3, Agreement(), "it differs by 5.0e-04 of the largest output"),
        (A, A + 1e-3, Agreement(tolerance=1e-2), None),
        (A[:2], A, Agreement(), r"it gives \(2,\) torch.float32, PyTorch \(3,\) torch.float32"),
        (A.double(), A, Agreement(), "it gives .*float64, PyTorch .*float32"),
        (A > 0, A < 0, Agreement(), "2 of 3 elements differ"),
        (A, A * NAN, Agreement(), "3 of 3 elements are finite where PyTorch has NaN"),
        (A, A * NAN, Agreement(indeterminate=True), None),
        (A * NAN, A, Agreement(), "3 of 3 elements are NaN or infinite where PyTorch has finite"),
        (A * NAN, A, Agreement(spreads=True), None),
        (A * INFINITY, A * -INFINITY, Agreement(), "an infinity has the wrong sign"),
        (A * NAN, A * INFINITY, Agreement(), None),
        (A * 0 + 1e-3, A * 0, Agreement(), "it gives 1.0e-03, not 0"),
        (A[:0], A[:0], Agreement(), None),
    ],
)
def test_agreement(result: torch.Tensor, expected: torch.Tensor, rule: Agreement, text: str | None) -> None:
    reason = rule.disagreement(result, expected)
    if text is None:
        assert reason is None
    else:
        assert reason is not None
        with pytest.raises(ValueError, match=text):
            raise ValueError(reason)


def test_what_pytorch_itself_amplifies_is_admitted() -> None:
    assert Agreement().disagreement(A, A + 0.1, [A + 0.12]) is None
    assert Agreement().disagreement(A, A + 0.1, [A + 0.101]) == "it differs by 5.3e-02 of the largest output"
    assert Agreement().disagreement(A, A * NAN, [A]) is None
