"""`Target`: what code is generated for, as data; named, spelt as text, read back."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import archspec.cpu

from loopmorph.passes.errors import ArgumentError

NATIVE = "native"
GENERIC = "x86_64_v4"  # what the options of a pass mean where they name no target
NOMINAL_L1, NOMINAL_L2, NOMINAL_L3 = 32 << 10, 1 << 20, 0
# Of a core with two 512-bit units at the speed of its memory (Zen 5: 235 GFLOP/s, 40 GB/s). Processors with narrower
# units are older and read half as fast (Zen 3: 104 GFLOP/s, 16 GB/s); what is narrower still does less in that time,
# and so do units that multiply and add one after the other. What a computer has is measured.
NOMINAL_BALANCE = 2.9
NOMINAL_PEAK = 235.0  # GFLOP/s of that core
NOMINAL_L2_BALANCE = 0.5  # two multiply-adds of vectors while a vector comes
NOMINAL_L3_BALANCE = 2.0  # of that core
NOMINAL_LOAD_COST, NOMINAL_SCALAR_COST = 1.1, 1.5
NOMINAL_IN_FLIGHT = 8  # two units, four cycles
WIDE_LANES = 16  # of 512 bits
F32_BYTES = 4  # what peak, balance and lanes count in
_TRIPLES = {"x86_64": "x86_64-unknown-linux-gnu", "aarch64": "aarch64-unknown-linux-gnu"}
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30}
_OVERRIDE = re.compile(r"(?P<key>[a-z0-9]+)=(?P<value>[^+=]+)")


@dataclass(frozen=True)
class Target:
    """A processor, as far as code generation and its models ask.

    Attributes:
        name: the microarchitecture, as archspec calls it: "zen5", "icelake", "x86_64_v3", "neoverse_v1".
        triple: LLVM's target triple.
        lanes: f32 values in a vector register.
        registers: vector registers.
        l1_bytes, l2_bytes: data caches of one core.
        l3_bytes: the last cache, shared by cores; 0 where there is none or it is not known.
        balance: f32 multiply-adds that one core does while it reads one byte that no cache holds.
        cores: how many threads run at once.
        peak: 1e9 f32 operations that one core does in a second; a multiply-add counts as two.
        l2_balance, l3_balance: as `balance`, of a byte in the second-level and in the last cache.
        team_balance: as `balance`, while all cores read; 0 where it is not known.
        load_cost: multiply-adds of vectors in the time in which a core loads one value, a vector or a scalar for all
            lanes, from its first-level cache while it computes; at least 1.
        scalar_cost: how many times as much as a vector a scalar costs where registers are short.
        in_flight: independent multiply-adds of vectors that keep a core's units busy.
        wide: how many times as much a core computes in vectors of 512 bits as in vectors of 256; 0 where it has none.
    """

    name: str
    triple: str
    lanes: int
    registers: int
    l1_bytes: int = NOMINAL_L1
    l2_bytes: int = NOMINAL_L2
    l3_bytes: int = NOMINAL_L3
    balance: float = NOMINAL_BALANCE
    cores: int = 1
    peak: float = NOMINAL_PEAK
    l2_balance: float = NOMINAL_L2_BALANCE
    l3_balance: float = NOMINAL_L3_BALANCE
    team_balance: float = 0.0
    load_cost: float = NOMINAL_LOAD_COST
    scalar_cost: float = NOMINAL_SCALAR_COST
    in_flight: int = NOMINAL_IN_FLIGHT
    wide: float = 2.0

    @property
    def arch(self) -> str:
        """The instruction set: "x86_64" or "aarch64"."""
        return self.triple.partition("-")[0]

    @property
    def broadcasts_in_place(self) -> bool:
        """Whether a multiply-add can take one f32 from memory for all lanes (of x86-64, AVX-512 and its encoding)."""
        return self.arch == "x86_64" and self.registers > 16

    def bandwidth(self, balance: float) -> float:
        """1e9 bytes a second that one core reads where it does `balance` multiply-adds for each of them."""
        return self.peak / 2 / balance

    def shared_by(self, threads: int) -> Target:
        """The target as each of several threads finds it: they share what memory delivers."""
        crowd = self.team_balance * min(threads, self.cores) / self.cores
        return dataclasses.replace(self, balance=max(self.balance, crowd)) if threads > 1 else self

    def __str__(self) -> str:
        """The target as `parse_target` reads it: `icelake+l2=2M+cores=2`; what the name says already is left out."""
        named = named_target(self.name)
        differing = [key for key, (field, _, _) in _KEYS.items() if getattr(self, field) != getattr(named, field)]
        words = [f"{key}={_KEYS[key][2](getattr(self, _KEYS[key][0]))}" for key in differing]
        return "+".join([self.name, *words])


def named_target(name: str) -> Target:
    """The target of a microarchitecture, with nominal caches and memory; "x86-64-v3" is read as "x86_64_v3".

    Raises:
        ArgumentError: no such name, or one of another instruction set than x86-64 and AArch64; suggests the nearest.
    """
    known = accepted_names()
    if name.startswith("x86-64"):  # as compilers spell the levels of that instruction set
        name = name.replace("-", "_")
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        reason = f"no processor '{name}' is known{hint}; accepted are {NATIVE} and {', '.join(known)}"
        raise ArgumentError("target", reason)
    return of_microarchitecture(archspec.cpu.TARGETS[name])


def accepted_names() -> list[str]:
    """The names that `named_target` takes."""
    return sorted(name for name, each in archspec.cpu.TARGETS.items() if each.family.name in _TRIPLES)


def of_microarchitecture(each: archspec.cpu.Microarchitecture) -> Target:
    """The target of one of archspec's microarchitectures (x86-64 or AArch64)."""
    arch = each.family.name
    if arch == "aarch64":
        lanes, registers, fused = 4, 32, True  # NEON, the least that AArch64 has
    elif "avx512f" in each:
        lanes, registers, fused = 16, 32, True
    else:
        lanes, registers, fused = 8 if "avx" in each else 4, 16, "fma" in each
    share = lanes / WIDE_LANES * (1.0 if fused else 0.5)
    return Target(
        each.name,
        _TRIPLES[arch],
        lanes,
        registers,
        balance=round(NOMINAL_BALANCE * min(1.0, 2 * share), 3),
        peak=round(NOMINAL_PEAK * share, 1),
        l3_balance=round(NOMINAL_L3_BALANCE * share, 3),
        wide=2.0 if lanes == WIDE_LANES else 0.0,
    )


