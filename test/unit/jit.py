"""Runs affine programs, for tests that compare what is computed before and after a transformation."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from torch_mlir import ir
from torch_mlir.execution_engine import ExecutionEngine
from torch_mlir.passmanager import PassManager
from torch_mlir.runtime import get_ranked_memref_descriptor

LOWERING = (
    "builtin.module(func.func(lower-affine),convert-scf-to-cf,expand-strided-metadata,lower-affine,"
    "convert-math-to-libm,convert-vector-to-llvm,finalize-memref-to-llvm,convert-arith-to-llvm,convert-index-to-llvm,"
    "convert-func-to-llvm,convert-cf-to-llvm,reconcile-unrealized-casts)"
)


def run_affine(module: str | ir.Operation, arrays: Sequence[np.ndarray], function: str = "main") -> list[np.ndarray]:
    """Compiles a copy of the module and calls one of its functions.

    Args:
        module: the program, as text or as a `builtin.module`; stays as it is.
        arrays: one array for each memref argument, of its shape and element type; they stay as they are.
        function: name of the function, which returns nothing.

    Returns:
        The arrays after the call.
    """
    outputs = [np.array(a, order="C") for a in arrays]
    with ir.Context(), ir.Location.unknown():
        program = ir.Module.parse(str(module))
        for op in program.body.operations:
            op.attributes["llvm.emit_c_interface"] = ir.UnitAttr.get()
        PassManager.parse(LOWERING).run(program.operation)
        engine = ExecutionEngine(program, opt_level=0)
        pointers = [ctypes.pointer(ctypes.pointer(get_ranked_memref_descriptor(a))) for a in outputs]
        engine.invoke(function, *pointers)
    return outputs
