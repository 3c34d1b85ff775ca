"""The cache of compiled networks: the same code again, and nothing that is not surely right."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import loopmorph as lm
from loopmorph.passes.target.detect import native_target
from loopmorph.pipelines.codegen.jit import Jitted
from loopmorph.pipelines.codegen.library import Library, LibraryError, link
from loopmorph.pipelines.codegen.lowered import lower
from loopmorph.pipelines.codegen.native import native_code
from loopmorph.pipelines.network import copy_module
from loopmorph.pipelines.store import code_cache as module
from loopmorph.pipelines.store.code_cache import CodeCache, Entry, key_of

SHAPE = (1, 3, 4, 4)
BUILD = """
import sys, torch, loopmorph as lm
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.ReLU()).eval()
executable = lm.compile(model, (torch.zeros(1, 3, 4, 4),))
print(executable.cached, executable(torch.ones(1, 3, 4, 4)).double().sum().item())
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("LOOPMORPH_CACHE", str(tmp_path))
    monkeypatch.delenv("LOOPMORPH_CODE_CACHE", raising=False)
    return tmp_path


def network(channels: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, channels, 1), nn.BatchNorm2d(channels), nn.ReLU()).eval()


def build(model: nn.Module | None = None, threads: int = 1) -> lm.Executable:
    return lm.compile(model or network(), (torch.zeros(SHAPE),), threads=threads)


def object_file(program: lm.Program) -> bytes:
    lowered = lower(copy_module(program.module), native_target())
    code = Jitted(lowered)
    native_code(code, lowered.interface)
    return code.object_file()


def code_key(program: lm.Program) -> str:
    return key_of("code", str(native_target()), "1", str(program.module))


def stored(folder: Path) -> list[tuple[str, bytes]]:
    with sqlite3.connect(folder / "code.sqlite3") as connection:
        return connection.execute("SELECT about, content FROM code ORDER BY key").fetchall()


def change(folder: Path, column: str) -> None:
    """Turns one bit of a column of all entries."""
    with sqlite3.connect(folder / "code.sqlite3") as connection:
        for key, value in connection.execute(f"SELECT key, {column} FROM code").fetchall():
            data = bytearray(value if isinstance(value, bytes) else value.encode())
            data[len(data) // 2] ^= 1
            changed = bytes(data) if isinstance(value, bytes) else data.decode()
            connection.execute(f"UPDATE code SET {column} = ? WHERE key = ?", (changed, key))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_second_build_finds_the_code_and_computes_the_same(folder: Path, threads: int) -> None:
    if threads > (os.cpu_count() or 1):
        pytest.skip("fewer processors than threads")
    x, model = torch.randn(SHAPE), network()
    first, second = build(model, threads), build(model, threads)
    assert (first.cached, second.cached) == (False, True)
    assert torch.equal(first(x), second(x))
    torch.testing.assert_close(second(x), model(x).detach(), rtol=1e-4, atol=1e-5)
    assert second.schedule == first.schedule
    assert str(second.program) == str(first.program)


def test_the_code_that_is_kept_is_the_code_that_is_compiled(folder: Path) -> None:
    program = lm.import_model(network(), (torch.zeros(SHAPE),))
    lm.compile(program)
    cache = CodeCache()
    entry = cache.get(code_key(program))
    cache.close()
    assert entry is not None and entry.content == link(object_file(program))


def test_other_weights_use_the_same_code(folder: Path) -> None:
    build()
    other, x = network(), torch.randn(SHAPE)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5)
    executable = build(other)
    assert executable.cached
    torch.testing.assert_close(executable(x), other(x).detach(), rtol=1e-4, atol=1e-5)


def test_another_network_threads_or_schedule_are_told_apart(folder: Path) -> None:
    build()
    assert not build(network(4)).cached
    assert not lm.compile(network(), (torch.zeros(1, 3, 5, 5),)).cached
    schedule = "morph-interchange{layer=0 order=n,oh,ow,co,ci,kh,kw}"
    by_hand = [lm.compile(network(), (torch.zeros(SHAPE),), schedule=schedule) for _ in range(2)]
    assert [each.cached for each in by_hand] == [False, True]
    if (os.cpu_count() or 1) > 1:
        assert not build(threads=2).cached


