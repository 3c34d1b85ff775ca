"""`morph-expand-math`: exponentials, error functions and hyperbolic tangents as polynomials, in any number of lanes."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.dialects import arith
from torch_mlir.dialects import math as math_dialect

from loopmorph.passes.analysis.definitions import float_constant
from loopmorph.passes.base import Pass

# ln 2 in two parts: a whole number of up to 9 bits times the first is exact in f32.
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
# Above the first e**x is infinite in f32, below the second it is 0.
_EXP_MOST, _EXP_LEAST = 89.0, -104.0
# (e**r - 1 - r) / r**2 for |r| <= ln 2 / 2, highest power first (S. L. Moshier, Cephes, expf).
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
# x P(x**2) / Q(x**2), highest power first: minimax for |x| <= 4, where erf is 1 in f32 (Eigen, MathFunctionsImpl).
_ERF_MOST = 4.0
_ERF_P = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
_ERF_Q = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)
# The same for tanh: from the bound on it is 1 in f32; below the other one it is x.
_TANH_MOST, _TANH_LINEAR = 9.0, 4e-4
_TANH_P = (
    -2.76076847742355e-16,
    2.00018790482477e-13,
    -8.60467152213735e-11,
    5.12229709037114e-08,
    1.48572235717979e-05,
    6.37261928875436e-04,
    4.89352455891786e-03,
)
_TANH_Q = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)


@dataclass(frozen=True)
class ExpandMath(Pass):
    """Replaces `math.exp`, `math.erf` and `math.tanh` on f32 by arithmetic, on scalars and on vectors.

    Before:

        %1 = math.exp %0 : vector<16xf32>

    After (abridged): with n = round(x / ln 2), r = x - n ln 2,

        %n = math.roundeven ...   %r = ...   %p = 1 + %r + %r * %r * P(%r)
        %1 = %p * 2**(n / 2) * 2**(n - n / 2)

    A call of the C library takes one number at a time, and no compiler makes vectors of it. The largest errors over
    all f32 are 1e-7 of the value for `exp` (half a unit in the last place of a subnormal), 5e-7 of the value for `erf`
    and `tanh`. Infinities and NaN come out as from the C library; overflow gives infinity. A division by a constant
    becomes a product with its inverse, where both are normal numbers: half a unit in the last place more.

    Requires nothing; other element types stay as they are.
    """

    name: ClassVar[str] = "morph-expand-math"

    def run(self, module: ir.Operation) -> None:
        with module.context:
            for op in _found(module):
                with ir.InsertionPoint(op), op.location:
                    result = _EXPANSIONS[op.name](_Lanes(op.results[0].type), op)
                if result is not None:
                    op.results[0].replace_all_uses_with(result)
                    op.erase()


def _found(module: ir.Operation) -> list[ir.Operation]:
    found: list[ir.Operation] = []

    def visit(op: ir.Operation) -> ir.WalkResult:
        if op.name in _EXPANSIONS and _is_f32(op.results[0].type):
            found.append(op)
        return ir.WalkResult.ADVANCE

    module.walk(visit)
    return found


def _is_f32(type_: ir.Type) -> bool:
    element = type_.element_type if isinstance(type_, ir.VectorType) else type_
    return isinstance(element, ir.F32Type)


class _Lanes:
    """Builds f32 arithmetic on values of one type, a scalar or a vector, that is not to be rearranged."""

    def __init__(self, type_: ir.Type) -> None:
        self.type = type_
        self.bits = _like(type_, ir.IntegerType.get_signless(32))
        self.flags = ir.Attribute.parse("#arith.fastmath<contract>")

    def number(self, value: float) -> ir.Value:
        element = ir.FloatAttr.get(ir.F32Type.get(), value)
        return arith.ConstantOp(self.type, _splat(self.type, element)).result

    def integer(self, value: int) -> ir.Value:
        element = ir.IntegerAttr.get(ir.IntegerType.get_signless(32), value)
        return arith.ConstantOp(self.bits, _splat(self.bits, element)).result

    def add(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return arith.AddFOp(a, b, fastmath=self.flags).result

    def mul(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return arith.MulFOp(a, b, fastmath=self.flags).result

    def select(self, a: ir.Value, predicate: str, b: ir.Value, yes: ir.Value, no: ir.Value) -> ir.Value:
        """`yes` where the comparison holds, else `no`."""
        test = arith.CmpFOp(arith.CmpFPredicate[predicate], a, b).result
        return arith.SelectOp(test, yes, no).result

    def clamp(self, x: ir.Value, least: float, most: float) -> ir.Value:
        """`x` within bounds; NaN stays, as in the two instructions that x86 has for this."""
        low, high = self.number(least), self.number(most)
        x = self.select(high, "OLT", x, high, x)
        return self.select(low, "OGT", x, low, x)

    def polynomial(self, x: ir.Value, coefficients: Sequence[float]) -> ir.Value:
        """By Horner's rule, highest power first."""
        result = self.number(coefficients[0])
        for coefficient in coefficients[1:]:
            result = self.add(self.mul(result, x), self.number(coefficient))
        return result

    def power_of_two(self, n: ir.Value) -> ir.Value:
        """2**n for integers in -126 .. 127."""
        shifted = arith.ShLIOp(arith.AddIOp(n, self.integer(127)).result, self.integer(23)).result
        return arith.BitcastOp(self.type, shifted).result


