"""LLVM IR as text that compilers read which are older than the LLVM that printed it."""

from __future__ import annotations

import re

_INTRINSIC = re.compile(r"^(declare .*@llvm\.[\w.]+)\((.*)\) #\d+$", re.MULTILINE)
_USE = re.compile(r"(?<!^attributes )(#\d+)", re.MULTILINE)
_GROUP = re.compile(r"^attributes (#\d+) = .*\n", re.MULTILINE)
_VALUES = re.compile(r"\([^()]*\)")
_TYPE = re.compile(r"<[^>]*>|[^\s,]+")


def portable_text(text: str) -> str:
    """The text with the declarations of LLVM's own functions as types alone.

    Each version has attributes of its own for them, which others do not read; and which every version adds by itself.
    """
    plain = _INTRINSIC.sub(lambda match: f"{match[1]}({', '.join(_types(match[2]))})", text)
    used = set(_USE.findall(plain))
    return _GROUP.sub(lambda match: match[0] if match[1] in used else "", plain)


def _types(parameters: str) -> list[str]:
    """`ptr readonly captures(none), i32 immarg range(i32 0, 2)` as `ptr`, `i32`."""
    plain = _VALUES.sub("", parameters)
    return [match[0] for each in plain.split(",") if (match := _TYPE.search(each)) is not None]
