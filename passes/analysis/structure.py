"""How the loops of a nest lie in each other, and the refusals of nests that are built otherwise."""

from __future__ import annotations

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Loop, Nest


def body_of(loop: affine.AffineForOp) -> list[ir.Operation]:
    """The operations in a loop but its terminator."""
    return [op.operation for op in loop.body.operations][:-1]


def perfect_band(nest: Nest, first: int) -> tuple[int, ...]:
    """Positions of loop `first` and of the loops below it, as long as each holds nothing but the next.

    Raises:
        IllegalTransform: one of the loops carries values from iteration to iteration in registers (`iter_args`).
    """
    band = [first]
    while True:
        loop = nest.loops[band[-1]]
        require_no_results(nest, loop)
        body = body_of(loop.op)
        if len(body) != 1 or not isinstance(body[0].opview, affine.AffineForOp):
            return tuple(band)
        band.append(loop.position + 1)


def require_no_results(nest: Nest, loop: Loop) -> None:
    """Raises:
    IllegalTransform: the loop carries values from iteration to iteration in registers (`iter_args`).
    """
    if len(loop.op.operation.results):
        raise IllegalTransform(nest.label, f"loop '{loop.iterator}' carries values in registers (iter_args)")


def require_perfect(nest: Nest) -> None:
    """Raises:
    IllegalTransform: the nest is not a perfect one.
    """
    if not nest.is_perfect:
        raise IllegalTransform(nest.label, "its loops are not perfectly nested; a perfect nest is required")


def require_scalar(nest: Nest) -> None:
    """Raises:
    IllegalTransform: the nest computes with vectors.
    """
    if nest.is_vectorised:
        raise IllegalTransform(nest.label, "its nest is already vectorised; this has to come before")