def parse_target(text: str) -> Target:
    """Reads `NAME` or `NAME+KEY=VALUE+...`: `zen4+l2=512K+cores=8`; NAME is not "native" here (see `detect.py`).

    Raises:
        ArgumentError: an unknown name or key, or a value that is no such number.
    """
    name, *words = text.split("+")
    return with_overrides(named_target(name), words)


def with_overrides(target: Target, words: list[str]) -> Target:
    """A target with some figures given as `KEY=VALUE`.

    Raises:
        ArgumentError: an unknown key, or a value that is no such number.
    """
    values: dict[str, Any] = {}
    for word in words:
        match = _OVERRIDE.fullmatch(word)
        if match is None or match["key"] not in _KEYS:
            raise ArgumentError("target", f"expected NAME+KEY=VALUE with a key of {', '.join(_KEYS)}, got '{word}'")
        field, read, _ = _KEYS[match["key"]]
        try:
            values[field] = read(match["value"])
        except ValueError:
            raise ArgumentError("target", f"'{word}': expected a positive number (of bytes: 48K, 2M)") from None
    return dataclasses.replace(target, **values)


def _read_bytes(text: str) -> int:
    unit = text[-1:] if text[-1:] in ("K", "M", "G") else ""
    return _positive(int(text.removesuffix(unit)) << _UNITS[unit])


def _bytes_text(count: int) -> str:
    unit = next((u for u in ("G", "M", "K") if count and count % (1 << _UNITS[u]) == 0), "")
    return f"{count >> _UNITS[unit]}{unit}"


def _read_ratio(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


def _read_ratio_or_none(text: str) -> float:
    return 0.0 if float(text) == 0 else _read_ratio(text)


def _positive(value: int) -> int:
    if value < 1:
        raise ValueError
    return value


def _count(text: str) -> int:
    return _positive(int(text))


# Key in a target's text -> the field, how to read it, how to write it.
_KEYS: dict[str, tuple[str, Callable[[str], Any], Callable[[Any], str]]] = {
    "lanes": ("lanes", _count, str),
    "registers": ("registers", _count, str),
    "l1": ("l1_bytes", _read_bytes, _bytes_text),
    "l2": ("l2_bytes", _read_bytes, _bytes_text),
    "l3": ("l3_bytes", _read_bytes, _bytes_text),
    "balance": ("balance", _read_ratio, str),
    "cores": ("cores", _count, str),
    "peak": ("peak", _read_ratio, str),
    "l2balance": ("l2_balance", _read_ratio, str),
    "l3balance": ("l3_balance", _read_ratio, str),
    "teambalance": ("team_balance", _read_ratio_or_none, str),
    "load": ("load_cost", _read_ratio, str),
    "scalar": ("scalar_cost", _read_ratio, str),
    "inflight": ("in_flight", _count, str),
    "wide": ("wide", _read_ratio_or_none, str),
}
