"""Runs cases in a process of their own, so that a crash or a hang of one costs that one alone."""

from __future__ import annotations

import dataclasses
import faulthandler
import gc
import importlib
import multiprocessing
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any

Case = int | str | tuple[str, str]

START_LIMIT = 600.0  # seconds in which a fresh process has to be ready, on a busy machine
_MARK = "=== case "  # in what the process writes
# What all processes begin with is imported once, in the one that they are forked from, which does nothing else.
_PRELOADED = ["torch._dynamo", "loopmorph.pipelines.compile", "torch_mlir.extras.fx_importer"]
STOP_LIMIT = 5.0  # seconds in which an idle process has to end


@dataclass(frozen=True)
class Report:
    """How one case went.

    Attributes:
        case: what the function was called with.
        kind: "done", "mismatch" (something that must hold does not), "error" (an exception), "crash" or "timeout".
        outcome: the fields of what the function returns, where it is done.
        text: what is wrong where it is not.
    """

    case: Case
    kind: str
    outcome: dict[str, Any]
    text: str = ""


class Runner:
    """A process that runs one case after the other; started when needed, and anew after a crash; a context manager."""

    def __init__(self, function: str, limit: float = 60.0, renew: int = 1000) -> None:
        """Args:
        function: "module:name" of what takes a case and returns a dataclass.
        limit: seconds of wall time for one case; the start of the process does not count.
        renew: after so many cases a fresh process takes over, for code that was compiled is never freed.
        """
        self._function, self._limit, self._renew = function, limit, renew
        self._served = 0
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._log = Path(tempfile.mkstemp(prefix="cases-", suffix=".log")[1])

    def __enter__(self) -> Runner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        self._log.unlink(missing_ok=True)

    def run(self, case: Case) -> Report:
        """What becomes of one case."""
        if self._served == self._renew:
            self._stop()
        if self._process is None:
            self._start()
        assert self._process is not None and self._pipe is not None
        self._served += 1
        kind = "crash"
        try:
            self._pipe.send(case)
            if self._pipe.poll(self._limit):
                return Report(case, *self._pipe.recv())
            kind, text = "timeout", f"more than {self._limit:g} s"
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join(10)
            text = f"exit code {self._process.exitcode}"
        said = self._log.read_text(errors="replace").rpartition(_MARK)[2]
        words = " / ".join(line.strip() for line in said.splitlines()[:12])
        self._stop()
        return Report(case, kind, {}, f"{text}: {words}")

    def _start(self) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOADED)
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._function, str(self._log)), daemon=True)
        self._process.start()
        theirs.close()
        if not self._pipe.poll(START_LIMIT):
            raise RuntimeError("the process that runs the cases does not start")
        self._pipe.recv()

    def _stop(self) -> None:
        if self._process is not None and self._pipe is not None:
            self._pipe.close()
            self._process.join(STOP_LIMIT)  # an idle one ends by itself
            self._process.kill()
            self._process.join()
        self._process = self._pipe = None
        self._served = 0


def _serve(pipe: Connection, function: str, log: str) -> None:
    """The other side: cases come in, what became of the cases goes out, until the parent is gone."""
    file = os.open(log, os.O_WRONLY | os.O_TRUNC | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, who ends this process
    import torch

    torch.set_num_threads(1)
    module, _, name = function.partition(":")
    run = getattr(importlib.import_module(module), name)
    importlib.import_module("torch._dynamo")  # large, and otherwise loaded by the first import of a network
    gc.freeze()  # so that no full collection of garbage looks through what stays
    pipe.send("ready")
    while True:
        try:
            case = pipe.recv()
        except EOFError:
            return
        print(f"{_MARK}{case}", file=sys.stderr, flush=True)
        pipe.send(_judged(lambda case=case: run(case)))


def _judged(run: Callable[[], Any]) -> tuple[str, dict[str, Any], str]:
    try:
        return "done", dataclasses.asdict(run()), ""
    except Exception as error:  # the boundary of the process: the parent counts whatever went wrong
        notes = " | ".join(getattr(error, "__notes__", []))
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        kind = "mismatch" if isinstance(error, AssertionError) else "error"
        return kind, {}, f"{type(error).__name__} at {where}: {error}\n  {notes}"
