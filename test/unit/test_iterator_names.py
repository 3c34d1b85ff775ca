"""Names of iterators by what they index: every layout of linalg's operations, and the same as affine nests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch_mlir import ir
from torch_mlir.passmanager import PassManager

from loopmorph.passes.affine_expr import used_dims
from loopmorph.passes.analysis.iterator_names import axis_label, distinct, names_by_use
from loopmorph.passes.building.name_nests import name_nests
from loopmorph.passes.ingress.linalg_to_affine import LinalgToAffine
from loopmorph.passes.nest import Access, Nest, nests

# Operation, shapes of its inputs and of its output, iterators in the order of the output's axes.
OPERATIONS = [
    ("conv_1d", "6 3", "4", "ow kw"),
    ("conv_1d_ncw_fcw", "1x2x6 4x2x3", "1x4x4", "n co ow ci kw"),
    ("conv_1d_nwc_wcf", "1x6x2 3x2x4", "1x4x4", "n ow co kw ci"),
    ("conv_2d", "6x6 3x3", "4x4", "oh ow kh kw"),
    ("conv_2d_nchw_fchw", "1x2x6x6 4x2x3x3", "1x4x4x4", "n co oh ow ci kh kw"),
    ("conv_2d_nhwc_hwcf", "1x6x6x2 3x3x2x4", "1x4x4x4", "n oh ow co kh kw ci"),
    ("conv_2d_nhwc_fhwc", "1x6x6x2 4x3x3x2", "1x4x4x4", "n oh ow co kh kw ci"),
    ("conv_2d_ngchw_gfchw", "1x2x3x6x6 2x4x3x3x3", "1x2x4x4x4", "n g co oh ow ci kh kw"),
    ("conv_2d_ngchw_fgchw", "1x2x3x6x6 4x2x3x3x3", "1x2x4x4x4", "n g co oh ow ci kh kw"),
    ("conv_2d_nhwgc_gfhwc", "1x6x6x2x3 2x4x3x3x3", "1x4x4x2x4", "n oh ow g co kh kw ci"),
    ("conv_3d", "6x6x6 3x3x3", "4x4x4", "od oh ow kd kh kw"),
    ("conv_3d_ncdhw_fcdhw", "1x2x4x4x4 3x2x3x3x3", "1x3x2x2x2", "n co od oh ow ci kd kh kw"),
    ("conv_3d_ndhwc_dhwcf", "1x4x4x4x2 3x3x3x2x3", "1x2x2x2x3", "n od oh ow co kd kh kw ci"),
    ("depthwise_conv_1d_ncw_cw", "1x3x6 3x3", "1x3x4", "n c ow kw"),
    ("depthwise_conv_1d_nwc_wc", "1x6x3 3x3", "1x4x3", "n ow c kw"),
    ("depthwise_conv_1d_nwc_wcm", "1x6x3 3x3x2", "1x4x3x2", "n ow g co kw"),
    ("depthwise_conv_2d_nchw_chw", "1x3x6x6 3x3x3", "1x3x4x4", "n c oh ow kh kw"),
    ("depthwise_conv_2d_nhwc_hwc", "1x6x6x3 3x3x3", "1x4x4x3", "n oh ow c kh kw"),
    ("depthwise_conv_2d_nhwc_hwcm", "1x6x6x3 3x3x3x2", "1x4x4x3x2", "n oh ow g co kh kw"),
    ("depthwise_conv_3d_ndhwc_dhwc", "1x4x4x4x3 3x3x3x3", "1x2x2x2x3", "n od oh ow c kd kh kw"),
    ("depthwise_conv_3d_ncdhw_cdhw", "1x3x4x4x4 3x3x3x3", "1x3x2x2x2", "n c od oh ow kd kh kw"),
    ("pooling_nchw_max", "1x3x6x6 3x3", "1x3x4x4", "n c oh ow kh kw"),
    ("pooling_nhwc_sum", "1x6x6x3 3x3", "1x4x4x3", "n oh ow c kh kw"),
    ("pooling_nwc_max", "1x6x3 3", "1x4x3", "n ow c kw"),
    ("pooling_ncw_sum", "1x3x6 3", "1x3x4", "n c ow kw"),
    ("pooling_ndhwc_max", "1x4x4x4x3 3x3x3", "1x2x2x2x3", "n od oh ow c kd kh kw"),
    ("matmul", "4x6 6x5", "4x5", "n co ci"),
    ("matvec", "4x6 6", "4", "n ci"),
    ("vecmat", "6 6x4", "4", "co ci"),
    ("batch_matmul", "2x4x6 2x6x5", "2x4x5", "b n co ci"),
    ("batch_matvec", "2x4x6 2x6", "2x4", "b n ci"),
    ("batch_vecmat", "2x6 2x6x4", "2x4", "b co ci"),
    ("batch_reduce_matmul", "2x4x6 2x6x5", "4x5", "n co ci ci2"),
]


def program(name: str, inputs: str, output: str) -> str:
    types = [f"memref<{shape}xf32>" for shape in [*inputs.split(), output]]
    *taken, given_ = types
    values = [f"%{k}" for k in range(len(taken))]
    arguments = ", ".join(f"{v}: {t}" for v, t in zip(values, taken, strict=True))
    return f"""func.func @f({arguments}, %o: {given_}) {{
      linalg.{name} ins({", ".join(values)} : {", ".join(taken)}) outs(%o : {given_})
      return
    }}"""


@pytest.mark.parametrize(("name", "inputs", "output", "names"), OPERATIONS, ids=lambda value: value.split()[0])
def test_every_layout(name: str, inputs: str, output: str, names: str) -> None:
    text = program(name, inputs, output)
    with ir.Context(), ir.Location.unknown():
        ours, theirs = ir.Module.parse(text), ir.Module.parse(text)
        LinalgToAffine().run(ours.operation)
        PassManager.parse("builtin.module(func.func(convert-linalg-to-affine-loops))").run(theirs.operation)
        name_nests(theirs.operation)
        (nest,), (other,) = nests(ours.operation), nests(theirs.operation)
        assert nest.iterators == tuple(names.split())
        indices = [{(a.kind, index(n, a)) for a in n.accesses} for n in (nest, other)]
        assert indices[0] == indices[1]  # MLIR's lowering, named by its accesses, says the same of each


def index(nest: Nest, access: Access) -> tuple[frozenset[str], ...]:
    """The iterators in each index of an access."""
    return tuple(frozenset(nest.iterators[p] for p in used_dims(expr)) for expr in access.exprs)


@pytest.mark.parametrize(
    ("rank", "output", "operands"),
    [
        (2, ["0", "1"], [["0", "1"]]),  # nothing is summed
        (2, ["0"], [["0", "1"]]),  # a sum
        (3, ["0", "1"], [["0", "2"], ["1", "2"], ["2"]]),  # three operands
        (4, ["0"], [["0", "1", "2", "3"], ["1"]]),  # what only one operand has is summed
        (8, ["0", "1", "2", "3"], [["04", "15", "26", "37"]]),  # four windows
        (3, ["01"], [["0", "2"], ["1", "2"]]),  # an index of two
    ],
)
def test_what_is_no_contraction(rank: int, output: list[str], operands: list[list[str]]) -> None:
    def dims(axes: list[str]) -> list[frozenset[int]]:
        return [frozenset(map(int, axis)) for axis in axes]

    assert names_by_use(rank, dims(output), [dims(operand) for operand in operands]) is None


@pytest.mark.parametrize(
    ("names", "label"), [(["oh", "kh"], "h"), (["ci"], "c"), (["co"], "c"), (["n"], "n"), (["g", "co"], ""), ([], "")]
)
def test_what_an_axis_is(names: list[str], label: str) -> None:
    assert axis_label(names) == label


@given(st.lists(st.sampled_from(["n", "c", "c2", "ci"])), st.sets(st.sampled_from(["n", "c", "c2"])))
def test_names_that_are_distinct(names: list[str], taken: set[str]) -> None:
    found = distinct(names, taken)
    assert len(set(found)) == len(found) and not taken & set(found)
    assert all(given.startswith(name) for name, given in zip(names, found, strict=True))
