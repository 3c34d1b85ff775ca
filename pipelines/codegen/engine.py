"""Machine code for a module of affine nests, callable on plain pointers. Needs neither torch nor its data."""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from torch_mlir import ir
from torch_mlir.dialects import func
from torch_mlir.execution_engine import ExecutionEngine

from loopmorph.passes import marks
from loopmorph.passes.base import recorded_steps
from loopmorph.passes.errors import CompilationFailed
from loopmorph.passes.lowering.plan_scratch import ALIGNMENT, SCRATCH
from loopmorph.passes.lowering.split_prepare import PACKED, PREPARE, RUN, find_function
from loopmorph.passes.lowering.time_layers import CLOCK, timed_layers
from loopmorph.passes.lowering.to_llvm import lower_to_llvm, plan_functions
from loopmorph.passes.spmd.spmd import TEAM, THREAD
from loopmorph.pipelines.codegen.threads import check_threads, shared_pool

HUGE_PAGE = 2 << 20  # bytes

Role = Literal["input", "param", "packed", "scratch", "output", "clock"]
_ROLES: dict[str, Role] = {
    marks.INPUT: "input",
    marks.PARAM: "param",
    PACKED: "packed",
    SCRATCH: "scratch",
    marks.OUTPUT: "output",
    CLOCK: "clock",
}
_DTYPES = {
    "f64": "float64",
    "f32": "float32",
    "f16": "float16",
    "bf16": "bfloat16",
    "i64": "int64",
    "i32": "int32",
    "i16": "int16",
    "i8": "int8",
    "i1": "bool",
}
_ITEM_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2}


@dataclass(frozen=True)
class Argument:
    """One memref argument of a compiled function.

    Attributes:
        role: what is passed there.
        key: a parameter's qualified name; the position of an input or output; a packed memref's number; 0 for scratch.
        shape: its extents; the elements lie densely in row-major order.
        dtype: the element's type by its name in numpy and torch.
    """

    role: Role
    key: str | int
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * _ITEM_BYTES.get(self.dtype, 1)


class NativeFunction:
    """One compiled function with pointers to its arguments. Not safe to call from two threads at once."""

    def __init__(self, engine: ExecutionEngine, name: str, arguments: tuple[Argument, ...]) -> None:
        self.arguments = arguments
        self._engine = engine  # owns the code
        address = engine.raw_lookup(name)
        if not address:
            raise CompilationFailed(f"LLVM has no code for function @{name}: it calls something that is not there")
        self._code = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)
        # The code takes an array of pointers to the arguments' values, which are pointers themselves.
        n_slots = max(1, len(arguments))
        self._values = (ctypes.c_void_p * n_slots)()
        slots = range(ctypes.addressof(self._values), ctypes.addressof(self._values) + 8 * n_slots, 8)
        self._packed = (ctypes.c_void_p * n_slots)(*slots)

    def object_file(self) -> bytes:
        """The object file of all functions of its engine; only of code that was compiled in this process."""
        with tempfile.NamedTemporaryFile(suffix=".o") as file:
            self._engine.dump_to_object_file(file.name)
            return Path(file.name).read_bytes()

    def bind(self, position: int, address: int) -> None:
        """Passes the memory at `address` as the argument at `position` in all calls from now on."""
        self._values[position] = address

    def __call__(self) -> None:
        """Runs the code on what is bound; other Python threads go on meanwhile."""
        self._code(self._packed)


class TeamFunction(NativeFunction):
    """A compiled function that all threads of a pool execute (see `morph-spmd`)."""

    def __init__(self, engine: ExecutionEngine, name: str, arguments: tuple[Argument, ...], threads: int) -> None:
        super().__init__(engine, name, arguments)
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


