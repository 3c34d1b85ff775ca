"""Channel orders of whole networks: what was planted is found, the function stays, what cannot be ordered too."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from networks import Residual, image, randomized
from torch import nn

import loopmorph as lm
from loopmorph.dialects.morph import schedule_text
from loopmorph.pipelines.oracle.inherit import inherit
from loopmorph.pipelines.oracle.inherited_error import inherited_error
from loopmorph.pipelines.oracle.ordered import with_channel_orders
from loopmorph.pipelines.program import Program

GROUPS = 2
STEP = "morph-group{{layer={} iters=co,ci factor=2}}"


class Shuffled(nn.Module):
    """Three convolutions; the one in the middle is made of groups whose channels do not lie side by side."""

    def __init__(self, channels: int = 8, kernel: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels, kernel, padding=kernel // 2)
        self.middle = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.last = nn.Conv2d(channels, 4, kernel, padding=kernel // 2)
        generator = torch.Generator().manual_seed(1)
        inputs, outputs = (torch.randperm(channels, generator=generator) % GROUPS for _ in range(2))
        with torch.no_grad():
            self.middle.weight *= (outputs[:, None] == inputs)[:, :, None, None]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.norm(self.middle(torch.relu(self.first(x))))))


def imported(model: nn.Module) -> Program:
    return lm.import_model(model.eval(), (image(),))


def pictures(count: int = 24) -> torch.Tensor:
    return torch.cat([image(batch=8, seed=seed) for seed in range(count // 8)])


@pytest.fixture(scope="module")
def shuffled() -> Program:
    torch.manual_seed(0)
    return imported(randomized(Shuffled()))


@pytest.fixture(scope="module")
def residual() -> Program:
    torch.manual_seed(0)
    return imported(randomized(Residual()))


def only_permutes(original: Program, steps: Sequence[str]) -> Program:
    return original.apply(",".join(step for step in steps if step.startswith("morph-permute")))


def test_planted_groups_are_found_and_repair_gives_the_original_again(shuffled: Program) -> None:
    found = inherit(shuffled, shuffled.apply(STEP.format("middle")), "repair", [pictures()], orders=True)
    assert [step.partition("{")[0] for step in found.program.steps] == ["morph-permute"] * 2 + ["morph-group"]
    assert found.errors["repair"] < 1e-4
    without = inherit(shuffled, shuffled.apply(STEP.format("middle")), "repair", [pictures()])
    assert without.errors["repair"] > 0.02


def test_what_it_says_of_planted_groups(shuffled: Program) -> None:
    (layer,) = with_channel_orders(shuffled, shuffled.apply(STEP.format("middle")), [pictures()]).layers
    assert layer.name == "middle" and layer.after < 2e-4 < 0.1 < layer.before


def test_channels_that_are_left_by_a_bottleneck_are_ordered(shuffled: Program) -> None:
    steps = f"morph-bottleneck{{layer=middle iter=co factor=2 keep=1,2,4,7}},{STEP.format('middle')}"
    found = with_channel_orders(shuffled, shuffled.apply(steps), [pictures()])
    assert found.program.steps[0] == steps.partition(",morph")[0]
    assert found.layers[0].after <= found.layers[0].before


def test_permutations_keep_the_function(residual: Program) -> None:
    steps = ",".join(STEP.format(f"block{b}.conv{c}") for b in (1, 2) for c in (1, 2))
    found = with_channel_orders(residual, residual.apply(steps), [pictures()])
    permutes = only_permutes(residual, found.program.steps)
    assert permutes.steps and inherited_error(residual, permutes, image(batch=4, seed=9)) < 1e-5
    assert sum(layer.after for layer in found.layers) < sum(layer.before for layer in found.layers)


def test_the_steps_tell_everything(residual: Program) -> None:
    program = residual.apply(STEP.format("block1.conv2"))
    found = with_channel_orders(residual, program, [pictures()]).program
    again = lm.replay(residual.model, residual.example_inputs, schedule_text(found.steps)).program
    assert str(again) == str(found)
    for name, tensor in found.parameters.items():
        assert torch.equal(again.parameters[name], tensor), name


@pytest.mark.parametrize(
    "steps",
    [
        "morph-bottleneck{layer=block1.conv1 iter=co factor=2}",
        "morph-depthwise{layer=block1.conv2}",
        "morph-group{layer=block1.conv1 iters=oh factor=2}",
        "morph-group{layer=block1.conv1 iters=oh,ci factor=2}",
        f"{STEP.format('block1.conv1')},{STEP.format('block1.conv1')}",
    ],
)
def test_networks_without_an_order_to_choose_stay(residual: Program, steps: str) -> None:
    program = residual.apply(steps)
    found = with_channel_orders(residual, program, [pictures(8)])
    assert found.program is program and found.layers == ()


def test_what_later_steps_change_keeps_its_order(residual: Program) -> None:
    steps = f"{STEP.format('block1.conv2')},morph-depthwise{{layer=block1.conv1}}"
    found = with_channel_orders(residual, residual.apply(steps), [pictures(8)]).program
    assert all("block1" not in step for step in found.steps if step.startswith("morph-permute"))


def test_dimensions_that_users_see_keep_their_order() -> None:
    torch.manual_seed(0)
    original = imported(nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3)))
    found = with_channel_orders(original, original.apply(STEP.format("1")), [pictures(8)]).program
    assert all("iter=ci" in step or "layer=0" in step for step in found.steps[:-1])


def test_images_that_the_network_does_not_take(residual: Program) -> None:
    program = residual.apply(STEP.format("block1.conv1"))
    with pytest.raises(lm.ArgumentError, match="'inputs': the network fails on them"):
        with_channel_orders(residual, program, [torch.zeros(2, 5, 16, 16)])
