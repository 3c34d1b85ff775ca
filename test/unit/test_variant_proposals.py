"""Which variants are proposed: on which blocks and layers, of which kinds, and what is left out."""

from __future__ import annotations

import pytest
import torch
from networks import image, randomized
from torch import nn
from torch.nn import functional
from transformed import imported, network

from loopmorph.dialects.morph import load, schedule_steps
from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.history import parse_steps
from loopmorph.passes.target.target import parse_target
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.schedules import load_schedule
from loopmorph.pipelines.search.variants.ground import Ground
from loopmorph.pipelines.search.variants.kinds import Proposal, fills
from loopmorph.pipelines.search.variants.proposals import propose

TARGET = parse_target("x86_64_v3")  # vectors of 8
MANY = 1000
UPSTREAM = """
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%module: !transform.any_op {transform.consumed}) {
    transform.apply_cse to %module : !transform.any_op
    transform.yield
  }
}
"""


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.b(functional.relu(self.a(x))) + x)


class Stage(nn.Module):
    """Two blocks that compute the same, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two, self.linear = nn.Conv2d(3, 16, 1), _Block(16), _Block(16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.two(self.one(self.stem(x))).mean((2, 3)))


@pytest.fixture(scope="module")
def stage() -> Program:
    return imported(Stage())


@pytest.fixture(scope="module")
def every(stage: Program) -> tuple[Proposal, ...]:
    return propose(Ground(stage, TARGET), MANY)


def texts(proposals: tuple[Proposal, ...], unit: str | None = None) -> dict[str, str]:
    return {each.text: each.kind for each in proposals if unit in (None, each.unit)}


def test_units_are_blocks_and_the_layers_outside_of_them(stage: Program) -> None:
    units = {unit.path: unit for unit in Ground(stage, TARGET).units}
    assert {path: unit.contractions for path, unit in units.items()} == {
        "stem": ("stem",),
        "one": ("one.a", "one.b"),
        "two": ("two.a", "two.b"),
        "linear": ("linear",),
    }
    assert units["one"].signature == units["two"].signature != units["stem"].signature
    assert units["one"].layers.keys() > {"one.a", "one.b"} and not any("two" in name for name in units["one"].layers)


def test_a_dense_block_is_a_unit(dense: Program) -> None:
    units = [unit.path for unit in Ground(dense, TARGET).units]
    assert units == ["conv1", "layer1", "layer2", "linear"]


def test_ties_lie_within_a_block_or_run_through_skips_and_concatenations(stage: Program, dense: Program) -> None:
    one, width, two = sorted(Ground(stage, TARGET).ties, key=lambda each: (each.writer[0] != "one.a", each.writer))
    assert one.writer == ("one.a", "co") and one.extent == 16 and set(one.layers) >= {"one.a", "one.b"}
    assert width.writer == ("stem", "co") and set(width.layers) >= {
        "stem",
        "one.a",
        "one.b",
        "two.a",
        "two.b",
        "linear",
    }
    assert two.writer == ("two.a", "co") and not {"one.b", "linear"} & set(two.layers)
    (concatenated,) = [each for each in Ground(dense, TARGET).ties if each.writer[0] == "conv1"]
    assert {"conv1", "layer1.conv1", "layer1.conv2", "layer2.conv1", "layer2.conv2"} <= set(concatenated.layers)


def test_every_kind_is_there(every: tuple[Proposal, ...]) -> None:
    block = texts(every, "one")
    expected = {
        "morph-group{layer=one.a iters=co,ci factor=4}": "group",
        "morph-depthwise{layer=one.b}": "depthwise",
        "morph-drop-block{layer=one.b}": "drop-block",
        "morph-bottleneck{layer=one.a iter=co factor=8}": "bottleneck",
        "morph-bottleneck{layer=one.a iter=ci factor=2}": "input-bottleneck",
        "morph-bottleneck{layer=one.a iter=co factor=2},morph-group{layer=one.a iters=co,ci factor=4},"
        "morph-group{layer=one.b iters=co,ci factor=4}": "bottleneck-group",
        "morph-group{layer=one.a iters=co,ci factor=8},morph-group{layer=one.b iters=co,ci factor=8}": "group-all",
        "morph-mix{layer=one.a iter=co},morph-bottleneck{layer=one.a iter=co factor=4}": "low-rank",
        "morph-mix{layer=one.b iter=ci},morph-bottleneck{layer=one.b#mix-in iter=co factor=4}": "low-rank",
        "morph-bottleneck{layer=one.a iter=ci factor=2},morph-group{layer=one.a iters=co,ci factor=2}": "two-steps",
        "morph-bottleneck{layer=one.b iter=oh factor=2},morph-bottleneck{layer=one.b iter=ow factor=2}": (
            "spatial-bottleneck"
        ),
        "morph-mix{layer=one.b iter=co},morph-depthwise{layer=one.b}": "separable",
    }
    assert {text: block.get(text) for text in expected} == expected
    assert {"seq1", "seq1-4", "bottleneck-block", "bottleneck-grouped", "grouped-pointwise"} <= set(block.values())
    narrower = "morph-bottleneck{layer=stem iter=co factor=2}"
    inside = [f"morph-bottleneck{{layer={block}.a iter=co factor=2}}" for block in ("one", "two")]
    assert texts(every, "") == {narrower: "width", ",".join([narrower, *inside]): "width-bottleneck"}


class _Bottleneck(nn.Module):
    def __init__(self, groups: int) -> None:
        super().__init__()
        self.a, self.c = nn.Conv2d(32, 16, 1), nn.Conv2d(16, 32, 1)
        self.b = nn.Conv2d(16, 16, 3, padding=1, groups=groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.c(functional.relu(self.b(functional.relu(self.a(x))))) + x)


@pytest.mark.parametrize("groups", [1, 2])
def test_all_insides_of_a_block_are_narrowed_at_once(groups: int) -> None:
    original = imported(nn.Sequential(nn.Conv2d(3, 32, 1), _Bottleneck(groups)))
    ground = Ground(original, TARGET)
    (unit,) = [each for each in ground.units if each.path == "1"]
    inner = 16 // groups
    assert [(ties.writer, ties.extent) for ties in unit.ties] == [(("1.a", "co"), 16), (("1.b", "co"), inner)]
    assert all({"1.a", "1.b", "1.c"} & set(ties.layers) >= {"1.b"} for ties in unit.ties)
    block = texts(propose(ground, MANY), "1")
    a, b = (f"morph-bottleneck{{layer=1.{layer} iter=co factor=%d}}" for layer in "ab")
    for first, second in ((2, 2), (2, 4), (4, 2), (4, 4)):
        assert block[f"{a % first},{b % second}"] == "bottleneck-all"
    assert f"{a % 2},{b % 8}" not in block
    (steps,) = [each.steps for each in propose(ground, MANY) if each.text == f"{a % 2},{b % 2}"]
    narrower = original.after(steps)
    assert narrower.macs < original.macs / 2
    assert any(text.startswith(f"{a % 2},{b % 2},morph-group") for text in block)


def test_each_branch_of_a_block_may_go(residual: Program) -> None:
    found = [each for each in propose(Ground(residual, TARGET), MANY) if each.kind == "drop-block"]
    assert {each.text: each.unit for each in found} == {
        "morph-drop-block{layer=block1.conv2}": "block1",
        "morph-drop-block{layer=block2.conv2}": "block2",
        "morph-drop-block{layer=block2.shortcut.0}": "block2",
    }
    for each in found:
        assert each.reach == {layer for layer in residual.nests_by_layer if layer.startswith(each.unit)}
        residual.after(each.steps)


def test_what_a_layer_does_not_admit_or_what_saves_no_work_is_left_out(every: tuple[Proposal, ...]) -> None:
    kinds = set(texts(every).values())
    assert "seq2" not in kinds  # it leaves 16 outputs and inputs, which is all
    assert "seq3" not in kinds  # it multiplies as often
    assert "separable-widening" not in kinds  # of layers with as many outputs as inputs
    assert not any(each.reach == frozenset(["linear"]) and "oh" in each.text for each in every)


def test_equal_blocks_have_equal_patterns(every: tuple[Proposal, ...]) -> None:
    one, two = ({each.text: each.pattern for each in every if each.unit == unit} for unit in ("one", "two"))
    assert {text.replace("one.", "two."): pattern for text, pattern in one.items()} == two
    assert len(set(one.values())) == len(one)


def test_a_limit_takes_from_all_kinds_in_turn_and_first_what_fills_vectors(stage: Program) -> None:
    few = propose(Ground(stage, TARGET), 14)
    assert few == propose(Ground(stage, TARGET), 14)
    assert [each.rank for each in few] == sorted(each.rank for each in few)
    block = [each for each in few if each.unit == "one"]
    assert len(block) == 14
    assert {each.kind for each in block} >= {"bottleneck", "group", "depthwise", "bottleneck-group", "low-rank"}
    assert [fills(each, Ground(stage, TARGET)) for each in block[:1]] == [True]


def test_vectors_come_first(stage: Program) -> None:
    wide = Ground(stage, parse_target("x86_64_v4"))  # vectors of 16: whole parts of one will do, too
    step = parse_steps("morph-bottleneck{layer=one.a iter=co factor=2}")
    assert fills(Proposal("bottleneck", step, frozenset()), wide)
    odd = Ground(imported(randomized(nn.Conv2d(3, 12, 1))), TARGET)
    step = parse_steps("morph-bottleneck{layer=layer iter=co factor=2}")
    assert fills(Proposal("bottleneck", step, frozenset()), odd)  # of a layer that is not there nothing is known


def test_a_network_of_layers_alone_has_widths(plain: Program) -> None:
    found = propose(Ground(plain, TARGET), MANY)
    widths = {each.text for each in found if each.kind == "width"}
    assert widths == {f"morph-bottleneck{{layer={layer} iter=co factor=2}}" for layer in ("conv1", "conv2", "hidden")}


def test_the_steps_of_a_schedule(stage: Program) -> None:
    context = stage.module.context
    steps = schedule_steps(load_schedule("seq1", layer="one.a"), context)
    assert stage.apply(load_schedule("seq1", layer="one.a")).history == steps
    load(context)
    with pytest.raises(ArgumentError, match=r"'transform\.apply_cse' is none of loopmorph's transformations"):
        schedule_steps(UPSTREAM, context)


def test_steps_say_what_they_shrink() -> None:
    text = "morph-bottleneck{layer=a iter=co factor=2},morph-narrow{layer=a iter=ci begin=1},morph-depthwise{layer=a}"
    assert [step.shrinks for step in parse_steps(text)] == ["co", "ci", None]


def test_images_of_another_size_do_not_matter() -> None:
    larger = propose(Ground(imported(Stage(), image(size=16)), TARGET), 5)
    assert [each.kind for each in larger] == [each.kind for each in propose(Ground(network(Stage), TARGET), 5)]
