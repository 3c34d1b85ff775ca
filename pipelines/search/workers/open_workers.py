"""The workers of a search: its own judge, several processes of this computer, or a cluster."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial

import torch

from loopmorph.passes.errors import ArgumentError, LoopmorphWarning
from loopmorph.pipelines.search.judge import Judge
from loopmorph.pipelines.search.judge_setup import JudgeSetup
from loopmorph.pipelines.search.remote_judge import NotIsolatedWarning, NotPossible, packed
from loopmorph.pipelines.search.workers.dispatcher import Dispatcher
from loopmorph.pipelines.search.workers.pool import LocalPlace, Pool
from loopmorph.pipelines.search.workers.transport import InTurn, Transport
from loopmorph.pipelines.support.numbers import check_count


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
    content = _packed(setup, jobs, cluster)
    if content is None:
        yield InTurn(judge)
        return
    with closing(_pool(content, jobs, setup.threads, cluster)) as pool:
        yield pool


@contextmanager
def side_by_side(setup: JudgeSetup, jobs: int = 1, cluster: str | None = None) -> Iterator[Dispatcher | None]:
    """Has others do what a joint choice asks for, while it goes on; None where there are no others.

    Of the processes of this computer one times; all share the threads that PyTorch has here.

    Args:
        setup, jobs, cluster: see `workers`; the workers' threads of PyTorch are as many as there are for each.

    Raises:
        ArgumentError: by what is asked for: Dask is not installed, or there is no scheduler.
    """
    threads = max(1, torch.get_num_threads() // jobs)
    content = _packed(replace(setup, torch_threads=threads), jobs, cluster)
    if content is None:
        yield None
        return
    with Dispatcher(partial(_pool, content, jobs, setup.threads, cluster, timing=1)) as dispatcher:
        yield dispatcher


def check_jobs(jobs: int, cluster: str | None) -> None:
    """Raises:
    ArgumentError: less than one process; several beside a cluster.
    """
    check_count("jobs", jobs)
    if cluster is not None and jobs != 1:
        raise ArgumentError("jobs", f"a cluster has as many workers as it has; expected 1 there, got {jobs}")


def check_cluster(cluster: str | None) -> None:
    """Makes sure, before any long work, that there is the cluster that was asked for.

    Raises:
        ArgumentError: Dask is not installed, or there is no scheduler.
    """
    if cluster is not None:
        from loopmorph.pipelines.search.workers.dask_pool import check_scheduler  # an extra

        check_scheduler(cluster)


def _packed(setup: JudgeSetup, jobs: int, cluster: str | None) -> bytes | None:
    """What workers are sent; None where there are none, or nothing can be sent to any, of which there is a warning."""
    if jobs == 1 and cluster is None:
        return None
    try:
        return packed(setup)
    except NotPossible as error:
        warnings.warn(f"one job is done after the other: {error}", NotIsolatedWarning, stacklevel=5)
        return None


def _pool(content: bytes, jobs: int, threads: int, cluster: str | None, timing: int | None = None) -> Pool:
    """The workers; of those of this computer so many time, or all."""
    if cluster is not None:
        from loopmorph.pipelines.search.workers.dask_pool import DaskPool  # an extra

        return DaskPool(cluster, content)
    if jobs * threads > (os.cpu_count() or 1):
        text = f"{jobs} jobs of {threads} threads on {os.cpu_count()} cores disturb each other's times"
        warnings.warn(text, LoopmorphWarning, stacklevel=5)
    last = jobs if timing is None else timing
    return Pool([LocalPlace(content, f"worker {number}", number <= last) for number in range(1, jobs + 1)])
