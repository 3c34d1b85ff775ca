"""How operations of PyTorch become the core operations that torch-mlir lowers with the right numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from torch._ops import OpOverload

from loopmorph.pipelines.ingress.decompositions import (
    adaptive_pooling,
    convolution,
    indexing,
    losses,
    nearest,
    normalisation,
    padding,
    pointwise,
    pooling,
    products,
    resizing,
    scanning,
    scattering,
    sliding,
    sorting,
)

Decomposition: TypeAlias = Callable[..., Any]

_FAMILIES = (
    adaptive_pooling,
    convolution,
    indexing,
    losses,
    nearest,
    normalisation,
    padding,
    pointwise,
    pooling,
    products,
    resizing,
    scanning,
    scattering,
    sliding,
    sorting,
)


def decomposition_table() -> dict[OpOverload, Decomposition]:
    """torch-mlir's table with the rules of this package in front.

    A rule of this package that returns `NotImplemented` leaves the operation to torch-mlir's rule, or, where that has
    none, as it is.
    """
    return dict(_table())


@functools.cache
def _table() -> Mapping[OpOverload, Decomposition]:
    from torch_mlir.extras.fx_decomp_util import get_decomposition_table

    theirs: Mapping[OpOverload, Decomposition] = get_decomposition_table()
    table = dict(theirs)
    for family in _FAMILIES:
        for operation, rule in family.DECOMPOSITIONS.items():
            table[operation] = _in_front(rule, theirs[operation]) if operation in theirs else rule
    return table


def _in_front(first: Decomposition, second: Decomposition) -> Decomposition:
    @functools.wraps(first)
    def either(*args: Any, **kwargs: Any) -> Any:
        result = first(*args, **kwargs)
        return second(*args, **kwargs) if result is NotImplemented else result

    return either
