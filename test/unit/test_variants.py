"""The table of variants: what it says of each, that it goes on where it was stopped, and what it refuses."""

from __future__ import annotations

import json
import math
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from joint_tables import table as table_of
from joint_tables import variant
from patterns import save_patterns
from search_fakes import judge
from trained_networks import pattern_batch

from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.passes.target.detect import native_target
from loopmorph.pipelines.data.batches import Batch
from loopmorph.pipelines.legality.block_signals import BlockChange, BlockSignals
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.search.judge import LocalJudge
from loopmorph.pipelines.search.performing import reply
from loopmorph.pipelines.search.variants import build, harm_job
from loopmorph.pipelines.search.variants.build import build_table
from loopmorph.pipelines.search.variants.footprint import footprints
from loopmorph.pipelines.search.variants.harm import FISHER_DROP, FisherHarm, choose_harm
from loopmorph.pipelines.search.variants.harm_job import GroupHarm, MakesGroupHarm
from loopmorph.pipelines.search.variants.kept import VariantFile
from loopmorph.pipelines.search.variants.table import VariantTable, read_table, write_table
from loopmorph.pipelines.search.variants.time_job import Timed
from loopmorph.pipelines.search.variants.together import Structure
from loopmorph.pipelines.search.workers.dispatcher import Dispatcher
from loopmorph.pipelines.search.workers.job import Job, failed_reply, job_text
from loopmorph.pipelines.search.workers.pool import Done, Lost, LostWorkerWarning, Pool
from loopmorph.pipelines.support.progress import Progress, silent
from loopmorph.pipelines.training.task import Classification, Task
from loopmorph.tools.cli import main

LIMIT = 2
BATCH = pattern_batch(64)
GROUP = "morph-group{layer=block1.conv1 iters=co,ci factor=2}"
SPATIAL = "morph-bottleneck{layer=block2.conv2 iter=oh factor=2}"
WIDTH = "morph-bottleneck{layer=conv1 iter=co factor=2}"

pytestmark = pytest.mark.usefixtures("python_handles_interrupts", "own_cache")


@pytest.fixture(scope="module")
def program(trained: Program) -> Program:
    return trained


def make(program: Program, task: Task | None = None, progress: Progress = silent, **more: Any) -> VariantTable:
    target = native_target()
    return build_table(
        program, task or Classification(BATCH), target, limit=LIMIT, device="cpu", progress=progress, **more
    )


@pytest.fixture(scope="module")
def table(program: Program) -> VariantTable:
    return make(program)


def given() -> VariantTable:
    """A table that nothing was measured for."""
    group = variant("block1.conv1", -1.5, 0.1, GROUP, "group", macs=-18432, parameters=-288)
    return table_of(replace(group, signals={"residual": 0.25}), variant("block2.conv2", -0.5, 0.2, SPATIAL, "spatial"))


def _value(block: BlockChange, signal: str) -> float:
    score = block.score(signal)
    assert score is not None
    return score.value


# --- the table


def test_what_the_table_says_holds(program: Program, table: VariantTable) -> None:
    assert table.complete and table.signal == "harm" and table.threads == 1
    assert table.original.macs == program.macs and table.original.milliseconds > 0
    assert len({each.steps for each in table.variants}) == len(table.variants) >= 5
    assert {"width", "width-bottleneck"} & {each.kind for each in table.variants}
    signals = BlockSignals(program, Classification(BATCH), "cpu")
    original = footprints(program)
    for each in table.variants[::3]:
        after = program.apply(",".join(each.steps))
        changed = footprints(after)
        assert each.layers == {n for n in {**original, **changed} if original.get(n) != changed.get(n)}
        assert each.change.macs == after.macs - program.macs
        assert each.change.milliseconds < 0
        blocks = signals.measure(after, ("fisher-change", "residual")).blocks
        fisher, residual = ([_value(block, name) for block in blocks] for name in ("fisher-change", "residual"))
        felt = sum((f * r) ** 0.5 for f, r in zip(fisher, residual, strict=True))
        assert each.loss == pytest.approx(felt, rel=1e-3)
        expected = {"fisher-change": sum(fisher), "residual": sum(residual)}
        assert each.signals == {name: pytest.approx(value, rel=1e-3) for name, value in expected.items()}


def test_a_second_run_measures_nothing(program: Program, table: VariantTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "RemoteJudge", None)
    monkeypatch.setattr(harm_job, "apply_together", None)
    assert make(program) == table


