"""Code compiled into this process's memory by LLVM's execution engine, and the object file that it comes from."""

from __future__ import annotations

import platform
import tempfile
from pathlib import Path

from torch_mlir import ir
from torch_mlir.execution_engine import ExecutionEngine

from loopmorph.passes.errors import CompilationFailed
from loopmorph.passes.target.target import Target, parse_target
from loopmorph.pipelines.codegen.lowered import Lowered, lower
from loopmorph.pipelines.codegen.native import NativeCode, native_code
from loopmorph.pipelines.codegen.threads import check_threads

_ALIASES = {"AMD64": "x86_64", "arm64": "aarch64"}


def compile_module(module: ir.Module, target: Target, threads: int = 1, *, timed: bool = False) -> NativeCode:
    """Machine code for a module of affine nests with one function `@main`, which is lowered in place.

    Args:
        module: the module.
        target: the processor.
        threads: number of threads.
        timed: whether `@run` notes when each layer begins (see `morph-time-layers`).

    Raises:
        ArgumentError: a number of threads that this computer does not admit.
        IllegalTransform: there is no `@main`, or it returns values; a loop marked as parallel is not.
        CompilationFailed: an operation cannot be lowered, or LLVM refuses the result.
    """
    check_threads(threads)
    return compile_lowered(lower(module, target, threads, timed=timed))


def compile_lowered(lowered: Lowered) -> NativeCode:
    """Machine code for a lowered network.

    Raises:
        CompilationFailed: LLVM refuses it, or it is for another kind of processor than this computer's.
    """
    return native_code(Jitted(lowered), lowered.interface)


class Jitted:
    """The machine code of a lowered network, in memory; a `MachineCode`."""

    def __init__(self, lowered: Lowered) -> None:
        """Compiles it.

        Raises:
            CompilationFailed: LLVM refuses it, or it is for another kind of processor than this computer's.
        """
        arch, here = parse_target(lowered.interface.target).arch, platform.machine()
        if arch != _ALIASES.get(here, here):
            raise CompilationFailed(f"code for {arch} cannot run on this computer, which is {here}")
        try:
            # Code that may lie anywhere can be linked into a library as well.
            self._engine = ExecutionEngine(lowered.module, opt_level=3, shared_libs=[], enable_pic=True)
        except RuntimeError as error:
            raise CompilationFailed(f"LLVM cannot compile the program: {str(error).splitlines()[0]}") from error

    def address_of(self, name: str) -> int:
        """See `MachineCode`; LLVM generates all code at the first call."""
        try:
            return self._engine.raw_lookup(name)
        except RuntimeError as error:
            raise CompilationFailed(f"LLVM cannot compile the program: {str(error).splitlines()[0]}") from error

    def object_file(self) -> bytes:
        """The code as a relocatable object file."""
        with tempfile.NamedTemporaryFile(suffix=".o") as file:
            self._engine.dump_to_object_file(file.name)
            return Path(file.name).read_bytes()
