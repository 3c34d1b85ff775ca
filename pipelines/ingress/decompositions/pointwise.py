"""Element-wise functions, to the last digits where torch-mlir's own rules have fewer.

Arithmetic is that of the tensor's type, of float32 for half types; compiled code does not reassociate it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._ops import OpOverload

_aten = torch.ops.aten
_HALF = (torch.float16, torch.bfloat16)
_NEAR_ZERO = 0.35  # from here on exp(x) - 1 is as exact as the series of float32 is before
# erfc(x) = t exp(-x^2 + p(t)), t = 1 / (1 + x / 2), relative error 1.2e-7 (Press et al., Numerical Recipes, 6.2)
_ERFC = (-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587)
_ERFC_LAST = (-0.82215223, 0.17087277)


def _floating(rule: Callable[..., Any]) -> Callable[..., Any]:
    """Computes on floats: on float32 for half types, and on the default type for integers."""

    @functools.wraps(rule)
    def on_floats(x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if x.dtype in _HALF:
            wide = (a.to(torch.float32) if isinstance(a, torch.Tensor) and a.dtype in _HALF else a for a in args)
            result = rule(x.to(torch.float32), *wide, **kwargs)
            return result.to(x.dtype) if isinstance(result, torch.Tensor) else result
        return rule(x if x.is_floating_point() else x.to(torch.get_default_dtype()), *args, **kwargs)

    return on_floats


def _polynomial(x: torch.Tensor, coefficients: Sequence[float]) -> torch.Tensor:
    """`c[0] + c[1] x + ...`"""
    value = x * coefficients[-1]
    for each in reversed(coefficients[1:-1]):
        value = (value + each) * x
    return value + coefficients[0]


@_floating
def expm1(x: torch.Tensor) -> torch.Tensor:
    """`aten.expm1`: near zero by its series, elsewhere `exp(x) - 1`."""
    terms = 7 if x.dtype == torch.float32 else 15
    near = x * _polynomial(x, [1 / math.factorial(k + 1) for k in range(terms)])
    return torch.where(x.abs() < _NEAR_ZERO, near, torch.exp(x) - 1)


@_floating
def log1p(x: torch.Tensor) -> torch.Tensor:
    """`aten.log1p`: `log(1 + x)`, corrected by the part of `x` that the sum has lost."""
    whole = x + 1
    kept = whole - 1
    logarithm = torch.log(whole) * torch.where(kept == x, 1.0, x / kept)
    return torch.where(whole == 1, x, logarithm)


@_floating
def elu(x: torch.Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> torch.Tensor:
    """`aten.elu`, which `selu` is too."""
    return torch.where(x > 0, x * scale, expm1(x * input_scale) * (alpha * scale))


@_floating
def _gelu_tanh(x: torch.Tensor) -> torch.Tensor:
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))
    return 0.5 * x * (1 + torch.tanh(inner))


def gelu(x: torch.Tensor, *, approximate: str = "none") -> object:
    """`aten.gelu` with `approximate="tanh"`; the exact one stays core."""
    return _gelu_tanh(x) if approximate == "tanh" else NotImplemented


@_floating
def erfc(x: torch.Tensor) -> torch.Tensor:
    """`aten.erfc`: in float32 with small relative errors, in float64 `1 - erf(x)`."""
    if x.dtype == torch.float64:
        return 1 - torch.erf(x)
    size = x.abs()
    t = 1 / (1 + 0.5 * size)
    right = t * torch.exp(_polynomial(t, (*_ERFC, *_ERFC_LAST)) - size * size)
    right = torch.where(size < torch.inf, right, torch.where(size == torch.inf, 0.0, x))
    return torch.where(x < 0, 2 - right, right)


def signbit(x: torch.Tensor) -> torch.Tensor:
    """`aten.signbit`: whether negative, -0.0 included; the sign of a NaN counts as positive."""
    return (x < 0) | (1 / x < 0) if x.is_floating_point() else x < 0


def copysign(x: torch.Tensor, sign: torch.Tensor | float) -> torch.Tensor:
    """`aten.copysign`: the size of one and the sign of the other."""
    size = (x if x.is_floating_point() else x.to(torch.get_default_dtype())).abs()
    if not isinstance(sign, torch.Tensor):
        return -size if math.copysign(1, sign) < 0 else size
    dtype = torch.result_type(x, sign)
    size = size.to(dtype if dtype.is_floating_point else torch.get_default_dtype())
    return torch.where(signbit(sign), -size, size)


def hypot(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """`aten.hypot`: the larger times the root of what cannot overflow."""
    a, b = x.abs(), y.abs()
    larger, smaller = torch.maximum(a, b), torch.minimum(a, b)
    ratio = torch.where(larger > 0, smaller / larger, smaller)
    length = larger * torch.sqrt(1 + ratio * ratio)
    return torch.where((a == torch.inf) | (b == torch.inf), torch.inf, length)


def _log_add_exp(to_power: Callable[[torch.Tensor], torch.Tensor], base: float) -> Callable[..., torch.Tensor]:
    @_floating
    def log_add_exp(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """`aten.logaddexp`, `aten.logaddexp2`: the greater plus what the other adds to it."""
        greater, distance = torch.maximum(x, y), (x - y).abs()
        more = log1p(to_power(-distance)) / math.log(base)
        return torch.where(x == y, greater + math.log(2, base), greater + more)

    return log_add_exp


def isclose(
    x: torch.Tensor, y: torch.Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> object:
    """`aten.isclose` of floats: equal, or a finite distance within the tolerances."""
    if not x.is_floating_point():
        return NotImplemented
    distance = (x - y).abs()
    close = (x == y) | ((distance < torch.inf) & (distance <= atol + (rtol * y).abs()))
    return close | (x.isnan() & y.isnan()) if equal_nan else close


def _extreme_of_known(extreme: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def rule(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """`aten.fmax`, `aten.fmin`: the other number where one is NaN."""
        dtype = torch.result_type(x, y)
        x, y = x.to(dtype), y.to(dtype)
        if not dtype.is_floating_point:
            return extreme(x, y)
        return torch.where(x.isnan(), y, torch.where(y.isnan(), x, extreme(x, y)))

    return rule


def equal(x: torch.Tensor, y: torch.Tensor) -> object:
    """`aten.eq.Tensor` of floats as not unequal: torch-mlir takes `x == x` for true, which tests for NaN."""
    return (x != y).logical_not() if x.is_floating_point() and y.is_floating_point() else NotImplemented


def power(x: torch.Tensor, exponent: float) -> object:
    """`aten.pow.Tensor_Scalar` with 0.5 or -0.5, whose value at minus infinity is that of a root."""
    if not x.is_floating_point() or exponent not in (0.5, -0.5):
        return NotImplemented
    return torch.sqrt(x) if exponent > 0 else torch.rsqrt(x)


def fmod(x: torch.Tensor, y: torch.Tensor | float) -> object:
    """`aten.fmod` of floats: what `remainder`, exact for two positive numbers, leaves, with the sign of `x`."""
    if not _are_floats(x, y):
        return NotImplemented
    left = torch.remainder(x.abs(), y.abs() if isinstance(y, torch.Tensor) else abs(y))
    return torch.where(signbit(x), -left, left)


def divide(x: torch.Tensor, y: torch.Tensor | float, *, rounding_mode: str | None) -> object:
    """`aten.div.Tensor_mode`, `aten.div.Scalar_mode` of floats with `rounding_mode="floor"`, as ATen's `div_floor`."""
    left = fmod(x, y) if rounding_mode == "floor" and _are_floats(x, y) else NotImplemented
    if not isinstance(left, torch.Tensor):
        return NotImplemented
    quotient = (x - left) / y
    quotient = torch.where((left != 0) & ((left < 0) != (y < 0)), quotient - 1, quotient)
    whole = torch.floor(quotient)
    whole = torch.where(quotient - whole > 0.5, whole + 1, whole)
    plain = x / y
    result = torch.where(quotient == 0, plain * 0, whole)
    if isinstance(y, torch.Tensor):
        return torch.where(y == 0, plain, result)
    return plain if y == 0 else result


