"""The measured roofs: the kernels compute what they should, and their rates are those of a computer."""

from __future__ import annotations

import numpy as np
import pytest

from loopmorph.passes.errors import ArgumentError, CompilationFailed
from loopmorph.passes.target.detect import native_target
from loopmorph.passes.target.target import Target, named_target
from loopmorph.pipelines.measure.peak import Kernel, Peak, fma_kernel, measure_peak, triad_kernel

UNITS = [named_target("x86_64_v2"), named_target("x86_64_v3"), native_target()]


@pytest.mark.parametrize("unit", UNITS, ids=str)
def test_fma_kernel_multiplies_and_adds(unit: Target) -> None:
    text, chains = fma_kernel(unit, steps=5)
    factors = np.repeat(np.array([0.5, 2.0], np.float32), unit.lanes).reshape(2, unit.lanes)
    sums = np.arange(chains * unit.lanes, dtype=np.float32).reshape(chains, unit.lanes)
    expected = sums.copy()
    for _ in range(5):
        expected = expected * np.float32(0.5) + np.float32(2.0)
    Kernel(text).bind(factors, sums)()
    np.testing.assert_allclose(sums, expected, rtol=1e-6)


@pytest.mark.parametrize("unit", UNITS, ids=str)
def test_triad_kernel_covers_the_whole_array(unit: Target) -> None:
    a, b, c = (np.full(6 * unit.lanes, value, np.float32) for value in (0.0, 1.0, 4.0))
    Kernel(triad_kernel(unit, a.size)).bind(a, b, c)()
    assert (a == 3.0).all()


def test_chains_leave_room_for_the_factors() -> None:
    for unit in UNITS:
        _, chains = fma_kernel(unit, steps=1)
        assert 8 <= chains <= unit.registers - 2


def test_peak_of_this_machine() -> None:
    peak = measure_peak()
    assert peak.threads == 1
    assert 1 < peak.gflops < 2000
    assert 0.1 < peak.bandwidth < 5000
    assert measure_peak() is peak


def test_two_threads_run_at_once() -> None:
    assert 1 < measure_peak(2).gflops < 4000


def test_roof_has_two_slopes() -> None:
    peak = Peak(threads=1, gflops=200.0, bandwidth=20.0)
    assert (peak.roof(1.0), peak.roof(10.0), peak.roof(100.0)) == (20.0, 200.0, 200.0)


def test_threads_have_to_be_positive() -> None:
    with pytest.raises(ArgumentError, match="argument 'threads': expected a positive number of threads, got 0"):
        measure_peak(0)


def test_a_kernel_that_cannot_be_compiled() -> None:
    with pytest.raises(CompilationFailed, match="cannot compile a kernel"):
        Kernel("func.func @kernel() { unknown.op }")
