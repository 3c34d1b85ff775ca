"""Choices that nests carry: they are followed, survive printing, and are part of the schedule that is replayed."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_mlir import ir

import loopmorph as lm
from loopmorph.passes.lowering.to_llvm import layout_passes
from loopmorph.passes.marks import recorded_steps
from loopmorph.passes.scheduling.default_schedule import DefaultSchedule
from loopmorph.passes.target.detect import native_target
from loopmorph.pipelines.network import copy_module

LANES = native_target().lanes


@pytest.fixture(scope="module")
def program() -> lm.Program:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(LANES, 2 * LANES, 3, padding=1), nn.ReLU(), nn.Conv2d(2 * LANES, LANES, 1))
    return lm.import_model(model.eval(), (torch.randn(1, LANES, 6, 6),))


def scheduled(module: ir.Module) -> list[str]:
    """The steps that the default schedule takes."""
    module = copy_module(module)
    target = native_target()
    for step in (*layout_passes(target), DefaultSchedule(target=str(target))):
        step.run(module.operation)
    return recorded_steps(module.operation)


def choices(steps: list[str]) -> dict[str, str]:
    """Layer -> algorithm and block of the last choice of it."""
    texts = [step.removeprefix("morph-choose{layer=").removesuffix("}") for step in steps if "morph-choose" in step]
    return dict(text.split(" ", 1) for text in texts)


def test_the_model_decides_what_is_not_chosen(program: lm.Program) -> None:
    assert set(choices(scheduled(program.module))) == {"0", "2"}


@pytest.mark.parametrize(("algorithm", "block"), [("direct", "1x3x2"), ("winograd2", "1x3x1"), ("winograd4", "1x1x2")])
def test_a_choice_is_followed(program: lm.Program, algorithm: str, block: str) -> None:
    chosen = program.apply(f"morph-choose{{layer=0 algorithm={algorithm} block={block}}}")
    steps = scheduled(chosen.module)
    assert choices(steps)["0"] == f"algorithm={algorithm} block={block}"
    tiles = [step for step in steps if step.startswith("morph-winograd{layer=0")]
    assert len(tiles) == (0 if algorithm == "direct" else 1)
    x = program.example_inputs[0]
    torch.testing.assert_close(lm.compile(chosen)(x), program.model(x).detach(), rtol=1e-4, atol=1e-4)


def test_half_a_choice_leaves_the_rest_to_the_model(program: lm.Program) -> None:
    by_model = choices(scheduled(program.apply("morph-choose{layer=0 algorithm=direct}").module))["0"]
    assert by_model.startswith("algorithm=direct block=")


def test_a_choice_survives_printing_and_can_be_written_by_hand(program: lm.Program) -> None:
    text = str(program.module).replace(
        'morph.layer = "2", morph.node = "convolution_1", morph.role = "main"',
        'morph.block = "1x2x1", morph.layer = "2", morph.node = "convolution_1", morph.role = "main"',
    )
    with ir.Context() as context, ir.Location.unknown():
        context.allow_unregistered_dialects = True
        assert choices(scheduled(ir.Module.parse(text)))["2"] == "algorithm=direct block=1x2x1"


def test_a_choice_that_cannot_be_followed_is_refused(program: lm.Program) -> None:
    with pytest.raises(lm.IllegalTransform, match=r"layer '2': .* 1x5x1 does not fit; these do: .*1x2x1"):
        lm.compile(program, schedule="morph-choose{layer=2 block=1x5x1}")
    with pytest.raises(lm.IllegalTransform, match=r"layer '2': the algorithm 'winograd2' .* 1x1; .*'direct' is acc"):
        lm.compile(program, schedule="morph-choose{layer=2 algorithm=winograd2}")
    with pytest.raises(lm.ArgumentError, match="'algorithm': expected one of direct, winograd2, winograd4, got 'fft'"):
        program.apply("morph-choose{layer=2 algorithm=fft}")


def test_a_layer_scheduled_by_hand_does_not_heed_choices(program: lm.Program) -> None:
    steps = scheduled(program.apply("morph-choose{layer=2 block=1x5x1},morph-split{layer=2 iter=ow factor=2}").module)
    assert not any("layer=2" in step for step in steps[2:])


def test_the_schedule_of_an_executable_gives_the_same_code_again(program: lm.Program) -> None:
    x = program.example_inputs[0]
    first = lm.compile(program, schedule="morph-group{layer=2 iters=co,ci factor=2},morph-choose{layer=0 block=1x3x1}")
    assert first.schedule.count("morph.choose") >= 2 and first.schedule.count("morph.group") == 1
    again = lm.compile(program, schedule=first.schedule)
    assert again.schedule == first.schedule
    assert torch.equal(again(x), first(x))
