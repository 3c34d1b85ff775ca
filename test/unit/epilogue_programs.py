"""Programs of a nest with promoted accumulators and element-wise nests around it, and checks of their fusion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from jit import run_affine
from torch_mlir import ir

from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.loop.fuse_epilogue import FuseEpilogue
from loopmorph.passes.marks import recorded_steps


def nest(loops: dict[str, int], body: str, layer: str, role: str = "main") -> str:
    """A rectangular nest; the iterators are called as the loops."""
    names = list(loops)
    opened = [f"affine.for %{name} = 0 to {extent} {{" for name, extent in loops.items()]
    closed = [f'}} {{morph.iter = "{name}"}}' for name in reversed(names[1:])]
    marks = f'}} {{morph.iter = "{names[0]}", morph.layer = "{layer}", morph.role = "{role}"}}'
    return "\n".join([*opened, body, *closed, marks])


def elementwise(
    loops: dict[str, int],
    loads: dict[str, str],
    stored: str,
    compute: str = "",
    layer: str = "relu",
    role: str = "main",
) -> str:
    """A nest that loads, computes and stores %r."""
    lines = [f"%{name} = affine.load {what}" for name, what in loads.items()]
    return nest(loops, "\n".join([*lines, compute, f"affine.store %r, {stored}"]), layer, role)


RELU = "%p = arith.cmpf ugt, %v, %zero : f32\n%r = arith.select %p, %v, %zero : f32"


def function(arguments: dict[str, str], *parts: str) -> str:
    listed = ", ".join(f"%{name}: memref<{shape}xf32>" for name, shape in arguments.items())
    return "\n".join([f"func.func @main({listed}) {{", "%zero = arith.constant 0.0 : f32", *parts, "return }"])


def fuse(text: str, layer: str = "conv") -> ir.Module:
    """Fuses, checks that the program computes exactly the same, and returns it."""
    module = ir.Module.parse(text)
    root = FuseEpilogue(layer).apply(module.operation)
    assert module.operation.verify()
    assert root.attributes["morph.layer"] == ir.StringAttr.get(layer)
    assert recorded_steps(module.operation) == [f"morph-fuse-epilogue{{layer={layer}}}"]
    original = ir.Module.parse(text)
    require_same(module, original, [ir.MemRefType(t).shape for t in original.body.operations[0].type.inputs])
    return module


def require_same(module: ir.Module, original: ir.Module, shapes: Sequence[Sequence[int]]) -> None:
    """On small whole numbers, so that sums are exact in any order."""
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-4, 5, size=shape).astype(np.float32) for shape in shapes]
    computed, wanted = (run_affine(m.operation, arrays) for m in (module, original))
    for got, expected in zip(computed, wanted, strict=True):
        np.testing.assert_array_equal(got, expected)


def layers(module: ir.Module) -> list[str]:
    """The layers of the nests that are left, in program order."""
    ops = module.body.operations[0].entry_block.operations
    return [ir.StringAttr(op.attributes["morph.layer"]).value for op in ops if op.operation.name == "affine.for"]


def count(module: ir.Module, text: str) -> int:
    return str(module).count(text)


def refused(text: str, match: str, layer: str = "conv") -> None:
    module = ir.Module.parse(text)
    before = str(module)
    with pytest.raises(IllegalTransform, match=match):
        FuseEpilogue(layer).apply(module.operation)
    assert str(module) == before


# ---- scalar: t[c, h] = sum over k of w[c, k] * x[k, h], in chunks of two rows

INIT = nest({"c": 8, "h": 4}, "affine.store %zero, %t[%c, %h] : memref<8x4xf32>", "conv", "init")
BIAS = nest(
    {"c": 8, "h": 4},
    "%b = affine.load %bias[%c] : memref<8xf32>\naffine.store %b, %t[%c, %h] : memref<8x4xf32>",
    "conv",
    "init",
)
MAIN = nest(
    {"co": 8, "oh": 2},
    """%s0 = affine.load %t[%co, %oh * 2] : memref<8x4xf32>
    %s1 = affine.load %t[%co, %oh * 2 + 1] : memref<8x4xf32>
    %red:2 = affine.for %k = 0 to 3 iter_args(%a0 = %s0, %a1 = %s1) -> (f32, f32) {
      %w0 = affine.load %w[%co, %k] : memref<8x3xf32>
      %x0 = affine.load %x[%k, %oh * 2] : memref<3x4xf32>
      %x1 = affine.load %x[%k, %oh * 2 + 1] : memref<3x4xf32>
      %p0 = arith.mulf %w0, %x0 : f32
      %p1 = arith.mulf %w0, %x1 : f32
      %n0 = arith.addf %a0, %p0 : f32
      %n1 = arith.addf %a1, %p1 : f32
      affine.yield %n0, %n1 : f32, f32
    } {morph.iter = "ci"}
    affine.store %red#0, %t[%co, %oh * 2] : memref<8x4xf32>
    affine.store %red#1, %t[%co, %oh * 2 + 1] : memref<8x4xf32>""",
    "conv",
)
T = "%t = memref.alloc() : memref<8x4xf32>"
U = "%u = memref.alloc() : memref<8x4xf32>"
CH = {"c": 8, "h": 4}
ARGUMENTS = {"x": "3x4", "w": "8x3", "bias": "8", "y": "8x4"}
RELU_Y = elementwise(CH, {"v": "%t[%c, %h] : memref<8x4xf32>"}, "%y[%c, %h] : memref<8x4xf32>", RELU)