def test_an_interrupt_leaves_what_there_is_and_the_next_run_goes_on(
    program: Program, table: VariantTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_harm(tmp_path / VariantFile.file)
    monkeypatch.setenv("LOOPMORPH_CACHE", str(tmp_path))

    def interrupting(stage: str, done: int, of: int) -> None:
        if stage == "measure" and 0 < done < of:
            raise KeyboardInterrupt

    partial = make(program, progress=interrupting)
    assert not partial.complete and 0 < len(partial.variants) < len(table.variants)
    known = {each.steps: each for each in table.variants}
    for each in partial.variants:
        assert each == known[each.steps]
    assert make(program) == table


def test_what_takes_no_less_than_its_layers_usually_do_is_left_out(
    program: Program, table: VariantTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {",".join(each.steps) for each in table.variants}
    with closing(VariantFile()) as mine, closing(VariantFile(tmp_path)) as copied:
        rows = mine.execute("SELECT key, steps, content FROM variants")
        times = [(key, steps, json.loads(content)) for key, steps, content in rows if "refused" in content]
        of_several = [row for row in times if row[1] in known and len(row[2].get("layers", ())) > 1]
        key, steps, content = next(row for row in of_several if isinstance(row[2]["layers"][0], list))
        for row in rows:
            copied.execute("INSERT INTO variants VALUES (?, ?, ?)", *row)
        (first, before, *_), (second, usual, *_), *_ = content["layers"]
        slow = [[first, 1000 * before, 500 * before, 2, 1], [second, usual, usual + 100 * before, 2, 1]]
        assert Timed.from_json({"layers": slow, "refused": "", "final": True}).is_worth
        copied.put(key, steps, {"layers": slow, "refused": "", "final": True})
    monkeypatch.setenv("LOOPMORPH_CACHE", str(tmp_path))
    left = {",".join(each.steps) for each in make(program).variants}
    assert steps not in left and len(left) > len(known) / 2


@dataclass(eq=False)
class Place:
    """A place in this process, of which the first harm that it is to measure costs something."""

    judge: LocalJudge
    fate: str
    name: str = "the worker x"
    may_time: bool = True

    def begin(self, job: Job[Any], done: Done) -> None:
        text = job_text(job)
        fate, self.fate = self.fate, "good"
        if fate == "dies":
            done(Lost("killed by SIGKILL"))
        elif fate == "crashes":
            done(failed_reply(text, "killed by SIGSEGV"))
        else:
            told = reply(self.judge, text)
            done(told.replace('"residual": ', '"residual": NaN, "was": ') if fate == "lies" else told)

    def lost(self) -> str:
        return ""

    def close(self) -> None: ...


@pytest.mark.parametrize(("fate", "lost"), [("dies", 1), ("lies", 1), ("crashes", 0)])
def test_a_worker_that_is_lost_over_harm_costs_nothing(
    program: Program,
    table: VariantTable,
    fate: str,
    lost: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
) -> None:
    _without_harm(tmp_path / VariantFile.file)
    monkeypatch.setenv("LOOPMORPH_CACHE", str(tmp_path))
    judging = replace(judge(program), makes_harm=MakesGroupHarm(Classification(BATCH), 0, "cpu"))
    pool = Pool([Place(judging, fate), Place(judging, "good")])
    monkeypatch.setattr(build, "side_by_side", lambda *_: Dispatcher(lambda: pool))
    made = make(program)
    assert [each.category for each in recwarn] == [LostWorkerWarning] * lost
    assert without_losses(made) == without_losses(table)
    for each, expected in zip(made.variants, table.variants, strict=True):
        assert each.loss == pytest.approx(expected.loss, rel=1e-3)  # those that were measured again were so singly
        assert each.signals == pytest.approx(expected.signals, rel=1e-3)


def test_two_processes_make_the_table_that_this_one_makes(
    program: Program, table: VariantTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All times but one are known, so that the tables can be compared."""
    _without_harm(tmp_path / VariantFile.file)
    with closing(VariantFile(tmp_path)) as file:
        timed = {steps for (steps,) in file.execute("SELECT steps FROM variants WHERE content LIKE '%final%'")}
        again = next(each.steps for each in table.variants if ",".join(each.steps) in timed)
        file.execute("DELETE FROM variants WHERE steps = ? AND content LIKE '%final%'", ",".join(again))
    monkeypatch.setenv("LOOPMORPH_CACHE", str(tmp_path))
    monkeypatch.setattr(build, "RemoteJudge", None)
    monkeypatch.setattr(GroupHarm, "measure", None)
    made = make(program, jobs=2)
    known = {each.steps: each for each in table.variants if each.steps != again}
    found = {each.steps: each for each in made.variants if each.steps != again}
    assert found.keys() == known.keys()
    for steps, each in found.items():
        assert each.loss == pytest.approx(known[steps].loss, rel=1e-3)
        assert each.signals == pytest.approx(known[steps].signals, rel=1e-3)
        assert each.change.milliseconds == pytest.approx(known[steps].change.milliseconds, rel=0.5)
    with closing(VariantFile(tmp_path)) as file:
        rows = file.execute("SELECT content FROM variants WHERE steps = ?", ",".join(again))
    assert [Timed.from_json(json.loads(text)).layers for (text,) in rows if "final" in text]


def without_losses(made: VariantTable) -> VariantTable:
    return replace(made, variants=tuple(replace(each, loss=0.0, signals={}) for each in made.variants))


def _without_harm(path: Path) -> None:
    """Makes a file of what this module's cache holds, but for the harm that was measured."""
    with closing(VariantFile()) as known, closing(VariantFile(path.parent)) as copied:
        for row in known.execute("SELECT * FROM variants WHERE content NOT LIKE '%scores%'"):
            copied.execute("INSERT INTO variants VALUES (?, ?, ?)", *row)


def test_of_a_network_that_is_not_trained_the_loss_of_fisher_potential_counts(program: Program) -> None:
    task = Classification(replace(BATCH, labels=BATCH.labels.roll(1)))  # it tells none of these right
    harm = choose_harm(program, task, 0, "cpu")
    assert harm.signal == FISHER_DROP and harm.together == 1
    after = program.apply(GROUP)
    ((scores,)) = harm.measure(after, [["block1.conv1"]]) or [{}]
    assert isinstance(harm, FisherHarm)
    original = harm.proxy.score(program).value
    assert scores[FISHER_DROP] == pytest.approx(max(0.0, 1 - scores["fisher"] / original))
    assert harm.measure(after, [["block1.conv1"], ["block2.conv1"]]) is None


def test_without_labels_the_residual_counts(program: Program) -> None:
    task = Classification(Batch(BATCH.images, None, 0, "images"))
    assert choose_harm(program, task, 0, "cpu").signal == "residual"


def test_variants_of_one_block_are_not_told_apart(program: Program) -> None:
    harm = choose_harm(program, Classification(BATCH), 0, "cpu")
    after = program.apply(f"{GROUP},morph-group{{layer=block1.conv2 iters=co,ci factor=2}}")
    assert harm.measure(after, [["block1.conv1"], ["block1.conv2"]]) is None
    (scores,) = harm.measure(after, [["block1.conv1", "block1.conv2"]]) or [{}]
    assert all(0 < value < math.inf for value in scores.values())


# --- files


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    for written in (given(), replace(given(), complete=False)):
        write_table(written, tmp_path / "t.json")
        assert read_table(tmp_path / "t.json") == written
    (tmp_path / "t.json").write_text("[]")
    with pytest.raises(DataError, match="is no table of variants"):
        read_table(tmp_path / "t.json")


@pytest.mark.parametrize("content", ["[1]", "{", '{"layers": 3}'])
def test_what_somebody_else_has_written_to_the_file_is_not_taken(content: str, tmp_path: Path) -> None:
    file = VariantFile(tmp_path)
    file.put("key", "steps", {"layers": ["a"]})
    assert file.get("key", "steps") == {"layers": ["a"]} and file.get("key", "other") is None
    file.execute("UPDATE variants SET content = ?", content)
    assert build._read(Structure.from_json, file.get("key", "steps")) is None
    file.close()


# --- what is refused


def test_a_transformed_network_and_bad_counts_are_refused(program: Program) -> None:
    task = Classification(BATCH)
    with pytest.raises(ArgumentError, match="'original': expected a network as it was imported"):
        build_table(program.apply(GROUP), task, native_target())
    with pytest.raises(ArgumentError, match="'limit': expected an integer of at least 1, got 0"):
        build_table(program, task, native_target(), limit=0)
    with pytest.raises(ArgumentError, match="expected a positive number of threads, got 0"):
        build_table(program, task, native_target(), threads=0)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    save_patterns(tmp_path / "d.npz", 64, seed=2)
    monkeypatch.setattr("loopmorph.pipelines.search.variants.build.build_table", lambda *_, **__: given())
    out = tmp_path / "table.json"
    assert (
        main(["variants", "factories:trained", "--data", str(tmp_path / "d.npz"), "-o", str(out), "--images", "64"])
        == 0
    )
    printed = capsys.readouterr().out
    assert "2 variants" in printed and "block1.conv1" in printed and f"written to {out}" in printed
    assert read_table(out) == given()
    assert main(["variants", "factories:trained", "--data", str(tmp_path / "none")]) == 1
    assert main(["variants", "factories:trained", "-o", str(tmp_path / "no" / "t.json")]) == 1
    assert "there is no folder" in capsys.readouterr().err
