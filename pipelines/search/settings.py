"""How to search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.target.detect import resolve_target
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.legality.calibration import LIMIT, Calibration
from loopmorph.pipelines.legality.gate import BY_REPAIR, LEGALITIES
from loopmorph.pipelines.oracle.inherit import REPAIR, check_inheritance
from loopmorph.pipelines.search.combiner import Combiner
from loopmorph.pipelines.search.variants.proposals import LIMIT as LIMIT_OF_VARIANTS
from loopmorph.pipelines.search.workers.open_workers import check_jobs
from loopmorph.pipelines.support.numbers import check_count
from loopmorph.pipelines.tuning.tune import check_seconds


@dataclass(frozen=True)
class SearchSettings:
    """How to search; the defaults serve most.

    Attributes:
        batch_size: images in the minibatch.
        repeats: initialisations that a Fisher Potential is averaged over.
        tune: seconds in which to tune the result, and as many for the original that it is compared with (see
            `compile`); the choices become part of the schedule, and the report says what they gain. Of a joint choice
            (see `target_speedup`) all networks that are timed are tuned, the original and the baselines among them, and
            a speed-up is one over the tuned original; the networks of one result share the seconds. None for not at
            all.
        inherit: which weights the result gets: of the old ones, where bottlenecks leave a choice, "slice", "mean",
            "salient", "least-squares", or "least-error" for the nearest outputs on the minibatch; or "repair" for those
            that are fitted to the original (see `pipelines/oracle/inherit.py`). None for "repair" where the model is
            trained (see `is_trained`) and there is data, else for "least-error".
        repair_images: how many images weights are fitted to.
        name: the model's name in the report; its class's by default.
        note: what the report says of where the model is from.
        target: the processor to optimise for (see `compile`); this computer by default.
        combiner: makes one program of the candidates; None for `LargestLegal` where legality is "repair", else for
            `Greedy`.
        legality: by what a network is judged: "fisher" for its Fisher Potential at initialisation, "repair" for what
            fine-tuning is predicted to leave of it once its weights are fitted to the original's, "none" for nothing.
            None for "repair" where the model is trained and there are images to repair with, else for "fisher".
        max_loss: for "repair": points of accuracy that the result may lose by fine-tuning, as far as the calibration
            can tell: the upper end of its interval.
        calibration: for "repair": what tells the loss, or the file that it is in (see `calibrate`); None for one that
            comes with loopmorph.
        held_out: for "repair": up to how many images, none of those that weights are fitted to, predictions are
            compared on.
        target_speedup: how many times as fast as the original the result is to be. With this, `target_ms` or `seconds`
            no candidates are drawn: the network is chosen as one from a table of variants of all its layers (see
            `choose_jointly`), and judged by "repair". It loses as little as is possible at that speed, which may be
            more than `max_loss`; the report then says that it is not legal.
        target_ms: the same, as milliseconds of one call.
        seconds: how long to go on improving the choice; None for as long as something improves. Without a target the
            result is the fastest network that is predicted to lose no more than `max_loss`.
        baselines: whether such a choice is compared with uniform, greedy and random ones at the same latency, each of
            which is repaired and judged like the choice itself.
        variants: how many variants of each block, or of each layer outside of blocks, such a choice tries.
        max_parameters: numbers in all trainable tensors, of such a choice.
        max_memory: bytes of all activations of one call, of such a choice.
        study: a file that keeps what was tried (see `OptunaStudy`), a journal (.log) or SQLite (.db); None for the
            user's cache.
        study_name: what the study is called there, for a further one in a file; by default as `name`.
        jobs: how many processes of this computer judge at a time: candidates, or the variants of a joint choice (of
            which one process times, see `build_table`) and the networks that it assembles.
        cluster: the address of a Dask scheduler whose workers do so, as `tcp://host:8786` (see
            `workers/dask_pool.py`, also for whom that has to trust); None for this computer.
    """

    batch_size: int = 64
    repeats: int = 1
    tune: float | None = None
    inherit: str | None = None
    repair_images: int = 512
    name: str | None = None
    note: str = ""
    target: Target | str | None = None
    combiner: Combiner | None = None
    legality: str | None = None
    max_loss: float = LIMIT
    calibration: Calibration | str | Path | None = None
    held_out: int = 1000
    target_speedup: float | None = None
    target_ms: float | None = None
    seconds: float | None = None
    baselines: bool = True
    variants: int = LIMIT_OF_VARIANTS
    max_parameters: int | None = None
    max_memory: int | None = None
    study: str | Path | None = None
    study_name: str | None = None
    jobs: int = 1
    cluster: str | None = None

    @property
    def is_joint(self) -> bool:
        """Whether one choice is made over all layers."""
        return any(each is not None for each in (self.target_speedup, self.target_ms, self.seconds))

    def check(self) -> None:
        """Raises:
        ArgumentError: a count below 1, another `inherit` or `legality`, no such target, a `max_loss` that is not
            positive; what is for another `legality`; a target or budget that is no positive number, two targets; a
            study that cannot be written; several processes beside a cluster.
        DataError: the study's file is something else, or damaged.
        """
        for name in ("batch_size", "repeats", "repair_images", "held_out", "variants"):
            check_count(name, getattr(self, name))
        if self.inherit is not None:
            check_inheritance(self.inherit)
        resolve_target(self.target)
        if self.tune is not None:
            check_seconds(self.tune)
        self._check_legality()
        self._check_joint()
        self._check_study()
        check_jobs(self.jobs, self.cluster)

    def check_with(self, target_speedups: Sequence[float]) -> None:
        """The same, for several speed-ups of which each is to be a result.

        Raises:
            ArgumentError: as `check`; one of them twice; another target beside them.
            DataError: as `check`.
        """
        if not target_speedups:
            self.check()
        for position, each in enumerate(target_speedups):
            if self.target_speedup is not None:
                raise ArgumentError("target_speedup", "expected none in the settings, beside those that are results")
            asked = replace(self, target_speedup=each)
            if position == 0:
                asked.check()
            else:
                asked._check_joint()  # nothing else depends on the speed-up
            if each in target_speedups[:position]:
                raise ArgumentError("target_speedup", f"{each:g} is given twice")

    def _check_legality(self) -> None:
        if self.legality is not None and self.legality not in LEGALITIES:
            expected = f"{', '.join(LEGALITIES[:-1])} or {LEGALITIES[-1]}"
            raise ArgumentError("legality", f"expected {expected}, got {self.legality!r}")
        if not isinstance(self.max_loss, int | float) or not 0 < self.max_loss < math.inf:
            raise ArgumentError("max_loss", f"expected a positive number of points, got {self.max_loss!r}")
        if self.legality not in (None, BY_REPAIR) and self.calibration is not None:
            raise ArgumentError("calibration", f"legality '{self.legality}' takes none, only '{BY_REPAIR}' does")
        if self.legality == BY_REPAIR and self.inherit not in (None, REPAIR):
            reason = f"legality '{BY_REPAIR}' judges repaired weights, so that those of the result have to be"
            raise ArgumentError("inherit", f"expected '{REPAIR}' or none, got '{self.inherit}': {reason}")

    def _check_joint(self) -> None:
        if self.target_speedup is not None and not _is_positive(self.target_speedup, above=1.0):
            reason = f"expected a finite number above 1, got {self.target_speedup!r}"
            raise ArgumentError("target_speedup", reason)
        if self.target_ms is not None and not _is_positive(self.target_ms):
            raise ArgumentError("target_ms", f"expected a positive number of milliseconds, got {self.target_ms!r}")
        if self.target_ms is not None and self.target_speedup is not None:
            raise ArgumentError("target_ms", "expected no speed-up beside it: one of the two is the target")
        if self.seconds is not None:
            check_seconds(self.seconds, "seconds")
        for name in ("max_parameters", "max_memory"):
            value = getattr(self, name)
            if value is not None and not _is_positive(value):
                raise ArgumentError(name, f"expected a positive number, got {value!r}")
            if value is not None and not self.is_joint:
                raise ArgumentError(name, "it limits a joint choice: expected a target or seconds beside it")
        if self.is_joint and self.legality not in (None, BY_REPAIR):
            reason = f"a joint choice is judged by '{BY_REPAIR}', got '{self.legality}'"
            raise ArgumentError("legality", reason)
        if not self.baselines and not self.is_joint:
            raise ArgumentError("baselines", "a joint choice has them: expected a target or seconds beside it")
        if self.is_joint and self.combiner is not None:
            raise ArgumentError("combiner", "it combines candidates, and a joint choice draws none")

    def _check_study(self) -> None:
        if self.study is not None:
            from loopmorph.pipelines.store.optuna_storage import check_storage_path  # Optuna takes long to load

            check_storage_path(Path(self.study))
        elif self.study_name is not None:
            raise ArgumentError("study_name", "names a study of a file, and no file is given (--study FILE)")
        if self.study_name is not None and not self.study_name.strip():
            raise ArgumentError("study_name", f"expected a name, got {self.study_name!r}")


def _is_positive(value: object, above: float = 0.0) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and above < value < math.inf
