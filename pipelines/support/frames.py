"""Messages between a process and one that it has started: pickled, each behind its length."""

from __future__ import annotations

import pickle
import selectors
import struct
import time
from typing import Any, Protocol

TELL, REPLY = "tell", "reply"  # what a process sends: (kind, content)
_LENGTH = struct.Struct("<Q")


class Source(Protocol):
    """Where messages come from."""

    def read(self, size: int, /) -> bytes: ...


class Sink(Protocol):
    """Where messages go to."""

    def write(self, content: bytes, /) -> object: ...

    def flush(self) -> None: ...


def write_frame(stream: Sink, message: Any) -> None:
    """Writes one message and sends it off."""
    content = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(content)) + content)
    stream.flush()


def read_frame(stream: Source) -> Any:
    """Reads one message.

    Raises:
        EOFError: the stream ends, also in the middle of a message.
    """
    return pickle.loads(_read(stream, _LENGTH.unpack(_read(stream, _LENGTH.size))[0]))


def is_ready(descriptor: int, deadline: float) -> bool:
    """Waits until there is something to read, or the stream ends; False where a deadline of `time.monotonic` passes."""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        return bool(selector.select(max(0.0, deadline - time.monotonic())))


def _read(stream: Source, count: int) -> bytes:
    content = stream.read(count)
    if len(content) != count:
        raise EOFError("the stream ended")
    return content
