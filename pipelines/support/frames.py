"""Messages between a process and one that it has started: pickled, each behind its length."""

from __future__ import annotations

import pickle
import struct
from typing import IO, Any

TELL, REPLY = "tell", "reply"  # what a process sends: (kind, content)
_LENGTH = struct.Struct("<Q")


def write_frame(stream: IO[bytes], message: Any) -> None:
    """Writes one message and sends it off."""
    content = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(content)) + content)
    stream.flush()


def read_frame(stream: IO[bytes]) -> Any:
    """Reads one message.

    Raises:
        EOFError: the stream ends, also in the middle of a message.
    """
    return pickle.loads(_read(stream, _LENGTH.unpack(_read(stream, _LENGTH.size))[0]))


def _read(stream: IO[bytes], count: int) -> bytes:
    content = stream.read(count)
    if len(content) != count:
        raise EOFError("the stream ended")
    return content
