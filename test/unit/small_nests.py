"""Random small nests for property tests: in-place updates, strided and overlapping accesses, reductions."""

from __future__ import annotations

from hypothesis import strategies as st
from loop_programs import Program, program

ITERATORS = ("i", "j", "k")
COMBINERS = ("addf", "maximumf", "minimumf", "mulf")


@st.composite
def indices(draw: st.DrawFn, extents: dict[str, int], rank: int) -> tuple[list[str], list[int]]:
    """One affine expression per axis, and the extent that the axis needs at least."""
    texts, sizes = [], []
    for _ in range(rank):
        used = {name: draw(st.sampled_from((0, 0, 1, 1, 2))) for name in extents}
        offset = draw(st.sampled_from((0, 0, 0, 1, 2)))
        terms = [f"%{name} * {c}" if c > 1 else f"%{name}" for name, c in used.items() if c]
        text, largest = " + ".join([*terms, str(offset)]), offset + sum(c * (extents[n] - 1) for n, c in used.items())
        divisor = draw(st.sampled_from((1, 1, 1, 2, 4)))
        if divisor > 1:
            what = draw(st.sampled_from(("floordiv", "mod")))
            text = f"({text}) {what} {divisor}"
            largest = largest // divisor if what == "floordiv" else divisor - 1
        texts.append(text)
        sizes.append(largest + 1)
    return texts, sizes


@st.composite
def nests(draw: st.DrawFn) -> Program:
    """Two or three loops; up to three statements `a[..] = b[..] op c` with `c` a load or the element itself."""
    n_loops = draw(st.integers(1, 3))
    extents = {name: draw(st.integers(1, 4)) for name in ITERATORS[: n_loops - 1]}
    extents[ITERATORS[n_loops - 1]] = draw(st.integers(2, 11))
    shapes: dict[str, list[int]] = {"x": [1], "y": [1, 1], "z": [1]}
    lines = []

    def access(name: str) -> str:
        texts, sizes = draw(indices(extents, len(shapes[name])))
        shapes[name] = [max(a, b) for a, b in zip(shapes[name], sizes, strict=True)]
        return f"%{name}[{', '.join(texts)}] : {{{name}}}"

    for s in range(draw(st.integers(1, 3))):
        target, source = access(draw(st.sampled_from("yz"))), access(draw(st.sampled_from("xxyz")))
        other = draw(st.sampled_from((target, target, access("x"))))
        lines.append(f"%a{s} = affine.load {source}")
        lines.append(f"%b{s} = affine.load {other}")
        combiner = draw(st.sampled_from(COMBINERS[:3] if other == target else COMBINERS))
        lines.append(f"%c{s} = arith.{combiner} %b{s}, %a{s} : f32")
        lines.append(f"affine.store %c{s}, {target}")
    return program(dict(extents), "\n".join(lines), {name: tuple(shape) for name, shape in shapes.items()})
