"""Numbers that a user gives, before anything is made of them that is as large as they say."""

from __future__ import annotations

import math
from collections.abc import Sequence

from loopmorph.passes.errors import ArgumentError

MAX_BYTES = 2 << 30  # of one tensor that is made for a user
MAX_COUNT = 2**31 - 1
SEEDS = -(2**63), 2**63 - 1  # what the random generators take


def check_count(argument: str, value: int) -> None:
    """Raises:
    ArgumentError: not an integer from 1 to `MAX_COUNT`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(argument, f"expected an integer of at least 1, got {value!r}")
    if value > MAX_COUNT:
        raise ArgumentError(argument, f"expected an integer of at most {MAX_COUNT:,}, got {_short(value)}")


def check_seed(value: int, argument: str = "seed") -> None:
    """Raises:
    ArgumentError: not an integer of 64 bits.
    """
    least, most = SEEDS
    if isinstance(value, bool) or not isinstance(value, int):
        raise ArgumentError(argument, f"expected an integer, got {value!r}")
    if not least <= value <= most:
        raise ArgumentError(argument, f"expected an integer from {least} to {most}, got {_short(value)}")


def check_size(argument: str, shape: Sequence[int], what: str) -> None:
    """Raises:
    ArgumentError: a float32 tensor of a shape has more than `MAX_BYTES`.
    """
    size = 4 * math.prod(shape)
    if size > MAX_BYTES:
        shown = "x".join(map(_short, shape))
        limit = f"{MAX_BYTES >> 30} GiB"
        raise ArgumentError(argument, f"{what} of shape {shown} would take more than {limit}, the most that is made")


def _short(value: int) -> str:
    """Python writes no numbers of thousands of digits."""
    return str(value) if abs(value) < 10**30 else f"a number of {value.bit_length()} bits"
