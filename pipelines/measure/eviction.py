"""Taking what a network's other weights take of the caches, between two timed calls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch_mlir import ir

from loopmorph.passes.target.detect import native_target
from loopmorph.pipelines.codegen.jit import compile_module
from loopmorph.pipelines.codegen.memory import allocate
from loopmorph.pipelines.measure.peak import largest_cache

_LINE = 16  # f32 numbers in a cache line


class Eviction:
    """Replaces what the caches of all cores that take part hold, by copying other memory."""

    def __init__(self, size: int, threads: int) -> None:
        """Compiles the copy.

        Args:
            size: bytes to copy; more than the largest cache holds are not needed.
            threads: number of threads of the code that is timed; each empties the caches of its core.

        Raises:
            CompilationFailed: the code cannot be compiled.
        """
        lines = max(1, min(size, largest_cache()) // (4 * _LINE))
        with ir.Context(), ir.Location.unknown():
            self._copy = compile_module(ir.Module.parse(_copy_text(lines)), native_target(), threads).run
        self._memory = [allocate(argument.nbytes) for argument in self._copy.arguments]
        for position, array in enumerate(self._memory):
            array[:] = 1  # memory that was never written is one and the same page
            self._copy.bind(position, array.ctypes.data)

    def __call__(self, keep: Sequence[np.ndarray]) -> None:
        """Copies, and then reads some arrays, uint8, so that these are in the caches."""
        self._copy()
        for array in keep:
            array[:: 4 * _LINE].max(initial=0)


def _copy_text(lines: int) -> str:
    """A module that copies as many cache lines."""
    memref = f"memref<{lines}x{_LINE}xf32>"
    return f"""
func.func @main(%x: {memref} {{morph.input = 0}}, %y: {memref} {{morph.output = 0}}) {{
  affine.for %i = 0 to {lines} {{
    affine.for %j = 0 to {_LINE} {{
      %a = affine.load %x[%i, %j] : {memref}
      affine.store %a, %y[%i, %j] : {memref}
    }}
  }}
  return
}}"""
