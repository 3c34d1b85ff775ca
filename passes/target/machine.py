"""What code generation knows of the processor."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """What the schedules' models know of a processor.

    Attributes:
        lanes: f32 values in a vector register.
        registers: vector registers.
        cache_bytes: size of the second-level cache.
        macs_per_byte: f32 multiply-adds that one core does while it reads one byte that no cache holds.
    """

    lanes: int = 16
    registers: int = 32
    cache_bytes: int = 1 << 20
    macs_per_byte: float = 2.9


@cache
def native_machine() -> Machine:
    """This computer, from the features that the system's kernel reports."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return Machine(lanes=4, registers=32)  # NEON, the least that AArch64 has
    features = frozenset(_cpu_info("flags").split())
    if "avx512f" in features:
        return Machine(lanes=16, registers=32)
    return Machine(lanes=8 if "avx" in features else 4, registers=16)


def cpu_name() -> str:
    """The processor's name."""
    return _cpu_info("model name") or platform.processor() or platform.machine()


def _cpu_info(field: str) -> str:
    """The first processor's entry in the list of the system; empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    match = re.search(rf"^{field}\s*:(.*)$", text, re.MULTILINE)
    return match[1].strip() if match else ""