# ---- vectors: t[n, c.0, oh, c.1], c = c.0 * 4 + c.1, two blocks and two rows at a time

BLOCKED = "memref<1x4x6x4xf32>"


def blocked_main(layer: str = "conv", result: str = "t") -> str:
    accesses = [
        f"%{result}[0, %co * 2 + {b}, %oh * 2 + {r}, 0] : {BLOCKED}, vector<4xf32>" for b in (0, 1) for r in (0, 1)
    ]
    starts = [f"%s{k} = affine.vector_load {a}" for k, a in enumerate(accesses)]
    args = ", ".join(f"%a{k} = %s{k}" for k in range(4))
    body = []
    for k in range(4):
        b, r = divmod(k, 2)
        body += [
            f"%w{k} = affine.vector_load %w[%co * 2 + {b}, %k, 0] : memref<4x3x4xf32>, vector<4xf32>",
            f"%x{k} = affine.load %x[%k, %oh * 2 + {r}] : memref<3x6xf32>",
            f"%v{k} = vector.broadcast %x{k} : f32 to vector<4xf32>",
            f"%f{k} = vector.fma %w{k}, %v{k}, %a{k} : vector<4xf32>",
        ]
    types = ", ".join(["vector<4xf32>"] * 4)
    reduction = [
        f"%red:4 = affine.for %k = 0 to 3 iter_args({args}) -> ({types}) {{",
        *body,
        f"affine.yield %f0, %f1, %f2, %f3 : {types}",
        '} {morph.iter = "ci"}',
    ]
    stores = [f"affine.vector_store %red#{k}, {a}" for k, a in enumerate(accesses)]
    return nest({"co": 2, "oh": 3}, "\n".join([*starts, *reduction, *stores]), layer)


BLOCKED_T = f"%t = memref.alloc() : {BLOCKED}"
BLOCKED_ARGUMENTS = {"x": "3x6", "w": "4x3x4", "bias": "16", "y": "1x4x6x4", "res": "1x4x6x4"}
DIGITS = {"n": 1, "c0": 4, "h": 6, "c1": 4}
BLOCKED_BIAS = nest(
    DIGITS,
    f"%b = affine.load %bias[%c0 * 4 + %c1] : memref<16xf32>\naffine.store %b, %t[%n, %c0, %h, %c1] : {BLOCKED}",
    "conv",
    "init",
)
OF_T = {"v": f"%t[%n, %c0, %h, %c1] : {BLOCKED}"}
