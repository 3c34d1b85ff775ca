"""The innermost loops of machine code, read off a disassembly: what a processor spends its time on."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_FUNCTION = re.compile(r"^[0-9a-f]+ <(?P<name>[^>]+)>:\n(?P<body>(?:.+\n?)*)", re.MULTILINE)
_INSTRUCTION = re.compile(r"^\s*(?P<address>[0-9a-f]+):\s+(?P<text>\S.*)$", re.MULTILINE)
_JUMP = re.compile(r"(?:j\w+|b(?:\.\w+)?|cbn?z|tbn?z)\s+(?:\w+, )?(?:#\w+, )?(?:0x)?(?P<to>[0-9a-f]+)\s+<")
# Fused multiply-adds of vectors; where there are none, multiplications and additions.
_PRODUCTS = re.compile(r"vfn?madd\d+ps.*%[xyz]mm|fml[as]\s+v|(?:mul|add)ps\s")


@dataclass(frozen=True)
class Loop:
    """An innermost loop: its instructions, each as the disassembler writes it."""

    instructions: tuple[str, ...]

    @property
    def products(self) -> int:
        """How many of them multiply vectors and add."""
        return sum(_PRODUCTS.match(each) is not None for each in self.instructions)

    @property
    def share(self) -> float:
        """What part of the instructions these are."""
        return self.products / len(self.instructions)

    def __str__(self) -> str:
        """How many of each instruction there are."""
        counted = Counter(each.split()[0] for each in self.instructions)
        return ", ".join(f"{count} {name}" for name, count in counted.most_common())


def disassembler(arch: str) -> str | None:
    """A program that disassembles code for an instruction set, where this computer has one."""
    own = {"x86_64": "x86_64-linux-gnu-objdump", "aarch64": "aarch64-linux-gnu-objdump"}[arch]
    return next((found for name in (own, "llvm-objdump") if (found := shutil.which(name))), None)


def disassembled(object_file: Path, arch: str) -> dict[str, str]:
    """Function -> its instructions, one a line with its address."""
    command = [str(disassembler(arch)), "-d", "--no-show-raw-insn", str(object_file)]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return {each["name"]: each["body"] for each in _FUNCTION.finditer(text)}


def hot_loop(body: str) -> Loop | None:
    """The innermost loop of a function that has the most products; None where none has any."""
    hottest = max(_innermost(body), key=lambda loop: loop.products, default=None)
    return hottest if hottest is not None and hottest.products else None


def _innermost(body: str) -> list[Loop]:
    lines = [(int(each["address"], 16), each["text"]) for each in _INSTRUCTION.finditer(body)]
    place = {address: k for k, (address, _) in enumerate(lines)}
    loops = []
    for end, (_, text) in enumerate(lines):
        jump = _JUMP.match(text)
        start = place.get(int(jump["to"], 16)) if jump is not None else None
        if start is not None and start <= end:
            loops.append((start, end))
    inner = [a for a in loops if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    return [Loop(tuple(text for _, text in lines[start : end + 1])) for start, end in inner]