def floor_divide(x: torch.Tensor, y: torch.Tensor | float) -> object:
    """`aten.floor_divide` of floats."""
    return divide(x, y, rounding_mode="floor")


def _are_floats(x: object, y: object) -> bool:
    """Whether `x` is a tensor of floats, and `y` another of its type or a number."""
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        return False
    return y.dtype == x.dtype if isinstance(y, torch.Tensor) else isinstance(y, (int, float))


def softmax(x: torch.Tensor, dim: int, half_to_float: bool) -> object:
    """`aten._softmax` of f32 and f64 values: torch-mlir's rule also finds where the maximum is."""
    if x.dim() == 0:
        return torch.exp(x - x)
    if half_to_float or x.dtype not in (torch.float32, torch.float64) or x.shape[dim] == 0:
        return NotImplemented
    return _normalised(x, x.amax(dim, keepdim=True), dim)


def safe_softmax(x: torch.Tensor, dim: int, dtype: torch.dtype | None = None) -> object:
    """`aten._safe_softmax`, which is 0 where all values are -inf: just there, so is their maximum."""
    if dtype not in (None, x.dtype) or x.dtype not in (torch.float32, torch.float64) or 0 in x.shape or x.dim() == 0:
        return NotImplemented
    most = x.amax(dim, keepdim=True)
    return torch.where(most == -math.inf, 0.0, _normalised(x, most, dim))


