"""`morph-narrow`: a range of an iterator, its weights and its readers, against plain slicing and the compiled code."""

from __future__ import annotations

import pytest
import torch
from networks import image
from torch import nn
from transformed import agrees

import loopmorph as lm
from loopmorph.pipelines.program import Program


def macs(program: Program, layer: str) -> int:
    return next(entry.macs for entry in program.layers if entry.name == layer)


def test_a_reduction_reads_a_slice_of_an_input_that_stays(residual: Program) -> None:
    after = residual.apply("morph-narrow{layer=block2.conv1 iter=ci begin=3}")
    old, new = residual.parameters, after.parameters
    assert {n for n in new if new[n].shape != old[n].shape} == {"block2.conv1.weight"}
    assert torch.equal(new["block2.conv1.weight"], old["block2.conv1.weight"][:, 3:])
    assert macs(after, "block2.conv1") * 8 == macs(residual, "block2.conv1") * 5


def test_the_module_of_a_narrowed_layer_reads_these_channels(residual: Program) -> None:
    after = residual.apply("morph-narrow{layer=block1.conv1 iter=ci begin=2 extent=4}")
    layer = after.to_module().eval().get_submodule("block1.conv1")
    x = torch.randn(1, 8, 8, 8)
    weight = residual.parameters["block1.conv1.weight"][:, 2:6]
    assert torch.allclose(layer(x), nn.functional.conv2d(x[:, 2:6], weight, padding=1), atol=1e-5)


def test_a_range_of_an_output_follows_to_norm_and_reader(residual: Program) -> None:
    after = residual.apply("morph-narrow{layer=block1.conv1 iter=co begin=2 extent=3}")
    old, new = residual.parameters, after.parameters
    assert torch.equal(new["block1.conv1.weight"], old["block1.conv1.weight"][2:5])
    assert torch.equal(new["block1.bn1.running_var"], old["block1.bn1.running_var"][2:5])
    assert torch.equal(new["block1.conv2.weight"], old["block1.conv2.weight"][:, 2:5])
    agrees(after)


def test_narrow_from_0_is_what_bottleneck_does(residual: Program) -> None:
    narrow = residual.apply("morph-narrow{layer=block1.conv2 iter=co begin=0 extent=4}")
    bottleneck = residual.apply("morph-bottleneck{layer=block1.conv2 iter=co factor=2}")
    for name, value in bottleneck.parameters.items():
        assert torch.equal(narrow.parameters[name], value)


def test_a_range_of_a_range_counts_from_its_begin(residual: Program) -> None:
    twice = residual.apply(
        "morph-narrow{layer=block1.conv1 iter=ci begin=2 extent=5},morph-narrow{layer=block1.conv1 iter=ci begin=1}"
    )
    once = residual.apply("morph-narrow{layer=block1.conv1 iter=ci begin=3 extent=4}")
    assert torch.equal(twice.parameters["block1.conv1.weight"], once.parameters["block1.conv1.weight"])
    x = image()
    assert torch.equal(twice.to_module().eval()(x), once.to_module().eval()(x))


@pytest.mark.parametrize(("part", "kept"), [("ci.0", [4, 5, 6, 7]), ("ci.1", [2, 3, 6, 7])])
def test_a_part_of_a_split_reduction(residual: Program, part: str, kept: list[int]) -> None:
    split = residual.apply("morph-split{layer=block1.conv1 iter=ci factor=4}")
    begin = 1 if part == "ci.0" else 2
    after = split.apply(f"morph-narrow{{layer=block1.conv1 iter={part} begin={begin}}}")
    assert torch.equal(after.parameters["block1.conv1.weight"], residual.parameters["block1.conv1.weight"][:, kept])
    agrees(after)


def test_each_group_reads_the_same_range_of_its_channels(residual: Program) -> None:
    grouped = residual.apply("morph-group{layer=block1.conv1 iters=co,ci factor=2}")
    after = grouped.apply("morph-narrow{layer=block1.conv1 iter=ci begin=1 extent=2}")
    assert torch.equal(after.parameters["block1.conv1.weight"], grouped.parameters["block1.conv1.weight"][:, 1:3])


def test_the_channels_of_every_group_follow_to_a_depthwise_reader(separable: Program) -> None:
    after = separable.apply("morph-narrow{layer=grouped iter=co begin=1 extent=2}")
    kept = [1, 2, 9, 10]
    for name in ("grouped.weight", "grouped.bias", "depthwise.weight"):
        assert torch.equal(after.parameters[name], separable.parameters[name][kept])
    assert torch.equal(after.parameters["pointwise.weight"], separable.parameters["pointwise.weight"][:, kept])
    agrees(after)


def test_taps_of_a_window(residual: Program) -> None:
    after = residual.apply("morph-narrow{layer=block2.conv1 iter=kh begin=1}")
    assert torch.equal(after.parameters["block2.conv1.weight"], residual.parameters["block2.conv1.weight"][:, :, 1:])
    agrees(after)


def test_a_flattened_map_keeps_whole_channels(plain: Program) -> None:
    after = plain.apply("morph-narrow{layer=conv2 iter=co begin=3 extent=7}")
    kept = plain.parameters["hidden.weight"].view(12, 16, 2, 2)[:, 3:10].reshape(12, 28)
    assert torch.equal(after.parameters["hidden.weight"], kept)


def test_a_linear_layer_reads_any_range_of_a_flattened_map(plain: Program) -> None:
    after = plain.apply("morph-narrow{layer=hidden iter=ci begin=6 extent=20}")
    assert torch.equal(after.parameters["hidden.weight"], plain.parameters["hidden.weight"][:, 6:26])
    agrees(after)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("iter=ci begin=8", "argument 'begin': expected 0 to 7 for iterator 'ci', got 8"),
        ("iter=ci begin=-1", "argument 'begin': expected 0 to 7 for iterator 'ci', got -1"),
        ("iter=ci begin=2 extent=7", "argument 'extent': expected 1 to 6 from 2 on for iterator 'ci', got 7"),
        ("iter=ci begin=2 extent=0", "argument 'extent': expected 1 to 6 from 2 on for iterator 'ci', got 0"),
        ("iter=ci begin=0", "argument 'extent': all 8 iterations of 'ci' would be kept"),
        ("iter=x begin=0", "has no iterator 'x'"),
    ],
)
def test_ranges_that_are_none_are_refused(residual: Program, options: str, message: str) -> None:
    with pytest.raises(lm.ArgumentError, match=message):
        residual.apply(f"morph-narrow{{layer=block1.conv1 {options}}}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("morph-narrow{layer=linear iter=co begin=1}", "tied to the network's output through layer 'linear'"),
        ("morph-narrow{layer=block1.conv1 iter=oh begin=1}", r"reads .* at 'oh \+ kh': a window or an offset"),
        (
            "morph-group{layer=block1.conv2 iters=co,ci factor=4},morph-narrow{layer=block1.conv1 iter=co begin=1}",
            r"layer 'block1\.conv2' reads the tied dimension of extent 8 at 'g \* 2 \+ ci' and cannot keep 1\.\.7",
        ),
        (
            "morph-split{layer=block1.conv1 iter=ci factor=3},morph-narrow{layer=block1.conv1 iter=ci.0 begin=1}",
            "a bound that is not constant",
        ),
    ],
)
def test_what_the_network_does_not_admit_is_refused(residual: Program, text: str, message: str) -> None:
    with pytest.raises(lm.IllegalTransform, match=message):
        residual.apply(text)
