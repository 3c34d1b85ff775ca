"""What a core of this computer does, measured: the figures of a `Target` that the system does not tell.

All but the peak are ratios of times, in which the clock cancels out. Each is the least of many samples.
"""

from __future__ import annotations

import dataclasses
import os

from loopmorph.passes.target.detect import native_target
from loopmorph.passes.target.target import WIDE_LANES, Target
from loopmorph.pipelines.measure.peak import Kernel, array, best_seconds, fma_kernel, largest_cache

_STEPS = 200_000  # of a kernel on registers: about 1 ms
_READ = 1 << 22  # bytes that one call of a kernel on a cache reads at least
_SAMPLES = 20  # of the time of a call
_CHAINS = 8  # sums in a kernel that reads
_DIGITS = 2  # significant ones, of a figure


def measure_figures() -> dict[str, float]:
    """The measured fields of `Target` by name, in a few seconds; rounded to two digits.

    Arithmetic is that of chains of multiply-adds on registers. Caches and memory are read in order, one multiply-add
    for each vector, from a half of the first two levels, a quarter of the last one, and an array several times as
    large as that.

    Raises:
        CompilationFailed: a kernel cannot be compiled.
    """
    unit = native_target()
    multiply = _multiply_seconds(unit)
    l1, l2, l3, memory = (_read_seconds(unit, size) for size in _sizes(unit))
    per_byte = unit.lanes / multiply  # f32 multiply-adds in a second
    found = {
        "peak": 2 * per_byte / 1e9,
        "balance": memory * per_byte,
        "l2_balance": l2 * per_byte,
        "l3_balance": l3 * per_byte,
        "team_balance": _read_seconds(unit, _sizes(unit)[-1], os.cpu_count() or 1) * per_byte,
        "load_cost": max(1.0, l1 * 4 * unit.lanes / multiply),
        "in_flight": max(1, round(_multiply_seconds(unit, chains=1) / multiply)),
        "wide": _multiply_seconds(_half(unit)) * 2 / multiply if unit.lanes == WIDE_LANES else 0.0,
    }
    return {name: _rounded(value) for name, value in found.items()}


def _sizes(unit: Target) -> tuple[int, int, int, int]:
    """Bytes to read for each level; the last one has room for what all cores keep in caches of their own."""
    last = unit.l3_bytes // 4 if unit.l3_bytes else unit.l2_bytes // 2
    return unit.l1_bytes // 2, unit.l2_bytes // 2, max(last, unit.l2_bytes // 2), max(128 << 20, 4 * largest_cache())


def _half(unit: Target) -> Target:
    return dataclasses.replace(unit, lanes=unit.lanes // 2)


def _multiply_seconds(unit: Target, chains: int | None = None) -> float:
    """Seconds of one multiply-add of vectors on registers; of the latency where there is one chain alone."""
    text, count = fma_kernel(unit, _STEPS, chains)
    factors, sums = array(2 * unit.lanes), array(count * unit.lanes)
    factors[:] = 0.5  # the sums tend to 1: neither denormal nor infinite
    return best_seconds([Kernel(text).bind(factors, sums)], _SAMPLES) / (_STEPS * count)


def _read_seconds(unit: Target, size: int, threads: int = 1) -> float:
    """Seconds in which one core reads one byte, of `size` that it reads again and again, or its part of them."""
    elements = size // 4 // threads // (unit.lanes * _CHAINS) * (unit.lanes * _CHAINS)
    repeats = max(1, _READ // (4 * elements))
    kernel = Kernel(read_kernel(unit, elements, repeats))
    calls = [kernel.bind(array(elements), array(_CHAINS * unit.lanes)) for _ in range(threads)]
    return best_seconds(calls, _SAMPLES) / (4 * elements * repeats)


def read_kernel(unit: Target, elements: int, repeats: int) -> str:
    """A function `@kernel(%data: memref<elements>, %sums: memref<chains x lanes>)` that adds up what it reads.

    Args:
        unit: the vector registers.
        elements: f32 numbers, a multiple of 8 vectors.
        repeats: how often they are read.
    """
    vector = f"vector<{unit.lanes}xf32>"
    source, sums = f"memref<{elements}xf32>", f"memref<{_CHAINS}x{unit.lanes}xf32>"
    body, ends = [], []
    for k in range(_CHAINS):
        body.append(f"%x{k} = affine.vector_load %data[%i + {k * unit.lanes}] : {source}, {vector}")
        body.append(f"%p{k} = arith.mulf %x{k}, %factor fastmath<contract> : {vector}")
        body.append(f"%n{k} = arith.addf %p{k}, %b{k} fastmath<contract> : {vector}")
        ends.append(f"affine.vector_store %r#{k}, %sums[{k}, 0] : {sums}, {vector}")
    lines = "\n      "
    types = ", ".join([vector] * _CHAINS)
    return f"""
func.func @kernel(%data: {source}, %sums: {sums}) {{
  %factor = arith.constant dense<0.5> : {vector}
  %zero = arith.constant dense<0.0> : {vector}
  %r:{_CHAINS} = affine.for %t = 0 to {repeats} iter_args({_listed("%a{0} = %zero")}) -> ({types}) {{
    %s:{_CHAINS} = affine.for %i = 0 to {elements} step {unit.lanes * _CHAINS}
        iter_args({_listed("%b{0} = %a{0}")}) -> ({types}) {{
      {lines.join(body)}
      affine.yield {_listed("%n{0}")} : {types}
    }}
    affine.yield {_listed("%s#{0}")} : {types}
  }}
  {lines.join(ends)}
  return
}}"""


def _listed(form: str) -> str:
    """The text for each of the chains, separated by commas."""
    return ", ".join(form.format(k) for k in range(_CHAINS))


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.{_DIGITS}g}")
