"""`morph-permute`: parameters move, the network computes the same; what cannot follow is refused by name."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from agreement import Of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from transformed import check, imported

import loopmorph as lm
from loopmorph.dialects.morph import schedule_text
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.history import scheduled_by_hand
from loopmorph.passes.neural.permute import Permute
from loopmorph.pipelines.program import Program

LAYER = "block1.conv1"


def shuffled(extent: int, seed: int = 0) -> tuple[int, ...]:
    """A permutation that is not the identity."""
    order = random.Random(seed).sample(range(extent), extent)
    return tuple(order if order != sorted(order) else reversed(order))


def permute(layer: str, order: tuple[int, ...], iterator: str = "co") -> str:
    return str(Permute(layer, iterator, order))


def moved(before: Program, after: Program) -> set[str]:
    return {
        n
        for n, t in after.parameters.items()
        if t.shape != before.parameters[n].shape or (t != before.parameters[n]).any()
    }


def norm(name: str) -> set[str]:
    return {f"{name}.{tensor}" for tensor in ("weight", "bias", "running_mean", "running_var")}


# ---- the network computes the same


def test_inside_a_block_with_batch_norm(residual: Program) -> None:
    order = shuffled(8)
    after = check(residual, permute(LAYER, order))
    assert moved(residual, after) == {f"{LAYER}.weight", *norm("block1.bn1"), "block1.conv2.weight"}
    old, new = residual.parameters, after.parameters
    assert torch.equal(new[f"{LAYER}.weight"], old[f"{LAYER}.weight"][list(order)])
    assert torch.equal(new["block1.bn1.running_var"], old["block1.bn1.running_var"][list(order)])
    assert torch.equal(new["block1.conv2.weight"], old["block1.conv2.weight"][:, list(order)])


def test_the_residual_stream_of_a_stage(residual: Program) -> None:
    order = shuffled(8)
    after = check(residual, permute("block1.conv2", order))
    written = {"conv1.weight", *norm("bn1"), "block1.conv2.weight", *norm("block1.bn2")}
    read = {f"{LAYER}.weight", "block2.conv1.weight", "block2.shortcut.0.weight"}
    assert moved(residual, after) == written | read
    assert torch.equal(after.parameters["conv1.weight"], residual.parameters["conv1.weight"][list(order)])


def test_from_the_reader_as_from_the_writer(residual: Program) -> None:
    order = shuffled(8)
    one, other = residual.apply(permute(LAYER, order)), residual.apply(permute("block1.conv2", order, "ci"))
    assert all(torch.equal(one.parameters[name], value) for name, value in other.parameters.items())


def test_flattened_maps_move_whole(plain: Program) -> None:
    order = shuffled(16)
    after = check(plain, permute("conv2", order))
    assert moved(plain, after) == {"conv2.weight", "conv2.bias", "hidden.weight"}
    old = plain.parameters["hidden.weight"].reshape(12, 16, 4)
    assert torch.equal(after.parameters["hidden.weight"], old[:, list(order)].reshape(12, 64))


@pytest.mark.parametrize(("layer", "extent"), [("conv1", 8), ("layer1.conv2", 4), ("layer2.conv1", 8)])
def test_a_slice_of_a_concatenation(dense: Program, layer: str, extent: int) -> None:
    check(dense, permute(layer, shuffled(extent)))


def test_an_order_of_a_concatenation_that_keeps_its_slices(dense: Program) -> None:
    order = tuple(4 + k for k in shuffled(8))
    check(dense, permute("layer2.bn1", (*shuffled(4, 1), *order), "c"))


GROUPS = {"g": (1, 0), "co": shuffled(8), "ci": shuffled(4)}


@pytest.mark.parametrize("iterator", GROUPS)
def test_grouped_and_depthwise_layers(separable: Program, iterator: str) -> None:
    after = check(separable, permute("grouped", GROUPS[iterator], iterator))
    assert ("depthwise.weight" in moved(separable, after)) == (iterator != "ci")


def test_an_order_that_respects_groups_may_begin_before_them(separable: Program) -> None:
    check(separable, permute("conv1", (6, 7, 5, 4, 2, 3, 1, 0)))


def test_groups_have_orders_of_their_own_where_only_results_are_indexed() -> None:
    program = imported(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 2, 1)))
    check(program, permute("2", (2, 0, 1, 3, 4, 5, 7, 6), "ci"), compiled=True)


CHANNELS = {
    "softmax": lambda x: functional.softmax(x, 1),
    "flip": lambda x: x.flip(1),
    "twice": lambda x: torch.cat([x, x], 1),
    "shuffle": lambda x: x.unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2),
    "norm": lambda x: x / x.norm(dim=1, keepdim=True),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_operations_across_channels(name: str) -> None:
    operation = CHANNELS[name]
    convs = nn.Conv2d(3, 8, 1), nn.Conv2d(16 if name == "twice" else 8, 4, 1)
    program = imported(Of(lambda a, b, x: b(operation(a(x))), *convs))
    check(program, permute("parts.0", shuffled(8)), compiled=name == "softmax")


def test_heads_and_hidden_units_of_a_transformer() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    program = imported(layer, torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0)))
    check(program, permute("linear1", shuffled(16)))


# ---- with other transformations


@pytest.mark.parametrize(
    "then",
    [
        "morph-group{layer=block1.conv2 iters=co,ci factor=2}",
        "morph-bottleneck{layer=block1.conv1 iter=co factor=2}",
        "morph-mix{layer=block1.conv1 iter=co}",
        "morph-depthwise{layer=block1.conv2}",
    ],
)
def test_what_comes_next_sees_the_new_order(residual: Program, then: str) -> None:
    order = shuffled(8)
    after = check(residual, f"{permute(LAYER, order)},{then}", same="mix" in then)
    weight = residual.parameters["block1.conv2.weight"][:, list(order)]
    if "group" in then:
        expected = torch.cat([weight[:4, :4], weight[4:, 4:]])
        assert torch.equal(after.parameters["block1.conv2.weight"], expected)
    if "bottleneck" in then:
        assert torch.equal(after.parameters["block1.conv2.weight"], weight[:, :4])


@pytest.mark.parametrize("name", ["seq1", "seq2"])
def test_named_schedules_come_next(residual: Program, name: str) -> None:
    options = {"u": 4, "g": 2} if name == "seq2" else {}
    permuted = residual.apply(permute(LAYER, shuffled(8)))
    check(permuted, lm.load_schedule(name, layer="block1.conv2", **options), same=False)


def test_twice_is_the_product(residual: Program) -> None:
    first, second = shuffled(8, 1), shuffled(8, 2)
    twice = check(residual, f"{permute(LAYER, first)},{permute(LAYER, second)}")
    once = residual.apply(permute(LAYER, tuple(first[k] for k in second)))
    assert all(torch.equal(once.parameters[name], value) for name, value in twice.parameters.items())
    back = twice.apply(f"{permute(LAYER, inverse(second))},{permute(LAYER, inverse(first))}")
    assert moved(residual, back) == set()


def inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(np.argsort(order).tolist())


def test_of_a_merged_dimension(residual: Program) -> None:
    merged = residual.apply(f"morph-bottleneck{{layer={LAYER} iter=co factor=2 inherit=mean}}")
    after = merged.apply(permute(LAYER, (2, 3, 1, 0)))
    assert torch.equal(after.parameters[f"{LAYER}.weight"], merged.parameters[f"{LAYER}.weight"][[2, 3, 1, 0]])
    torch.testing.assert_close(
        after.to_module().eval()(*after.example_inputs), merged.to_module().eval()(*after.example_inputs)
    )


def test_it_is_recorded_and_replayed(residual: Program) -> None:
    steps = f"{permute(LAYER, shuffled(8))},morph-group{{layer=block1.conv2 iters=co,ci factor=2}}"
    after = residual.apply(steps)
    assert ",".join(after.steps) == steps
    schedule = schedule_text(after.history)
    assert '"morph.permute"' in schedule
    assert str(residual.apply(schedule)) == str(after)
    result = lm.replay(residual.model, residual.example_inputs, schedule)
    assert torch.equal(result.model.block1.conv2.weight, after.parameters["block1.conv2.weight"])


def test_the_identity_moves_nothing(residual: Program) -> None:
    after = check(residual, permute("linear", tuple(range(10))))
    assert moved(residual, after) == set()
    assert after.steps == (permute("linear", tuple(range(10))),)


def test_nests_stay_and_with_them_a_schedule_by_hand(residual: Program) -> None:
    tiled = residual.apply(f"morph-split{{layer={LAYER} iter=ow factor=4}}")
    after = check(tiled, permute(LAYER, shuffled(8)))
    bodies = [[str(op) for op in p.module.body.operations[0].entry_block.operations] for p in (tiled, after)]
    assert bodies[0] == bodies[1]
    assert scheduled_by_hand(after.module.operation) == {LAYER}


def test_a_split_dimension_is_permuted_as_a_whole(residual: Program) -> None:
    split = residual.apply(f"morph-split{{layer={LAYER} iter=co factor=4}}")
    check(split, permute("block1.conv2", shuffled(8), "ci"))


@settings(max_examples=5, deadline=None, derandomize=True)
@given(st.data())
def test_random_orders_of_random_networks(data: st.DataObject) -> None:
    widths = data.draw(st.lists(st.sampled_from([4, 6, 8]), min_size=2, max_size=3))
    layers: list[nn.Module] = []
    for inputs, outputs in zip([3, *widths], widths, strict=False):
        layers += [nn.Conv2d(inputs, outputs, data.draw(st.sampled_from([1, 3])), padding=1), nn.BatchNorm2d(outputs)]
        layers.append(data.draw(st.sampled_from([nn.ReLU(), nn.Softmax(1), nn.MaxPool2d(2, 1)])))
    model = nn.Sequential(*layers, nn.Conv2d(widths[-1], 2, 1))
    start = imported(model, torch.randn(1, 3, 5, 5, generator=torch.Generator().manual_seed(0)))
    order = tuple(data.draw(st.permutations(range(widths[0]))))
    check(start, permute("0", order))


# ---- what is refused


REFUSED = [
    ("conv1", (2, 0, 1), "ci", "its dimension is tied to the network's input through layer 'conv1'"),
    ("linear", shuffled(10), "co", "its dimension is tied to the network's output through layer 'linear'"),
    ("conv1", (1, 0, 2), "kh", r"reads the tied dimension of extent 10 at 'oh \+ kh': a window or an offset"),
    ("block1.conv2", (3, 2, 1, 0, 4, 5, 6, 7), "oh", "the dimension of block1.conv2 oh, conv1 h, conv1 oh and 8 more"),
    ("mean", (1, 0, 2, 3), "h", r"'block2.conv2' reads the tied dimension of extent 6 at 'oh \+ kh': a window"),
]


@pytest.mark.parametrize(("layer", "order", "iterator", "reason"), REFUSED)
def test_dimensions_that_are_not_internal(
    residual: Program, layer: str, order: tuple[int, ...], iterator: str, reason: str
) -> None:
    with pytest.raises(IllegalTransform, match=rf"layer '{layer}', iterator '{iterator}': .*{reason}"):
        residual.apply(permute(layer, order, iterator))


def test_slices_stay_within_themselves(dense: Program) -> None:
    with pytest.raises(IllegalTransform, match=r"'layer1\|cat' writes .* at 'c': the indices of a slice have to stay"):
        dense.apply(permute("layer2.bn1", (4, 1, 2, 3, 0, *range(5, 12)), "c"))


def test_groups_stay_together(separable: Program) -> None:
    with pytest.raises(
        IllegalTransform, match=r"'grouped' reads .* at 'g \* 4 \+ ci': only whole blocks may trade places"
    ):
        separable.apply(permute("conv1", (4, 1, 2, 3, 0, 5, 6, 7)))
    with pytest.raises(IllegalTransform, match=r"'g \* 4 \+ ci': .* the same indices within all of them"):
        separable.apply(permute("conv1", (1, 0, 2, 3, 4, 5, 6, 7)))


ORDERED = {
    "argmax": (lambda x: x * x.argmax(1, keepdim=True).float(), "enters the computed values, not only the indices"),
    "window": (nn.LocalResponseNorm(3), "a window or an offset"),
    "groups": (nn.GroupNorm(2, 8), "cannot follow|only whole blocks"),
    "halves": (lambda x: functional.glu(x, 1), "the indices of a slice have to stay within it"),
}


@pytest.mark.parametrize("name", ORDERED)
def test_what_reads_channels_in_order(name: str) -> None:
    operation, reason = ORDERED[name]
    convs = nn.Conv2d(3, 8, 1), nn.Conv2d(4 if name == "halves" else 8, 2, 1)
    program = imported(Of(lambda a, b, x: b(operation(a(x))), *convs))
    with pytest.raises(IllegalTransform, match=reason):
        program.apply(permute("parts.0", (4, 1, 2, 3, 0, 7, 6, 5)))


def test_a_vectorised_nest_comes_too_late(residual: Program) -> None:
    vectorised = residual.apply("morph-vectorize{layer=block1.bn1 iter=w width=8}")
    with pytest.raises(IllegalTransform, match="its nest is already vectorised; this has to come before"):
        vectorised.apply(permute(LAYER, shuffled(8)))


def test_constants_of_the_models_own_code_cannot_follow() -> None:
    convs = nn.Linear(3, 8), nn.Linear(8, 2)
    program = imported(Of(lambda a, b, x: b(a(x) * torch.arange(8.0)), *convs), torch.randn(2, 3))
    after = program.apply(permute("parts.0", shuffled(8)))
    with pytest.raises(IllegalTransform, match="constant 'constant_0': the model's own code makes it"):
        after.to_module()


@pytest.mark.parametrize(
    ("order", "got"),
    [
        ((0, 1, 2, 3, 4, 5, 6), "7 without 7"),
        ((0, 1, 2, 3, 4, 5, 6, 6), "6 2 times"),
        ((0, 1, 2, 3, 4, 5, 6, 8), "8"),
        ((0, 1, 2, 3, 4, 5, 6, -7), "-7"),
        ((), "0 without 0"),
    ],
)
def test_orders_that_are_no_permutation(residual: Program, order: tuple[int, ...], got: str) -> None:
    wanted = f"argument 'order': expected each index from 0 to 7 of iterator 'co' once, got {got}$"
    with pytest.raises(ArgumentError, match=wanted):
        residual.apply(permute(LAYER, order))


def test_names_that_are_not_there(residual: Program) -> None:
    with pytest.raises(
        ArgumentError, match=r"layer 'block1\.conv1' has no iterator 'c'; it has n, co, oh, ow, ci, kh, kw"
    ):
        residual.apply(permute(LAYER, (1, 0), "c"))
    with pytest.raises(
        ArgumentError, match=r"'order' of morph-permute expects a list of integers, as in 1,2, got '0\.\.7'"
    ):
        residual.apply("morph-permute{layer=block1.conv1 iter=co order=0..7}")
