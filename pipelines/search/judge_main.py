"""The process in which candidates are rewritten and judged (see `judge_process.py`).

Started as `python -m loopmorph.pipelines.search.judge_main`. The first request is a pickled `JudgeSetup`; each later
one is the name of a method of `Judge` with its arguments, or "reply" with a job. What loopmorph raises on purpose
becomes the reply; anything else ends the process, which costs the candidate.
"""

from __future__ import annotations

import pickle
import random
import warnings
from contextlib import ExitStack
from typing import Any

from loopmorph.passes.errors import LoopmorphError
from loopmorph.pipelines.measure.worker import MAIN as WORKER
from loopmorph.pipelines.search.judge import LocalJudge
from loopmorph.pipelines.search.judge_setup import local_judge
from loopmorph.pipelines.search.performing import reply
from loopmorph.pipelines.support.fork_server import begin
from loopmorph.pipelines.support.service import package_path
from loopmorph.pipelines.support.serving import Tell, serve


class _Handler:
    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._judge: LocalJudge | None = None

    def __call__(self, request: Any, tell: Tell) -> Any:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, category, *_args, **_more: tell((category, str(message)))
            try:
                return self._perform(*request)
            except LoopmorphError as error:
                return error

    def _perform(self, name: str, *arguments: Any) -> Any:
        if name == "set_up":
            self._judge = self._stack.enter_context(local_judge(pickle.loads(*arguments)))
            return None
        assert self._judge is not None
        if name == "reply":
            return reply(self._judge, *arguments)
        if name == "draw":
            layer, state = arguments
            generator = random.Random()
            generator.setstate(state)
            return self._judge.draw(layer, generator), generator.getstate()
        return getattr(self._judge, name)(*arguments)


def preload() -> None:
    """Starts, in the process that judges are forked from, the one that their timing workers are forked from."""
    begin(WORKER, package_path())


def main() -> None:
    """Serves requests until the input ends."""
    with ExitStack() as stack:
        serve(_Handler(stack))


if __name__ == "__main__":
    main()
