"""Machine code as functions that can be called on plain pointers. Needs neither torch nor its data."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Protocol

from loopmorph.passes import marks
from loopmorph.passes.errors import CompilationFailed
from loopmorph.pipelines.codegen.lowered import Interface
from loopmorph.pipelines.codegen.signature import Signature
from loopmorph.pipelines.codegen.threads import shared_pool


class MachineCode(Protocol):
    """Code in this process's memory; it stays there as long as the object lives."""

    def address_of(self, name: str) -> int:
        """The address of a function's form that takes an array of pointers to its arguments; 0 where there is none."""
        ...


class NativeFunction:
    """One compiled function with pointers to its arguments. Not safe to call from two threads at once."""

    def __init__(self, code: MachineCode, name: str, arguments: Signature) -> None:
        self.arguments = arguments
        self._owner = code
        address = code.address_of(name)
        if not address:
            raise CompilationFailed(f"LLVM has no code for function @{name}: it calls something that is not there")
        self._code = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)
        # The code takes an array of pointers to the arguments' values, which are pointers themselves.
        n_slots = max(1, len(arguments))
        self._values = (ctypes.c_void_p * n_slots)()
        slots = range(ctypes.addressof(self._values), ctypes.addressof(self._values) + 8 * n_slots, 8)
        self._packed = (ctypes.c_void_p * n_slots)(*slots)

    def bind(self, position: int, address: int) -> None:
        """Passes the memory at `address` as the argument at `position` in all calls from now on."""
        self._values[position] = address

    def __call__(self) -> None:
        """Runs the code on what is bound; other Python threads go on meanwhile."""
        self._code(self._packed)


class TeamFunction(NativeFunction):
    """A compiled function that all threads of a pool execute (see `morph-spmd`)."""

    def __init__(self, code: MachineCode, name: str, arguments: Signature, threads: int) -> None:
        super().__init__(code, name, arguments)
        self._pool = shared_pool(threads)
        self._address = ctypes.cast(self._code, ctypes.c_void_p).value or 0
        # Each thread has an array of its own, which begins with its number and the address of the team's state.
        self._numbers = (ctypes.c_int64 * threads)(*range(threads))
        self._team = ctypes.c_int64()
        first = ctypes.addressof(self._numbers)
        shared = [ctypes.addressof(self._team), *self._packed[: len(arguments)]]
        rows = [[first + 8 * thread, *shared] for thread in range(threads)]
        self._stride = 8 * len(rows[0])
        self._rows = (ctypes.c_void_p * (threads * len(rows[0])))(*(address for row in rows for address in row))

    def __call__(self) -> None:
        """Runs the code on what is bound, on all threads, and returns when the last one has finished.

        Raises:
            CompilationFailed: the threads cannot be started.
        """
        self._pool.run(self._address, ctypes.addressof(self._rows), self._stride, self._team)


@dataclass(frozen=True)
class NativeCode:
    """The two functions of a network as machine code.

    Attributes:
        interface: what they take, and where they come from.
        prepare: to be called once, when the parameters and the packed memrefs are bound.
        run: computes the outputs.
    """

    interface: Interface
    prepare: NativeFunction
    run: NativeFunction


def native_code(code: MachineCode, interface: Interface) -> NativeCode:
    """The functions in some machine code.

    Raises:
        CompilationFailed: the code lacks one of them.
    """
    prepare = NativeFunction(code, marks.PREPARE, interface.prepare)
    if interface.threads == 1:
        return NativeCode(interface, prepare, NativeFunction(code, marks.RUN, interface.run))
    return NativeCode(interface, prepare, TeamFunction(code, marks.RUN, interface.run, interface.threads))
