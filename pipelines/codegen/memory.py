"""Memory that compiled code works on."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Collection, Sequence

import numpy as np

from loopmorph.passes import marks
from loopmorph.pipelines.codegen.signature import Role, Signature

HUGE_PAGE = 2 << 20  # bytes


def allocate(nbytes: int) -> np.ndarray:
    """Zeroed memory, uint8, in huge pages where the system gives them to who asks (weights are read in long streams).

    Raises:
        MemoryError: there is not so much.
    """
    if nbytes == 0:
        return np.empty(0, dtype=np.uint8)
    size = -(-nbytes // HUGE_PAGE) * HUGE_PAGE + HUGE_PAGE
    try:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # a forked child gets its own
    except OSError as error:
        raise MemoryError(f"cannot allocate {nbytes} bytes") from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    raw = np.frombuffer(memory, dtype=np.uint8)
    start = -raw.ctypes.data % HUGE_PAGE
    return raw[start : start + nbytes]


def allocate_for(signatures: Sequence[Signature], roles: Collection[Role]) -> dict[tuple[str, str | int], np.ndarray]:
    """Memory for those of the functions' arguments that have one of the roles, by role and key, in one piece."""
    wanted: dict[tuple[str, str | int], int] = {
        (a.role, a.key): a.nbytes for signature in signatures for a in signature if a.role in roles
    }
    return dict(zip(wanted, _allocate_together(list(wanted.values())), strict=True))


def _allocate_together(sizes: Sequence[int]) -> list[np.ndarray]:
    """Several pieces of one such memory, each starting at a multiple of 64."""
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + -(-size // marks.ALIGNMENT) * marks.ALIGNMENT)
    memory = allocate(starts[-1])
    return [memory[start : start + size] for start, size in zip(starts, sizes, strict=False)]
