"""An interrupt that something swallows is not lost."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import pytest
from torch_mlir import ir

from loopmorph.pipelines.support.interrupts import noted_interrupts

pytestmark = pytest.mark.usefixtures("python_handles_interrupts")


def test_a_swallowed_interrupt_is_raised_again() -> None:
    with noted_interrupts() as check:
        check()
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):
                pass
        with pytest.raises(KeyboardInterrupt):
            check()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_within_a_walk_over_operations_stays_one() -> None:
    def interrupt(_: ir.Operation) -> ir.WalkResult:
        os.kill(os.getpid(), signal.SIGINT)
        return ir.WalkResult.ADVANCE

    with ir.Context(), ir.Location.unknown():
        module = ir.Module.create()
        with pytest.raises(KeyboardInterrupt), noted_interrupts():
            module.operation.walk(interrupt)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="of its own"), noted_interrupts():
        raise RuntimeError("of its own")


def test_a_handler_of_ones_own_stays() -> None:
    mine = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with noted_interrupts() as check:
            os.kill(os.getpid(), signal.SIGINT)
            check()
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, mine)
