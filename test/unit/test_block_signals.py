"""Block signals: they equal what hooks on whole networks find; which blocks are measured; what is missing is said."""

from __future__ import annotations

import copy
import gc
import math
import weakref
from typing import Any

import pytest
import torch
from factories import heads
from networks import Residual, image, randomized
from torch import nn
from torch.nn import functional
from trained_networks import pattern_batch

import loopmorph as lm
from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.data.batches import Batch
from loopmorph.pipelines.legality import block_signals
from loopmorph.pipelines.legality.block_signals import BLOCK_SIGNALS, BlockChange, BlockSignals
from loopmorph.pipelines.legality.changed_modules import changed_modules, module_texts
from loopmorph.pipelines.legality.fisher import fisher_potential
from loopmorph.pipelines.legality.recording import record
from loopmorph.pipelines.oracle.repair.block import repair_block
from loopmorph.pipelines.oracle.repair.repair import repair
from loopmorph.pipelines.training.task import Classification

GROUP1 = "morph-group{layer=block1.conv1 iters=co,ci factor=4}"
GROUP2 = "morph-group{layer=block2.conv2 iters=co,ci factor=4}"
FITTED_TO = pattern_batch(64, seed=3).images
BATCH = pattern_batch(48)  # more than one chunk, the last one smaller


@pytest.fixture(scope="module")
def original(trained: lm.Program) -> lm.Program:
    return trained


@pytest.fixture(scope="module")
def signals(original: lm.Program) -> BlockSignals:
    return BlockSignals(original, Classification(BATCH), "cpu", fitted_to=(FITTED_TO,))


