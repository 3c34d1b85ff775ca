"""What variants change of a network, and how long they take: footprints, structures, clock and timer."""

from __future__ import annotations

import json

import pytest
import torch
from search_fakes import FakeChecker, judge
from torch import nn

from loopmorph.passes.errors import CompilationFailed
from loopmorph.passes.history import parse_steps
from loopmorph.pipelines.legality.size import Params
from loopmorph.pipelines.program import Program, import_model
from loopmorph.pipelines.search.judge import LayerTime
from loopmorph.pipelines.search.variants.footprint import footprints
from loopmorph.pipelines.search.variants.kinds import Proposal
from loopmorph.pipelines.search.variants.time_job import Timed
from loopmorph.pipelines.search.variants.timing import LayerClock, OriginalTime, Timer
from loopmorph.pipelines.search.variants.together import Structure, apply_together

GROUP = "morph-group{layer=block1.conv1 iters=co,ci factor=2}"
SPATIAL = "morph-bottleneck{layer=block2.conv2 iter=oh factor=2}"
WIDTH = "morph-bottleneck{layer=conv1 iter=co factor=2}"


@pytest.fixture(scope="module")
def program(trained: Program) -> Program:
    return trained


def proposal(text: str, *reach: str) -> Proposal:
    return Proposal("any", parse_steps(text), frozenset(reach), unit=reach[0] if reach else "")


# --- what a layer takes, and what a variant changes


def test_footprints_add_up_to_the_network(program: Program) -> None:
    layers = footprints(program)
    assert sum(each.macs for each in layers.values()) == program.macs
    assert sum(each.parameters for each in layers.values()) == Params().score(program).value
    assert layers["conv1"].parameters == 3 * 8 * 9 and layers["bn1"].parameters == 16
    assert layers["bn1"].memory == 4 * (8 * 64 + 2 * 8)  # its map, and the scale and shift that it prepares
    assert sum(each.memory for each in layers.values()) > 4 * 8 * 64


def test_layers_that_differ_in_names_alone_have_one_text(program: Program) -> None:
    layers = footprints(program)
    assert layers["block1.conv1"].text == layers["block1.conv2"].text != layers["block2.conv1"].text
    bounds = nn.Sequential(nn.Hardtanh(0, 1), nn.Hardtanh(0, 1), nn.Hardtanh(0, 2))
    first, second, wider = footprints(import_model(bounds.eval(), (torch.zeros(1, 4),))).values()
    assert first.text == second.text != wider.text


def test_variants_that_do_not_meet_are_told_apart(program: Program) -> None:
    before = footprints(program)
    refused = proposal("morph-bottleneck{layer=linear iter=co factor=2}", "linear")
    group, spatial = proposal(GROUP, "block1.conv1"), proposal(SPATIAL, "block2.conv2")
    together = apply_together(program, before, [group, refused, spatial])
    assert together is not None and set(together.network.steps) == {GROUP, SPATIAL}
    first, none, second = together.structures
    assert "tied to the network's output" in none.refused and none.layers == ()
    for single, found in ((group, first), (spatial, second)):
        alone = apply_together(program, before, [single])
        assert alone is not None and alone.structures == (found,)
    assert first.layers == ("block1.conv1",) and first.macs == {"block1.conv1": (36864, 18432)}
    assert first.change.macs == -18432 and first.change.parameters == -288 and first.change.memory == 0
    assert second.layers == ("block2.conv2",) and second.change.memory == 4 * 16 * 2 * 4  # the coarse grid is one more


def test_variants_that_reach_further_than_expected_are_not_taken_for_each_other(program: Program) -> None:
    width = proposal(WIDTH, "conv1")
    assert apply_together(program, footprints(program), [width, proposal(SPATIAL, "block2.conv2")]) is None
    alone = apply_together(program, footprints(program), [width])
    assert alone is not None
    after = program.apply(WIDTH)
    (structure,) = alone.structures
    assert {"conv1", "bn1", "block1.conv1", "block1.conv2", "block2.conv1", "block2.shortcut.0"} < set(structure.layers)
    assert structure.change.macs == after.macs - program.macs
    assert structure.change.parameters == Params().score(after).value - Params().score(program).value


def test_structures_survive_json() -> None:
    structure = Structure(("a",), {"a": (4, 2)}, refused="no")
    assert Structure.from_json(json.loads(json.dumps(structure.as_json()))) == structure


