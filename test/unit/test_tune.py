"""Tuning: right numbers, what is measured and when, and the cache of what was found."""

from __future__ import annotations

import dataclasses
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torch_mlir import ir

import loopmorph as lm
from loopmorph.passes.analysis.choice import Choice
from loopmorph.passes.lowering.anonymous_layer import anonymous_text
from loopmorph.passes.lowering.extract_layer import extract_layer
from loopmorph.passes.lowering.to_llvm import layout_passes
from loopmorph.passes.marks import recorded_steps
from loopmorph.passes.scheduling.default_schedule import DefaultSchedule
from loopmorph.passes.target.detect import native_target
from loopmorph.passes.target.target import named_target
from loopmorph.pipelines.measure.worker import Worker
from loopmorph.pipelines.store.cache_file import computer
from loopmorph.pipelines.tuning.choice_cache import ChoiceCache, Found
from loopmorph.pipelines.tuning.race import Alternatives, Race, alternatives, with_choice
from loopmorph.pipelines.tuning.tune import tune
from loopmorph.tools.cli import main

LANES = native_target().lanes
ENOUGH = 120.0


@pytest.fixture(scope="module")
def program() -> lm.Program:
    """Two layers with two register blocks each, and one that is too small for vectors."""
    torch.manual_seed(0)
    same = [nn.Conv2d(LANES, LANES, 1, bias=False) for _ in range(2)]
    model = nn.Sequential(*same, nn.ReLU(), nn.Conv2d(LANES, 1, 1, bias=False)).eval()
    return lm.import_model(model, (torch.randn(1, LANES, 1, 2),))


@pytest.fixture(scope="module")
def text(program: lm.Program) -> str:
    return anonymous_text(extract_layer(program.module.operation, "0", closed=True))


@pytest.fixture
def worker() -> Iterator[Worker]:
    with Worker() as worker:
        yield worker


def tuned(program: lm.Program, worker: Worker, folder: Path, seconds: float = ENOUGH) -> tuple[str, ...]:
    cache = ChoiceCache(folder)
    try:
        return tune(program, seconds, worker, cache).steps
    finally:
        cache.close()


