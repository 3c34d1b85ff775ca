"""The workers of a search: its own judge, several processes of this computer, or a cluster."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager

from loopmorph.passes.errors import LoopmorphWarning
from loopmorph.pipelines.search.judge import Judge
from loopmorph.pipelines.search.judge_setup import JudgeSetup
from loopmorph.pipelines.search.remote_judge import NotIsolatedWarning, NotPossible, packed
from loopmorph.pipelines.search.workers.pool import LocalPlace, Pool
from loopmorph.pipelines.search.workers.transport import InTurn, Transport


@contextmanager
def workers(judge: Judge, setup: JudgeSetup, jobs: int = 1, cluster: str | None = None) -> Iterator[Transport]:
    """Has candidates judged.

    Args:
        judge: the search's own.
        setup: what the others are set up with.
        jobs: how many processes of this computer; with 1 `judge` does it.
        cluster: the address of a Dask scheduler (see `DaskPool`); None for this computer.

    Raises:
        ArgumentError: Dask is not installed, or there is no scheduler.
    """
    if jobs == 1 and cluster is None:
        yield InTurn(judge)
        return
    try:
        content = packed(setup)
    except NotPossible as error:
        warnings.warn(f"one candidate is judged after the other: {error}", NotIsolatedWarning, stacklevel=3)
        yield InTurn(judge)
        return
    with closing(_pool(content, jobs, setup.threads, cluster)) as pool:
        yield pool


def check_cluster(cluster: str | None) -> None:
    """Makes sure, before any long work, that there is the cluster that was asked for.

    Raises:
        ArgumentError: Dask is not installed, or there is no scheduler.
    """
    if cluster is not None:
        from loopmorph.pipelines.search.workers.dask_pool import check_scheduler  # an extra

        check_scheduler(cluster)


def _pool(content: bytes, jobs: int, threads: int, cluster: str | None) -> Pool:
    if cluster is not None:
        from loopmorph.pipelines.search.workers.dask_pool import DaskPool  # an extra

        return DaskPool(cluster, content)
    if jobs * threads > (os.cpu_count() or 1):
        text = f"{jobs} jobs of {threads} threads on {os.cpu_count()} cores disturb each other's times"
        warnings.warn(text, LoopmorphWarning, stacklevel=5)
    return Pool([LocalPlace(content, f"worker {number}") for number in range(1, jobs + 1)])