def _normalised(x: torch.Tensor, most: torch.Tensor, dim: int) -> torch.Tensor:
    powers = torch.exp(x - most)
    return powers * powers.sum(dim, keepdim=True).reciprocal()


def log_softmax(x: torch.Tensor, dim: int, half_to_float: bool) -> object:
    """`aten._log_softmax` of a tensor without axes."""
    return x - x if x.dim() == 0 else NotImplemented


def extreme(x: torch.Tensor, dim: Sequence[int] = (), keepdim: bool = False) -> object:
    """`aten.amax`, `aten.amin` of a tensor without axes."""
    return x.clone() if x.dim() == 0 else NotImplemented


DECOMPOSITIONS: dict[OpOverload, Callable[..., object]] = {
    _aten._log_softmax.default: log_softmax,
    _aten._safe_softmax.default: safe_softmax,
    _aten._softmax.default: softmax,
    _aten.amax.default: extreme,
    _aten.amin.default: extreme,
    _aten.copysign.Scalar: copysign,
    _aten.copysign.Tensor: copysign,
    _aten.div.Scalar_mode: divide,
    _aten.div.Tensor_mode: divide,
    _aten.elu.default: elu,
    _aten.eq.Tensor: equal,
    _aten.erfc.default: erfc,
    _aten.expm1.default: expm1,
    _aten.floor_divide.default: floor_divide,
    _aten.fmax.default: _extreme_of_known(torch.maximum),
    _aten.fmin.default: _extreme_of_known(torch.minimum),
    _aten.fmod.Scalar: fmod,
    _aten.fmod.Tensor: fmod,
    _aten.gelu.default: gelu,
    _aten.hypot.default: hypot,
    _aten.isclose.default: isclose,
    _aten.log1p.default: log1p,
    _aten.logaddexp.default: _log_add_exp(torch.exp, math.e),
    _aten.logaddexp2.default: _log_add_exp(torch.exp2, 2),
    _aten.pow.Tensor_Scalar: power,
    _aten.signbit.default: signbit,
}
