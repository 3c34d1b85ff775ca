"""An outside client, Debian's `mlir-opt` (package `mlir-19-tools`): it reads what we print, and we what it prints.

It is years older than the MLIR that we use: what its version does not know yet is left out, and said where.
"""

from __future__ import annotations

import shutil
import subprocess
from functools import cache

import numpy as np
import pytest
from foreign_modules import MODULES, ForeignModule, values
from torch_mlir import ir

from loopmorph.passes.ingress.entry import Entry
from loopmorph.passes.ingress.linalg_to_affine import LinalgToAffine
from loopmorph.passes.lowering.to_llvm import lower_to_llvm, plan_functions
from loopmorph.passes.pipeline import run_pipeline
from loopmorph.passes.target.detect import resolve_target
from loopmorph.pipelines.codegen.from_mlir import compile_mlir

CLIENT = next((found for name in ("mlir-opt-19", "mlir-opt") if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CLIENT is None, reason="no mlir-opt; it is in Debian's package mlir-19-tools")
STAGES = ("linalg", "affine", "transformed", "planned", "llvm")
SEPARATOR = "\n// -----\n"
# Not in MLIR 19: maps of named products, an intrinsic, an effect, and flags of an operation, which are left out.
NEWER = ("linalg.matmul indexing_maps", "llvm.intr.tanh", "errnoMem")
FLAGS = "inbounds|nuw "


def client(text: str, *arguments: str) -> str:
    done = subprocess.run([str(CLIENT), *arguments], input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def stages(module: ForeignModule) -> dict[str, str]:
    """The text of a module at each stage of its way to machine code."""
    with ir.Context(), ir.Location.unknown():
        program = ir.Module.parse(module.prepared)
        found = {"linalg": str(program)}
        LinalgToAffine().run(program.operation)
        found["affine"] = str(program)
        Entry(parameters=module.parameters).run(program.operation)
        run_pipeline(program, module.pipeline)
        found["transformed"] = str(program)
        plan_functions(program, resolve_target("x86_64_v3"))
        found["planned"] = str(program)
        lower_to_llvm(program)
        return {**found, "llvm": str(program).replace(FLAGS, "")}


@pytest.mark.parametrize("stage", STAGES)
def test_it_reads_and_verifies_every_stage(stage: str) -> None:
    chosen = [module for module in MODULES if not module.refused and module.path.parent.name == "hand"]
    texts = [text for m in chosen if not any(newer in (text := stages(m)[stage]) for newer in NEWER)]
    assert len(texts) >= 8
    printed = client(SEPARATOR.join(texts), "--split-input-file").split(SEPARATOR.strip())
    assert len(printed) == len(texts)
    if stage != "llvm":
        with ir.Context():
            for text, again in zip(texts, printed, strict=True):
                assert str(ir.Module.parse(again)) == str(ir.Module.parse(text))


def test_its_passes_come_between_ours() -> None:
    (gemm,) = (module for module in MODULES if module.name == "hand/two_nests")
    with ir.Context(), ir.Location.unknown():
        program = ir.Module.parse(gemm.text)
        run_pipeline(program, "morph-interchange{layer=for.0 order=ci,n,co}")
        unroll = "--pass-pipeline=builtin.module(func.func(affine-loop-unroll{unroll-factor=2}),cse)"
        between = client(str(program), unroll)
    compiled = compile_mlir(between, pipeline="morph-interchange{layer=for.0 order=n,ci,co}")
    a, b = (values(argument.shape, int(argument.key)) for argument in compiled.native.run.arguments[:2])
    np.testing.assert_allclose(compiled(a, b)[0], np.maximum(a @ b, 0), rtol=1e-5)


TO_LINALG = "func.func(tosa-infer-shapes,tosa-to-linalg-named,tosa-to-linalg,tosa-to-arith,tosa-to-tensor),canonicalize"


def test_we_compile_what_it_makes_of_tosa() -> None:
    text = """func.func @main(%x: tensor<2x3x4xf32>, %y: tensor<2x4x5xf32>) -> tensor<2x3x5xf32> {
      %0 = tosa.matmul %x, %y : (tensor<2x3x4xf32>, tensor<2x4x5xf32>) -> tensor<2x3x5xf32>
      %1 = tosa.exp %0 : (tensor<2x3x5xf32>) -> tensor<2x3x5xf32>
      return %1 : tensor<2x3x5xf32>
    }"""
    compiled = compile_mlir(client(text, f"--pass-pipeline=builtin.module({TO_LINALG})"))
    x, y = values((2, 3, 4), 0), values((2, 4, 5), 1)
    np.testing.assert_allclose(compiled(x, y)[0], np.exp(x @ y), rtol=1e-5)
