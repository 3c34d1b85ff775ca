"""An interrupt that something swallows is not lost."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import pytest
from torch_mlir import ir

from loopmorph.pipelines.support.interrupts import (
    held_interrupts,
    noted_interrupts,
    terminations_interrupt,
    until_interrupted,
)

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


# ---- terminations


@pytest.mark.parametrize("ignored", [False, True], ids=["in the foreground", "in the background"])
def test_a_termination_is_an_interrupt(ignored: bool) -> None:
    handler = signal.SIG_IGN if ignored else signal.default_int_handler
    signal.signal(signal.SIGINT, handler)
    with terminations_interrupt():
        with held_interrupts():
            os.kill(os.getpid(), signal.SIGTERM)
        with until_interrupted() as stage:
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("the stage goes on")
        if ignored:
            os.kill(os.getpid(), signal.SIGINT)
    assert stage.interrupted and signal.getsignal(signal.SIGINT) is handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and not signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_whoever_handles_terminations_goes_on_to() -> None:
    mine = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with terminations_interrupt():
            os.kill(os.getpid(), signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, mine)


# ---- stages


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):  # the handler runs between two instructions
        pass


def test_an_interrupt_ends_its_stage_alone() -> None:
    done = []
    with until_interrupted() as first:
        done.append("first")
        interrupt()
        done.append("never")
    with until_interrupted() as second:
        done.append("second")
    assert done == ["first", "second"] and (first.interrupted, second.interrupted) == (True, False)


def test_what_the_rest_depends_on_is_ended_by_the_second_interrupt() -> None:
    told: list[str] = []
    with until_interrupted(lambda: told.append("once more?")) as stage:
        interrupt()
        told.append("goes on")
        interrupt()
        told.append("never")
    assert told == ["once more?", "goes on"] and stage.interrupted


def test_between_stages_interrupts_are_passed_over() -> None:
    with held_interrupts():
        interrupt()
        with until_interrupted() as stage:
            interrupt()
        interrupt()
        with pytest.raises(KeyboardInterrupt), noted_interrupts():
            interrupt()
        interrupt()
    assert stage.interrupted and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_errors_leave_a_stage() -> None:
    with pytest.raises(ValueError, match="of its own"), held_interrupts(), until_interrupted():
        raise ValueError("of its own")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
