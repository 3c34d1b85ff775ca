"""Which processor this computer has, from what the system says of it."""

from __future__ import annotations

import dataclasses
import functools
import os
import platform
import re
from pathlib import Path

import archspec.cpu

from loopmorph.passes.target.target import NATIVE, Target, of_microarchitecture, parse_target, with_overrides

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_SHIFTS = {"K": 10, "M": 20, "G": 30}


@functools.cache
def native_target() -> Target:
    """This computer, with nominal figures for what the system does not say.

    How fast it multiplies and reads memory is not asked of the system: see `pipelines/measure/target.py`.
    """
    found = archspec.cpu.host()
    if found.family.name not in ("x86_64", "aarch64"):
        found = archspec.cpu.TARGETS["aarch64" if platform.machine() in ("aarch64", "arm64") else "x86_64"]
    target = of_microarchitecture(found)
    sizes = cache_sizes()
    return dataclasses.replace(
        target,
        l1_bytes=sizes.get(1, target.l1_bytes),
        l2_bytes=sizes.get(2, target.l2_bytes),
        l3_bytes=sizes.get(3, target.l3_bytes),
        cores=os.cpu_count() or 1,
    )


def resolve_target(target: Target | str | None = None) -> Target:
    """The target that an argument names: itself, "native" (or None) for this computer, or another processor.

    Raises:
        ArgumentError: a text that names no target.
    """
    if isinstance(target, Target):
        return target
    name, *words = (target or NATIVE).split("+")
    return with_overrides(native_target(), words) if name == NATIVE else parse_target(target or NATIVE)


def cache_sizes() -> dict[int, int]:
    """Level -> bytes of the first processor's data caches, as far as the system says."""
    found: dict[int, int] = {}
    for folder in sorted(_CACHES.glob("index*")):
        try:
            kind, level, size = ((folder / name).read_text().strip() for name in ("type", "level", "size"))
        except OSError:
            continue
        match = re.fullmatch(r"(\d+)([KMG])", size)
        if kind != "Instruction" and match and level.isdecimal():
            found[int(level)] = int(match[1]) << _SHIFTS[match[2]]
    return found


@functools.cache
def processor_name() -> str:
    """The processor as the system calls it."""
    return _cpu_info("model name") or platform.processor() or platform.machine()


@functools.cache
def processor_model() -> str:
    """`cpu family 25, model 17`: tells processors apart that have one name; empty where the system does not say."""
    fields = ("cpu family", "model", "CPU implementer", "CPU part")
    return ", ".join(f"{field} {value}" for field in fields if (value := _cpu_info(field)))


@functools.cache
def processor_features() -> str:
    """What the processor can do, as the system lists it: one name may stand for several sets of features."""
    return _cpu_info("flags") or _cpu_info("Features")


def _cpu_info(field: str) -> str:
    """The first processor's entry in the list of the system; empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    match = re.search(rf"^{field}\s*:(.*)$", text, re.MULTILINE)
    return match[1].strip() if match else ""
