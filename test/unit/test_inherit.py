"""Which weights a bottleneck leaves: slices, means and the channels that matter, consistent through every coupling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from networks import Dense, Plain, Residual, Separable, image, randomized
from torch import nn
from torch_mlir import ir

import loopmorph as lm
from loopmorph.dialects.morph import schedule_text
from loopmorph.pipelines.oracle.inherit import CHOICES, Inherited, inherit
from loopmorph.pipelines.program import Program

EXACT = 1e-5


@dataclass(frozen=True)
class Case:
    """A bottleneck by 2, and what makes the channels that it concerns.

    Attributes:
        network: the model.
        layer: the layer whose `co` is halved.
        producers: the tensors whose axis 0 begins with these channels.
        channels: how many there are.
        segments: in how many equal parts the bottleneck sees them, each of which is halved.
    """

    network: Callable[[], nn.Module]
    layer: str
    producers: tuple[str, ...]
    channels: int
    segments: int = 1

    @property
    def step(self) -> str:
        return f"morph-bottleneck{{layer={self.layer} iter=co factor=2}}"

    def first(self) -> list[int]:
        """The channels that a slice keeps."""
        length = self.channels // self.segments
        return [s * length + k for s in range(self.segments) for k in range(length // 2)]

    def second(self) -> list[int]:
        """The partner of each of them."""
        return [i + self.channels // self.segments // 2 for i in self.first()]


def norm(name: str) -> tuple[str, ...]:
    return tuple(f"{name}.{tensor}" for tensor in ("weight", "bias", "running_mean", "running_var"))


CASES = {
    "norm": Case(Residual, "block1.conv1", ("block1.conv1.weight", *norm("block1.bn1")), 8),
    "residual": Case(
        Residual, "block1.conv2", ("conv1.weight", *norm("bn1"), "block1.conv2.weight", *norm("block1.bn2")), 8
    ),
    "concatenation": Case(Dense, "layer1.conv2", ("layer1.conv2.weight", *norm("layer2.bn1")), 4),
    "flatten": Case(Plain, "conv2", ("conv2.weight", "conv2.bias"), 16),
    "linear": Case(Plain, "hidden", ("hidden.weight", "hidden.bias"), 12),
    "groups": Case(Separable, "grouped", ("grouped.weight", "grouped.bias", "depthwise.weight"), 16, 2),
    "read by groups": Case(Separable, "conv1", ("conv1.weight", *norm("bn1")), 8, 2),
}


def prepared(case: Case, change: Callable[[str, torch.Tensor], None]) -> Program:
    torch.manual_seed(0)
    model = randomized(case.network())
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for name in case.producers:
            change(name, tensors[name])
    return lm.import_model(model, (image(),))


def with_dead_channels(case: Case) -> Program:
    """The channels that a slice would keep are 0 everywhere."""

    def clear(name: str, tensor: torch.Tensor) -> None:
        if not name.endswith("running_var"):
            tensor[case.first()] = 0

    return prepared(case, clear)


def with_equal_channels(case: Case) -> Program:
    """Each channel that a bottleneck merges with another is equal to it; those that read them are not."""

    def repeat(_: str, tensor: torch.Tensor) -> None:
        tensor[case.second()] = tensor[case.first()]

    return prepared(case, repeat)


def chosen(original: Program, steps: str, how: str) -> Inherited:
    return inherit(original, original.apply(steps), how, [image(batch=8, seed=3)])


@pytest.mark.parametrize("name", CASES)
def test_the_channels_that_matter_are_kept(name: str) -> None:
    found = chosen(with_dead_channels(CASES[name]), CASES[name].step, "least-error")
    assert found.how == "salient"
    assert found.errors["salient"] < EXACT
    assert found.errors["slice"] > 0.005
    assert " keep=" in found.program.steps[0]


@pytest.mark.parametrize("name", CASES)
def test_the_mean_of_equal_channels_loses_nothing(name: str) -> None:
    found = chosen(with_equal_channels(CASES[name]), CASES[name].step, "least-error")
    assert found.how == "mean"
    assert found.errors["mean"] < EXACT
    assert found.errors["slice"] > 0.005


def test_the_mean_of_a_reduction_adds_the_weights_of_equal_inputs() -> None:
    original = with_equal_channels(CASES["residual"])
    found = chosen(original, "morph-bottleneck{layer=block1.conv1 iter=ci factor=2}", "least-error")
    assert found.how == "mean" and found.errors["mean"] < EXACT
    old = original.parameters["block1.conv1.weight"]
    assert torch.allclose(found.program.parameters["block1.conv1.weight"], old[:, :4] + old[:, 4:])


def test_what_is_merged_twice_is_merged_once_by_the_product(residual: Program) -> None:
    step = "morph-bottleneck{layer=block1.conv2 iter=co inherit=mean factor="
    twice, once = residual.apply(f"{step}2}},{step}2}}"), residual.apply(f"{step}4}}")
    for name, tensor in once.parameters.items():
        assert torch.allclose(twice.parameters[name], tensor, atol=1e-6), name


def test_what_a_concatenation_does_not_merge_counts_once() -> None:
    torch.manual_seed(0)
    original = lm.import_model(randomized(Dense()), (image(),))
    after = original.apply("morph-bottleneck{layer=layer1.conv2 iter=co factor=2 inherit=mean}")
    old, new = original.parameters["linear.weight"], after.parameters["linear.weight"]
    assert torch.allclose(new, torch.cat([old[:, :4], old[:, 4:6] + old[:, 6:8], old[:, 8:]], 1))
    old, new = original.parameters["layer2.bn1.weight"], after.parameters["layer2.bn1.weight"]
    assert torch.allclose(new, torch.cat([(old[:2] + old[2:4]) / 2, old[4:]]))


@pytest.fixture(scope="module")
def residual() -> Program:
    torch.manual_seed(0)
    return lm.import_model(randomized(Residual()), (image(),))


def parse(original: Program, text: str) -> Program:
    """What a `.mlir` file holds of a rewritten network."""
    module = ir.Module.parse(text, original.module.context)
    return Program(module, original.model, original.example_inputs, original.imported)


STEPS = (
    "morph-bottleneck{layer=block1.conv2 iter=co factor=2}",
    "morph-group{layer=block2.conv2 iters=co,ci factor=2}",
    "morph-bottleneck{layer=block2.conv1 iter=co factor=2}",
    "morph-bottleneck{layer=block2.conv1 iter=oh factor=2}",
    "morph-bottleneck{layer=block1.conv1 iter=kh factor=3}",
    "morph-interchange{layer=block1.conv1 order=n,oh,ow,co,ci,kh,kw}",
)


@pytest.fixture(scope="module", params=CHOICES)
def rewritten(request: pytest.FixtureRequest, residual: Program) -> Program:
    return chosen(residual, ",".join(STEPS), request.param).program


def test_nests_do_not_depend_on_the_choice(residual: Program, rewritten: Program) -> None:
    def text(program: Program) -> str:
        return str(program).partition(") {\n")[2]  # what follows the arguments

    assert text(rewritten) == text(residual.apply(",".join(STEPS)))


def test_only_bottlenecks_of_channels_choose(rewritten: Program) -> None:
    assert len(rewritten.steps) == len(STEPS)
    assert [new for new, old in zip(rewritten.steps, STEPS, strict=True) if old not in STEPS[:3:2]] == [
        STEPS[1], *STEPS[3:]
    ]  # fmt: skip


def test_printed_ir_and_schedule_give_the_same_weights(residual: Program, rewritten: Program) -> None:
    parsed = parse(residual, str(rewritten))
    again = lm.replay(residual.model, residual.example_inputs, schedule_text(rewritten.steps)).program
    assert str(again) == str(rewritten)
    for name, tensor in rewritten.parameters.items():
        assert torch.equal(parsed.parameters[name], tensor), name
        assert torch.equal(again.parameters[name], tensor), name


def test_compiled_code_computes_what_the_module_does(rewritten: Program) -> None:
    expected = rewritten.to_module().eval()(image())
    found = lm.compile(rewritten)(image())
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_a_program_decides_anew(residual: Program) -> None:
    plain = residual.apply(STEPS[0])
    mean = plain.inherit("mean")
    assert mean.steps == (STEPS[0].replace("}", " inherit=mean}"),)
    assert str(mean.inherit("slice")) == str(plain)


def test_another_word_is_refused(residual: Program) -> None:
    with pytest.raises(
        lm.ArgumentError, match="expected slice, mean, salient, least-squares, least-error or repair, got 'median'"
    ):
        residual.inherit("median")


def test_passes_without_a_record_come_after(residual: Program) -> None:
    unrolled = residual.apply(f"{STEPS[0]},func.func(affine-loop-unroll{{unroll-factor=2}})")
    with pytest.raises(lm.IllegalTransform, match="recorded steps do not lead to it: passes that leave no record"):
        unrolled.inherit("mean")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("iter=co factor=2 keep=0,1", "'keep': expected 4 indices from 0 to 7 of iterator 'co', got 2"),
        ("iter=co factor=2 keep=0,1,2,8", "expected 4 indices from 0 to 7 .* the last of which is 8"),
        ("iter=co factor=2 keep=3,2,1,0", "'keep': expected ascending indices from 0 on"),
        ("iter=co factor=2 keep=0,1,2,3 inherit=mean", "'keep': it does not go with inherit=mean"),
        ("iter=co factor=2 inherit=all", "'inherit': expected slice or mean, got 'all'"),
        ("iter=kh factor=3 inherit=mean", "iterator 'kh': its taps see different places"),
        ("iter=oh factor=2 inherit=mean", "'inherit': 'oh' runs over the grid of the result and picks no weights"),
        ("iter=oh factor=2 keep=0,1,2,3", "'keep': 'oh' runs over the grid of the result and picks no weights"),
        ("iter=ci factor=2 keep=0,1,2,7", "cannot keep 0..2, 7"),
    ],
)
def test_wrong_options_are_refused(residual: Program, options: str, message: str) -> None:
    with pytest.raises(lm.LoopmorphError, match=message):
        residual.apply(f"morph-bottleneck{{layer=block1.conv1 {options}}}")


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("affine_map<(d0) -> (d0)>", "of parameter 'block1.conv1.weight': expected a map from 4 dimensions"),
        ("affine_map<(d0, d1, d2, d3) -> (d0 + 9, d1, d2, d3)>", "it leads out of the imported shape"),
        ("[[array<i64: 0, 4>]]", "expected the intervals of 4 axes, got 1"),
        ("[[array<i64: 0, 4, 7>, array<i64>, array<i64>, array<i64>]]", "expected pairs of a begin and a greater end"),
        ("[[array<i64: 0, 2>, array<i64>, array<i64>, array<i64>]]", "keeps 2 indices is read at index 3"),
        ("[{median = []}]", r"expected \{mean = \[...\]\} or \{sum = \[...\]\}"),
        ("[{mean = []}]", "expected affine maps and arrays of intervals in 'mean', at least one"),
        ("[{mean = [{mean = []}]}]", "expected affine maps and arrays of intervals in 'mean', at least one"),
        ("[7]", "expected an affine map, an array of intervals for each axis"),
    ],
)
def test_a_damaged_inheritance_names_the_parameter(residual: Program, attribute: str, message: str) -> None:
    halved = str(residual.apply("morph-bottleneck{layer=block1.conv1 iter=co factor=2}"))
    old = 'morph.inherit = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, morph.param = "block1.conv1.weight"'
    assert old in halved
    text = halved.replace(old, f'morph.inherit = {attribute}, morph.param = "block1.conv1.weight"')
    program = parse(residual, text)
    with pytest.raises(lm.ArgumentError, match=message):
        _ = program.parameters
