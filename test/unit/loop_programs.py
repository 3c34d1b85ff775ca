"""Small programs of one nest, and the check that a transformed one is well formed and computes the same."""

from __future__ import annotations

import dataclasses
import functools

import islpy as isl
import numpy as np
import pytest
from hypothesis import strategies as st
from jit import run_affine
from torch_mlir import ir

from loopmorph.passes.address import find_nest
from loopmorph.passes.analysis.dependence.instances import access_relation, domain
from loopmorph.passes.errors import LoopmorphError
from loopmorph.passes.marks import recorded_steps
from loopmorph.passes.nest import Nest, nests
from loopmorph.passes.transformation import Transformation

KEPT: list[ir.Module] = []  # a view dangles once its module is gone


@dataclasses.dataclass(frozen=True)
class Program:
    """A function with one nest, of layer "net", as text, and the shapes of its arguments (all f32)."""

    text: str
    shapes: tuple[tuple[int, ...], ...]


def program(loops: dict[str, int | str], body: str, arguments: dict[str, tuple[int, ...]]) -> Program:
    """`body` inside loops; a loop is an extent or "low to high" as MLIR writes it; `{x}` is the type of argument x."""
    types = {name: f"memref<{''.join(f'{e}x' for e in shape)}f32>" for name, shape in arguments.items()}
    names = list(loops)
    lines = [f"func.func @main({', '.join(f'%{a}: {t}' for a, t in types.items())}) {{"]
    for name, bound in loops.items():
        lines.append(f"affine.for %{name} = {bound if isinstance(bound, str) else f'0 to {bound}'} {{")
    lines.append(body.format(**types))
    for name in reversed(names[1:]):
        lines.append(f'}} {{morph.iter = "{name}"}}')
    lines.append(f'}} {{morph.iter = "{names[0]}", morph.layer = "net", morph.node = "net_1", morph.role = "main"}}')
    return Program("\n".join([*lines, "return }"]), tuple(arguments.values()))


def convolution(co: int = 4, size: int = 6, ci: int = 2, kernel: int = 3, stride: int = 1) -> Program:
    reach = (size - 1) * stride + kernel
    return program(
        {"n": 1, "co": co, "oh": size, "ow": size, "ci": ci, "kh": kernel, "kw": kernel},
        f"""%a = affine.load %x[%n, %ci, %oh * {stride} + %kh, %ow * {stride} + %kw] : {{x}}
        %b = affine.load %w[%co, %ci, %kh, %kw] : {{w}}
        %c = affine.load %y[%n, %co, %oh, %ow] : {{y}}
        %p = arith.mulf %a, %b : f32
        %s = arith.addf %c, %p : f32
        affine.store %s, %y[%n, %co, %oh, %ow] : {{y}}""",
        {"x": (1, ci, reach, reach), "w": (co, ci, kernel, kernel), "y": (1, co, size, size)},
    )


def pooling(c: int = 3, size: int = 4, kernel: int = 2) -> Program:
    return program(
        {"c": c, "oh": size, "ow": size, "kh": kernel, "kw": kernel},
        f"""%a = affine.load %x[%c, %oh * {kernel} + %kh, %ow * {kernel} + %kw] : {{x}}
        %b = affine.load %y[%c, %oh, %ow] : {{y}}
        %m = arith.maximumf %a, %b : f32
        affine.store %m, %y[%c, %oh, %ow] : {{y}}""",
        {"x": (c, size * kernel, size * kernel), "y": (c, size, size)},
    )


def elementwise(c: int = 3, h: int = 4, w: int = 5) -> Program:
    """Adds the value of an iterator, a use outside of access maps."""
    return program(
        {"c": c, "h": h, "w": w},
        """%a = affine.load %x[%c, %h, %w] : {x}
        %i = arith.index_cast %w : index to i32
        %f = arith.sitofp %i : i32 to f32
        %s = arith.addf %a, %f : f32
        affine.store %s, %y[%h, %w, %c] : {y}""",
        {"x": (c, h, w), "y": (h, w, c)},
    )


