"""The analytic model of register blocks: what it prefers and what it never offers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopmorph.passes.analysis.choice import RegisterBlock
from loopmorph.passes.scheduling.register_block import (
    Work,
    cost,
    keeps_vectors,
    last_block,
    least_cost,
    register_blocks,
)
from loopmorph.passes.target.target import named_target

MACHINE = named_target("x86_64_v4")
WIDE = Work(columns=32, rows=32, samples=1, blocks=8, sets=1, depth=576, lanes=16)
TOKENS = Work(columns=197, rows=1, samples=1, blocks=24, sets=1, depth=192, lanes=8, rests=True)
FEW_PIXELS = Work(columns=16, rows=1, samples=1, blocks=16, sets=16, depth=256, lanes=16)


def test_the_counts_are_those_of_the_nest() -> None:
    assert WIDE.macs == 32 * 32 * 8 * 576 * 16
    assert WIDE.weights == 8 * 576 * 16


def test_few_pixels_share_each_weight_in_one_pass() -> None:
    """Each weight comes from memory for 16 multiply-adds only: where memory is slower, all pixels are in one block."""
    best = register_blocks(FEW_PIXELS, replace(MACHINE, balance=6.0))[0]
    assert (best.rows * best.columns, FEW_PIXELS.passes(best)) == (16, 1)


def test_weights_that_come_while_others_are_used_cost_nothing_but_the_first() -> None:
    best = register_blocks(FEW_PIXELS, MACHINE)[0]
    first = best.blocks * 256 * 16 * 4 * MACHINE.balance
    assert FEW_PIXELS.passes(best) > 1 and cost(FEW_PIXELS, best, MACHINE) == FEW_PIXELS.macs + first


def test_the_last_cache_delivers_what_the_second_cannot_hold() -> None:
    deep = Work(columns=16, rows=1, samples=1, blocks=16, sets=1, depth=4608, lanes=16)
    slow, fast = (replace(MACHINE, balance=1.0, l3_bytes=32 << 20, l3_balance=each) for each in (2.5, 0.5))
    block = RegisterBlock(1, 4, 4)
    assert cost(deep, block, slow) > 1.2 * cost(deep, block, fast)


def test_many_pixels_balance_the_loads() -> None:
    best = register_blocks(WIDE, MACHINE)[0]
    assert best.blocks > 1 and best.rows * best.columns > 1
    assert cost(WIDE, best, MACHINE) == pytest.approx(WIDE.macs, rel=0.02)


def test_weights_that_fill_the_cache_are_not_read_once_for_every_row() -> None:
    """A wide block would evict its own weights between two rows; one block of channels takes two rows at once."""
    strided = Work(columns=8, rows=8, samples=1, blocks=16, sets=2, depth=2304, lanes=16)
    best = register_blocks(strided, MACHINE)[0]
    assert (best.rows * best.columns, best.blocks) == (16, 1)


extents = st.integers(1, 40)
works = st.builds(
    Work, columns=extents, rows=extents, samples=st.integers(1, 3), blocks=extents, sets=extents, depth=extents,
    lanes=st.just(16), shared=st.booleans(), in_rows=st.booleans(),
)  # fmt: skip


@given(works, st.sampled_from([16, 32]), st.sampled_from(["x86_64_v3", "x86_64_v4"]))
def test_every_block_fits_in_the_registers_and_leaves_channels_over_only_where_that_pays(
    work: Work, registers: int, target: str
) -> None:
    machine = replace(named_target(target), registers=registers)
    blocks = register_blocks(work, machine)
    assert blocks
    for block in blocks:
        held = block.blocks if keeps_vectors(work, block, machine) else block.rows * block.columns
        assert block.registers <= registers or (work.shared and block.accumulators + held < registers)
        assert not (work.columns % block.columns or work.rows % block.rows)
        assert work.shared or not work.blocks % block.blocks
    even = [block for block in blocks if not work.blocks % block.blocks]
    assert len(even) == len(blocks) or least_cost(work, machine) < 0.9 * cost(work, even[0], machine)
    costs = [cost(work, block, machine) for block in blocks]
    assert least_cost(work, machine) == min(costs) >= work.macs * 0.99


def test_a_rest_of_the_pixels_is_left_only_where_it_pays() -> None:
    """49 tiles have no factor that suits 16 registers, 64 have."""
    tiles = Work(columns=49, rows=1, samples=1, blocks=16, sets=36, depth=128, lanes=8, rests=True)
    few = named_target("x86_64_v3")
    best = register_blocks(tiles, few)[0]
    assert 49 % best.columns and best.accumulators > 8
    assert cost(tiles, best, few) < cost(tiles, replace(best, columns=7, blocks=1), few)
    assert all(49 % block.columns == 0 for block in register_blocks(tiles, MACHINE))


def test_vectors_of_channels_are_left_over_where_their_number_has_no_factor_that_suits() -> None:
    """25 vectors, as 197 keys fill, in threes and a last one, which takes more columns instead."""
    keys = Work(columns=197, rows=1, samples=1, blocks=25, sets=3, depth=64, lanes=8, rests=True)
    few = named_target("x86_64_v3")
    best = register_blocks(keys, few)[0]
    last = last_block(keys, best, few)
    assert best.blocks > 1 and last.blocks == 25 % best.blocks > 0
    assert last.accumulators > best.columns * last.blocks
    assert cost(keys, best, few) < 0.9 * cost(keys, RegisterBlock(1, 6, 1), few)


def test_columns_that_read_what_their_neighbours_read_leave_room_for_it() -> None:
    """A depthwise 7x7 layer without stride: beside 8 sums 8 vectors of data stay from tap to tap."""
    depthwise = Work(columns=56, rows=56, samples=1, blocks=1, sets=5, depth=49, lanes=8, shared=False)
    few = named_target("x86_64_v3")
    assert register_blocks(depthwise, few)[0].accumulators > 8
    assert all(block.accumulators <= 8 for block in register_blocks(replace(depthwise, held=True), few))


def test_vectors_of_weights_that_several_scalars_use_take_no_registers_of_their_own() -> None:
    """12 sums and 3 scalars in 16 registers; where the scalars outnumber the vectors, LLVM would spill."""
    blocks = register_blocks(TOKENS, named_target("x86_64_v3"))
    assert blocks[0] == RegisterBlock(1, 3, 4)
    assert RegisterBlock(1, 6, 2) not in blocks and RegisterBlock(1, 2, 6) not in blocks


def test_rows_that_are_read_from_end_to_end_may_outnumber_the_vectors() -> None:
    """12 sums, 3 vectors and one scalar at a time: 4 rows divide 128, which 3 do not; nor are 6 better than 3."""
    rows, few = replace(TOKENS, in_rows=True), named_target("x86_64_v3")
    assert register_blocks(replace(rows, columns=128), few)[0] == RegisterBlock(1, 4, 3)
    assert register_blocks(replace(TOKENS, columns=128), few)[0] != RegisterBlock(1, 4, 3)
    assert RegisterBlock(1, 6, 2) in register_blocks(rows, few)
    assert register_blocks(rows, few)[0] == RegisterBlock(1, 3, 4)


@pytest.mark.parametrize(
    ("block", "target", "keeps"),
    [
        (RegisterBlock(1, 4, 3), "x86_64_v3", True),
        (RegisterBlock(1, 3, 4), "x86_64_v3", False),  # fewer scalars than vectors
        (RegisterBlock(1, 4, 2), "x86_64_v3", False),  # room for all scalars of a step
        (RegisterBlock(1, 6, 3), "x86_64_v4", False),  # an operand in memory is broadcast on its way
    ],
)
def test_a_step_goes_from_scalar_to_scalar_only_where_all_of_them_would_not_fit(
    block: RegisterBlock, target: str, keeps: bool
) -> None:
    assert keeps_vectors(replace(TOKENS, in_rows=True), block, named_target(target)) is keeps
    assert not keeps_vectors(TOKENS, block, named_target(target))
