"""The typed history: what is recorded, whose schedule a layer has, and steps of plug-ins that are missing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import loopmorph as lm
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.history import Foreign, history, layer_of, parse_steps, record, scheduled_by_hand, steps_on
from loopmorph.passes.loop.interchange import Interchange
from loopmorph.passes.loop.pack import Pack
from loopmorph.passes.marks import recorded_steps
from loopmorph.passes.neural.bottleneck import Bottleneck
from loopmorph.passes.target.detect import native_target
from loopmorph.pipelines.measure.worker import Worker
from loopmorph.pipelines.network import copy_module
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.tuning.tune import tune

SPLIT = "morph-split{layer=conv2 iter=ow factor=2}"
GROUP = "morph-group{layer=conv2 iters=co,ci factor=2}"
CHOICE = "morph-choose{layer=conv2 algorithm=direct}"


def test_recorded_steps_are_transformations_again(plain: Program) -> None:
    program = plain.apply(f"{GROUP},morph-bottleneck{{layer=conv1 iter=kh factor=3}}")
    group, bottleneck = program.history
    assert bottleneck == Bottleneck("conv1", "kh", 3) and str(group) == GROUP
    assert program.steps == tuple(map(str, program.history))
    assert steps_on(program.history, "conv1") == (bottleneck,)
    assert str(plain.after(program.history)) == str(program)


@pytest.mark.parametrize(
    ("steps", "by_hand"),
    [
        ((), False),
        ((SPLIT,), True),
        ((GROUP,), False),
        ((SPLIT, GROUP), False),  # it brought an iterator forward for the group
        ((GROUP, SPLIT), True),
        ((CHOICE,), False),
        (("morph-partition{layer=conv2 iter=co parts=2}",), False),
        (("morph-interchange{layer=conv2#init order=co,n,oh,ow}",), True),
    ],
)
def test_one_answer_to_whose_schedule_a_layer_has(plain: Program, steps: tuple[str, ...], by_hand: bool) -> None:
    module = copy_module(plain.module)
    for text in steps:
        record(module.operation, *parse_steps(text))
    assert scheduled_by_hand(module.operation) == ({"conv2"} if by_hand else set())


def test_a_layer_split_before_a_neural_step_is_tuned_like_any_other() -> None:
    lanes = native_target().lanes
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2 * lanes, 2 * lanes, 1, bias=False), nn.Conv2d(2 * lanes, 1, 1)).eval()
    program = lm.import_model(model, (torch.randn(1, 2 * lanes, 1, 4),))
    program = program.apply("morph-split{layer=0 iter=ow factor=2},morph-bottleneck{layer=0 iter=ci factor=2}")
    with Worker() as worker:
        chosen = tune(program, 600.0, worker).history[2:]
    assert [layer_of(step) for step in chosen] == ["0"]


def test_a_step_is_the_same_on_another_layer() -> None:
    assert Interchange("a#mix.0", ("x", "y")).on("b.c") == Interchange("b.c#mix.0", ("x", "y"))


def test_how_far_a_step_reaches() -> None:
    assert Pack("a", "weight", (1,), (16,)).scope == "nest"
    assert Pack("a", "output", (1,), (16,)).scope == "network"
    assert Bottleneck("a", "co", 2).scope == "network"
    assert parse_steps("morph-fuse-epilogue{layer=a}")[0].scope == "neighbours"


def test_a_step_of_a_missing_plug_in_stays_what_it_was(plain: Program) -> None:
    module = copy_module(plain.module)
    record(module.operation, Foreign("their-pass{layer='conv 2' odd}", "conv 2"))
    (step,) = history(module.operation)
    assert step == Foreign("their-pass{layer='conv 2' odd}", "conv 2")
    assert recorded_steps(module.operation) == [str(step)]
    with pytest.raises(IllegalTransform, match=r"their-pass.*: the plug-in that it comes from is not installed"):
        step.apply(module.operation)


def test_what_is_no_transformation_is_refused() -> None:
    with pytest.raises(ArgumentError, match="'canonicalize' is not a transformation"):
        parse_steps("canonicalize")
