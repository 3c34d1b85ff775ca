"""What the rules share about one axis of a tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from loopmorph.passes.errors import ImportRefused

MOST_COMPARISONS = 1 << 27  # of a rule that compares every element with every other


def axis_of(x: torch.Tensor, dim: int) -> int:
    """`dim` counted from the front; 0 for a tensor without axes, seen as one of one element."""
    return dim % max(x.dim(), 1)


def with_an_axis(x: torch.Tensor) -> torch.Tensor:
    """The tensor, one without axes as one of one element."""
    return x.unsqueeze(0) if x.dim() == 0 else x


def replaced(shape: Sequence[int], axis: int, *extents: int) -> list[int]:
    """A shape with other extents in the place of one."""
    return [*shape[:axis], *extents, *shape[axis + 1 :]]


def along(vector: torch.Tensor, axis: int, rank: int) -> torch.Tensor:
    """A vector as a tensor that broadcasts along one of `rank` axes."""
    return vector.reshape([-1] + [1] * (rank - 1 - axis))


def check_comparisons(operation: str, *extents: int) -> None:
    """Checks that a rule that compares the product of `extents` pairs stays payable.

    Raises:
        ImportRefused: too many.
    """
    if math.prod(extents) > MOST_COMPARISONS:
        raise ImportRefused(
            f"{operation}: {math.prod(extents)} comparisons ({' x '.join(map(str, extents))}); "
            f"up to {MOST_COMPARISONS} are supported"
        )


def wide(x: torch.Tensor) -> torch.Tensor:
    """The tensor, half types as float32, in which PyTorch computes with them."""
    return x.to(torch.float32) if x.dtype in (torch.float16, torch.bfloat16) else x


def in_float32(x: torch.Tensor, rule: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """`rule(x)`, computed in float32 for half types."""
    source = wide(x)
    result = rule(source)
    return result if source is x else result.to(x.dtype)
