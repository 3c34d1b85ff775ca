"""The workers of a Dask cluster as places for jobs.

Dask starts workers on many machines (by hand, ssh, Slurm, Kubernetes) and reaches them; which job goes where is decided
here, one job a worker at a time: what is timed goes to workers of this computer's processor alone, since times of
others do not compare, the rest goes to any.

Trust. Whoever reaches a Dask scheduler runs code on its workers, and a worker runs code in its clients: Dask pickles
what it sends. A cluster has to be one's own, on a network that others cannot reach, or encrypted and authenticated
(TLS, see Dask's documentation). The network goes there pickled and its code runs there. What comes back is JSON, which
is read as data; a worker that sends nonsense is done without, one that sends wrong numbers can make a search worse, but
not its result wrong: the network that is made of the candidates is checked, judged and timed on this computer.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.search.workers import dask_worker
from loopmorph.pipelines.search.workers.job import Job, job_text
from loopmorph.pipelines.search.workers.pool import Done, LocalPlace, Lost, LostWorkerWarning, Outcome, Pool
from loopmorph.pipelines.support.foreign import describe

_CONNECT = 10.0  # seconds
_ASK = 120.0  # seconds in which a worker has to tell what it is; it may have much to import
_LIMIT = 2400.0  # seconds for one job: longer than a worker's judge itself takes to give up
_RENEW = 1.0  # seconds between two looks at which workers there are
_numbers = itertools.count()


class DaskPlace:
    """A worker of a cluster."""

    def __init__(self, pool: DaskPool, address: str, may_time: bool) -> None:
        """Args:
        pool: whose client reaches it.
        address: Dask's.
        may_time: whether it has this computer's processor.
        """
        self.name, self.address, self.may_time = f"the worker {address}", address, may_time
        self._pool = pool
        self._content: Any = None
        self._future: Any = None
        self._deadline = 0.0

    def begin(self, job: Job[Any], done: Done) -> None:
        self._deadline = time.monotonic() + self._pool.limit
        try:
            if self._content is None:
                self._content = self._pool.on(self.address, bytes, self._pool.content)
            self._future = self._pool.on(
                self.address, dask_worker.judge_here, self._pool.key, self._content, job_text(job)
            )
        except Exception as error:  # Dask's own, and the system's
            done(Lost(describe(error)))
            return
        self._future.add_done_callback(lambda future: done(_outcome(future)))

    def lost(self) -> str:
        if self.address not in self._pool.addresses:
            return "it is gone"
        return f"no reply within {self._pool.limit:g} s" if time.monotonic() > self._deadline else ""

    def close(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.cancel(force=True)
        self._future = self._content = None


class DaskPool(Pool):
    """The workers of a cluster, those that join later included; and this computer, where no worker will do.

    Attributes:
        client: Dask's.
        addresses: the workers that there are.
        key: of the search.
        content: the set-up of the judge, `packed`.
        limit: seconds after which a worker is given up over a job.
    """

    def __init__(self, address: str, content: bytes, limit: float = _LIMIT) -> None:
        """Connects, and waits until the workers that are there have told what they are.

        Args:
            address: the scheduler's, as `tcp://host:8786`.
            content: the set-up of the judge, `packed`.
            limit: see there.

        Raises:
            ArgumentError: Dask is not installed, or there is no scheduler.
        """
        super().__init__()
        self.client = _connected(address)
        self.content, self.limit = content, limit
        self.key = f"{self.client.id} {next(_numbers)}"
        self.addresses: frozenset[str] = frozenset()
        self._own: dict[str, Any] = json.loads(dask_worker.facts())
        self._asked: dict[str, Any] = {}
        self._local: LocalPlace | None = None
        self._renewed = -_RENEW
        self._renew()
        deadline = time.monotonic() + _ASK
        while self._asked and time.monotonic() < deadline:
            time.sleep(0.01)
            self._renew()

    def on(self, address: str, function: Callable[..., object], *arguments: object) -> Any:
        """The future of a call on one worker. Nothing is waited for: a worker that hangs would be waited for, too."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # Dask finds networks large
            return self.client.submit(function, *arguments, workers=[address], allow_other_workers=False, pure=False)

    def submit(self, job: Job[Any]) -> bool:
        self._renew()
        if not self.fitting(job):
            self._add_local()
        return super().submit(job)

    def look_after(self) -> None:
        self._renew()
        super().look_after()
        if not all(self.fitting(job) for job in self._again):
            self._add_local()

    def close(self) -> None:
        used = [place.address for place in self.places if isinstance(place, DaskPlace)]
        super().close()
        leaving = threading.Thread(target=self._leave, args=(used,), daemon=True)  # a worker that hangs does not answer
        leaving.start()
        leaving.join(_CONNECT)

    def _leave(self, used: list[str]) -> None:
        with contextlib.suppress(Exception):  # the cluster may be gone
            if used:
                self.client.run(dask_worker.end, self.key, workers=used, on_error="ignore")
        with contextlib.suppress(Exception):
            self.client.close(timeout=_CONNECT)

    def _add_local(self) -> None:
        if self._local is None or self._local not in self.places:
            self._local = LocalPlace(self.content)
            self.places.append(self._local)

    def _renew(self) -> None:
        """Sees which workers are there; asks new ones what they are, and lets those that have told begin."""
        if time.monotonic() - self._renewed > _RENEW:
            self._renewed = time.monotonic()
            self._see()
        for address, future in list(self._asked.items()):
            if address not in self.addresses:
                del self._asked[address]
            elif future.done():
                del self._asked[address]
                self._admit(address, _outcome(future))

    def _see(self) -> None:
        try:
            now = frozenset(self.client.nthreads()) if self.client.status == "running" else frozenset()
        except Exception:  # the scheduler is gone, or does not answer
            now = frozenset()
        for address in now - self.addresses:
            self._asked[address] = self.on(address, dask_worker.facts)
        self.addresses = now
        for place in self.places[:]:
            if isinstance(place, DaskPlace) and place.address not in now:
                self.give_up(place, "it is gone")

    def _admit(self, address: str, told: object) -> None:
        try:
            if not isinstance(told, str):
                raise ValueError(getattr(told, "reason", "it tells nothing"))
            facts = json.loads(told)
            processor, versions = facts["processor"], facts["versions"]
        except (ValueError, KeyError, TypeError) as error:
            warnings.warn(f"the worker {address} is not used: {error}", LostWorkerWarning, stacklevel=4)
            return
        if versions != self._own["versions"]:
            reason = "it has another version of loopmorph, torch or torch-mlir"
            warnings.warn(f"the worker {address} is not used: {reason}", LostWorkerWarning, stacklevel=4)
            return
        self.places.append(DaskPlace(self, address, processor == self._own["processor"]))


def check_scheduler(address: str) -> None:
    """Makes sure, before any long work, that there is a cluster.

    Raises:
        ArgumentError: Dask is not installed, or there is no scheduler.
    """
    _connected(address).close()


def _outcome(future: Any) -> Outcome:
    """What a future that has ended brings: a text, whatever the worker has sent."""
    if future.status != "finished":
        error = future.exception() if future.status == "error" else None
        return Lost("it was stopped" if error is None else describe(error))
    result = future.result()
    return result if isinstance(result, str) else Lost("it sends no text")


def _connected(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError as error:
        raise ArgumentError("cluster", "needs Dask: pip install 'loopmorph[cluster]'") from error
    try:
        return Client(address, timeout=_CONNECT, set_as_default=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise ArgumentError("cluster", f"no Dask scheduler answers at '{address}': {describe(error)}") from error
