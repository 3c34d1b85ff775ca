"""Straight-line code for products with small constant matrices, parts that several rows share computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from torch_mlir import ir
from torch_mlir.dialects import arith

from loopmorph.passes.winograd.matrices import Matrix

# A value in a register; None is zero, which needs no code.
Scalar: TypeAlias = ir.Value | None
Term: TypeAlias = tuple[float, Scalar]


class Arithmetic:
    """Builds scalar arithmetic at the current insertion point, the constants that it needs ahead of an operation."""

    def __init__(self, element: ir.Type, anchor: ir.Operation) -> None:
        """`element` is the type of all values; constants are built before `anchor`."""
        self._element = element
        self._anchor = anchor
        self._constants: dict[float, ir.Value] = {}

    def constant(self, value: float) -> ir.Value:
        """The number as a value."""
        if value not in self._constants:
            with ir.InsertionPoint(self._anchor):
                self._constants[value] = arith.ConstantOp(self._element, ir.FloatAttr.get(self._element, value)).result
        return self._constants[value]

    def combine(self, terms: Sequence[Term]) -> Scalar:
        """The sum of `coefficient * value` over the terms."""
        present = [(c, v) for c, v in terms if c and v is not None]
        if not present:
            return None
        # A term without a factor comes first: it needs no operation of its own.
        first = next((k for k, (c, _) in enumerate(present) if c == 1), 0)
        factor, total = present.pop(first)
        if factor != 1:
            total = arith.MulFOp(total, self.constant(factor)).result
        for c, v in present:
            scaled = v if abs(c) == 1 else arith.MulFOp(v, self.constant(abs(c))).result
            total = (arith.AddFOp if c > 0 else arith.SubFOp)(total, scaled).result
        return total

    def multiply(self, matrix: Matrix, vector: Sequence[Scalar]) -> list[Scalar]:
        """The product of a matrix and a vector.

        Two rows that agree in some columns and are opposite in the others are a sum and a difference of two parts;
        two columns that do so meet in the rows only as a sum and a difference.
        """
        matrix, vector = self._join_columns(matrix, vector)
        product: dict[int, Scalar] = {}
        for a, row in enumerate(matrix):
            if a in product:
                continue
            b = next((k for k in range(a + 1, len(matrix)) if k not in product and _mirror(row, matrix[k])), None)
            if b is None:
                product[a] = self.combine(list(zip(row, vector, strict=True)))
            else:
                product[a], product[b] = self._mirrored_rows(row, matrix[b], vector)
        return [product[k] for k in range(len(matrix))]

    def _mirrored_rows(
        self, row: Sequence[float], other: Sequence[float], vector: Sequence[Scalar]
    ) -> tuple[Scalar, Scalar]:
        columns = list(zip(row, other, vector, strict=True))
        even = self.combine([(c, v) for c, d, v in columns if c == d])
        scale = min(abs(c) for c, d, _ in columns if c != d)
        odd = self.combine([(c / scale, v) for c, d, v in columns if c != d])
        return self.combine([(1, even), (scale, odd)]), self.combine([(1, even), (-scale, odd)])

    def _join_columns(self, matrix: Matrix, vector: Sequence[Scalar]) -> tuple[Matrix, list[Scalar]]:
        columns = [list(c) for c in zip(*matrix, strict=True)]
        joined = list(vector)
        taken: set[int] = set()
        for a, b in _mirrored_columns(columns):
            x, y = vector[a], vector[b]
            if x is None or y is None or {a, b} & taken:
                continue
            taken |= {a, b}
            even = [c if c == d else 0.0 for c, d in zip(columns[a], columns[b], strict=True)]
            odd = [c if c != d else 0.0 for c, d in zip(columns[a], columns[b], strict=True)]
            joined[a] = arith.AddFOp(x, y).result if any(even) else None
            joined[b] = arith.SubFOp(x, y).result if any(odd) else None
            columns[a], columns[b] = even, odd
        return tuple(zip(*columns, strict=True)), joined


def sandwich(
    arithmetic: Arithmetic,
    matrix: Matrix,
    load: Callable[[int, int], Scalar],
    store: Callable[[int, int, Scalar], None],
    shape: tuple[int, int],
) -> None:
    """Code for `M X M^T`: loads X column by column, stores the product row by row.

    Args:
        arithmetic: builds it.
        matrix: M.
        load: gives the element of X in a row and a column.
        store: takes the row, the column and the value of an element of the product.
        shape: the rows and columns of the product that are wanted, from the first on.
    """
    n = len(matrix[0])
    columns = [arithmetic.multiply(matrix[: shape[0]], [load(i, j) for i in range(n)]) for j in range(n)]
    for r in range(shape[0]):
        values = arithmetic.multiply(matrix[: shape[1]], [column[r] for column in columns])
        for s, value in enumerate(values):
            store(r, s, value)


def _mirror(row: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two rows agree in some columns, are opposite in others, and there is no third case."""
    pairs = [(c, d) for c, d in zip(row, other, strict=True) if c or d]
    return all(abs(c) == abs(d) for c, d in pairs) and len({c == d for c, d in pairs}) == 2


def _mirrored_columns(columns: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    n = len(columns)
    return [(a, b) for a in range(n) for b in range(a + 1, n) if _mirror(columns[a], columns[b])]
