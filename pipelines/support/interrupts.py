"""Keyboard interrupts that no library between here and there can swallow."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def noted_interrupts() -> Iterator[Callable[[], None]]:
    """Within it an interrupt raises `KeyboardInterrupt` as ever, and is remembered as well.

    An exception that is raised while a finaliser runs goes no further, and a long loop would then run on; one that is
    raised while MLIR calls back comes out as a `RuntimeError`, and is made an interrupt again here. Yields a function
    that raises `KeyboardInterrupt` if there has been an interrupt, for the loop to call. Outside of the main thread,
    or where interrupts are not Python's default, nothing changes.
    """
    noted = threading.Event()

    def check() -> None:
        if noted.is_set():
            raise KeyboardInterrupt

    def note(number: int, frame: FrameType | None) -> None:
        noted.set()
        signal.default_int_handler(number, frame)

    on_main = threading.current_thread() is threading.main_thread()
    if not on_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
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
        signal.signal(signal.SIGINT, signal.default_int_handler)
