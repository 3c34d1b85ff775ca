"""LLVM IR as text that compilers read which are older than the LLVM that printed it."""

from __future__ import annotations

import math
import re
import struct

_INTRINSIC = re.compile(r"^(declare .*@llvm\.[\w.]+)\((.*)\) #\d+$", re.MULTILINE)
_USE = re.compile(r"(?<!^attributes )(#\d+)", re.MULTILINE)
_GROUP = re.compile(r"^attributes (#\d+) = .*\n", re.MULTILINE)
_VALUES = re.compile(r"\([^()]*\)")
_TYPE = re.compile(r"<[^>]*>|[^\s,]+")
# Text in quotes, which stays; a type; bits of a float; a float that is no number; one in decimals.
_CONSTANT = re.compile(
    r'(?P<text>"[^"]*")|\b(?P<type>half|bfloat|float|double)\b|\bf0x(?P<bits>[0-9A-Fa-f]+)'
    r"|(?<=[ (])(?P<special>[+-](?:inf|[qs]?nan)\b(?:\(\w+\))?)|(?P<decimal>(?<![\w.])-?\d+\.\d+e[+-]\d+)"
)


def portable_text(text: str) -> str:
    """The text with what newer versions of LLVM write differently as older ones read it.

    Each version has attributes of its own for LLVM's own functions, which others do not read and which every version
    adds by itself: those are declared with their types alone. Floats are written by their bits, as all versions have
    them (LLVM language reference, "simple constants"); what a NaN carries besides its sign is lost.
    """
    plain = _INTRINSIC.sub(lambda match: f"{match[1]}({', '.join(_types(match[2]))})", text)
    used = set(_USE.findall(plain))
    return _with_bits(_GROUP.sub(lambda match: match[0] if match[1] in used else "", plain))


def _types(parameters: str) -> list[str]:
    """`ptr readonly captures(none), i32 immarg range(i32 0, 2)` as `ptr`, `i32`."""
    plain = _VALUES.sub("", parameters)
    return [match[0] for each in plain.split(",") if (match := _TYPE.search(each)) is not None]


def _with_bits(text: str) -> str:
    """The text with each float by its bits; its type is the last one that comes before it."""
    present = ""

    def rewrite(match: re.Match[str]) -> str:
        nonlocal present
        present = match["type"] or present
        if match["text"] or match["type"]:
            return match[0]
        return _constant(present, _value(match, present))

    return _CONSTANT.sub(rewrite, text)


def _value(match: re.Match[str], type_: str) -> float:
    if match["decimal"]:
        return float(match["decimal"])
    if match["special"]:
        magnitude = math.inf if "inf" in match["special"] else math.nan
        return math.copysign(magnitude, -1 if match["special"][0] == "-" else 1)
    bits = bytes.fromhex(match["bits"])
    code = {"half": ">e", "bfloat": ">f", "float": ">f", "double": ">d"}[type_]
    return struct.unpack(code, bits + b"\0\0" if type_ == "bfloat" else bits)[0]


def _constant(type_: str, value: float) -> str:
    if type_ == "half":
        return f"0xH{struct.pack('>e', value).hex().upper()}"
    if type_ == "bfloat":  # the upper half of a float, to the nearest
        return f"0xR{int.from_bytes(struct.pack('>f', value)) + (0 if math.isnan(value) else 0x8000) >> 16:04X}"
    double = value if type_ == "double" else struct.unpack(">f", struct.pack(">f", value))[0]
    return f"0x{struct.pack('>d', double).hex().upper()}"
