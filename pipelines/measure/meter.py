"""Timing: how long layers and networks take before and after a rewrite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from loopmorph.passes.target.target import Target
from loopmorph.pipelines.measure.profile import Profile, profile
from loopmorph.pipelines.measure.timing_cache import TimingCache
from loopmorph.pipelines.measure.worker import Worker
from loopmorph.pipelines.measure.worker_protocol import TimeJob
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.store.cache_file import measurement_key

_QUARTILE = 0.25


@dataclass(frozen=True)
class PairTime:
    """Seconds of one execution of something as it was and as it is: the lower quartiles of samples that took turns.

    Another program takes the processor away from a sample, but gives it nothing; so on a busy machine, where it may
    disturb every second sample, a quartile says what a median says on a quiet one.

    Attributes:
        original: seconds before the rewrite.
        rewritten: seconds after it.
        cached: whether they were measured earlier.
    """

    original: float
    rewritten: float
    cached: bool = False

    @property
    def speedup(self) -> float:
        """How many times faster the rewritten one is."""
        return self.original / self.rewritten


class Meter(Protocol):
    """Compares times. Times of two calls do not compare, as machines drift; those within a pair do."""

    def layer(self, original: Network, rewritten: Network, layer: str) -> PairTime:
        """One layer of two networks, alone, but in the layouts that it has in them, and with its weights where the
        rest of the original leaves them.

        Raises:
            ArgumentError: a network without that layer.
            CompilationFailed: a layer cannot be compiled, crashes or hangs.
        """
        ...

    def network(self, original: Network, rewritten: Network) -> PairTime:
        """Two whole networks.

        Raises:
            CompilationFailed: a network cannot be compiled, crashes or hangs.
        """
        ...

    def profile(self, network: Network) -> Profile:
        """How long each layer takes within a network.

        Raises:
            CompilationFailed: the network cannot be compiled.
        """
        ...


@dataclass(frozen=True)
class WorkerMeter:
    """Times compiled code in a worker process, each distinct pair once.

    Attributes:
        worker: compiles and times.
        cache: where times are looked up and kept; None measures afresh.
        rounds: samples of each.
        budget: seconds after which no more samples of a layer are taken.
        limit: seconds after which the worker is killed over a layer; None as `Worker.run` has it.
    """

    worker: Worker
    cache: TimingCache | None = None
    rounds: int = 20
    budget: float = 2.0
    limit: float | None = None

    def layer(self, original: Network, rewritten: Network, layer: str) -> PairTime:
        texts = (original.closed_layer(layer), rewritten.closed_layer(layer))
        cold = cold_bytes(original, self.worker.target)
        return self._pair(TimeJob(texts, rounds=self.rounds, budget=self.budget, cold=cold), self.limit)

    def network(self, original: Network, rewritten: Network) -> PairTime:
        job = TimeJob((str(original.module), str(rewritten.module)), rounds=self.rounds, budget=5 * self.budget)
        return self._pair(job)

    def alone(self, network: Network) -> float:
        """Seconds of one execution of a network that nothing is compared with: the lower quartile; measured afresh.

        Raises:
            CompilationFailed: it cannot be compiled, crashes or hangs.
        """
        job = TimeJob((str(network.module),), rounds=self.rounds, budget=self.budget)
        (samples,) = self.worker.run(job).seconds
        return float(np.quantile(samples, _QUARTILE))

    def profile(self, network: Network) -> Profile:
        return profile(network, self.worker.threads, self.worker.target)

    def _pair(self, job: TimeJob, limit: float | None = None) -> PairTime:
        """The quartiles of a job with two modules, looked up or measured."""
        about = self.worker.threads, self.worker.target, *([job.cold] if job.cold else [])
        key = measurement_key(*map(str, job.modules), *map(str, about))
        known = self.cache.get(key) if self.cache is not None else None
        if known is not None:
            return PairTime(*known, cached=True)
        reply = self.worker.run(job, limit=limit)
        before, after = (float(np.quantile(samples, _QUARTILE)) for samples in reply.seconds)
        if self.cache is not None:
            self.cache.put(key, (before, after))
        return PairTime(before, after)


def cold_bytes(network: Network, target: Target) -> int:
    """The bytes of a network's weights where they are more than a core keeps in its own caches from one image to the
    next, so that a layer does not find its own there; else 0. See `TimeJob.cold`.
    """
    size = sum(tensor.nbytes for tensor in network.parameters.values())
    return size if size > target.l2_bytes else 0
