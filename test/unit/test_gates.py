"""Which gate a search has, and why: what was asked for, or what the network and the data allow."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch
from factories import heads, heads_loss
from networks import Residual, image
from PIL import Image
from search_fakes import candidate, judge
from trained_networks import ABOUT, calibration, pattern_batch, trained_residual

from loopmorph.passes.errors import ArgumentError, DataError, LoopmorphWarning
from loopmorph.passes.history import parse_steps
from loopmorph.pipelines.data.batches import Batch
from loopmorph.pipelines.data.held_out import TooFewImages, load_in_two, split_in_two
from loopmorph.pipelines.legality.block_harm import BlockHarm
from loopmorph.pipelines.legality.calibration import Calibration, CalibrationNetwork
from loopmorph.pipelines.legality.calibration_file import save_calibration, shipped_calibration
from loopmorph.pipelines.legality.predicted_loss import greatest_kl
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.program import Program, import_model
from loopmorph.pipelines.search.gates import Chosen, check_logits_for, choose_gate
from loopmorph.pipelines.search.settings import SearchSettings
from loopmorph.pipelines.training.task import make_task

GROUP = "morph-group{layer=block2.conv2 iters=co,ci factor=2}"
DEPTHWISE = "morph-depthwise{layer=block1.conv1}"
SAME = {"compression": 1.0}


@pytest.fixture(scope="module")
def program(trained: Program) -> Program:
    return trained


def chosen(program: Program, data: Batch | None, **settings: Any) -> Chosen:
    asked = SearchSettings(**settings)
    return choose_gate(program, make_task(program, data, 16, 0, None), data, 0, asked)


# ---- the default


def test_a_trained_network_with_images_is_repaired(program: Program) -> None:
    found = chosen(program, pattern_batch(200), repair_images=96, held_out=500)
    assert (found.gate.name, found.gate.reason) == (
        "repair",
        "the network is trained, and there are images to repair it with",
    )
    assert found.gate.together is not None and found.gate.together.limit == 1.0
    assert found.loss is not None and len(found.loss.fitted_to[0]) == 96
    assert len(found.loss.held_out.images) == 66  # a third of all
    everything = torch.cat([*found.loss.fitted_to, found.loss.held_out.images])
    assert len(everything.unique(dim=0)) == 162  # no image is in both


@pytest.mark.parametrize(
    ("count", "settings", "reason"),
    [
        (None, {}, "no images are given to repair a network with"),
        (200, {"inherit": "slice"}, "weights are inherited by 'slice', not repaired"),
        (100, {}, "holds 100 images; to repair with some and to judge on others, at least 128 are needed"),
    ],
)
def test_otherwise_fisher_and_why(
    program: Program, count: int | None, settings: dict[str, object], reason: str
) -> None:
    found = chosen(program, None if count is None else pattern_batch(count), **settings)
    assert found.gate.name == "fisher" and reason in found.gate.reason
    assert found.gate.alone == (found.gate.together,) and found.loss is None


def test_an_untrained_network_is_judged_by_fisher_or_with_a_warning() -> None:
    torch.manual_seed(0)
    random = import_model(Residual(classes=4).eval(), (image(),))
    assert chosen(random, pattern_batch(200)).gate.reason == "the network's weights are not trained"
    with pytest.warns(LoopmorphWarning, match=r"look untrained: .* says little of what training would give"):
        assert chosen(random, pattern_batch(200), legality="repair").gate.name == "repair"


def test_what_is_asked_for_is_taken(program: Program) -> None:
    for name in ("fisher", "repair", "none"):
        gate = chosen(program, pattern_batch(200), legality=name).gate
        assert (gate.name, gate.reason) == (name, "it was asked for")
    assert gate.alone == () and gate.together is None and gate.describe() == {"name": "none", "criteria": []}


def test_fisher_keeps_its_studies(program: Program) -> None:
    gate = chosen(program, pattern_batch(200), legality="fisher").gate
    assert gate.describe() == {"name": "fisher", "seed": 0, "repeats": 1, "loss": "cross-entropy"}


def test_a_study_depends_on_limit_calibration_and_images(program: Program) -> None:
    data = pattern_batch(200)
    variants: list[dict[str, object]] = [
        {},
        {"max_loss": 2.0},
        {"calibration": calibration()},
        {"calibration": calibration(13)},
        {"held_out": 64},
        {"repair_images": 80},
    ]
    told = [json.dumps(chosen(program, data, **each).gate.describe()) for each in variants]
    assert len(set(told)) == len(variants)
    assert json.dumps(chosen(program, data).gate.describe()) == told[0]
    assert json.dumps(chosen(program, pattern_batch(200, seed=5)).gate.describe()) not in told


# ---- the calibration's word


def test_the_greatest_kl_is_where_the_upper_end_reaches_the_limit() -> None:
    known = calibration(30)
    for limit in (1.0, 3.0):
        found = greatest_kl(known, limit)
        assert known.predict({"kl": found}).high <= limit < known.predict({"kl": found * 1.001}).high
    assert greatest_kl(known, 1000.0) == pytest.approx(0.6)  # beyond its networks nothing is known
    assert math.isinf(known.predict({"kl": 0.61}).high)


def test_a_limit_below_what_the_calibration_can_tell_is_refused(program: Program) -> None:
    with pytest.raises(ArgumentError, match=r"'max_loss': 1e-06 is not to be told apart .* expected no less"):
        chosen(program, pattern_batch(200), max_loss=1e-6)
    with pytest.raises(ArgumentError, match=r"'max_loss': .* of 4 networks .* lose up to inf points"):
        chosen(program, pattern_batch(200), calibration=calibration(4))
    other = Calibration(ABOUT, 90.0, tuple(CalibrationNetwork("", {"drop": float(k)}, 90.0 - k) for k in range(12)))
    with pytest.raises(ArgumentError, match=r"'calibration': it has no signal 'kl' .*; it has drop"):
        chosen(program, pattern_batch(200), calibration=other)


def test_a_calibration_comes_from_a_file(program: Program, tmp_path: Path) -> None:
    save_calibration(calibration(), tmp_path / "own.json")
    found = chosen(program, pattern_batch(200), calibration=tmp_path / "own.json")
    assert found.loss is not None and found.loss.calibration == calibration()
    (tmp_path / "damaged.json").write_text((tmp_path / "own.json").read_text()[:-40])
    with pytest.raises(DataError, match=r"damaged.json: is truncated or not JSON"):
        chosen(program, pattern_batch(200), calibration=tmp_path / "damaged.json")
    newer = (tmp_path / "own.json").read_text().replace('"version": 1', '"version": 2')
    (tmp_path / "newer.json").write_text(newer)
    with pytest.raises(DataError, match=r"newer.json: is a calibration of version 2; version 1 is read"):
        chosen(program, pattern_batch(200), calibration=tmp_path / "newer.json")


# ---- its verdicts


def test_a_tight_limit_refuses_what_a_loose_one_takes(program: Program) -> None:
    outcomes = {}
    for limit in (3.0, 0.35):
        gate = chosen(program, pattern_batch(200), max_loss=limit, repair_images=96, held_out=64).gate
        judging = judge(program, gate=gate)
        verdicts = [judging.judge(candidate(text)) for text in (GROUP, DEPTHWISE)]
        outcomes[limit] = [verdict.outcome for verdict in verdicts], judging.is_legal(parse_steps(DEPTHWISE))
        assert verdicts[0].score is not None and 0 <= verdicts[0].score < gate.alone[1].limit
    assert outcomes == {3.0: (["accepted", "accepted"], True), 0.35: (["accepted", "repair"], False)}
    refused = verdicts[1]
    assert refused.reason == f"KL of the block {refused.score:.6g} > {gate.alone[1].limit:.6g}"


def test_a_candidate_alone_is_held_against_what_a_network_that_saves_nothing_may_have(program: Program) -> None:
    """Calibration networks that were smaller lost more at the same KL: of a candidate alone nothing is held against."""
    networks = tuple(
        CalibrationNetwork("", {"kl": 0.02 * k, "compression": 1.0 + 3 * (k % 2)}, 90 - 0.2 * k - 4 * (k % 2))
        for k in range(1, 41)
    )
    known = Calibration(ABOUT, 90.0, networks)
    limit = greatest_kl(known, 3.0)
    assert known.predict({"kl": limit, "compression": 1.0}).high <= 3.0
    assert known.predict({"kl": limit, "compression": 4.0}).high > 3.0
    assert known.predict({"kl": limit * 1.001, "compression": 1.0}).high > 3.0
    gate = chosen(program, pattern_batch(200), calibration=known, max_loss=3.0).gate
    assert [each.limit for each in gate.alone] == [1.0, limit]


def test_what_a_constant_would_do_as_well_is_refused_by_its_block(program: Program) -> None:
    gate = chosen(program, pattern_batch(200), repair_images=96, held_out=64).gate
    residual = gate.alone[0]
    assert residual.admits(Score(1.0), Score(0.0)) and not residual.admits(Score(1.01), Score(0.0))
    refused = replace(gate, alone=(replace(residual, limit=1e-6), gate.alone[1]))
    verdict = judge(program, gate=refused).judge(candidate(DEPTHWISE))
    assert isinstance(residual.proxy, BlockHarm)
    found = residual.proxy.images.signals(program)
    (block,) = found.measure(program.apply(DEPTHWISE), ["residual"]).blocks
    assert verdict.outcome == "repair" and set(block.values) == {"residual"}  # its KL was not asked for
    assert verdict.reason == f"relative squared error of the block {verdict.score:.6g} > 1e-06"


def test_a_network_that_is_admitted_is_repaired_once(program: Program) -> None:
    data = pattern_batch(200)
    settings: dict[str, object] = {"max_loss": 3.0, "repair_images": 96, "held_out": 64}
    gate = chosen(program, data, **settings).gate
    judging = judge(program, gate=gate)
    neural = parse_steps("morph-bottleneck{layer=block2.conv1 iter=co factor=2}")
    assert judging.fitted(neural) is None and judging.is_legal(neural)
    fitted = pickle.loads(pickle.dumps(judging.fitted(neural)))
    loss = chosen(program, data, **settings).loss  # as another process has it
    assert loss is not None
    made = program.apply(f"{neural[0]},morph-split{{layer=linear iter=ci factor=4}}")
    restored, again = loss.restored(program, made, fitted), loss.repaired(program, made)
    assert restored.how == "repair" and restored.layers == again.layers and restored.errors == again.errors
    assert str(restored.program) == str(again.program) and "keep=" in restored.program.steps[0]
    for name, value in again.program.parameters.items():
        assert torch.equal(restored.program.parameters[name], value), name
    found = loss.measure(program, restored.program)
    assert fitted.judged.prediction == found.prediction and fitted.judged.comparison.kl == found.comparison.kl
    judging.is_legal(parse_steps(GROUP))
    assert judging.fitted(neural) is None  # the weights of the last one are kept alone
    tight = judge(program, gate=chosen(program, data, **{**settings, "max_loss": 0.35}).gate)
    assert not tight.is_legal(parse_steps(DEPTHWISE)) and tight.fitted(parse_steps(DEPTHWISE)) is None
    assert judge(program).fitted(neural) is None


def test_a_network_that_does_not_change_has_no_divergence(program: Program) -> None:
    gate = chosen(program, pattern_batch(200), legality="repair").gate
    assert gate.together is not None and [each.proxy.name for each in gate.alone] == ["residual", "kl-block"]
    assert all(each.proxy.score(program) == Score(0.0) for each in gate.alone)
    assert gate.together.proxy.score(program).value == shipped_calibration("").predict({"kl": 0.0, **SAME}).high


def test_an_original_that_overflows_admits_nothing() -> None:
    broken = trained_residual()
    with torch.no_grad():
        broken.linear.bias.fill_(math.inf)
    network = import_model(broken, (image(),))
    with pytest.warns(LoopmorphWarning, match="look untrained"):
        gate = chosen(network, pattern_batch(200), legality="repair").gate
    assert gate.together is not None
    score = gate.together.proxy.score(network)
    assert score.doubt == "the original gives NaN or infinities" and not gate.together.admits(Score(0.0), score)


def test_a_gate_travels_to_another_process(program: Program) -> None:
    gate = chosen(program, pattern_batch(200), legality="repair").gate
    there = pickle.loads(cloudpickle.dumps(gate))
    assert there.describe() == gate.describe()
    assert there.alone[1].proxy.score(program) == Score(0.0)
    assert there.alone[0].proxy.images is there.alone[1].proxy.images  # a block is repaired once for both


# ---- what is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"legality": "loss"}, "'legality': expected fisher, repair or none, got 'loss'"),
        ({"max_loss": 0.0}, r"'max_loss': expected a positive number of points, got 0\.0"),
        ({"max_loss": math.nan}, "'max_loss': expected a positive number of points, got nan"),
        ({"max_loss": math.inf}, "'max_loss': expected a positive number of points, got inf"),
        ({"held_out": 0}, "'held_out': expected an integer of at least 1, got 0"),
        ({"legality": "fisher", "calibration": "own.json"}, "'calibration': legality 'fisher' takes none"),
        ({"legality": "repair", "inherit": "mean"}, "'inherit': expected 'repair' or none, got 'mean'"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        SearchSettings(**settings).check()


def test_repair_says_what_is_missing(program: Program) -> None:
    with pytest.raises(ArgumentError, match=r"'data': none was given .*: legality 'repair' fits weights to images"):
        chosen(program, None, legality="repair")
    with pytest.raises(TooFewImages, match=r"the data: holds 127 images; .* at least 128 are needed"):
        chosen(program, pattern_batch(127), legality="repair")
    model, inputs = heads()
    message = r"'model': legality 'repair' compares predictions: expected logits .* legality 'fisher', with a loss"
    with pytest.raises(ArgumentError, match=message):
        check_logits_for(import_model(model, inputs), SearchSettings(legality="repair"))


def test_a_network_without_logits_is_judged_by_fisher() -> None:
    model, inputs = heads()
    network = import_model(model, inputs)
    data = pattern_batch(200)
    task = make_task(network, data, 16, 0, heads_loss)
    gate = choose_gate(network, task, data, 0, SearchSettings()).gate
    assert (gate.name, gate.reason) == ("fisher", "the network gives no logits that could be compared")


# ---- images in two parts


def saved(path: Path, count: int) -> Path:
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    np.savez(path, images=images, labels=np.arange(count) % 4)
    return path


@pytest.mark.parametrize(
    ("total", "count", "held_out", "sizes"),
    [(240, 100, 1000, (100, 80)), (240, 1000, 1000, (160, 80)), (240, 1000, 70, (170, 70)), (130, 512, 512, (66, 64))],
)
def test_the_parts_share_no_image(
    tmp_path: Path, total: int, count: int, held_out: int, sizes: tuple[int, int]
) -> None:
    path = saved(tmp_path / "data.npz", total)
    first, second = load_in_two(path, count=count, held_out=held_out, shape=(3, 4, 4), seed=3)
    assert (len(first.images), len(second.images)) == sizes
    again, _ = load_in_two(path, count=count, held_out=held_out, shape=(3, 4, 4), seed=3)
    assert torch.equal(first.images, again.images)
    order = torch.randperm(total, generator=torch.Generator().manual_seed(3))
    assert torch.equal(first.labels, order[: sizes[0]] % 4)
    assert torch.equal(second.labels, order[sizes[0] : sum(sizes)] % 4)


def test_a_test_part_is_what_is_held_out(tmp_path: Path, write_folder: Callable[[Path, int], None]) -> None:
    write_folder(tmp_path / "train", 3)
    write_folder(tmp_path / "test", 64)
    first, second = load_in_two(tmp_path, count=512, held_out=512, shape=(3, 4, 4))
    assert (len(first.images), len(second.images)) == (3, 64)
    (tmp_path / "test" / "a" / "0.png").unlink()
    with pytest.raises(
        TooFewImages, match=re.escape(f"{tmp_path / 'test'}: holds 63 images to test with; at least 64")
    ):
        load_in_two(tmp_path, count=512, held_out=512, shape=(3, 4, 4))


@pytest.fixture
def write_folder() -> Callable[[Path, int], None]:
    """Writes grey images of one class."""

    def write(folder: Path, count: int) -> None:
        (folder / "a").mkdir(parents=True)
        for k in range(count):
            Image.new("RGB", (4, 4), (k, k, k)).save(folder / "a" / f"{k}.png")

    return write


def test_a_batch_is_divided_in_its_order() -> None:
    batch = dataclasses.replace(pattern_batch(130), source="ours")
    first, second = split_in_two(batch, 512, 512)
    assert torch.equal(torch.cat([first.images, second.images]), batch.images)
    assert (len(second.images), second.source) == (64, "ours, 64 of them")
