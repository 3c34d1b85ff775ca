"""The compiler's own schedules: what they do, that they are recorded, and that they can be replayed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch_mlir import ir

import loopmorph as lm
from loopmorph.passes.address import find_nest, layer_nests
from loopmorph.passes.affine_expr import evaluate
from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.layout.blocked_layout import BlockedLayout
from loopmorph.passes.layout.forward_copies import ForwardCopies
from loopmorph.passes.layout.local_borders import LocalBorders
from loopmorph.passes.loop.parallelize import parallel_loop
from loopmorph.passes.lowering.to_llvm import layout_passes
from loopmorph.passes.marks import SCHEDULE, recorded_steps
from loopmorph.passes.nest import Access, Nest
from loopmorph.passes.pipeline import run_pipeline
from loopmorph.passes.scheduling.default_schedule import DefaultSchedule
from loopmorph.passes.spmd.mark import ParallelizeAll
from loopmorph.passes.target.target import GENERIC, named_target
from loopmorph.pipelines.network import copy_module
from loopmorph.pipelines.program import Program

WIDTH = 16


def blocked(model: nn.Module, shape: tuple[int, ...], steps: str = "") -> ir.Module:
    """A program in the blocked layout, as the default schedule meets it."""
    torch.manual_seed(0)
    program: Program = lm.import_model(model.eval(), (torch.randn(shape),))
    module = copy_module((program.apply(steps) if steps else program).module)
    for step in (ForwardCopies(), LocalBorders(), BlockedLayout(WIDTH)):
        step.run(module.operation)
    return module


def scheduled(module: ir.Module, algorithm: str = "auto") -> ir.Module:
    result = copy_module(module)
    DefaultSchedule(algorithm=algorithm).run(result.operation)
    assert result.operation.verify()
    return result


def stepped(module: ir.Module) -> list[str]:
    """Names of the recorded transformations, in order."""
    return [step.partition("{")[0] for step in recorded_steps(module.operation)]


CONVOLUTION = nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 16, 1))


def test_a_convolution_accumulates_in_vector_registers() -> None:
    module = scheduled(blocked(CONVOLUTION, (1, 16, 8, 8)))
    nest = find_nest(module.operation, "0")
    assert nest.is_vectorised
    assert any(len(loop.op.operation.results) for loop in nest.loops)
    assert {"morph-interchange", "morph-unroll-jam", "morph-vectorize", "morph-promote"} <= set(stepped(module))
    assert layer_nests(module.operation, "1") == []  # the ReLU is part of the convolution's nest


def test_the_recorded_steps_replay_to_the_same_program() -> None:
    before = blocked(CONVOLUTION, (1, 16, 8, 8))
    once, again = scheduled(before), copy_module(before)
    run_pipeline(again.operation, ",".join(recorded_steps(once.operation)))
    for module in (once, again):
        del module.operation.attributes[SCHEDULE]
    assert str(again) == str(once)


def test_winograd_is_chosen_where_it_pays_and_can_be_declined() -> None:
    module = blocked(nn.Conv2d(32, 32, 3, padding=1), (1, 32, 16, 16))
    assert "morph-winograd" in stepped(scheduled(module))
    assert "morph-winograd" not in stepped(scheduled(module, "direct"))
    with pytest.raises(ArgumentError, match="argument 'algorithm': expected one of auto, direct, got 'fft'"):
        DefaultSchedule(algorithm="fft")


def test_one_tile_of_many_channels_stays_direct() -> None:
    module = blocked(nn.Conv2d(256, 256, 3, padding=1), (1, 256, 4, 4))
    assert "morph-winograd" not in stepped(scheduled(module))


@pytest.mark.parametrize(
    ("model", "shape", "layer"),
    [
        (nn.Sequential(nn.Conv2d(3, 16, 1), nn.MaxPool2d(3, 2, 1)), (1, 3, 8, 8), "1"),
        (nn.Sequential(nn.Conv2d(3, 16, 1), nn.AdaptiveAvgPool2d(1)), (1, 3, 8, 8), "1"),
        (nn.Linear(64, 10), (2, 64), "linear"),
    ],
)
def test_pooling_and_linear_layers_work_in_vectors(model: nn.Module, shape: tuple[int, ...], layer: str) -> None:
    module = scheduled(blocked(nn.Sequential(model) if isinstance(model, nn.Linear) else model, shape))
    name = "0" if isinstance(model, nn.Linear) else layer
    assert find_nest(module.operation, name).is_vectorised


def test_a_layer_scheduled_by_hand_is_left_alone() -> None:
    module = scheduled(blocked(CONVOLUTION, (1, 16, 8, 8), "morph-interchange{layer=0 order=ow,oh}"))
    assert stepped(module)[0] == "morph-interchange"
    assert not any("layer=0 " in step for step in recorded_steps(module.operation)[1:])
    assert not find_nest(module.operation, "0").is_vectorised


def test_what_no_nest_takes_in_is_vectorised_along_its_channels() -> None:
    """BatchNorm and ReLU before a convolution have no convolution to be the epilogue of."""
    model = nn.Sequential(nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 16, 1))
    module = scheduled(blocked(model, (1, 32, 8, 8)))
    assert find_nest(module.operation, "1").is_vectorised


def test_weights_that_every_row_reads_again_are_asked_for_ahead() -> None:
    assert "morph-prefetch" in stepped(scheduled(blocked(nn.Conv2d(512, 64, 1), (1, 512, 8, 8))))


@pytest.mark.parametrize(
    ("layers", "choice"),
    [
        ([nn.Conv2d(32, 32, 3)], "algorithm=direct block=1x8x2"),
        ([nn.Conv2d(16, 32, 3)], "algorithm=direct block=1x8x2"),
        ([nn.Conv2d(32, 32, 3), nn.BatchNorm2d(32)], "algorithm=direct block=1x8x2"),
        ([nn.Conv2d(32, 64, 3), nn.BatchNorm2d(64)], "algorithm=winograd2 block=1x4x4"),
    ],
    ids=["as-imported", "one-block-of-inputs", "scaled", "transformed"],
)
def test_weights_lie_in_the_order_in_which_they_are_read(layers: list[nn.Module], choice: str) -> None:
    """Whatever nests prepare them: so one stream goes from memory to the core."""
    program = lm.import_model(nn.Sequential(*layers).eval(), (torch.randn(1, layers[0].in_channels, 10, 10),))
    module = copy_module(program.apply(f"morph-choose{{layer=0 {choice}}}").module)
    for step in layout_passes(named_target(GENERIC)):
        step.run(module.operation)
    after = scheduled(module)  # the nest does not keep it alive
    nest = find_nest(after.operation, "0")
    deepest = max(load.loops[-1] for load in nest.loads)
    streamed = [load for load in nest.loads if load.lanes > 1 and load.loops[-1] == deepest]
    order = np.concatenate([np.unique(places) for places in zip(*(places_of(nest, w) for w in streamed), strict=True)])
    assert (np.diff(order) == WIDTH).all()


def places_of(nest: Nest, access: Access) -> np.ndarray:
    """Where in its memref an access goes in each iteration of the reductions, those of the first output block."""
    reductions = [loop for loop in nest.loops if len(loop.op.operation.results)]
    at = np.indices([loop.extent or 1 for loop in reductions]).reshape(len(reductions), -1)
    values = [np.zeros(1, np.int64) for _ in nest.loops]
    for loop, each in zip(reductions, at, strict=True):
        values[loop.position] = each
    index = [np.broadcast_to(evaluate(e, values), at.shape[1]) for e in access.exprs]
    return np.ravel_multi_index(index, ir.MemRefType(access.memref.type).shape)


@pytest.mark.parametrize(
    ("size", "steps"),
    [(4, {"morph-skip-zeros"}), (8, {"morph-skip-zeros", "morph-trim"}), (16, {"morph-trim"})],
)
def test_products_with_padding_are_left_out(size: int, steps: set[str]) -> None:
    """Whole images show which rows and columns to skip, whole rows which columns; the other rows are trimmed."""
    model = nn.Sequential(nn.Conv2d(16, 32, 1), nn.Conv2d(32, 32, 3, padding=1))
    module = scheduled(blocked(model, (1, 16, size, size)), "direct")
    assert {"morph-skip-zeros", "morph-trim"} & set(stepped(module)) == steps


@pytest.mark.parametrize(
    ("channels", "size", "shared"),
    [
        pytest.param(368, 7, "co.0.0", id="46 vectors: in pairs of 23"),
        pytest.param(152, 7, "co.0", id="19: each by itself"),
        pytest.param(152, 14, "oh.0", id="19, but rows that threads can share"),
        pytest.param(96, 14, "oh.0", id="12: three blocks of 4 for two threads"),
        pytest.param(256, 14, "co.0.0", id="32: whole blocks"),
        pytest.param(728, 7, "co.0.0", id="91: 13 times 7"),
        pytest.param(8, 14, "oh", id="a single one: rows as they are"),
    ],
)
def test_threads_share_a_loop_as_evenly_as_the_register_block_allows(channels: int, size: int, shared: str) -> None:
    assert shared_loop(channels, size) == shared


def test_threads_share_a_loop_where_a_block_that_is_asked_for_leaves_vectors_over() -> None:
    """Of 46 vectors each of two threads takes 23, in blocks of 4 and one of 3."""
    assert shared_loop(368, 7, "1x2x4") == "co.0.0"


def shared_loop(channels: int, size: int, block: str | None = None) -> str | None:
    """The loop of a 1x1 convolution with so many channels that two threads share."""
    torch.manual_seed(0)
    program = lm.import_model(nn.Sequential(nn.Conv2d(64, channels, 1)).eval(), (torch.randn(1, 64, size, size),))
    module = copy_module(program.module)
    if block is not None:
        run_pipeline(module.operation, f"morph-choose{{layer=0 algorithm=direct block={block}}}")
    for step in layout_passes(named_target("x86_64_v3")):
        step.run(module.operation)
    DefaultSchedule(target="x86_64_v3", threads=2).run(module.operation)
    ParallelizeAll(threads=2).run(module.operation)
    loop = parallel_loop(find_nest(module.operation, "0"))
    return None if loop is None else loop.iterator
