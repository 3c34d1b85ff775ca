"""Repair: the weights are those of least squares on explicit windows, whatever a transformation made of the layer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from networks import Plain, Residual, randomized
from torch import nn

import loopmorph as lm
from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.oracle.inherited_error import inherited_error
from loopmorph.pipelines.oracle.repair.repair import repair
from loopmorph.pipelines.oracle.repair.term_fit import FitSettings
from loopmorph.pipelines.schedules.loader import load_schedule

EXACT = FitSettings(ridges=(1e-12,), rows=None)
SIZE, N = 6, 48

Slice = tuple[Sequence[int], Sequence[int], slice, slice]  # outputs, inputs, output rows, output columns


@dataclass(frozen=True)
class Case:
    """One convolution, rewritten, and what its nests read, by hand.

    Attributes:
        layer: the convolution.
        schedule: of layer "0".
        parts: each a least-squares problem: which outputs, from which inputs, on which part of the grid.
        cell: how many rows and columns of the output are one.
    """

    layer: nn.Conv2d
    schedule: str
    parts: Callable[[], Iterator[Slice]]
    cell: tuple[int, int] = (1, 1)


ALL = slice(None)


def image(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def groups(outputs: int, inputs: int, count: int) -> Iterator[Slice]:
    for g in range(count):
        out, into = outputs // count, inputs // count
        yield range(g * out, (g + 1) * out), range(g * into, (g + 1) * into), ALL, ALL


def seq1() -> Iterator[Slice]:
    for outs, ins, *_ in groups(4, 8, 2):
        yield outs, ins, ALL, ALL
    for outs, ins, *_ in groups(4, 8, 4):
        yield [4 + o for o in outs], ins, ALL, ALL


def bands() -> Iterator[Slice]:
    yield range(8), range(8), slice(0, 3), ALL
    yield range(8), range(8), slice(3, 6), ALL


def conv(*arguments: int, **options: int | bool | str) -> nn.Conv2d:
    return nn.Conv2d(*arguments, **{"padding": 1, "bias": False, **options})


CASES = {
    "groups": Case(conv(8, 8, 3), "morph-group{layer=0 iters=co,ci factor=2}", lambda: groups(8, 8, 2)),
    "groups with a bias": Case(
        conv(8, 4, 3, bias=True), "morph-group{layer=0 iters=co,ci factor=4}", lambda: groups(4, 8, 4)
    ),
    "depthwise": Case(conv(8, 8, 3), "morph-depthwise{layer=0}", lambda: groups(8, 8, 8)),
    "half the inputs": Case(
        conv(8, 8, 3), "morph-bottleneck{layer=0 iter=ci factor=2}", lambda: iter([(range(8), range(4), ALL, ALL)])
    ),
    "bands": Case(conv(8, 8, 3), "morph-group{layer=0 iters=oh factor=2}", bands),
    "slices with groups of their own": Case(conv(8, 8, 3), load_schedule("seq1", layer="0"), seq1),
    "coarse grid": Case(
        conv(8, 8, 3),
        "morph-bottleneck{layer=0 iter=oh factor=2},morph-bottleneck{layer=0 iter=ow factor=2}",
        lambda: iter([(range(8), range(8), ALL, ALL)]),
        (2, 2),
    ),
    "coarse grid in groups": Case(
        conv(8, 8, 3),
        "morph-group{layer=0 iters=co,ci factor=2},morph-bottleneck{layer=0 iter=oh factor=3}",
        lambda: groups(8, 8, 2),
        (3, 1),
    ),
    "pointwise in groups": Case(
        conv(8, 8, 1, padding=0), "morph-group{layer=0 iters=co,ci factor=4}", lambda: groups(8, 8, 4)
    ),
    "strides": Case(conv(8, 8, 3, stride=2), "morph-group{layer=0 iters=co,ci factor=2}", lambda: groups(8, 8, 2)),
    "scheduled before": Case(
        conv(8, 8, 3),
        "morph-interchange{layer=0 order=ci,n,co,oh,ow,kh,kw},morph-group{layer=0 iters=co,ci factor=2},"
        "morph-split{layer=0 iter=oh factor=3}",
        lambda: groups(8, 8, 2),
    ),
}


def windows(x: torch.Tensor, layer: nn.Conv2d) -> np.ndarray:
    """(N, OH, OW, C, taps) float64: what each output reads."""
    n, channels = x.shape[:2]
    columns = nn.functional.unfold(x, layer.kernel_size, padding=layer.padding, stride=layer.stride)
    taps = columns.shape[1] // channels
    side = int(columns.shape[2] ** 0.5)
    return columns.reshape(n, channels, taps, side, side).permute(0, 3, 4, 1, 2).double().numpy()


def reference(case: Case, x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    """What the best weights give, by `numpy.linalg.lstsq`, (N, C, OH, OW)."""
    u, target = windows(x, case.layer), y.double().permute(0, 2, 3, 1).numpy()
    found = np.zeros_like(target)
    rows, columns = (np.arange(size) // cell * cell for size, cell in zip(target.shape[1:3], case.cell, strict=True))
    for outputs, inputs, row_part, column_part in case.parts():
        place = np.ix_(range(len(target)), rows[row_part], columns[column_part])
        a = u[place][..., list(inputs), :].reshape(-1, len(inputs) * u.shape[-1])
        if case.layer.bias is not None:
            a = np.concatenate([a, np.ones((len(a), 1))], 1)
        wanted = target[:, row_part][:, :, column_part]
        b = wanted[..., list(outputs)].reshape(-1, len(outputs))
        fitted = (a @ np.linalg.lstsq(a, b, rcond=None)[0]).reshape(*wanted.shape[:-1], len(outputs))
        for k, output in enumerate(outputs):
            found[:, row_part, column_part, output] = fitted[..., k]
    return found.transpose(0, 3, 1, 2)


@pytest.mark.parametrize("name", CASES)
def test_equals_least_squares_on_explicit_windows(name: str) -> None:
    case = CASES[name]
    model, x = nn.Sequential(case.layer).eval(), image(N, 8, SIZE, SIZE)
    program = lm.import_model(model, (x[:2],)).apply(case.schedule)
    with torch.no_grad():
        found = program.repair(x, EXACT).to_module().eval()(x).double().numpy()
        expected = reference(case, x, model(x))
    assert np.abs(found - expected).max() <= 1e-4


def test_compiled_code_has_the_repaired_weights() -> None:
    case = CASES["groups with a bias"]
    x = image(N, 8, SIZE, SIZE)
    program = lm.import_model(nn.Sequential(case.layer).eval(), (x[:2],)).apply(case.schedule).repair(x, EXACT)
    torch.testing.assert_close(lm.compile(program)(x[:2]), program.to_module().eval()(x[:2]), rtol=1e-4, atol=1e-5)


class Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(10, 12), nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.tanh(self.first(x)))


def test_reader_of_fewer_features_is_fitted_with_its_bias() -> None:
    torch.manual_seed(0)
    model, x = Chain().eval(), torch.randn(200, 10)
    keep = [1, 3, 4, 8, 9, 11]
    step = f"morph-bottleneck{{layer=first iter=co factor=2 keep={','.join(map(str, keep))}}}"
    program = lm.import_model(model, (x[:4],))
    co = next(it for it in program.layers[0].extents if program.layers[0].extents[it] == 12)
    after = program.apply(step.replace("iter=co", f"iter={co}")).repair(x, EXACT)
    with torch.no_grad():
        hidden = torch.tanh(model.first(x))[:, keep].double().numpy()
        a = np.concatenate([hidden, np.ones((len(x), 1))], 1)
        expected = a @ np.linalg.lstsq(a, model(x).double().numpy(), rcond=None)[0]
        assert np.abs(after.to_module().eval()(x).numpy() - expected).max() <= 1e-4


def test_separable_layer_is_better_than_fitted_part_by_part() -> None:
    """By parts: a depthwise convolution to the channels that it stands for, then the mix of what it gives."""
    x = image(N, 8, SIZE, SIZE)
    model = nn.Sequential(conv(8, 8, 3)).eval()
    program = lm.import_model(model, (x[:2],)).apply("morph-mix{layer=0 iter=co},morph-depthwise{layer=0}")
    with torch.no_grad():
        y = model(x)
        depthwise = reference(Case(model[0], "", lambda: groups(8, 8, 8)), x, y)
        a = depthwise.transpose(0, 2, 3, 1).reshape(-1, 8)
        b = y.double().permute(0, 2, 3, 1).reshape(-1, 8).numpy()
        by_parts = np.square(a @ np.linalg.lstsq(a, b, rcond=None)[0] - b).sum()
        found = program.repair(x, EXACT).to_module().eval()(x).double().permute(0, 2, 3, 1).reshape(-1, 8).numpy()
    assert np.square(found - b).sum() < by_parts


def test_a_network_that_computes_the_same_stays() -> None:
    model = randomized(Residual())
    x = image(32, 3, 8, 8)
    program = lm.import_model(model, (x[:2],))
    schedule = "morph-tile{layer=block1.conv1 iters=co,oh sizes=4,4}"
    for same in (program, program.apply(schedule)):
        assert inherited_error(program, same.repair(x), x) <= 1e-5


def test_a_mix_alone_costs_nothing() -> None:
    model = randomized(Residual())
    x = image(64, 3, 8, 8)
    program = lm.import_model(model, (x[:2],))
    assert inherited_error(program, program.apply("morph-mix{layer=block1.conv1 iter=co}").repair(x, EXACT), x) <= 1e-4


STEPS = {
    "groups": "morph-group{layer=block1.conv2 iters=co,ci factor=4}",
    "fewer channels": "morph-bottleneck{layer=block1.conv1 iter=co factor=2}",
    "coarse": "morph-bottleneck{layer=block1.conv1 iter=oh factor=2}",
}


@pytest.mark.parametrize("name", STEPS)
def test_it_is_nearer_to_the_original_on_other_images(name: str) -> None:
    model = randomized(Residual())
    x = image(160, 3, 8, 8)
    program = lm.import_model(model, (x[:2],))
    after = program.apply(STEPS[name])
    seen, unseen = x[:128], x[128:]
    assert inherited_error(program, after.repair(seen), unseen) < 0.8 * inherited_error(program, after, unseen)


def moments(module: nn.Module, norm: str, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    given: list[torch.Tensor] = []
    handle = module.get_submodule(norm).register_forward_pre_hook(lambda _, args: given.append(args[0]))
    with torch.no_grad():
        module(x)
    handle.remove()
    return torch.var_mean(given[0], (0, 2, 3), correction=0)


def test_statistics_follow_those_of_the_input() -> None:
    model = randomized(Residual())
    x = image(64, 3, 8, 8)
    module = lm.import_model(model, (x[:2],)).apply(STEPS["groups"]).repair(x).to_module().eval()
    (var_then, mean_then), (var_now, mean_now) = (moments(m, "block1.bn2", x) for m in (model, module))
    old, new = model.block1.bn2, module.block1.bn2
    torch.testing.assert_close(new.running_mean, old.running_mean + mean_now - mean_then, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(new.running_var, old.running_var * var_now / var_then, rtol=1e-3, atol=1e-5)


def test_the_original_and_the_unrepaired_program_stay() -> None:
    model = randomized(Residual())
    x = image(32, 3, 8, 8)
    program = lm.import_model(model, (x[:2],))
    after = program.apply(STEPS["groups"])
    before = {name: value.clone() for name, value in after.parameters.items()}
    repaired = after.repair(x)
    assert all(torch.equal(value, before[name]) for name, value in after.parameters.items())
    assert repaired.steps == after.steps and str(repaired) == str(after)
    assert repaired.original is not None
    assert all(torch.equal(value, program.parameters[name]) for name, value in repaired.original.parameters.items())


def test_later_steps_keep_the_values_of_what_they_leave_alone() -> None:
    model = randomized(Residual())
    x = image(32, 3, 8, 8)
    repaired = lm.import_model(model, (x[:2],)).apply(STEPS["groups"]).repair(x)
    later = repaired.apply("morph-tile{layer=block1.conv2 iters=oh,ow sizes=4,4}")
    assert torch.equal(later.parameters["block1.conv2.weight"], repaired.parameters["block1.conv2.weight"])
    narrower = repaired.apply("morph-bottleneck{layer=block1.conv2 iter=kh factor=3}")
    assert narrower.parameters["block1.conv2.weight"].shape[2] == 1
    torch.testing.assert_close(lm.compile(narrower)(x[:2]), narrower.to_module().eval()(x[:2]), rtol=1e-4, atol=1e-4)


def test_batches_as_a_loader_gives_them() -> None:
    model = randomized(Residual())
    x, labels = image(48, 3, 8, 8), torch.zeros(48, dtype=torch.int64)
    program = lm.import_model(model, (x[:2],)).apply(STEPS["groups"])
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, labels), batch_size=20)
    whole, parts = program.repair(x), program.repair(loader)
    assert torch.equal(whole.parameters["block1.conv2.weight"], parts.parameters["block1.conv2.weight"])


@pytest.mark.parametrize("dimension", ["block1.conv2", "block1.conv1"], ids=["across the skip", "inside"])
def test_the_order_of_channels_makes_no_difference(dimension: str) -> None:
    """What a layer makes up for at a residual sum is told in the order in which the rewritten network has it."""
    model = randomized(Residual())
    x = image(64, 3, 8, 8)
    program = lm.import_model(model, (x[:2],))
    permuted = program.apply(f"morph-permute{{layer={dimension} iter=co order=3,1,4,0,5,7,2,6}}")
    with torch.no_grad():
        plain, other = (
            each.apply(STEPS["coarse"]).repair(x, EXACT).to_module().eval()(x) for each in (program, permuted)
        )
    torch.testing.assert_close(plain, other, rtol=1e-3, atol=1e-3)


def test_no_more_images_are_asked_for_than_fit_into_memory() -> None:
    program = lm.import_model(randomized(Residual()), (image(2, 3, 8, 8),))
    batches = (image(16, 3, 8, 8) for _ in itertools.count())
    settings = FitSettings(memory=50 * 8 * 10 * 10 * 4 * 8)  # 8 padded maps of 8 channels an image
    assert repair(program, program.apply(STEPS["groups"]), batches, settings).images == 50


# -- what is out of the ordinary


def repaired_layer(x: torch.Tensor, model: nn.Module | None = None) -> tuple[lm.Program, str]:
    program = lm.import_model(model or nn.Sequential(conv(8, 8, 3)).eval(), (x[:2],))
    found = repair(program, program.apply("morph-group{layer=0 iters=co,ci factor=2}"), x)
    (layer,) = found.layers
    return found.program, layer.note


def test_constant_channels_are_told() -> None:
    x = image(N, 8, SIZE, SIZE)
    x[:, 3] = 0
    program, note = repaired_layer(x)
    assert note == "9 of its inputs are always 0"
    assert program.parameters["0.weight"].isfinite().all()


def test_fewer_rows_than_unknowns_are_told() -> None:
    program, note = repaired_layer(image(1, 8, 4, 4))
    assert note == "fewer rows than unknowns"
    assert program.parameters["0.weight"].isfinite().all()


def test_rows_with_nan_are_left_out_and_told() -> None:
    x = image(N, 8, SIZE, SIZE)
    clean = x.clone()
    x[5] = torch.nan
    program, note = repaired_layer(x)
    assert note == f"{SIZE * SIZE} rows with NaN or infinities left out"
    assert program.parameters["0.weight"].isfinite().all()
    assert inherited_error(program.original, program, clean) < 1


def test_a_layer_that_runs_twice_is_left_as_it_is() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = conv(8, 8, 3), conv(8, 8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(torch.relu(self.b(torch.relu(self.a(x)))))

    x = image(N, 8, SIZE, SIZE)
    program = lm.import_model(Twice().eval(), (x[:2],))
    found = repair(program, program.apply("morph-group{layer=a iters=co,ci factor=2}"), x)
    notes = {layer.name: layer.note for layer in found.layers}
    assert notes == {"a": "", "b": "it runs more than once"}


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (torch.zeros(0, 3, 8, 8), "there are no images; at least one is needed"),
        ([], "there are no images; at least one is needed"),
        (torch.zeros(4, 3, 9, 8), r"\(4, 3, 9, 8\) torch.float32 was given; \(N, 3, 8, 8\) float32 is expected"),
        (torch.zeros(4, 3, 8, 8).double(), r"torch.float64 was given; \(N, 3, 8, 8\) float32 is expected"),
        ([()], r"nothing was given; \(N, 3, 8, 8\) float32 is expected"),
        (["images"], r"str was given"),
        (7, "int was given; a tensor or an iterable of batches is expected"),
    ],
    ids=["empty", "none", "shape", "dtype", "no tensor", "text", "number"],
)
def test_batches_that_do_not_fit_are_refused(batches: object, message: str) -> None:
    program = lm.import_model(randomized(Plain()), (image(2, 3, 8, 8),))
    with pytest.raises(ArgumentError, match=message):
        program.repair(batches)  # type: ignore[arg-type]


def test_blocks_come_in_any_number() -> None:
    """Every group size of a small layer, with the residuals growing with the number of groups."""
    x = image(N, 8, SIZE, SIZE)
    program = lm.import_model(nn.Sequential(conv(8, 8, 3)).eval(), (x[:2],))
    errors = [
        inherited_error(program, program.apply(f"morph-group{{layer=0 iters=co,ci factor={g}}}").repair(x, EXACT), x)
        for g in (2, 4, 8)
    ]
    assert all(a < b for a, b in itertools.pairwise(errors))
