"""A process that does what it is asked: the side of the process (see `service.py`). Imports nothing heavy."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from loopmorph.pipelines.support.frames import REPLY, TELL, read_frame, write_frame

Tell = Callable[[Any], None]
_LOOK = 1000  # milliseconds between two looks at who the parent is
_watched: list[int] = []


def watch(process: int) -> None:
    """Has `serve` end this process when another one ends, too, which a descriptor stands for (`os.pidfd_open`)."""
    _watched.append(process)


def serve(handle: Callable[[Any, Tell], Any]) -> None:
    """Serves requests until the input ends; ends the process when its parent ends, in the midst of a request, too.

    They come in and replies go out on the standard input and output that the parent opened; whatever else writes to
    the standard output (LLVM does) is sent to the standard error.

    Args:
        handle: called with a request and with a function that tells the parent something meanwhile; its result is the
            reply.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()  # what is loaded stays, and collections of garbage need not look through it
    _end_with_parent()
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def tell(content: Any) -> None:
        write_frame(stream, (TELL, content))

    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            reply = handle(read_frame(sys.stdin.buffer), tell)
            write_frame(stream, (REPLY, reply))


def _end_with_parent() -> None:
    """Ends the process once nobody can write to its standard input any more, or once its parent or who is watched ends.

    Not by PR_SET_PDEATHSIG: that goes by the thread that started the process, which may end before the parent does.
    """
    parent = os.getppid()

    def watch() -> None:
        poller = select.poll()
        poller.register(0, 0)  # the hang-up alone
        for process in _watched:
            poller.register(process, select.POLLIN)
        while not poller.poll(_LOOK) and os.getppid() == parent:
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
