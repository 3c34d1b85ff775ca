"""A driver that takes linalg on tensors and returns an object file: loopmorph's passes, upstream's lowering, LLVM."""

from __future__ import annotations

import tempfile
from pathlib import Path

from torch_mlir import ir
from torch_mlir.execution_engine import ExecutionEngine

from loopmorph.passes import check_input, run_pipeline

OURS = (
    "morph-linalg-to-affine",
    "morph-fuse-elementwise{scope=function}",
    "morph-default-schedule{target=x86_64_v3}",
    "morph-contiguous-innermost",
    "morph-promote-accumulators",
)
TO_LLVM = (
    "canonicalize,cse",
    "func.func(lower-affine)",
    "convert-vector-to-scf,convert-scf-to-cf,expand-strided-metadata,lower-affine",
    "convert-vector-to-llvm,convert-math-to-llvm,convert-math-to-libm,finalize-memref-to-llvm",
    "convert-arith-to-llvm,convert-index-to-llvm,convert-ub-to-llvm",
    "convert-func-to-llvm{use-bare-ptr-memref-call-conv=1},convert-cf-to-llvm",
    "canonicalize,cse,reconcile-unrealized-casts",
)


def object_file(linalg: str) -> bytes:
    """Machine code of this computer for a module of functions on tensors.

    Each function takes a pointer to the elements of each argument, then one to those of each result.

    Raises:
        ir.MLIRError: the text is no module.
        loopmorph.passes.LoopmorphError: the program cannot be compiled; says what stands against it.
    """
    with ir.Context():
        module = ir.Module.parse(linalg)
        check_input(module)
        run_pipeline(module, ",".join([*OURS, *TO_LLVM]))
        defined = [op.operation for op in module.body if len(op.regions[0].blocks)]
        engine = ExecutionEngine(module, opt_level=3, shared_libs=[], enable_pic=True)
        engine.raw_lookup(defined[0].attributes["sym_name"].value)  # LLVM generates the code at the first look
        with tempfile.NamedTemporaryFile(suffix=".o") as file:
            engine.dump_to_object_file(file.name)
            return Path(file.name).read_bytes()
