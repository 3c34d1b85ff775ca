"""Keyboard interrupts that no library between here and there can swallow."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Stage:
    """A stage of long work.

    Attributes:
        interrupted: whether an interrupt has ended it.
    """

    interrupted: bool = False


@contextmanager
def until_interrupted(warn: Callable[[], None] | None = None) -> Iterator[Stage]:
    """Within it an interrupt ends what is done, and goes no further: what comes after it uses what there is by then.

    Args:
        warn: for work that the rest depends on, and that ends soon: called at the first interrupt, which ends nothing.
    """
    stage = Stage()
    try:
        with noted_interrupts(warn):
            yield stage
    except KeyboardInterrupt:
        stage.interrupted = True


@contextmanager
def noted_interrupts(warn: Callable[[], None] | None = None) -> Iterator[Callable[[], None]]:
    """Within it an interrupt raises `KeyboardInterrupt` as ever, and is remembered as well.

    An exception that is raised while a finaliser runs goes no further, and a long loop would then run on; one that is
    raised while MLIR calls back comes out as a `RuntimeError`, and is made an interrupt again here. Yields a function
    that raises `KeyboardInterrupt` if there has been an interrupt, for the loop to call. Outside of the main thread,
    or where somebody else handles interrupts, nothing changes.

    Args:
        warn: see `until_interrupted`.
    """
    noted, warned = threading.Event(), threading.Event()

    def check() -> None:
        if noted.is_set():
            raise KeyboardInterrupt

    def note(number: int, frame: FrameType | None) -> None:
        if warn is not None and not warned.is_set():
            warned.set()
            warn()
            return
        noted.set()
        signal.default_int_handler(number, frame)

    before = signal.getsignal(signal.SIGINT)
    if not _on_main() or before not in (signal.default_int_handler, _pass_over):
        yield check
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield check
    except RuntimeError as error:
        if noted.is_set():
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def held_interrupts() -> Iterator[None]:
    """Within it interrupts are passed over, but for what is within `noted_interrupts` or `until_interrupted`.

    For what lies between the stages of long work: it takes little time, and nothing could replace it.
    """
    if not _on_main() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _pass_over)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def terminations_interrupt() -> Iterator[None]:
    """Within it SIGTERM, as schedulers and `timeout` send it, is what Ctrl-C is: long work keeps what it has.

    Also in the background, where a script has had interrupts ignored: those of the terminal then still are.
    """
    if not _on_main() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Does what is done at an interrupt by now."""
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler):
        handler(signal.SIGINT, frame)


def _pass_over(number: int, frame: FrameType | None) -> None:
    """Handles an interrupt by doing nothing."""


def _on_main() -> bool:
    """Whether this is the thread that may handle signals."""
    return threading.current_thread() is threading.main_thread()