# --- times


def timed(**ratios: float) -> Timed:
    return Timed(tuple(LayerTime(name, 2.0, 2.0 * ratio, 1000, 500) for name, ratio in ratios.items()))


def test_a_variant_changes_time_by_the_ratio_of_its_pair_on_what_the_layer_usually_takes() -> None:
    clock = LayerClock({"a": "same", "b": "same", "c": "other"}, roof=1.0)
    for milliseconds in (1.0, 3.0, 5.0):
        clock.learn(Timed((LayerTime("a", milliseconds, 1.0, 1, 1),)))
    assert clock.original("b") == 3.0 and clock.original("c") is None
    assert clock.change(timed(a=0.5, c=0.25)) == pytest.approx(-1.5 - 1.5)  # c was never timed but here
    gone = Timed((LayerTime("b", 4.0, 0.0, 10, 0),))
    assert clock.change(gone) == -3.0
    clock.learn(gone)
    assert clock.original("a") == 3.5


def test_a_layer_takes_what_it_takes_within_the_network() -> None:
    clock = LayerClock({"a": "same", "b": "same", "c": "c"}, roof=1000.0)
    original = OriginalTime(8.0, {"a": 0.5, "b": 0.25})
    clock.know(OriginalTime.from_json(json.loads(json.dumps(original.as_json()))))
    clock.learn(Timed((LayerTime("a", 1.0, 1.0, 1, 1), LayerTime("c", 3.0, 3.0, 1, 1))))
    assert [clock.original(name) for name in "abc"] == [4.0, 2.0, 3.0]
    assert clock.change(timed(a=0.5, b=0.25)) == -2.0 - 1.5
    assert clock.cannot_win(Structure(("a",), {"a": (5000, 4000)}))


def test_what_cannot_win_even_at_the_roof_is_known() -> None:
    clock = LayerClock({"a": "a", "b": "b"}, roof=100.0)
    half = Structure(("a",), {"a": (1000, 500)})
    assert not clock.cannot_win(half)  # how long `a` takes is not known yet
    clock.learn(Timed((LayerTime("a", 4.0, 4.0, 100, 100),)))
    assert clock.cannot_win(half)  # 5 ms at the roof, and 4 as it is
    assert not clock.cannot_win(Structure(("a",), {"a": (1000, 300)}))
    assert not clock.cannot_win(Structure(("a", "b"), {"a": (1000, 500), "b": (1000, 500)}))
    clock.learn(Timed((LayerTime("b", 1.0, 1.0, 1000, 1000),)))  # Winograd: faster than the roof
    assert clock.roof == 1000.0 and not clock.cannot_win(half)


def test_only_what_takes_less_time_is_worth_it() -> None:
    assert timed(a=0.5, b=1.2).is_worth
    assert not timed(a=0.99).is_worth and not Timed(refused="no").is_worth
    assert Timed.from_json(json.loads(json.dumps(timed(a=0.5).as_json()))) == timed(a=0.5)


@pytest.mark.parametrize("background", [False, True])
def test_what_cannot_be_compiled_costs_one_variant_and_is_tried_again_another_time(
    program: Program, background: bool
) -> None:
    kept: list[Timed] = []
    failing = judge(program, checker=FakeChecker({"block1.conv1": CompilationFailed("worker was killed by SIGSEGV")}))
    clock = LayerClock({name: name for name in footprints(program)}, roof=1.0)
    structure = Structure(("any",), {"block1.conv1": (2, 1)})
    with Timer(lambda: failing, clock, background) as timer:
        broken = timer.variant(proposal(GROUP), structure, kept.append).result()
        other = timer.variant(proposal(SPATIAL), structure, kept.append).result()
        refused = timer.variant(proposal(WIDTH.replace("conv1", "linear")), structure, kept.append).result()
        whole = timer.original(lambda _: None).result()
        assert whole.milliseconds == 1000.0 and sum(whole.layers.values()) == pytest.approx(1.0) and timer.is_idle
    assert clock.original("block1.conv2") == pytest.approx(1000.0 * whole.layers["block1.conv2"])
    assert broken.refused == "worker was killed by SIGSEGV" and not broken.final
    assert [each.name for each in other.layers] == ["block2.conv2"]
    assert "tied to the network's output" in refused.refused and kept == [other, refused]
