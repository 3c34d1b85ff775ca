"""Services that are forked: they are as fresh ones are, and nothing of one reaches another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import loopmorph
from loopmorph.pipelines.support.service import Service, ServiceEnded, ServiceTimedOut

HERE = Path(__file__).resolve().parent
LIMIT = 60.0
Start = Callable[..., Service]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts services of test/unit/echo_service.py, which end with the test."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    services = []

    def begin(*arguments: str, module: str = "echo_service", forked: bool = True, **more: Any) -> Service:
        services.append(Service(module, *arguments, forked=forked, **more))
        return services[-1]

    yield begin
    for service in services:
        service.stop()


def server_of(service: Service) -> int:
    """The process that has loaded the module; that of a forked service is another one."""
    loaded, process = service.ask("who", LIMIT)
    assert process == service.pid != loaded
    return int(loaded)


def is_fresh(service: Service) -> bool:
    return bool(service.ask("who", LIMIT) == [service.pid])


def test_processes_come_from_one_that_has_loaded_the_module(start: Start) -> None:
    first, second = start(), start()
    assert server_of(first) == server_of(second) and first.pid != second.pid
    assert is_fresh(start(forked=False))


def test_it_finds_what_a_fresh_one_finds(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server_of(start())  # the server is there before all that follows
    monkeypatch.setenv("LOOPMORPH_CACHE", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for options in ({}, {"whole_path": True, "environment": {"OMP_NUM_THREADS": "7"}}):
        forked, fresh = (start("a", "b", forked=forked, **options) for forked in (True, False))
        assert forked.ask("surroundings", LIMIT) == fresh.ask("surroundings", LIMIT)
        server_of(forked)


def test_another_environment_has_another_server(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    one = server_of(start())
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert server_of(start()) != one


@pytest.mark.parametrize("forked", [True, False])
@pytest.mark.parametrize(
    ("request_", "how"), [("die", "^was killed by SIGKILL: last words$"), ("exit", "^ended with exit code 3")]
)
def test_the_end_of_one_is_told_and_costs_no_other(start: Start, request_: str, how: str, forked: bool) -> None:
    other, ended = start(), start(forked=forked)
    server = server_of(other)
    with pytest.raises(ServiceEnded, match=how):
        ended.ask(request_, LIMIT)
    assert server_of(other) == server == server_of(start())


def test_what_hangs_is_stopped(start: Start) -> None:
    service = start()
    pid = service.pid
    with pytest.raises(ServiceTimedOut):
        service.ask("wait", 0.2)
    service.stop()
    assert ends(pid)


def test_it_is_not_forked_where_threads_run(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHO_THREAD", "1")
    for _ in range(2):
        assert is_fresh(start())


def test_a_module_that_cannot_be_loaded_says_why(start: Start) -> None:
    with pytest.raises(ServiceEnded, match=r"ended with exit code 1: .*No module named no_such_service"):
        start(module="no_such_service").ask("who", LIMIT)


def test_a_server_that_was_killed_is_replaced(start: Start) -> None:
    service = start()
    killed = server_of(service)
    os.kill(killed, signal.SIGKILL)
    assert ends(service.pid)
    with pytest.raises(ServiceEnded, match="was killed by SIGKILL"):
        service.ask("who", LIMIT)
    assert killed not in start().ask("who", LIMIT)
    assert server_of(start()) != killed


def test_what_is_stopped_before_it_is_there_does_not_run(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")  # its server has yet to load
    start().stop()
    server_of(start())


def test_it_ends_with_the_process_that_asked_for_it() -> None:
    """Though a process that was forked from that one keeps its pipes open, and while it is busy."""
    code = (
        "import os, signal, threading, time\n"
        "from loopmorph.pipelines.support.service import Service\n"
        "service = Service('echo_service', forked=True)\n"
        "loaded, pid = service.ask('who', 60)\n"
        "if os.fork() == 0: os.close(1); time.sleep(60)\n"
        "threading.Thread(target=service.ask, args=['wait'], daemon=True).start()\n"
        "time.sleep(0.2); print(os.getpid(), pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = os.pathsep.join([str(Path(loopmorph.__file__).parent.parent), str(HERE)])
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
    )
    out, _ = child.communicate(timeout=LIMIT)
    try:
        assert child.returncode == -signal.SIGKILL
        assert ends(int(out.split()[1]))
    finally:
        os.killpg(child.pid, signal.SIGKILL)  # the forked one


def ends(pid: int) -> bool:
    """Whether a process ends within seconds; that nobody has collected it does not matter."""
    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False
