"""Which instructions code for a target may use, and how to find out, before it runs, whether a processor has them."""

from __future__ import annotations

import re
from dataclasses import dataclass

import archspec.cpu

from loopmorph.passes.target.detect import native_target, processor_features
from loopmorph.passes.target.target import Target

_TUNING_OF = ("clang", "20.0")  # a compiler whose names of processors are LLVM's
_TUNING = re.compile(r"-mtune=(\S+)")
# The parts of the registers that the system has to keep for a program (XCR0): of SSE and AVX, and of AVX-512.
_NONE, _AVX, _AVX512 = 0x0, 0x6, 0xE6


@dataclass(frozen=True)
class Feature:
    """An extension of x86-64, and the bit with which `cpuid` tells of it (Intel SDM, volume 2, CPUID).

    Attributes:
        name: as archspec and Linux call it.
        llvm: as LLVM calls it.
        leaf, subleaf: what `cpuid` is asked.
        register: where it answers.
        bit: of that register.
        state: the bits of XCR0 that it needs.
    """

    name: str
    llvm: str
    leaf: int
    subleaf: int
    register: str
    bit: int
    state: int

    @property
    def flag(self) -> str:
        """Its name in `/proc/cpuinfo`."""
        return "pni" if self.name == "sse3" else self.name


# What code may use beyond the base of x86-64; a processor's other extensions are of no use to it.
_FEATURES = (
    Feature("sse3", "sse3", 1, 0, "ecx", 0, _NONE),
    Feature("ssse3", "ssse3", 1, 0, "ecx", 9, _NONE),
    Feature("sse4_1", "sse4.1", 1, 0, "ecx", 19, _NONE),
    Feature("sse4_2", "sse4.2", 1, 0, "ecx", 20, _NONE),
    Feature("movbe", "movbe", 1, 0, "ecx", 22, _NONE),
    Feature("popcnt", "popcnt", 1, 0, "ecx", 23, _NONE),
    Feature("abm", "lzcnt", 0x80000001, 0, "ecx", 5, _NONE),
    Feature("bmi1", "bmi", 7, 0, "ebx", 3, _NONE),
    Feature("bmi2", "bmi2", 7, 0, "ebx", 8, _NONE),
    Feature("avx", "avx", 1, 0, "ecx", 28, _AVX),
    Feature("f16c", "f16c", 1, 0, "ecx", 29, _AVX),
    Feature("fma", "fma", 1, 0, "ecx", 12, _AVX),
    Feature("avx2", "avx2", 7, 0, "ebx", 5, _AVX),
    Feature("avx_vnni", "avxvnni", 7, 1, "eax", 4, _AVX),
    Feature("avx512f", "avx512f", 7, 0, "ebx", 16, _AVX512),
    Feature("avx512dq", "avx512dq", 7, 0, "ebx", 17, _AVX512),
    Feature("avx512ifma", "avx512ifma", 7, 0, "ebx", 21, _AVX512),
    Feature("avx512cd", "avx512cd", 7, 0, "ebx", 28, _AVX512),
    Feature("avx512bw", "avx512bw", 7, 0, "ebx", 30, _AVX512),
    Feature("avx512vl", "avx512vl", 7, 0, "ebx", 31, _AVX512),
    Feature("avx512vbmi", "avx512vbmi", 7, 0, "ecx", 1, _AVX512),
    Feature("avx512_vbmi2", "avx512vbmi2", 7, 0, "ecx", 6, _AVX512),
    Feature("avx512_vnni", "avx512vnni", 7, 0, "ecx", 11, _AVX512),
    Feature("avx512_bitalg", "avx512bitalg", 7, 0, "ecx", 12, _AVX512),
    Feature("avx512_vpopcntdq", "avx512vpopcntdq", 7, 0, "ecx", 14, _AVX512),
    Feature("avx512_bf16", "avx512bf16", 7, 1, "eax", 5, _AVX512),
    Feature("avx512_fp16", "avx512fp16", 7, 0, "edx", 23, _AVX512),
)


@dataclass(frozen=True)
class Instructions:
    """What LLVM may use, in its own words.

    Attributes:
        base: the processor that it may take for granted.
        features: what it may use beyond that.
        tuning: the processor whose timing it assumes.
    """

    base: str
    features: tuple[str, ...]
    tuning: str


def required_features(target: Target) -> tuple[Feature, ...]:
    """What code for a target asks of a processor beyond the base of its instruction set.

    Of AArch64 that is nothing: NEON belongs to it.
    """
    if target.arch != "x86_64":
        return ()
    has = archspec.cpu.TARGETS[target.name].features
    return tuple(feature for feature in _FEATURES if feature.name in has)


def instructions(target: Target) -> Instructions:
    """What LLVM may use in code for a target."""
    if target.arch != "x86_64":
        return Instructions("generic", ("+neon",), "generic")
    features = ("+sse2", *(f"+{feature.llvm}" for feature in required_features(target)))
    return Instructions("x86-64", features, _tuning(target))


def _tuning(target: Target) -> str:
    """The processor as LLVM calls it; "generic" where it is newer than that."""
    try:
        flags = archspec.cpu.TARGETS[target.name].optimization_flags(*_TUNING_OF)
    except archspec.cpu.UnsupportedMicroarchitecture:
        return "generic"
    found = _TUNING.search(flags)
    return found[1] if found else "generic"


def converts_bf16(target: Target) -> bool:
    """Whether code for a target may convert from float32 to bfloat16 with one instruction."""
    return any(feature.name == "avx512_bf16" for feature in required_features(target))


def why_not_here(target: Target) -> str | None:
    """Why code for a target cannot run on this computer; None where it can."""
    if target.arch != native_target().arch:
        return f"it is for {target.arch}"
    here = processor_features().split()
    missing = [feature.name for feature in required_features(target) if feature.flag not in here]
    return f"this processor has no {', '.join(missing)}" if missing else None
