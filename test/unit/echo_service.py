"""A service that performs what it is told, for tests of services; `preload` says what its server is like."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from loopmorph.pipelines.support.serving import Tell, serve

loaded: list[int] = []


def preload() -> None:
    """Notes the process that loads; a thread of it stays where the environment says so."""
    loaded.append(os.getpid())
    if os.environ.get("ECHO_THREAD"):
        threading.Thread(target=threading.Event().wait, daemon=True).start()


def _handle(request: Any, tell: Tell) -> Any:
    print("what is printed is no reply")
    if request == "die":
        print("last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if request == "exit":
        sys.exit(3)
    if request == "wait":
        threading.Event().wait()
    if request == "surroundings":
        variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        return variables, os.getcwd(), sys.argv[1:], sys.path, os.sched_getaffinity(0), os.umask(0o22)
    return [*loaded, os.getpid()]


def main() -> None:
    """Serves requests until the input ends."""
    serve(_handle)


if __name__ == "__main__":
    main()