def _like(type_: ir.Type, element: ir.Type) -> ir.Type:
    return ir.VectorType.get(type_.shape, element) if isinstance(type_, ir.VectorType) else element


def _splat(type_: ir.Type, element: ir.Attribute) -> ir.Attribute:
    return ir.DenseElementsAttr.get_splat(type_, element) if isinstance(type_, ir.VectorType) else element


def _exp(lanes: _Lanes, op: ir.Operation) -> ir.Value:
    bounded = lanes.clamp(op.operands[0], _EXP_LEAST, _EXP_MOST)
    whole = math_dialect.RoundEvenOp(lanes.mul(bounded, lanes.number(1 / math.log(2)))).result
    r = lanes.add(bounded, lanes.mul(whole, lanes.number(-_LN2_HIGH)))
    r = lanes.add(r, lanes.mul(whole, lanes.number(-_LN2_LOW)))
    tail = lanes.mul(lanes.mul(r, r), lanes.polynomial(r, _EXP))
    result = lanes.add(lanes.add(tail, r), lanes.number(1.0))
    known = lanes.select(whole, "ORD", whole, whole, lanes.number(0.0))  # no integer stands for NaN
    n = arith.FPToSIOp(lanes.bits, known).result
    half = arith.ShRSIOp(n, lanes.integer(1)).result
    # In two steps, as 2**n itself may be too large or too small for f32 where the result is not.
    for part in (half, arith.SubIOp(n, half).result):
        result = lanes.mul(result, lanes.power_of_two(part))
    return result


def _rational(lanes: _Lanes, x: ir.Value, above: Sequence[float], below: Sequence[float]) -> ir.Value:
    square = lanes.mul(x, x)
    ratio = arith.DivFOp(lanes.polynomial(square, above), lanes.polynomial(square, below)).result
    return lanes.mul(x, ratio)  # last, since the product of a subnormal number with a small one is none any more


def _erf(lanes: _Lanes, op: ir.Operation) -> ir.Value:
    return _rational(lanes, lanes.clamp(op.operands[0], -_ERF_MOST, _ERF_MOST), _ERF_P, _ERF_Q)


def _tanh(lanes: _Lanes, op: ir.Operation) -> ir.Value:
    x = op.operands[0]
    result = _rational(lanes, lanes.clamp(x, -_TANH_MOST, _TANH_MOST), _TANH_P, _TANH_Q)
    size = math_dialect.AbsFOp(x).result
    return lanes.select(size, "OLT", lanes.number(_TANH_LINEAR), x, result)


def _division(lanes: _Lanes, op: ir.Operation) -> ir.Value | None:
    """A product, where the divisor is a constant whose inverse is a normal number too; else None."""
    divisor = float_constant(op.operands[1])
    if divisor is None or not 2.0**-126 <= abs(divisor) <= 2.0**126:
        return None
    return lanes.mul(op.operands[0], lanes.number(struct.unpack("f", struct.pack("f", 1 / divisor))[0]))


_EXPANSIONS: dict[str, Callable[[_Lanes, ir.Operation], ir.Value | None]] = {
    "math.exp": _exp,
    "math.erf": _erf,
    "math.tanh": _tanh,
    "arith.divf": _division,
}
EXPANDED = frozenset(_EXPANSIONS)  # names of the operations that need no call of the C library on f32
