"""Machine code from an object file, brought into memory without a linker.

It understands the object files that `ExecutionEngine` writes for x86-64: relocatable ELF in the large code model, whose
only relocations are absolute addresses, without data that the code may change.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from dataclasses import dataclass

# Magic, class, byte order, type, machine; of the table of sections: offset, size of an entry, number, names.
_HEADER = struct.Struct("<4sBB10xHH20xQ10xHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")
_RELOCATABLE, _X86_64 = 1, 62
_SYMBOLS, _RELOCATIONS, _NO_BITS, _UNWIND = 2, 4, 8, 0x70000001  # types of sections
_WRITE, _IN_MEMORY, _THREAD_LOCAL = 0x1, 0x2, 0x400  # flags of sections
_ABSOLUTE_64 = 1  # R_X86_64_64
_UNDEFINED, _ABSOLUTE = 0, 0xFFF1  # in the place of a symbol's section
_PREFIX = "_mlir_"  # of the functions that take an array of pointers to their arguments


class ObjectFileError(Exception):
    """Bytes that are no object file, or one that cannot be used here; the message says why."""


@dataclass(frozen=True)
class _Section:
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int

    @property
    def is_placed(self) -> bool:
        return bool(self.flags & _IN_MEMORY) and self.kind != _UNWIND and self.size > 0


class ObjectCode:
    """The code of one object file; it is in memory as long as this object lives."""

    def __init__(self, data: bytes) -> None:
        """Loads an object file.

        Args:
            data: its bytes.

        Raises:
            ObjectFileError: they cannot be used, or the system does not let memory be executed.
        """
        try:
            self._load(data)
        except (struct.error, IndexError, ValueError, UnicodeDecodeError) as error:
            raise ObjectFileError(f"no object file of the expected form ({error})") from error

    def raw_lookup(self, name: str) -> int:
        """The address of a function's form that takes an array of pointers to its arguments; 0 where there is none."""
        return self._addresses.get(_PREFIX + name, 0)

    def _load(self, data: bytes) -> None:
        sections = _sections(data)
        starts, size = _layout(sections)
        self._memory = mmap.mmap(-1, max(size, mmap.PAGESIZE), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        first = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        for k, start in starts.items():
            section = sections[k]
            if section.kind != _NO_BITS:
                self._memory[start : start + section.size] = _bytes(data, section)
        places = {k: first + start for k, start in starts.items()}
        symbols = _symbols(data, sections, places)
        for section in sections:
            if section.kind == _RELOCATIONS and section.info in starts:
                self._relocate(_bytes(data, section), starts[section.info], symbols)
        _make_executable(first, len(self._memory))
        self._addresses = {name: address for name, address in symbols if name and address is not None}

    def _relocate(self, table: bytes, start: int, symbols: list[tuple[str, int | None]]) -> None:
        for offset, info, addend in _RELOCATION.iter_unpack(table):
            name, address = symbols[info >> 32]
            if info & 0xFFFFFFFF != _ABSOLUTE_64:
                raise ObjectFileError(f"a relocation of type {info & 0xFFFFFFFF} is not supported")
            if address is None:
                address = _in_process(name)
            struct.pack_into("<Q", self._memory, start + offset, (address + addend) % (1 << 64))


def _sections(data: bytes) -> list[_Section]:
    magic, width, order, kind, machine, offset, entry, number, _ = _HEADER.unpack_from(data)
    if magic != b"\x7fELF" or (width, order, kind, machine) != (2, 1, _RELOCATABLE, _X86_64) or entry != _SECTION.size:
        raise ObjectFileError("no relocatable ELF file for x86-64")
    found = []
    for k in range(number):
        _, type_, flags, _, start, size, link, info, _, _ = _SECTION.unpack_from(data, offset + k * entry)
        found.append(_Section(type_, flags, start, size, link, info))
    return found


def _layout(sections: list[_Section]) -> tuple[dict[int, int], int]:
    """Where each section that the code needs goes, from the beginning of a page, and the size of all."""
    starts, end = {}, 0
    for k, section in enumerate(sections):
        if section.is_placed:
            if section.flags & (_WRITE | _THREAD_LOCAL):
                raise ObjectFileError("it has data that the code may change")
            starts[k] = end
            end = -(-(end + section.size) // mmap.PAGESIZE) * mmap.PAGESIZE
    return starts, end


def _bytes(data: bytes, section: _Section) -> bytes:
    content = data[section.offset : section.offset + section.size]
    if len(content) != section.size:
        raise ObjectFileError("it is cut off")
    return content


def _symbols(data: bytes, sections: list[_Section], places: dict[int, int]) -> list[tuple[str, int | None]]:
    """Name and address of each symbol; None for the address of what the process has to provide."""
    table = next((s for s in sections if s.kind == _SYMBOLS), None)
    if table is None:
        raise ObjectFileError("it has no symbols")
    names = _bytes(data, sections[table.link])
    found: list[tuple[str, int | None]] = []
    for name, _, _, section, value, _ in _SYMBOL.iter_unpack(_bytes(data, table)):
        text = names[name : names.index(b"\0", name)].decode()
        if section == _UNDEFINED:
            found.append((text, None))
        elif section == _ABSOLUTE:
            found.append((text, value))
        else:
            found.append((text, places[section] + value if section in places else None))
    return found


def _in_process(name: str) -> int:
    """The address of a function of this process: `malloc`, `expf`."""
    try:
        function = getattr(ctypes.CDLL(None), name)
    except AttributeError as error:
        raise ObjectFileError(f"this process has no function '{name}'") from error
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _make_executable(address: int, size: int) -> None:
    mprotect = ctypes.CDLL(None, use_errno=True).mprotect
    mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    if mprotect(address, size, mmap.PROT_READ | mmap.PROT_EXEC):
        raise ObjectFileError(f"memory cannot be made executable (error {ctypes.get_errno()})")
