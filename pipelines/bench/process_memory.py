"""How much memory this process holds at most while something is done."""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # resets the peak of resident memory: proc(5)


@dataclass
class ProcessMemory:
    """Resident memory of this process, in bytes; None where the system does not say.

    It is right to a fraction of a MiB: Linux adds up what each thread has touched in batches of pages.

    Attributes:
        peak: the most that it was.
        added: by how much that is more than before.
    """

    peak: int | None = None
    added: int | None = None


@contextmanager
def watched_memory() -> Iterator[ProcessMemory]:
    """Within it the peak is watched; what it yields is filled in when it is left."""
    found = ProcessMemory()
    before = _begin()
    yield found
    if before is not None:
        found.peak = _resident("VmHWM")
        found.added = max(0, found.peak - before)


def _begin() -> int | None:
    """What is resident, once what is free was given back; None where the peak cannot be begun anew."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)
    try:
        _RESET.write_text(_RESET_PEAK)
        return _resident("VmRSS")
    except OSError:
        return None


def _resident(field: str) -> int:
    match = re.search(rf"^{field}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    if match is None:
        raise OSError(f"{_STATUS} has no line {field}")
    return int(match[1]) << 10
