"""`morph-plan-scratch`: buffers that live at once do not overlap; the others share."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.lowering.plan_scratch import Buffer, PlanScratch, assign_offsets, extent_of, live_bytes


@st.composite
def buffers(draw: st.DrawFn) -> Buffer:
    first = draw(st.integers(0, 30))
    return Buffer(draw(st.integers(1, 1000)), first, first + draw(st.integers(0, 10)))


@given(st.lists(buffers(), max_size=25))
def test_live_buffers_are_disjoint_and_aligned(given_buffers: list[Buffer]) -> None:
    placed = list(zip(assign_offsets(given_buffers), given_buffers, strict=True))
    assert all(offset % marks.ALIGNMENT == 0 and offset >= 0 for offset, _ in placed)
    for moment in range(45):
        alive = sorted((o, o + b.size) for o, b in placed if b.first <= moment <= b.last)
        assert all(end <= start for (_, end), (start, _) in pairwise(alive))


@st.composite
def networks(draw: st.DrawFn) -> list[Buffer]:
    """Stages of residual blocks, each with smaller buffers than the one before; a block's input lives to its end."""
    lives, size, now = [], draw(st.integers(16, 64)) * marks.ALIGNMENT, 0
    for _ in range(draw(st.integers(1, 4))):
        for _ in range(draw(st.integers(1, 4))):
            layers = draw(st.integers(1, 3))
            lives += [Buffer(size, now, now + layers), *(Buffer(size, now + k, now + k + 1) for k in range(1, layers))]
            now += layers
        size //= 2
    return lives


@given(networks())
def test_a_residual_network_needs_little_more_than_what_lives_at_once(lives: list[Buffer]) -> None:
    assert live_bytes(lives) <= extent_of(lives, assign_offsets(lives)) <= 1.25 * live_bytes(lives)


def test_a_residual_branch_is_no_obstacle() -> None:
    """A long-lived buffer in the middle of memory would leave no room for two large ones on either side of it."""
    given_buffers = [Buffer(640, 0, 2), Buffer(640, 1, 6), Buffer(1280, 4, 8), Buffer(640, 7, 9), Buffer(1280, 8, 9)]
    assert extent_of(given_buffers, assign_offsets(given_buffers)) == live_bytes(given_buffers)


def test_a_chain_needs_no_more_than_two_buffers() -> None:
    chain = [Buffer(640, k, k + 1) for k in range(10)]
    assert max(assign_offsets(chain)) == 640


def chain(n: int) -> str:
    body, source = "", "%x"
    for k in range(n):
        body += f"""%t{k} = memref.alloc() : memref<100xf32>
          affine.for %i = 0 to 100 {{ %0 = affine.load {source}[%i] : memref<100xf32>
            affine.store %0, %t{k}[%i] : memref<100xf32> }}\n"""
        source = f"%t{k}"
    return f"""func.func @run(%x: memref<100xf32> {{morph.input = 0}}, %y: memref<100xf32> {{morph.output = 0}}) {{
      {body}
      affine.for %i = 0 to 100 {{ %0 = affine.load {source}[%i] : memref<100xf32>
        affine.store %0, %y[%i] : memref<100xf32> }}
      return }}"""


def planned(text: str) -> str:
    with ir.Context() as context, ir.Location.unknown():
        context.allow_unregistered_dialects = True
        module = ir.Module.parse(text)
        PlanScratch().run(module.operation)
        assert module.operation.verify()
        return str(module)


@pytest.mark.parametrize("length", [2, 3, 7])
def test_the_run_takes_one_scratch_argument(length: int) -> None:
    text = planned(chain(length))
    assert "memref.alloc" not in text
    assert text.count("memref.view") == length
    assert "memref<896xi8> {morph.scratch}, %arg2: memref<100xf32> {morph.output" in text  # two of 448 bytes


def test_no_scratch_where_nothing_is_local() -> None:
    assert "morph.scratch" not in planned(chain(0))


def test_refuses_a_module_without_run() -> None:
    with pytest.raises(IllegalTransform, match="needs a function @run; morph-split-prepare makes it"):
        planned("func.func @main() { return }")
