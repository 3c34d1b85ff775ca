"""How deep a text nests: MLIR's parser recurses, and ends the process where its stack is used up."""

from __future__ import annotations

import re

MOST_LEVELS = 256

_TOKEN = re.compile(
    r'"(?:\\.|[^"\\\n])*"|//[^\n]*'  # where brackets mean nothing
    r"|->|[<>]=|[(\[{<]|[)\]}>]"
    rf"|-(?:\s*-){{{MOST_LEVELS},}}"  # signs nest, too
)
_CLOSING = {")": "(", "]": "[", "}": "{", ">": "<"}


def too_deep(text: str) -> int | None:
    """The offset at which MLIR text nests deeper than is parsed; None where it does not.

    Brackets of every kind count together. What does not balance is left to the parser.
    """
    open_: list[str] = []
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in ("(", "[", "{", "<"):
            open_.append(token)
        elif token in _CLOSING and _CLOSING[token] in open_:
            while open_.pop() != _CLOSING[token]:
                pass
        if len(open_) > MOST_LEVELS or token.startswith("--") or (token[0] == "-" and len(token) > MOST_LEVELS):
            return match.start()
    return None
