"""Element-wise functions in core operations, at the edges of their types and between: relative errors, NaN, signs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from decomposed import assert_compiles, assert_decomposes, assert_same

from loopmorph.pipelines.ingress.decompositions.pointwise import DECOMPOSITIONS

aten = torch.ops.aten
DTYPES = [torch.float32, torch.float64, torch.bfloat16]
TOLERANCE = {torch.float32: 3e-6, torch.float64: 1e-12, torch.bfloat16: 1e-2}
EDGES = [
    0.0,
    -0.0,
    1,
    -1,
    0.5,
    -0.5,
    3,
    -3,
    math.inf,
    -math.inf,
    math.nan,
    1e-45,
    -1e-45,
    1.2e-38,
    -1.2e-38,
    3e38,
    -3e38,
]
EDGES += [1e-8, -1e-8, 1e-4, -1e-4, 20, -20, 88, -88, 89, -104, 1e4, -1e4, 8388607.5, 16777217.0, 0.9999999, 1.0000001]


def values(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    normal = torch.randn(100)
    return torch.cat([torch.tensor(EDGES), normal, normal * 10, normal * 1e-3]).to(dtype)


def others(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    x = values(dtype)
    return x[torch.randperm(x.numel())]


def assert_close(actual: Any, expected: Any, dtype: torch.dtype) -> None:
    assert actual.dtype == expected.dtype
    actual, expected = actual.double(), expected.double()
    torch.testing.assert_close(actual, expected, equal_nan=True, rtol=TOLERANCE[dtype], atol=1.2e-38)


ONE: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {
    "expm1": (aten.expm1.default, (), {}),
    "log1p": (aten.log1p.default, (), {}),
    "elu": (aten.elu.default, (1.7, 1.1, 0.8), {}),
    "copysign": (aten.copysign.Scalar, (-0.0,), {}),
    "root": (aten.pow.Tensor_Scalar, (0.5,), {}),
    "inverse root": (aten.pow.Tensor_Scalar, (-0.5,), {}),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ONE)
def test_one_operand(name: str, dtype: torch.dtype) -> None:
    operation, args, kwargs = ONE[name]
    x = values(dtype)
    assert_close(DECOMPOSITIONS[operation](x, *args, **kwargs), operation(x, *args, **kwargs), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gelu(dtype: torch.dtype) -> None:
    x = values(dtype)
    ours = DECOMPOSITIONS[aten.gelu.default](x, approximate="tanh")
    assert_same(ours, F.gelu(x, approximate="tanh"))
    assert DECOMPOSITIONS[aten.gelu.default](x) is NotImplemented


def test_erfc_has_small_relative_errors() -> None:
    x = torch.cat([values(), torch.linspace(-6, 9, 500)])
    expected = torch.erfc(x)
    ours = DECOMPOSITIONS[aten.erfc.default](x)
    torch.testing.assert_close(ours, expected, rtol=2e-5, atol=1e-38, equal_nan=True)
    assert_same(DECOMPOSITIONS[aten.erfc.default](x.double()), torch.erfc(x.double()))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_signs(dtype: torch.dtype) -> None:
    x = values(dtype).nan_to_num(nan=1.0)  # the sign of a NaN is not looked at
    y = x[torch.randperm(x.numel())]
    assert_same(DECOMPOSITIONS[aten.signbit.default](x), torch.signbit(x), exact=True)
    assert_same(DECOMPOSITIONS[aten.copysign.Tensor](y, x), torch.copysign(y, x), exact=True)
    assert_same(DECOMPOSITIONS[aten.copysign.Tensor](y.long(), x), torch.copysign(y.long(), x), exact=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_hypot(dtype: torch.dtype) -> None:
    x, y = values(dtype), others(dtype)
    assert_close(DECOMPOSITIONS[aten.hypot.default](x, y), torch.hypot(x, y), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["logaddexp", "logaddexp2"])
def test_logarithms_of_sums(name: str, dtype: torch.dtype) -> None:
    x, y = values(dtype), others(dtype)
    assert_same(DECOMPOSITIONS[getattr(aten, name).default](x, y), getattr(torch, name)(x, y))


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
def test_remainders(dtype: torch.dtype) -> None:
    """Divisors that are no denormal numbers: there PyTorch's own kernels differ with the number of elements."""
    x, y = values(dtype), others(dtype)
    y = torch.where(y.abs() < 1e-30, 0.7, y)
    x = torch.where(x.abs() > 1e30, 5.5, x)
    for divisor in (y, 2.5, -0.7, 0.0):
        scalar = not isinstance(divisor, torch.Tensor)
        modulo = DECOMPOSITIONS[aten.fmod.Scalar if scalar else aten.fmod.Tensor]
        assert_same(modulo(x, divisor), torch.fmod(x, divisor), exact=True)
        floor = DECOMPOSITIONS[aten.div.Scalar_mode if scalar else aten.div.Tensor_mode]
        assert_same(floor(x, divisor, rounding_mode="floor"), torch.div(x, divisor, rounding_mode="floor"), exact=True)