class CompiledModule:
    """The machine code of a module.

    Attributes:
        prepare: to be called once, when the parameters and the packed memrefs are bound.
        run: computes the outputs.
        steps: the transformations that made the code from the imported network, as pass texts, in order.
        layers: if `run` is timed: the layers that the elements of its argument "clock" belong to, but for the last.
    """

    def __init__(self, module: ir.Module, threads: int = 1, *, timed: bool = False) -> None:
        """Compiles a module of affine nests with one function `@main`; the module is lowered in place.

        Args:
            module: the module.
            threads: number of threads that `run` uses.
            timed: whether `run` notes when each layer begins (see `morph-time-layers`).

        Raises:
            ArgumentError: a number of threads that this computer does not admit.
            IllegalTransform: the module has no `@main`, or one that returns values; a loop marked as parallel is not.
            CompilationFailed: an operation cannot be lowered, or LLVM refuses the result.
        """
        check_threads(threads)
        plan_functions(module, threads, timed=timed)
        self.steps = tuple(recorded_steps(module.operation))
        self.layers = timed_layers(module.operation)
        signatures = {name: _signature(find_function(module.operation, name)) for name in (PREPARE, RUN)}
        lower_to_llvm(module)
        try:
            engine = ExecutionEngine(module, opt_level=3, shared_libs=[])
            self.prepare = NativeFunction(engine, PREPARE, signatures[PREPARE])
            if threads == 1:
                self.run = NativeFunction(engine, RUN, signatures[RUN])
            else:
                self.run = TeamFunction(engine, RUN, signatures[RUN], threads)
        except RuntimeError as error:
            raise CompilationFailed(f"LLVM cannot compile the program: {str(error).splitlines()[0]}") from error


def _signature(function: func.FuncOp | None) -> tuple[Argument, ...]:
    if function is None:
        return ()
    arguments = []
    for value, attributes in zip(function.entry_block.arguments, marks.argument_marks(function), strict=True):
        if THREAD in attributes or TEAM in attributes:  # passed by `TeamFunction`
            continue
        mark = next((m for m in _ROLES if m in attributes), None)
        type_ = value.type
        if mark is None or not isinstance(type_, ir.MemRefType) or str(type_.element_type) not in _DTYPES:
            raise CompilationFailed(f"argument {value.get_name()} of @{function.name.value}: {type_} cannot be passed")
        arguments.append(Argument(_ROLES[mark], _key(attributes[mark]), tuple(type_.shape), _dtype(type_)))
    return tuple(arguments)


def _key(attribute: ir.Attribute) -> str | int:
    if isinstance(attribute, ir.StringAttr):
        return attribute.value
    return attribute.value if isinstance(attribute, ir.IntegerAttr) else 0


def _dtype(type_: ir.MemRefType) -> str:
    return _DTYPES[str(type_.element_type)]


def allocate(nbytes: int) -> np.ndarray:
    """Zeroed memory, uint8, in huge pages where the system gives them to who asks (weights are read in long streams).

    Raises:
        MemoryError: there is not so much.
    """
    if nbytes == 0:
        return np.empty(0, dtype=np.uint8)
    size = -(-nbytes // HUGE_PAGE) * HUGE_PAGE + HUGE_PAGE
    try:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # a forked child gets its own
    except OSError as error:
        raise MemoryError(f"cannot allocate {nbytes} bytes") from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    raw = np.frombuffer(memory, dtype=np.uint8)
    start = -raw.ctypes.data % HUGE_PAGE
    return raw[start : start + nbytes]


def allocate_for(
    functions: Sequence[NativeFunction], roles: Collection[Role]
) -> dict[tuple[str, str | int], np.ndarray]:
    """Memory for those of the functions' arguments that have one of the roles, by role and key, in one piece."""
    wanted: dict[tuple[str, str | int], int] = {
        (a.role, a.key): a.nbytes for f in functions for a in f.arguments if a.role in roles
    }
    return dict(zip(wanted, _allocate_together(list(wanted.values())), strict=True))


def _allocate_together(sizes: Sequence[int]) -> list[np.ndarray]:
    """Several pieces of one such memory, each starting at a multiple of 64."""
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + -(-size // ALIGNMENT) * ALIGNMENT)
    memory = allocate(starts[-1])
    return [memory[start : start + size] for start, size in zip(starts, sizes, strict=False)]
