"""Neural transformations on imported networks: shapes, work and inherited values, through every kind of coupling."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformed import imported

import loopmorph as lm
from loopmorph.pipelines.program import Program


def changed(before: Program, after: Program) -> dict[str, tuple[int, ...]]:
    """Name -> new shape of every parameter whose shape changed."""
    old = before.parameters
    return {name: tuple(t.shape) for name, t in after.parameters.items() if t.shape != old[name].shape}


def macs(program: Program) -> dict[str, int]:
    return {layer.name: layer.macs for layer in program.layers if layer.macs}


def test_bottleneck_inside_a_block_changes_the_layer_its_norm_and_its_reader(residual: Program) -> None:
    after = residual.apply("morph-bottleneck{layer=block1.conv1 iter=co factor=2}")
    assert changed(residual, after) == {
        "block1.conv1.weight": (4, 8, 3, 3),
        "block1.bn1.weight": (4,),
        "block1.bn1.bias": (4,),
        "block1.bn1.running_mean": (4,),
        "block1.bn1.running_var": (4,),
        "block1.conv2.weight": (8, 4, 3, 3),
    }
    halved = {"block1.conv1", "block1.conv2"}
    assert macs(after) == {n: m // 2 if n in halved else m for n, m in macs(residual).items()}


def test_bottleneck_follows_a_residual_stream_to_every_layer_that_adds_to_it(residual: Program) -> None:
    after = residual.apply("morph-bottleneck{layer=block1.conv2 iter=co factor=4}")
    shapes = {name: shape for name, shape in changed(residual, after).items() if name.endswith("conv1.weight")}
    assert shapes == {
        "conv1.weight": (2, 3, 3, 3),
        "block1.conv1.weight": (8, 2, 3, 3),
        "block2.conv1.weight": (16, 2, 3, 3),
    }
    assert changed(residual, after)["block2.shortcut.0.weight"] == (16, 2, 1, 1)
    assert changed(residual, after)["bn1.running_var"] == (2,)


def test_bottleneck_reaches_the_classifier_through_pooling(residual: Program) -> None:
    after = residual.apply("morph-bottleneck{layer=block2.conv2 iter=co factor=2}")
    assert changed(residual, after)["linear.weight"] == (10, 8)
    kept = residual.parameters["linear.weight"][:, :8]
    assert torch.equal(after.parameters["linear.weight"], kept)


def test_bottleneck_reaches_the_classifier_through_a_flattened_map(plain: Program) -> None:
    after = plain.apply("morph-bottleneck{layer=conv2 iter=co factor=2}")
    assert changed(plain, after) == {"conv2.weight": (8, 8, 3, 3), "conv2.bias": (8,), "hidden.weight": (12, 32)}
    kept = plain.parameters["hidden.weight"].view(12, 16, 2, 2)[:, :8].reshape(12, 32)
    assert torch.equal(after.parameters["hidden.weight"], kept)


def test_bottleneck_of_a_reduction_reads_a_slice_of_an_input_that_stays(residual: Program) -> None:
    after = residual.apply("morph-bottleneck{layer=block1.conv1 iter=ci factor=2}")
    assert changed(residual, after) == {"block1.conv1.weight": (8, 4, 3, 3)}
    assert torch.equal(after.parameters["block1.conv1.weight"], residual.parameters["block1.conv1.weight"][:, :4])


def test_bottleneck_of_a_grouped_layer_keeps_the_head_of_each_group(separable: Program) -> None:
    after = separable.apply("morph-bottleneck{layer=grouped iter=co factor=2}")
    kept = [0, 1, 2, 3, 8, 9, 10, 11]
    for name in ("grouped.weight", "grouped.bias", "depthwise.weight"):
        assert torch.equal(after.parameters[name], separable.parameters[name][kept])
    assert torch.equal(after.parameters["pointwise.weight"], separable.parameters["pointwise.weight"][:, kept])


def test_bottleneck_through_a_depthwise_layer_ties_both_its_sides(separable: Program) -> None:
    after = separable.apply("morph-bottleneck{layer=depthwise iter=c factor=2}")
    assert changed(separable, after)["grouped.weight"] == (8, 4, 3, 3)
    assert changed(separable, after)["pointwise.weight"] == (8, 8, 1, 1)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_group_keeps_the_blocks_on_the_diagonal(residual: Program, factor: int) -> None:
    after = residual.apply(f"morph-group{{layer=block1.conv1 iters=co,ci factor={factor}}}")
    assert changed(residual, after) == {"block1.conv1.weight": (8, 8 // factor, 3, 3)}
    assert macs(after)["block1.conv1"] == macs(residual)["block1.conv1"] // factor
    old, new, width = residual.parameters, after.parameters, 8 // factor
    for g in range(factor):
        rows = slice(g * width, (g + 1) * width)
        assert torch.equal(new["block1.conv1.weight"][rows], old["block1.conv1.weight"][rows, rows])


def test_group_of_a_group_is_a_finer_group(residual: Program) -> None:
    twice = residual.apply(
        "morph-group{layer=block1.conv1 iters=co,ci factor=2},morph-group{layer=block1.conv1 iters=co,ci factor=4}"
    )
    once = residual.apply("morph-group{layer=block1.conv1 iters=co,ci factor=8}")
    assert torch.equal(twice.parameters["block1.conv1.weight"], once.parameters["block1.conv1.weight"])


def test_depthwise_is_group_by_every_channel(residual: Program) -> None:
    depthwise = residual.apply("morph-depthwise{layer=block1.conv2}")
    grouped = residual.apply("morph-group{layer=block1.conv2 iters=co,ci factor=8}")
    assert torch.equal(depthwise.parameters["block1.conv2.weight"], grouped.parameters["block1.conv2.weight"])
    assert macs(depthwise) == macs(grouped)


def test_bottleneck_of_a_layer_made_depthwise_drops_groups(residual: Program) -> None:
    after = residual.apply("morph-depthwise{layer=block1.conv1},morph-bottleneck{layer=block1.conv2 iter=co factor=2}")
    extents = {layer.name: dict(layer.extents) for layer in after.layers}["block1.conv1"]
    assert (extents["g"], extents["co"], extents["ci"]) == (4, 1, 1)


def test_transformations_leave_the_program_that_they_start_from(residual: Program) -> None:
    before = str(residual)
    residual.apply("morph-group{layer=block1.conv1 iters=co,ci factor=2}")
    assert str(residual) == before


def test_steps_are_recorded_in_the_program(residual: Program) -> None:
    steps = ("morph-depthwise{layer=block1.conv1}", "morph-bottleneck{layer=block2.conv1 iter=co factor=2}")
    assert residual.apply(",".join(steps)).steps == steps


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("morph-bottleneck{layer=linear iter=co factor=2}", "tied to the network's output through layer 'linear'"),
        ("morph-bottleneck{layer=block1.conv1 iter=n factor=2}", "extent 1 of iterator 'n' .* not divisible by 2"),
        ("morph-bottleneck{layer=block1.conv1 iter=co factor=3}", "extent 8 of iterator 'co' .* not divisible by 3"),
        ("morph-bottleneck{layer=block1.conv1 iter=oh factor=3}", "extent 8 of iterator 'oh' .* not divisible by 3"),
        ("morph-bottleneck{layer=block1.conv1 iter=kh factor=2}", "extent 3 of iterator 'kh' .* not divisible by 2"),
        ("morph-group{layer=block2.conv1 iters=co,ci factor=3}", "extent 16 of iterator 'co' is not divisible by 3"),
        ("morph-group{layer=block2.conv1 iters=co,kh factor=3}", "extent 16 of iterator 'co' is not divisible by 3"),
        ("morph-depthwise{layer=block2.conv1}", "as many output as input channels: 'co' has 16, 'ci' 8"),
    ],
)
def test_what_the_network_does_not_admit_is_refused(residual: Program, text: str, message: str) -> None:
    with pytest.raises(lm.IllegalTransform, match=message):
        residual.apply(text)


class OverChannels(nn.Module):
    def __init__(self, *, mean: bool) -> None:
        super().__init__()
        self.conv, self.mean = nn.Conv2d(3, 8, 1), mean

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return y.mean(1) if self.mean else y.square().sum(1)


def test_a_sum_over_the_channels_is_refused() -> None:
    program = imported(OverChannels(mean=False))
    with pytest.raises(lm.IllegalTransform, match="reduces over it without a parameter"):
        program.apply("morph-bottleneck{layer=conv iter=co factor=2}")


def test_a_mean_over_the_channels_is_that_of_those_which_are_left() -> None:
    program = imported(OverChannels(mean=True)).apply("morph-bottleneck{layer=conv iter=co factor=2}")
    (x,) = program.example_inputs
    convolution = program.to_module().get_submodule("conv")
    expected = convolution(x).mean(1)
    assert expected.shape[1:] == x.shape[2:] and convolution(x).shape[1] == 4
    torch.testing.assert_close(lm.compile(program)(x), expected)


def test_a_shared_weight_cannot_be_grouped_for_one_of_its_readers() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 1)
            self.conv = nn.Conv2d(8, 8, 1)
            self.linear = nn.Linear(8, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(self.conv(self.conv(self.stem(x))).mean((2, 3)))

    program = imported(Twice())
    with pytest.raises(lm.IllegalTransform, match=r"its weight 'conv\.weight' is read elsewhere as well"):
        program.apply("morph-group{layer=conv iters=co,ci factor=2}")
    narrow = program.apply("morph-bottleneck{layer=stem iter=co factor=2}")
    assert changed(program, narrow)["conv.weight"] == (4, 4, 1, 1)


def test_unknown_names_are_refused_with_the_nearest(residual: Program) -> None:
    with pytest.raises(lm.ArgumentError, match=r"no layer 'block1\.conv3' in the program; nearest: block1\.conv"):
        residual.apply("morph-depthwise{layer=block1.conv3}")
    with pytest.raises(lm.ArgumentError, match="has no iterator 'x'; it has n, co, oh, ow, ci, kh, kw"):
        residual.apply("morph-bottleneck{layer=block1.conv1 iter=x factor=2}")
