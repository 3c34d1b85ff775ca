"""What runs in the workers of a Dask cluster. Imports nothing heavy before there is a job."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loopmorph.pipelines.search.workers.job_process import JobProcess

_MOST = 2  # searches whose judges a worker keeps: the process of each holds a network
_judges: OrderedDict[str, JobProcess] = OrderedDict()
_turn = threading.Lock()


def facts() -> str:
    """What this computer is, as JSON: its processor, and the versions that judge here."""
    from loopmorph.passes.target.detect import processor_features, processor_name
    from loopmorph.pipelines.store.cache_file import hash_of, sources

    versions = {name: version(name) for name in ("torch", "torch-mlir")}
    features = hash_of(processor_features())[:8]
    return json.dumps({"processor": f"{processor_name()} {features}", "versions": {**versions, "sources": sources()}})


def judge_here(key: str, content: bytes, job: str) -> str:
    """Does a job in the process of a judge, so that a crash costs the job and not the worker.

    Args:
        key: of the set-up; its judge is kept for the next job.
        content: the set-up of the judge, `packed`.
        job: as a text (see `job_text`).

    Returns:
        The reply as a text (see `parse_reply`).
    """
    with _turn:
        return _judge(key, content).reply(job)


def end(key: str) -> None:
    """Ends the judge of a search."""
    judge = _judges.pop(key, None)
    if judge is not None:
        judge.close()


def _judge(key: str, content: bytes) -> JobProcess:
    from loopmorph.pipelines.search.workers.job_process import JobProcess

    if key not in _judges:
        while len(_judges) >= _MOST:
            end(next(iter(_judges)))
        _judges[key] = JobProcess(content)
    _judges.move_to_end(key)
    return _judges[key]
