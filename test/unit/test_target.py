"""Targets: named, spelt and read back, detected, and what code for another one is."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import loopmorph as lm
from loopmorph.passes.errors import ArgumentError, CompilationFailed
from loopmorph.passes.target import detect
from loopmorph.passes.target.detect import native_target, resolve_target
from loopmorph.passes.target.target import Target, accepted_names, named_target, parse_target
from loopmorph.pipelines.measure import figures
from loopmorph.pipelines.measure import target as measured
from loopmorph.pipelines.measure.peak import Kernel
from loopmorph.pipelines.measure.target import measure_target, this_computer
from loopmorph.pipelines.store.cache_file import computer
from loopmorph.tools.cli import main


@given(
    st.sampled_from(accepted_names()),
    st.sampled_from([4, 8, 16]),
    st.integers(1, 1 << 34),
    st.floats(0.01, 100.0),
    st.integers(1, 512),
)
def test_text_and_back(name: str, lanes: int, l2: int, figure: float, cores: int) -> None:
    same = dict.fromkeys(("balance", "peak", "l2_balance", "l3_balance", "load_cost", "scalar_cost", "wide"), figure)
    target = dataclasses.replace(named_target(name), lanes=lanes, l2_bytes=l2, cores=cores, in_flight=cores, **same)
    assert parse_target(str(target)) == target


@pytest.mark.parametrize(
    ("name", "lanes", "registers", "arch"),
    [
        ("x86_64", 4, 16, "x86_64"),
        ("haswell", 8, 16, "x86_64"),
        ("zen4", 16, 32, "x86_64"),
        ("zen5", 16, 32, "x86_64"),
        ("neoverse_v1", 4, 32, "aarch64"),
    ],
)
def test_what_a_name_stands_for(name: str, lanes: int, registers: int, arch: str) -> None:
    target = named_target(name)
    assert (target.lanes, target.registers, target.arch) == (lanes, registers, arch)


def test_this_computer_is_what_the_system_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_target() == resolve_target("native") == native_target()
    assert resolve_target("native+l2=3M") == dataclasses.replace(native_target(), l2_bytes=3 << 20)
    for index, (kind, level, size) in enumerate(
        [("Data", "1", "48K"), ("Instruction", "1", "64K"), ("Unified", "2", "2M")]
    ):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, text in (("type", kind), ("level", level), ("size", size)):
            (folder / name).write_text(text + "\n")
    (tmp_path / "index9").mkdir()  # says nothing
    monkeypatch.setattr(detect, "_CACHES", tmp_path)
    assert detect.cache_sizes() == {1: 48 << 10, 2: 2 << 20}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zen55", "no processor 'zen55' is known; did you mean 'zen5'"),
        ("power9le", "no processor 'power9le' is known.*accepted are native and"),
        ("zen5+l4=1M", "expected NAME.KEY=VALUE with a key of lanes.*, got 'l4=1M'"),
        ("zen5+l2=many", "'l2=many': expected a positive number"),
        ("zen5+balance=-1", "'balance=-1': expected a positive number"),
        ("zen5+wide=-2", "'wide=-2': expected a positive number"),
    ],
)
def test_a_text_that_names_no_target(text: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        resolve_target(text)
    with pytest.raises(ArgumentError, match=message):
        lm.compile(nn.Linear(2, 2), (torch.zeros(1, 2),), target=text)


def test_code_for_narrower_vectors_computes_the_same() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()).eval(), torch.randn(1, 16, 6, 6)
    for target in ("x86_64_v2", "x86_64_v3") if native_target().arch == "x86_64" else ("aarch64",):
        compiled = lm.compile(model, (x,), target=target)
        torch.testing.assert_close(compiled(x), model(x).detach(), rtol=1e-4, atol=1e-5)


def test_code_for_another_instruction_set_is_refused() -> None:
    other = "neoverse_v1" if native_target().arch == "x86_64" else "zen4"
    with pytest.raises(CompilationFailed, match="cannot run on this computer"):
        lm.compile(nn.Linear(4, 4).eval(), (torch.zeros(1, 4),), target=other)


def test_what_was_measured_is_known_from_then_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPMORPH_CACHE", str(tmp_path))
    assert this_computer() == native_target()
    assert not list(tmp_path.iterdir())  # asking leaves nothing behind
    found = {"balance": 2.0, "in_flight": 8}
    monkeypatch.setattr(measured, "measure_figures", lambda: dict(found))
    first = measure_target()
    assert this_computer() == first == dataclasses.replace(native_target(), **found)
    found["balance"] = 2.3  # much the same: what is compiled stays
    assert measure_target() == first
    found["balance"] = 4.0
    assert measure_target().balance == this_computer().balance == 4.0


def test_what_another_version_has_measured_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPMORPH_CACHE", str(tmp_path))
    with closing(measured.TargetFile()) as file:
        file.execute("INSERT INTO measured VALUES (?, ?)", computer(), "zen4+l9balance=3")
    assert this_computer() == native_target()


def test_figures_are_those_of_a_computer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "_sizes", lambda _: (8 << 10, 32 << 10, 64 << 10, 1 << 20))
    monkeypatch.setattr(figures, "_STEPS", 2000)
    monkeypatch.setattr(figures, "_SAMPLES", 2)
    found = figures.measure_figures()
    assert all(value > 0 for name, value in found.items() if name != "wide")
    assert found["load_cost"] >= 1 and (found["wide"] > 0) == (native_target().lanes == 16)
    dataclasses.replace(native_target(), **found)  # type: ignore[arg-type]  # each is a field


def test_reading_adds_up_all_that_is_there() -> None:
    unit = native_target()
    data, sums = (np.ones(n * 8 * unit.lanes, np.float32) for n in (3, 1))
    Kernel(figures.read_kernel(unit, data.size, repeats=2)).bind(data, sums)()
    np.testing.assert_array_equal(sums, np.full_like(sums, 3.0))  # halves, 3 of them, twice


def test_threads_share_what_memory_delivers() -> None:
    target = parse_target("zen4+balance=2.0+teambalance=6.0+cores=4")
    assert [target.shared_by(n).balance for n in (1, 2, 4, 8)] == [2.0, 3.0, 6.0, 6.0]
    assert target.bandwidth(2.0) == pytest.approx(target.peak / 4)


def test_the_command_shows_a_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["target", "zen4+l2=512K"]) == 0
    out = capsys.readouterr().out
    assert "zen4+l2=512K" in out and "32 registers of 16 float32 lanes" in out and "L2 512 KiB" in out
    assert "512 bits   2.0 times the speed of 256 bits" in out
    assert main(["target"]) == 0
    assert str(this_computer()) in capsys.readouterr().out
    assert main(["target", "zen4", "--measure"]) == 1
    assert "argument 'measure': only this computer can be measured" in capsys.readouterr().err


def test_the_models_ask_the_target() -> None:
    """A smaller cache, or slower memory, leads to other register blocks."""
    torch.manual_seed(0)
    model, x = nn.Conv2d(256, 256, 3, padding=1).eval(), torch.randn(1, 256, 8, 8)
    fast: Target = named_target("x86_64_v4")
    starved = dataclasses.replace(fast, balance=200.0)
    schedules = {lm.compile(model, (x,), target=target).schedule for target in (fast, starved)}
    assert len(schedules) == 2
