"""What `morph-vectorize` refuses, and with what reason."""

from __future__ import annotations

import pytest
from loop_programs import apply, convolution, elementwise, program, refused, triangle

from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.loop.vectorize import Vectorize

pytestmark = pytest.mark.usefixtures("context")


def test_a_loop_shorter_than_the_vector_is_refused():
    source = program(
        {"i": 4, "j": 4},
        """%v = affine.load %x[%i, %j] : {x}
        %o = affine.load %y[%i] : {y}
        %s = arith.addf %o, %v : f32
        affine.store %s, %y[%i] : {y}""",
        {"x": (4, 4), "y": (4,)},
    )
    refused(source, Vectorize("net", "j", 8), IllegalTransform, "the extent 4 of 'j' is less than the width 8")


@pytest.mark.parametrize(
    ("source", "transformation", "error", "match"),
    [
        (convolution(), Vectorize("net", "kw", 1), ArgumentError, "'width': the width must be at least 2, got 1"),
        (convolution(), Vectorize("net", "q", 2), ArgumentError, "'iter': layer 'net' has no iterator 'q'"),
        (convolution(), Vectorize("net", "kh", 2), IllegalTransform, "loop 'kh' holds other loops; only an innermost"),
        (triangle(), Vectorize("net", "j", 2), IllegalTransform, "the extent of loop 'j' is no constant"),
        (elementwise(), Vectorize("net", "w", 4), IllegalTransform, "index_cast uses the iterator 'w' as a value"),
        (
            program(
                {"i": "2 to 10"},
                "%v = affine.load %x[%i] : {x}\naffine.store %v, %y[%i] : {y}",
                {"x": (10,), "y": (10,)},
            ),
            Vectorize("net", "i", 4),
            IllegalTransform,
            "loop 'i' does not start at 0 with step 1",
        ),
        (
            program({"i": 8}, "%v = affine.load %x[%i] : {x}\naffine.store %v, %x[%i + 1] : {x}", {"x": (9,)}),
            Vectorize("net", "i", 4),
            IllegalTransform,
            r"'i' cannot run side by side: the flow dependence from store %arg0\[i \+ 1\] to load %arg0\[i\]",
        ),
        (
            program({"i": 8}, "%v = affine.load %x[%i] : {x}\naffine.store %v, %y[3] : {y}", {"x": (8,), "y": (4,)}),
            Vectorize("net", "i", 4),
            IllegalTransform,
            r"cannot run side by side: the output dependence from store %arg1\[3\]",
        ),
        (
            program(
                {"i": 8},
                """%o = affine.load %y[%i floordiv 2] : {y}
                %v = affine.load %x[%i] : {x}
                %s = arith.addf %o, %v : f32
                affine.store %s, %y[%i floordiv 2] : {y}""",
                {"x": (8,), "y": (4,)},
            ),
            Vectorize("net", "i", 4),
            IllegalTransform,
            r"cannot run side by side: the .* dependence from .* %arg1\[i floordiv 2\]",
        ),
        (
            program(
                {"i": 8},
                """%k = affine.apply affine_map<(d0) -> (d0 * 2)>(%i)
                %c = arith.index_cast %k : index to i32
                %v = arith.sitofp %c : i32 to f32
                affine.store %v, %y[%i] : {y}""",
                {"y": (8,)},
            ),
            Vectorize("net", "i", 4),
            IllegalTransform,
            "affine.apply uses the iterator 'i' as a value",
        ),
    ],
)
def test_refusals(source, transformation, error, match):
    refused(source, transformation, error, match)


def test_a_vectorised_loop_is_refused():
    source = program(
        {"c": 3, "w": 16},
        "%v = affine.load %x[%c, %w] : {x}\naffine.store %v, %y[%c, %w] : {y}",
        {"x": (3, 16), "y": (3, 16)},
    )
    module = apply(source, Vectorize("net", "w", 4))
    with pytest.raises(IllegalTransform, match=r"loop 'w' is already vectorised: affine\.vector_load"):
        Vectorize("net", "w", 4).apply(module.operation)