def test_a_tuned_network_computes_the_same(
    program: lm.Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOPMORPH_CACHE", str(tmp_path))
    x = program.example_inputs[0]
    executable = lm.compile(program, tune=ENOUGH)
    torch.testing.assert_close(executable(x), program.model(x).detach(), rtol=1e-4, atol=1e-5)
    assert executable.schedule.count('"morph.choose"') == 2
    assert lm.compile(program, schedule=executable.schedule).schedule == executable.schedule


def test_what_was_found_is_not_measured_again(program: lm.Program, worker: Worker, tmp_path: Path) -> None:
    first = tuned(program, worker, tmp_path)
    assert [step.split()[0] for step in first] == ["morph-choose{layer=0", "morph-choose{layer=1"]
    with Worker() as idle:
        assert tuned(program, idle, tmp_path, seconds=1e-9) == first
        assert tuned(program, idle, tmp_path) == first
        assert idle.pid is None


def test_without_time_nothing_is_chosen(program: lm.Program, worker: Worker, tmp_path: Path) -> None:
    assert tuned(program, worker, tmp_path, seconds=1e-9) == ()
    assert worker.pid is None


def test_what_is_chosen_or_scheduled_by_hand_stays(program: lm.Program, worker: Worker, tmp_path: Path) -> None:
    by_hand = program.apply("morph-choose{layer=0 block=1x1x1},morph-interchange{layer=1 order=n,oh,ow,co,ci,kh,kw}")
    assert tuned(by_hand, worker, tmp_path) == by_hand.steps
    assert worker.pid is None


def test_alternatives_of_a_3x3_convolution() -> None:
    convolution = nn.Conv2d(LANES, LANES, 3, padding=1)
    program = lm.import_model(convolution.eval(), (torch.randn(1, LANES, 4, 4),))
    (layer,) = [layer.name for layer in program.layers if layer.macs]
    found = alternatives(anonymous_text(extract_layer(program.module.operation, layer, closed=True)), native_target())
    assert found is not None and found.model in found.fitting
    assert list(found.choices) == ["direct", "winograd2", "winograd4"]


def test_alternatives_of_a_batch_fit_the_chunks_that_the_schedule_makes() -> None:
    """Of seven images and more than the caches hold, one chunk is an image of 49 tiles, not 343."""
    convolution = nn.Conv2d(2 * LANES, 2 * LANES, 3, padding=1)
    program = lm.import_model(convolution.eval(), (torch.randn(7, 2 * LANES, 28, 28),))
    (layer,) = [layer.name for layer in program.layers if layer.macs]
    target = dataclasses.replace(native_target(), l2_bytes=1 << 19, l3_bytes=1 << 22)
    text = anonymous_text(extract_layer(program.module.operation, layer, closed=True))
    found = alternatives(text, target)
    assert found is not None
    for choice in found.choices["winograd4"][:3]:
        with ir.Context() as context, ir.Location.unknown():
            context.allow_unregistered_dialects = True
            module = ir.Module.parse(with_choice(text, choice))
            for step in (*layout_passes(target), DefaultSchedule(target=str(target))):
                step.run(module.operation)
            assert any("morph-fuse-nests" in step for step in recorded_steps(module.operation))


def test_the_model_of_several_threads_is_what_the_schedule_chooses() -> None:
    """Of 46 vectors of channels each of two threads takes 23, of which a block of 4 leaves some over."""
    target = named_target("x86_64_v3")
    program = lm.import_model(nn.Conv2d(64, 368, 1).eval(), (torch.randn(1, 64, 7, 7),))
    (layer,) = [layer.name for layer in program.layers if layer.macs]
    text = anonymous_text(extract_layer(program.module.operation, layer, closed=True))
    found = alternatives(text, target, threads=2)
    with ir.Context() as context, ir.Location.unknown():
        context.allow_unregistered_dialects = True
        module = ir.Module.parse(text)
        for step in (*layout_passes(target), DefaultSchedule(target=str(target), threads=2)):
            step.run(module.operation)
        chosen = [step for step in recorded_steps(module.operation) if "morph-choose" in step]
    assert found is not None and found.model.block == "1x3x4"
    assert len(chosen) == 1 and f"block={found.model.block}" in chosen[0]


def test_an_alternative_that_fails_drops_out(text: str, worker: Worker) -> None:
    good, bad = Choice("direct", "1x1x1"), Choice("direct", "1x7x7")
    race = Race(text, Alternatives(good, {"direct": [good, bad, Choice("direct", "1x2x1")]}))
    deadline = time.monotonic() + ENOUGH
    while race.stages < race.all_stages:
        assert race.advance(worker, deadline)
    assert race.best.block in ("1x1x1", "1x2x1")


def test_a_race_out_of_time_keeps_the_model(text: str, worker: Worker) -> None:
    model, other = Choice("direct", "1x1x1"), Choice("direct", "1x2x1")
    race = Race(text, Alternatives(model, {"direct": [other, model]}))
    assert not race.advance(worker, time.monotonic())
    assert (race.best, race.stages) == (model, 0)


def test_a_corrupt_cache_is_ignored_with_a_warning(program: lm.Program, worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "timings.sqlite3").write_bytes(b"this is no data base" * 100)
    with pytest.warns(UserWarning, match="is corrupt .*begun anew"):
        assert tuned(program, worker, tmp_path, seconds=1e-9) == ()


def test_a_foreign_table_is_ignored_with_a_warning(program: lm.Program, worker: Worker, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "timings.sqlite3") as connection:
        connection.execute("CREATE TABLE choices (something TEXT)")
    with pytest.warns(UserWarning, match="no such column"):
        assert tuned(program, worker, tmp_path, seconds=1e-9) == ()


def change(folder: Path, assignment: str) -> None:
    with sqlite3.connect(folder / "timings.sqlite3") as connection:
        assert connection.execute(f"UPDATE choices SET {assignment}").rowcount > 0


def test_entries_that_cannot_be_right_are_ignored_with_a_warning(
    program: lm.Program, worker: Worker, tmp_path: Path
) -> None:
    tuned(program, worker, tmp_path)
    change(tmp_path, "computer = 'Another CPU'")
    with pytest.warns(UserWarning, match="measured on another computer .*Another CPU.* is ignored"):
        assert tuned(program, worker, tmp_path, seconds=1e-9) == ()
    change(tmp_path, f"computer = '{computer()}', block = '1x9x9'")
    with pytest.warns(UserWarning, match="is ignored: layer '[01]' does not admit direct 1x9x9"):
        assert tuned(program, worker, tmp_path, seconds=1e-9) == ()


def test_choices_are_kept_by_number_of_threads(tmp_path: Path) -> None:
    cache, found = ChoiceCache(tmp_path), Found(Choice("direct", "1x4x4"), ("direct",))
    cache.put("nest", 1, found)
    cache.close()
    again = ChoiceCache(tmp_path)
    assert (again.get("nest", 1), again.get("nest", 2)) == (found, None)
    again.close()


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf"), True, "20"])
def test_wrong_seconds(program: lm.Program, seconds: float) -> None:
    with pytest.raises(lm.ArgumentError, match="'tune': expected a positive number of seconds, got"):
        lm.compile(program, tune=seconds)


@pytest.mark.parametrize("command", ["bench", "optimize"])
def test_the_commands_refuse_wrong_seconds(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "resnet18", "--tune", "-1"]) == 1
    assert "argument 'tune': expected a positive number of seconds, got -1.0" in capsys.readouterr().err
    assert main([command, "resnet18", "--tune", "long"]) == 2
