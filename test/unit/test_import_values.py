"""What an import must keep: NaN, elements read at computed places, tables that the model makes itself."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import loopmorph as lm
from loopmorph.pipelines.support.agreement import largest_error

SPECIAL = torch.tensor([[math.nan, 1.0, -2.0, 7.0], [0.0, -0.0, math.inf, -math.inf]])


class Calls(nn.Module):
    """A module that calls functions of its inputs, and returns all their results."""

    def __init__(self, *functions: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.functions = functions

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(function(*inputs) for function in self.functions)


def error(functions: list[Callable[..., torch.Tensor]], *inputs: torch.Tensor) -> float:
    """The largest relative error of functions that are compiled together."""
    model = Calls(*functions).eval()
    results = lm.compile(model, inputs)(*inputs)
    expected = model(*inputs)
    assert [r.dtype for r in results] == [e.dtype for e in expected]
    return largest_error(results, expected)


def test_nan_stays_nan_in_what_bounds_a_value() -> None:
    functions = [F.relu, F.relu6, F.hardtanh, F.hardsigmoid, F.hardswish, lambda x: x.clamp(min=0.5)]
    functions += [lambda x: x.clamp(max=0.5), lambda x: x.clamp(-1, 1), lambda x: F.threshold(x, 0.5, 0.5)]
    functions += [lambda x: torch.clamp(x, x.new_zeros(()), x.new_ones(()))]
    assert error(functions, SPECIAL) == 0.0


def test_nan_stays_nan_in_extremes_of_two() -> None:
    pairs = [torch.maximum, torch.minimum, torch.fmax, torch.fmin]
    functions = [lambda x, pair=pair: pair(x, x.flip(1)) for pair in pairs]
    functions += [lambda x: (x > x.flip(1)).float(), lambda x: (x != x).float()]
    assert error(functions, SPECIAL) == 0.0


@pytest.mark.parametrize("axis", [0, 1])
def test_extreme_positions_are_those_of_the_first_nan(axis: int) -> None:
    functions = [lambda x: x.argmax(axis), lambda x: x.argmin(axis), lambda x: x.max(axis).indices]
    functions += [lambda x: x.min(axis).values, lambda x: x.amax(axis)]
    assert error(functions, SPECIAL) == 0.0


@pytest.mark.parametrize("extent", [5, 8, 16])  # among them the width of a vector register
def test_elements_are_read_at_places_that_depend_on_data(extent: int) -> None:
    x = torch.randn(2, 16, extent, generator=torch.Generator().manual_seed(0))
    where = (x > 0).long()
    functions = [lambda x, k: torch.gather(x, 2, k), lambda x, k: torch.gather(x.transpose(1, 2), 1, k.transpose(1, 2))]
    functions += [lambda x, k: F.embedding(k[0], x[1]), lambda x, k: x.relu()[:, torch.tensor([3, 0, -1])]]
    functions += [lambda x, k: x.reshape(-1).index_select(0, k.reshape(-1)[:extent])]
    assert error(functions, x, where) <= 1e-6


def test_two_threads_gather_what_they_wrote_together() -> None:
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReflectionPad2d(2), nn.Conv2d(16, 16, 3)).eval()
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert largest_error([lm.compile(model, (x,), threads=2)(x)], [model(x)]) <= 1e-5


def test_tables_that_a_model_makes_become_arguments() -> None:
    def positions(x: torch.Tensor) -> torch.Tensor:
        angles = torch.outer(torch.arange(4.0), 10000.0 ** (-torch.arange(4.0) / 4))
        return x * angles.cos() + angles.sin()

    def masked(x: torch.Tensor) -> torch.Tensor:
        return x.masked_fill(torch.ones(4, 4).tril() == 0, -math.inf).softmax(-1)

    def empty(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, x.new_empty(0, 4)]) + torch.full((4, 4), 2.0)

    x = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    assert error([positions, masked, empty], x) <= 1e-6
    program = lm.import_model(Calls(positions), (x,))
    assert set(program.parameters) == {"constant_0", "constant_1"}
    assert "dense<" not in str(program)


def test_zeros_of_both_signs_are_no_single_number() -> None:
    assert error([lambda x: x / torch.tensor([0.0, -1.0]).mul(0)], torch.ones(2)) == 0.0
    assert error([lambda x: x / (torch.arange(2.0) * -torch.tensor([-1.0, 0.0]))], torch.ones(2)) == 0.0
    assert error([lambda x: x / (torch.arange(2.0) - 1).ceil().mul(0)], torch.ones(2)) == 0.0


def test_a_kept_import_brings_its_tables_back(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPMORPH_CACHE", str(tmp_path))
    model, x = Calls(lambda x: x + torch.arange(4.0)), torch.zeros(4)
    first, again = (lm.import_model(model, (x,)) for _ in range(2))
    assert torch.equal(again.parameters["constant_0"], torch.arange(4.0))
    assert str(first) == str(again)


def test_an_index_into_a_table_says_how_large_it_may_be() -> None:
    program = lm.import_model(nn.Embedding(7, 3), (torch.tensor([0, 6, 2]),))
    assert "morph.below = 7" in str(program)
    run = lm.compile(program)
    for wrong in (-1, 7):
        message = f"input 0: expected indices from 0 to 6, got {wrong} among them"
        with pytest.raises(lm.ArgumentError, match=message):
            run(torch.tensor([0, wrong, 2]))


def test_divisions_of_integers_are_whole_where_the_divisor_is_known() -> None:
    x = torch.tensor([5, -7, 9])
    functions = [
        lambda x: x // 3,
        lambda x: x % -4,
        lambda x: x // torch.tensor([2, 3, -4]),
    ]
    functions += [lambda x: torch.div(x, 2, rounding_mode="trunc"), lambda x: x / (x + 1)]
    assert error(functions, x) <= 1e-6


@pytest.mark.parametrize(
    ("function", "divisor"),
    [
        (lambda x: x // x.flip(0), "integers that depend on data"),
        (lambda x: 100 % x, "integers that depend on data"),
        (lambda x: torch.fmod(x, x), "integers that depend on data"),
        (lambda x: x // torch.tensor([1, 0, 2]), "0"),
    ],
)
def test_divisions_that_may_raise_are_refused(function: Callable[[torch.Tensor], torch.Tensor], divisor: str) -> None:
    with pytest.raises(lm.ImportRefused, match=rf"operator '\w+' .*:\d+\) divides by {divisor}.*, which raises"):
        lm.import_model(Calls(function), (torch.tensor([5, -7, 9]),))


class Inverse(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.inv(x)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: torch.nonzero(x), "operator 'nonzero' .*the size of its result depends on data"),
        (lambda x: x[x > 0], "operator 'index' .*the size of its result depends on data"),
        (lambda x: x + torch.rand(3), "operator 'rand' .*draws random numbers"),
        (lambda x: F.dropout(x, training=True), "operator 'dropout' .*draws random numbers"),
        (lambda x: torch.fft.fft(x).real, "operator 'fft_fft' .*is of torch.complex64"),
        (lambda x: torch.special.bessel_j0(x), "operator 'special_bessel_j0' .*.*it has no lowering"),
        (lambda x: x.expand(4097, 3, 3).sort(0).values, "operator 'sort' .*an axis of 4097 elements; up to 4096"),
        (lambda x: x if x.sum() > 0 else -x, "torch.export refuses the model .*data-dependent"),
        (lambda x: torch.combinations(x[0]), "torch.export refuses the model .*the size of a result depends on data"),
        (lambda x: nn.CrossMapLRN2d(3)(x[None, None]), "torch.export refuses the model: operator 'select' .*storage"),
    ],
)
def test_refusals_name_the_operator_the_line_and_a_way_out(
    function: Callable[[torch.Tensor], torch.Tensor], message: str
) -> None:
    with pytest.raises(lm.ImportRefused, match=message) as refused:
        lm.import_model(Calls(function), (torch.eye(3),))
    assert "test_import_values.py:" in str(refused.value)
    assert "torch.compile(model" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_refusals_name_the_module() -> None:
    model = nn.Sequential(nn.Linear(3, 3), Inverse())
    with pytest.raises(lm.ImportRefused, match=r"operator 'linalg_inv' of module '1' \(.*test_import_values.py:\d+\)"):
        lm.import_model(model, (torch.eye(3),))