def wavefront(size: int = 6) -> Program:
    return program(
        {"i": f"1 to {size}", "j": f"0 to {size - 1}"},
        """%a = affine.load %x[%i - 1, %j + 1] : {x}
        %s = arith.addf %a, %a : f32
        affine.store %s, %x[%i, %j] : {x}""",
        {"x": (size, size)},
    )


def diagonal(size: int = 6) -> Program:
    """Distance (1, -1) in loops that start at 0."""
    return program(
        {"i": size, "j": size},
        """%a = affine.load %x[%i, %j + 1] : {x}
        %s = arith.addf %a, %a : f32
        affine.store %s, %x[%i + 1, %j] : {x}""",
        {"x": (size + 1, size + 1)},
    )


def triangle(size: int = 5) -> Program:
    return program(
        {"i": size, "j": "0 to affine_map<(d0) -> (d0 + 1)>(%i)"},
        """%a = affine.load %x[%i, %j] : {x}
        %b = affine.load %y[%i] : {y}
        %s = arith.addf %a, %b : f32
        affine.store %s, %y[%i] : {y}""",
        {"x": (size, size), "y": (size,)},
    )


sources = st.one_of(
    st.builds(
        convolution,
        co=st.integers(1, 5),
        size=st.integers(1, 5),
        ci=st.integers(1, 4),
        kernel=st.integers(1, 3),
        stride=st.integers(1, 2),
    ),
    st.builds(pooling, c=st.integers(1, 4), size=st.integers(1, 5), kernel=st.integers(1, 3)),
    st.builds(elementwise, c=st.integers(1, 5), h=st.integers(1, 6), w=st.integers(2, 9)),
    st.builds(wavefront, st.integers(3, 7)),
    st.builds(diagonal, st.integers(3, 7)),
    st.builds(triangle, st.integers(3, 7)),
)


def inputs(shapes: tuple[tuple[int, ...], ...]) -> list[np.ndarray]:
    """Small whole numbers, so that sums are exact in any order."""
    rng = np.random.default_rng(0)
    return [rng.integers(-4, 5, size=shape).astype(np.float32) for shape in shapes]


def require_in_bounds(nest: Nest) -> None:
    """A compiled program would crash on what this finds."""
    for access in nest.accesses:
        box = " and ".join(f"0 <= a{k} < {e}" for k, e in enumerate(ir.MemRefType(access.memref.type).shape))
        axes = ", ".join(f"a{k}" for k in range(len(access.exprs)))
        touched = domain(nest, access).apply(access_relation(access))
        assert touched.is_subset(isl.Set(f"{{ [{axes}] : {box} }}")), f"{access.op} leaves its memref"


def check(source: Program, module: ir.Module) -> None:
    assert module.operation.verify()
    nest = view(module)
    assert len(set(nest.iterators)) == len(nest.iterators)
    assert (nest.layer, nest.role) == ("net", "main")
    require_in_bounds(nest)
    for got, wanted in zip(run_affine(module.operation, inputs(source.shapes)), expected(source), strict=True):
        np.testing.assert_array_equal(got, wanted)


@functools.cache
def expected(source: Program) -> list[np.ndarray]:
    return run_affine(source.text, inputs(source.shapes))


def view(module: ir.Module) -> Nest:
    KEPT.append(module)
    assert len(nests(module.operation)) == 1
    return find_nest(module.operation, "net")


def apply(source: Program, *transformations: Transformation) -> ir.Module:
    """Applies them, checks that the result is well formed and computes the same; returns the module."""
    module = ir.Module.parse(source.text)
    for transformation in transformations:
        root = transformation.apply(module.operation)
        assert root.attributes["morph.layer"] == ir.StringAttr.get("net")
    check(source, module)
    assert recorded_steps(module.operation) == [str(t) for t in transformations]
    return module


def refused(source: Program, transformation: Transformation, error: type[LoopmorphError], match: str) -> None:
    """The transformation raises, and leaves the program as it was."""
    module = ir.Module.parse(source.text)
    before = str(module)
    with pytest.raises(error, match=match):
        transformation.apply(module.operation)
    assert str(module) == before