def test_what_another_computer_or_version_left_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build()
    for number, value in enumerate(("Another CPU", "flags: other", "9.9.9", "other sources")):
        with monkeypatch.context() as patch:
            versions = list(module._versions())
            versions[number] = value
            patch.setattr(module, "_versions", lambda known=tuple(versions): known)
            assert not build().cached
    assert build().cached


def test_the_variable_turns_it_off(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPMORPH_CODE_CACHE", "0")
    assert not build().cached and not build().cached
    assert not (folder / "code.sqlite3").exists()


def test_a_corrupt_file_is_begun_anew_with_a_warning(folder: Path) -> None:
    (folder / "code.sqlite3").write_bytes(b"this is no data base" * 100)
    with pytest.warns(UserWarning, match="cache of compiled networks .* is corrupt .*begun anew"):
        assert not build().cached
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert build().cached


@pytest.mark.parametrize("column", ["content", "about"])
def test_a_changed_entry_is_ignored_with_a_warning(folder: Path, column: str) -> None:
    expected = build()(torch.ones(SHAPE))
    change(folder, column)
    with pytest.warns(UserWarning, match="an entry of the cache of compiled networks .* is ignored: its check sum"):
        again = build()
    assert not again.cached and torch.equal(again(torch.ones(SHAPE)), expected)
    assert build().cached


def test_an_entry_that_is_no_code_is_ignored_with_a_warning(folder: Path) -> None:
    program = lm.import_model(network(), (torch.zeros(SHAPE),))
    cache = CodeCache()
    cache.put(code_key(program), Entry({"steps": [], "arguments": {}}, b"no code" * 20))
    cache.close()
    with pytest.warns(UserWarning, match="is ignored: it cannot be loaded"):
        assert not lm.compile(program).cached
    assert lm.compile(program).cached


def test_a_folder_that_cannot_be_used_only_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("LOOPMORPH_CACHE", str(tmp_path / "file"))
    monkeypatch.delenv("LOOPMORPH_CODE_CACHE", raising=False)
    with pytest.warns(UserWarning, match="compiled networks are not kept in"):
        assert not build().cached


def test_two_processes_at_once(folder: Path) -> None:
    path = os.pathsep.join(p for p in sys.path if p)
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", BUILD]
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    sums = {process.communicate(timeout=120)[0].split()[1] for process in started}
    assert [process.returncode for process in started] == [0, 0] and len(sums) == 1
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = build(nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()).eval())
    assert again.cached and str(again(torch.ones(SHAPE)).double().sum().item()) == sums.pop()


def test_entries_that_were_not_used_for_longest_go(tmp_path: Path) -> None:
    cache = CodeCache(tmp_path, limit=2500)
    for name in "abc":
        cache.put(name, Entry({}, os.urandom(1000)))
    found = [name for name in "abc" if cache.get(name) is not None]
    cache.close()
    assert found == ["b", "c"]


def test_the_import_is_kept_too(folder: Path) -> None:
    first = lm.import_model(network(), (torch.zeros(SHAPE),))
    kept = stored(folder)
    assert [json.loads(about) for about, _ in kept] == [None]
    second = lm.import_model(network(), (torch.zeros(SHAPE),))
    assert stored(folder) == kept and str(second) == str(first)
    assert list(second.parameters) == list(first.parameters)


@pytest.mark.parametrize("data", [b"", b"\x7fELF" + bytes(10), b"text" * 100])
def test_what_is_no_library_is_refused(data: bytes) -> None:
    with pytest.raises(LibraryError, match="it cannot be loaded"):
        Library(data)


def test_an_object_file_that_is_cut_off_is_refused() -> None:
    program = lm.import_model(nn.Linear(4, 4).eval(), (torch.zeros(1, 4),))
    whole = object_file(program)
    for size in range(0, len(whole), max(1, len(whole) // 20)):
        with pytest.raises(LibraryError, match=r"refuses|no ELF"):
            link(whole[:size])


def test_without_a_linker_nothing_is_kept_and_one_warning_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(module, "_told", set())
    with pytest.warns(lm.LoopmorphWarning, match="compiled networks are not kept in .*: no linker is found"):
        assert not build().cached
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not build().cached