def hooked(model: nn.Module, path: str, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The module's input, its output, and the gradient of the mean cross-entropy there."""
    found: list[torch.Tensor] = []

    def keep(_module: nn.Module, args: Any, output: torch.Tensor) -> None:
        output.retain_grad()
        found.extend((args[0].detach(), output))

    handle = model.get_submodule(path).register_forward_hook(keep)
    functional.cross_entropy(model(inputs), BATCH.labels).backward()
    handle.remove()
    given, output = found
    assert output.grad is not None
    return given, output.detach(), output.grad


def kl(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    log_p, log_q = before.double().log_softmax(1), after.double().log_softmax(1)
    return (log_p.exp() * (log_p - log_q)).sum(1)


def test_they_equal_what_hooks_on_the_whole_network_find(original: lm.Program, signals: BlockSignals) -> None:
    program = original.apply(GROUP2)
    found = signals.measure(program)
    model = copy.deepcopy(original.model)
    x, a, g = hooked(model, "block2", BATCH.images)
    with torch.no_grad():
        fitted_to = model.block1(functional.relu(model.bn1(model.conv1(FITTED_TO))))  # type: ignore[operator]
        block = repair_block(original, program, "block2", (fitted_to,), signals.settings).module
        change = block(x) - a
        before = model(BATCH.images)
        model.block2 = block
        divergence = kl(before, model(BATCH.images))
    residual = change.square().sum() / (a - a.mean((0, 2, 3), keepdim=True)).square().sum()
    fisher = (change * g).sum((1, 2, 3)).square().sum() / (2 * len(BATCH.images))
    assert [block.path for block in found.blocks] == ["block2"] and 0.01 < residual < 1
    expected = {"residual": float(residual), "fisher-change": float(fisher), "kl-block": float(divergence.mean())}
    assert {name: score.value for name, score in found.scores.items()} == pytest.approx(expected, 1e-4)
    error = float(divergence.std()) / math.sqrt(len(divergence))
    assert found.scores["kl-block"].error == pytest.approx(error, 1e-4)
    assert found.missing == {} and found.doubt == ""


def test_what_they_hold_is_free_at_once(original: lm.Program) -> None:
    """Of a large network it is gigabytes, which cannot wait for the garbage collector."""
    mine = BlockSignals(original, Classification(BATCH), "cpu", fitted_to=(FITTED_TO,))
    mine.measure(original.apply(GROUP2))
    seen = weakref.ref(mine)
    gc.collect()
    gc.disable()
    try:
        del mine
        assert seen() is None
    finally:
        gc.enable()


def test_a_change_that_takes_everything_away_is_fisher_potential(original: lm.Program) -> None:
    """With a' = 0 and one channel the formulas are the same: g is scaled as Fisher Potential's."""
    batch = Batch(BATCH.images, BATCH.labels, BATCH.classes, "")
    model = copy.deepcopy(original.model)
    _, a, g = hooked(model, "block2", batch.images)
    by_channel = (a * g).sum((2, 3)).square().sum() / (2 * len(a))
    nothing = BlockSignals(original, Classification(batch), "cpu", fitted_to=(FITTED_TO,))
    potential = fisher_potential(
        _Frozen(model), batch.images, batch.labels, probes=["model.block2"], reset=False, device="cpu"
    )
    assert potential.mean == pytest.approx(float(by_channel), 1e-4)
    whole = nothing._fisher_change("block2", [torch.zeros_like(c) for c in nothing._seen.modules["block2"].outputs])
    assert float(whole.mean()) == pytest.approx(float((a * g).sum((1, 2, 3)).square().mean() / 2), 1e-4)


class _Frozen(nn.Module):
    """A network that stays in eval mode."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.eval()

    def train(self, mode: bool = True) -> _Frozen:
        self.training = mode
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(x)
        return logits


def test_what_changes_nothing_measures_zero(original: lm.Program, signals: BlockSignals) -> None:
    none = signals.measure(original)
    assert none.blocks == () and {s.value for s in none.scores.values()} == {0.0}
    loops = signals.measure(original.apply("morph-interchange{layer=block1.conv1 order=n,co,oh,ow,kh,kw,ci}"))
    assert [b.path for b in loops.blocks] == ["block1"]
    assert all(s.value == pytest.approx(0, abs=1e-9) for s in loops.scores.values())


def test_sums_over_blocks_and_blocks_are_measured_once(original: lm.Program, signals: BlockSignals) -> None:
    one, other = (signals.measure(original.apply(text)) for text in (GROUP1, GROUP2))
    both = signals.measure(original.apply(f"{GROUP1},{GROUP2}"))
    assert both.blocks == (*one.blocks, *other.blocks)  # the very same: nothing was measured again
    for name in BLOCK_SIGNALS:
        assert both.scores[name].value == pytest.approx(one.scores[name].value + other.scores[name].value)
        each = one.blocks[0].values[name] + other.blocks[0].values[name]
        assert both.scores[name].error == pytest.approx(float(each.std()) / math.sqrt(len(each)))


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("morph-bottleneck{layer=block1.conv1 iter=co factor=2}", ["block1"]),
        ("morph-bottleneck{layer=conv1 iter=kw factor=3}", ["conv1"]),
        ("morph-bottleneck{layer=linear iter=ci factor=2}", ["linear"]),
        ("morph-bottleneck{layer=conv1 iter=co factor=2}", [""]),  # the residual stream, which blocks take and give
    ],
)
def test_which_blocks_are_measured(original: lm.Program, signals: BlockSignals, text: str, paths: list[str]) -> None:
    found = signals.measure(original.apply(text))
    assert [block.path for block in found.blocks] == paths
    assert all(0 < found.scores[name].value < math.inf for name in BLOCK_SIGNALS)


def test_the_whole_network_as_a_block_is_repair_and_joint_kl(original: lm.Program, signals: BlockSignals) -> None:
    program = original.apply("morph-bottleneck{layer=conv1 iter=co factor=2}")
    found = signals.measure(program)
    whole = repair(original, program, FITTED_TO, signals.settings, device="cpu").program.to_module().eval()
    with torch.no_grad():
        divergence = kl(original.model(BATCH.images), whole(BATCH.images))
    assert found.scores["kl-block"].value == pytest.approx(float(divergence.mean()), 1e-3)


def test_a_block_alone_is_repaired_as_the_network_repairs_it(original: lm.Program) -> None:
    """Where nothing before it has changed, a block's inputs are the original's in both."""
    program = original.apply(GROUP2)
    with torch.no_grad():
        model = original.model
        given = model.block1(functional.relu(model.bn1(model.conv1(FITTED_TO))))  # type: ignore[operator]
    alone = repair_block(original, program, "block2", (given,))
    whole = repair(original, program, FITTED_TO, device="cpu")
    assert [each.name for each in alone.layers] == ["block2.conv2", "block2.shortcut.0"]
    expected = whole.program.to_module().block2  # type: ignore[union-attr]
    for (name, mine), theirs in zip(alone.module.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4, msg=name)


def test_half_of_the_minibatch_is_repaired_on_by_default(original: lm.Program) -> None:
    program = original.apply(GROUP1)
    halves = BlockSignals(original, Classification(BATCH), "cpu").measure(program)
    rest = Batch(BATCH.images[24:], BATCH.labels[24:], BATCH.classes, "")
    given = BlockSignals(original, Classification(rest), "cpu", fitted_to=(BATCH.images[:24],)).measure(program)
    assert halves.scores == given.scores and len(halves.blocks[0].values["residual"]) == 24


def test_fewer_images_are_taken_where_all_would_take_too_much_memory(
    original: lm.Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = original.apply(GROUP1)
    first = Batch(BATCH.images[:12], BATCH.labels[:12], BATCH.classes, "")
    expected = BlockSignals(original, Classification(first), "cpu", fitted_to=(FITTED_TO[:16],)).measure(program)
    seen = [name for name, _ in original.model.named_modules() if not name.startswith(("block1.", "block2."))]
    one = record(original.model, (BATCH.images[:1],), seen).size
    monkeypatch.setattr(block_signals, "_MEMORY", one * (2 * len(BATCH.images) + len(FITTED_TO)) // 4)
    found = BlockSignals(original, Classification(BATCH), "cpu", fitted_to=(FITTED_TO,)).measure(program)
    assert found.scores == expected.scores and len(found.blocks[0].values["residual"]) == 12


def test_without_labels_there_is_no_loss(original: lm.Program) -> None:
    unlabelled = Batch(BATCH.images, None, BATCH.classes, "")
    found = BlockSignals(original, Classification(unlabelled), "cpu").measure(original.apply(GROUP1))
    assert set(found.scores) == {"residual", "kl-block"}
    assert found.missing == {"fisher-change": "there are no labels, and without them no loss"}


def test_a_model_without_logits() -> None:
    model, inputs = heads()
    original = lm.import_model(model, inputs)
    task = Classification(Batch(image(8), None, 0, ""))
    found = BlockSignals(original, task, "cpu").measure(original.apply("morph-group{layer=b iters=co,ci factor=4}"))
    assert [block.path for block in found.blocks] == ["b"] and set(found.scores) == {"residual"}
    assert found.missing["kl-block"] == "the model gives a dict, no logits (N, classes)"
    narrow = original.apply("morph-bottleneck{layer=b iter=co factor=2}")
    with pytest.raises(ArgumentError, match="the whole network, which takes or gives other than tensors"):
        BlockSignals(original, task, "cpu").measure(narrow)


def test_random_weights_are_doubted() -> None:
    original = lm.import_model(randomized(Residual(8, 4)), (BATCH.images[:1],))
    found = BlockSignals(original, Classification(BATCH), "cpu").measure(original.apply(GROUP1))
    assert found.doubt.startswith("the network is not trained: what is repaired to random weights")


def test_nan_in_the_original_is_doubted_and_no_traceback(original: lm.Program) -> None:
    model = copy.deepcopy(original.model)
    model.block1.bn2.running_var[0] = math.nan  # type: ignore[index,union-attr]
    broken = lm.import_model(model, (BATCH.images[:1],))
    found = BlockSignals(broken, Classification(BATCH), "cpu").measure(broken.apply(GROUP2))
    assert found.doubt == "the original gives NaN or infinities"
    assert all(math.isinf(score.value) and math.isnan(score.error) for score in found.scores.values())


def test_unknown_signals_and_too_few_images_are_refused(original: lm.Program, signals: BlockSignals) -> None:
    with pytest.raises(ArgumentError, match="'kl' is not known; known are residual, fisher-change, kl-block"):
        signals.measure(original, ["kl"])
    one = Batch(BATCH.images[:1], BATCH.labels[:1], BATCH.classes, "")
    with pytest.raises(ArgumentError, match="1 image was given; at least 2 are needed: one half is repaired on"):
        BlockSignals(original, Classification(one), "cpu")


def test_a_block_is_repaired_once_for_signals_that_are_asked_for_one_by_one(
    original: lm.Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = original.apply(f"{GROUP1},{GROUP2}")
    measuring = BlockSignals(original, Classification(BATCH), "cpu", fitted_to=(FITTED_TO,))
    at_once = BlockSignals(original, Classification(BATCH), "cpu", fitted_to=(FITTED_TO,)).measure(both)
    repaired: list[str] = []

    def counting(*arguments: Any) -> Any:
        repaired.append(arguments[2])
        return repair_block(*arguments)

    monkeypatch.setattr(block_signals, "repair_block", counting)
    scores = {name: measuring.measure(both, [name]).scores[name] for name in BLOCK_SIGNALS}
    assert scores == at_once.scores and repaired == ["block1", "block2"]


def test_layers_after_one_that_has_more_buffers_have_not_changed(original: lm.Program) -> None:
    """Values are numbered anew in each nest: what is before does not show."""
    before, after = map(module_texts, (original, original.apply("morph-partition{layer=conv1 iter=co parts=2}")))
    assert changed_modules(before, before) == []
    assert changed_modules(before, after) == ["conv1", "conv1.weight"]


def test_a_constant_and_a_parameter_are_part_of_the_text() -> None:
    class Two(nn.Module):
        def __init__(self, swapped: bool, slope: float) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
            self.swapped, self.slope = swapped, slope

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first = self.b(x) if self.swapped else self.a(x)
            return functional.leaky_relu(first, self.slope)

    plain, swapped, steeper = (
        module_texts(lm.import_model(Two(*how).eval(), (torch.zeros(1, 4),)))
        for how in ((False, 0.1), (True, 0.1), (False, 0.2))
    )
    assert changed_modules(plain, swapped) == ["a", "b"] and changed_modules(plain, steeper) == ["leaky_relu"]


def test_a_signal_that_was_not_asked_for_has_no_score(original: lm.Program, signals: BlockSignals) -> None:
    other = original.apply("morph-group{layer=block1.conv1 iters=co,ci factor=2}")
    (block,) = signals.measure(other, ["residual"]).blocks
    assert isinstance(block, BlockChange) and block.score("kl-block") is None
    residual = block.score("residual")
    assert residual is not None and residual.value > 0
