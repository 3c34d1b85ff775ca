"""What many test files start from: programs that are imported once in a process, and an MLIR context."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from loop_programs import KEPT
from networks import Dense, Plain, Residual, Separable
from tagged import tagged
from torch_mlir import ir
from trained_networks import pattern_batch, trained_residual
from transformed import network

from loopmorph.pipelines.program import Program, import_model
from loopmorph.tools.cli import main


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Sequence[str]], str]:
    """Runs a command that is refused in one line, in an empty folder; gives that line."""
    monkeypatch.chdir(tmp_path)

    def run(arguments: Sequence[str]) -> str:
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    return run


@pytest.fixture(scope="session")
def residual() -> Program:
    return network(Residual)


@pytest.fixture(scope="session")
def plain() -> Program:
    return network(Plain)


@pytest.fixture(scope="session")
def dense() -> Program:
    return network(Dense)


@pytest.fixture(scope="session")
def separable() -> Program:
    return network(Separable)


@pytest.fixture(scope="session")
def tagged_program() -> Program:
    """The network that the programs of test/export compute."""
    return import_model(*tagged())


@pytest.fixture(scope="session")
def trained() -> Program:
    """A small network that tells the images of `patterns` apart."""
    return import_model(trained_residual(), (pattern_batch(1).images,))


@pytest.fixture(scope="module")
def context() -> Iterator[ir.Context]:
    """A context that is current in all tests of a file; `pytestmark` asks for it there."""
    with ir.Context() as context, ir.Location.unknown():
        yield context
        KEPT.clear()


@pytest.fixture
def python_handles_interrupts() -> Iterator[None]:
    """As in the foreground; a job in the background inherits that interrupts are ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