@pytest.mark.parametrize("name", ["fmax", "fmin"])
def test_extremes_of_what_is_known(name: str) -> None:
    x, y = values(), others()
    for other in (y, y[:1], y.double(), torch.arange(x.numel())):
        assert_same(DECOMPOSITIONS[getattr(aten, name).default](x, other), getattr(torch, name)(x, other), exact=True)


@pytest.mark.parametrize("equal_nan", [False, True])
@pytest.mark.parametrize("atol", [1e-8, math.inf])
def test_isclose(equal_nan: bool, atol: float) -> None:
    x = torch.tensor([0.0, 1, math.inf, -math.inf, math.nan, 1e-9, 1.000001])
    x, y = x[:, None].expand(7, 7), x.expand(7, 7)
    ours = DECOMPOSITIONS[aten.isclose.default](x, y, atol=atol, equal_nan=equal_nan)
    assert_same(ours, torch.isclose(x, y, atol=atol, equal_nan=equal_nan), exact=True)


def test_integers_and_other_roundings_are_left_to_the_rules_in_use() -> None:
    x = torch.arange(4)
    assert DECOMPOSITIONS[aten.fmod.Scalar](x, 2) is NotImplemented
    assert DECOMPOSITIONS[aten.div.Tensor_mode](x, x, rounding_mode="floor") is NotImplemented
    assert DECOMPOSITIONS[aten.div.Tensor_mode](x + 0.5, x + 0.5, rounding_mode="trunc") is NotImplemented
    assert DECOMPOSITIONS[aten.pow.Tensor_Scalar](x + 0.5, 2) is NotImplemented


EXPORTED: dict[str, Callable[..., Any]] = {
    "of expm1 and log1p": lambda x: (F.celu(x, 1.7), F.selu(x), F.mish(x), F.softplus(x, 2.0, 5.0), F.logsigmoid(x)),
    "without axes": lambda x: (F.softmax(x[0], 0), F.log_softmax(x[1], 0), x[0].amax(0), x[1].amin(-1, True)),
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "complement": torch.erfc,
}


@pytest.mark.parametrize("name", EXPORTED)
def test_the_exporter_uses_the_rules(name: str) -> None:
    names = assert_decomposes(EXPORTED[name], values())
    assert not {each for each in names if any(op in each for op in ("expm1", "log1p", "gelu", "erfc", "elu"))}


def test_compiled() -> None:
    def functions(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.expm1(x), F.softplus(x), F.gelu(x, approximate="tanh"), torch.signbit(x), torch.fmod(x, 2.5)

    assert_compiles(functions, values().nan_to_num(nan=1.0))


def test_compiled_tests_for_nan() -> None:
    x = torch.tensor([1.0, math.nan, 2.0])
    assert_compiles(lambda x: (x == x, x != x, torch.where(x == x, x, torch.zeros(()))), x)
