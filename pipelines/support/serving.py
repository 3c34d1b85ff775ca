"""A process that does what it is asked: the side of the process (see `service.py`). Imports nothing heavy."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from loopmorph.pipelines.support.frames import read_frame, write_frame

Tell = Callable[[Any], None]


def serve(handle: Callable[[Any, Tell], Any]) -> None:
    """Serves requests until the input ends.

    They come in and replies go out on the standard input and output that the parent opened; whatever else writes to
    the standard output (LLVM does) is sent to the standard error.

    Args:
        handle: called with a request and with a function that tells the parent something meanwhile; its result is the
            reply.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def tell(content: Any) -> None:
        write_frame(stream, ("tell", content))

    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            reply = handle(read_frame(sys.stdin.buffer), tell)
            write_frame(stream, ("reply", reply))
