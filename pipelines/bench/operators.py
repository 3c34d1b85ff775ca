"""What each operator makes of each distinct contraction layer of a network: legal or not, its work, its time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import linear_form
from loopmorph.passes.analysis.choice import DIRECT, algorithm_name, read_choice
from loopmorph.passes.analysis.cost import macs
from loopmorph.passes.errors import ArgumentError, CompilationFailed, IllegalTransform, WrongResult, first_of
from loopmorph.passes.lowering.extract_layer import extract_layer
from loopmorph.passes.lowering.to_llvm import layout_passes
from loopmorph.passes.nest import Nest, functions, nests
from loopmorph.passes.registry import did_you_mean
from loopmorph.passes.scheduling.algorithm import winograd_tile
from loopmorph.passes.target.detect import processor_name
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.bench.direct_code import with_algorithm
from loopmorph.pipelines.bench.operator_list import Operator
from loopmorph.pipelines.bench.operators_result import LayerOperators, OperatorRow, OperatorsResult
from loopmorph.pipelines.bench.paper_figures import beside_fig6
from loopmorph.pipelines.codegen.threads import check_threads
from loopmorph.pipelines.ingress.models import resolve_model
from loopmorph.pipelines.measure.check import check_layer
from loopmorph.pipelines.measure.meter import WorkerMeter
from loopmorph.pipelines.measure.timing_cache import TimingCache
from loopmorph.pipelines.measure.worker import Worker
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.saved_program import program_of
from loopmorph.pipelines.support.interrupts import noted_interrupts
from loopmorph.pipelines.support.progress import Progress, silent

AUTO = "auto"
ALGORITHMS = (AUTO, DIRECT)
_LIMIT = 60.0  # seconds after which the worker is killed, for the check of an operator and for its timing
_SHOWN = 8  # layers that a message lists


def compare_operators(
    model: str,
    operators: Sequence[Operator],
    *,
    layers: Sequence[str] = (),
    threads: int = 1,
    algorithm: str = AUTO,
    seed: int = 0,
    trust: bool = False,
    cache: TimingCache | None = None,
    progress: Progress | None = None,
) -> OperatorsResult:
    """Applies each operator to each distinct contraction layer; checks what is legal against PyTorch and times it.

    Layers with the same extents and access maps are looked at once. Original and rewritten layer are compiled by the
    same code generator, alone but in the layouts of the network, and sampled in turns. An operator that fails to
    compile, crashes or hangs costs itself alone. Ctrl-C ends the measuring and keeps what was found.

    Args:
        model: what `resolve_model` takes.
        operators: see `parse_operators`.
        layers: names of layers; all contractions if there are none.
        threads: threads of the compiled code.
        algorithm: "auto" or "direct" (see `OperatorsResult`).
        seed: of the weights and of the inputs of the checks.
        trust: whether code that a `.pt2` holds may run.
        cache: times measured before; the one of this user by default.
        progress: called with what is being done, the number of operators done and of all.

    Raises:
        ArgumentError: an unknown model, layer or algorithm, a count of threads that is not positive, no operators.
        ImportRefused: the model cannot be imported.
    """
    check_threads(threads)
    if algorithm not in ALGORITHMS:
        raise ArgumentError("algorithm", f"expected one of {', '.join(ALGORITHMS)}, got '{algorithm}'")
    if not operators:
        raise ArgumentError("schedules", "expected at least one operator")
    tell = progress or silent
    started = time.perf_counter()
    tell("import", 0, 1)
    loaded = resolve_model(model, seed=seed, trust=trust)
    program = program_of(loaded)
    groups = _distinct(program, layers)
    with Worker(threads=threads) as worker, closing(cache or TimingCache()) as times:
        meter = WorkerMeter(worker, times, limit=_LIMIT)
        comparison = _Comparison(program, operators, algorithm, seed, worker, meter, tell)
        found = tuple(comparison.run(groups))
    return OperatorsResult(
        loaded.name,
        processor_name(),
        threads,
        algorithm,
        found,
        beside_fig6(loaded.name, found),
        comparison.interrupted,
        time.perf_counter() - started,
    )


@dataclass
class _Comparison:
    """One run; `interrupted` says whether it was stopped."""

    program: Program
    operators: Sequence[Operator]
    algorithm: str
    seed: int
    worker: Worker
    meter: WorkerMeter
    tell: Progress
    interrupted: bool = False

    def run(self, groups: Sequence[Sequence[Nest]]) -> Iterator[LayerOperators]:
        """One result a layer; the last may lack operators, others may be missing, if it was interrupted."""
        total = len(groups) * len(self.operators)
        for position, group in enumerate(groups):
            if self.interrupted:
                return
            rows: list[OperatorRow] = []
            name = group[0].layer
            try:
                original = self._scheduled(self.program, name)
                layer = _original(original, group, self.worker.target)
                with noted_interrupts() as check:
                    for operator in self.operators:
                        done = position * len(self.operators) + len(rows)
                        self.tell(f"{name}: {operator.name}", done, total)
                        rows.append(self._row(original, layer, operator))
                        check()
            except KeyboardInterrupt:
                self.interrupted = True
            if rows:
                yield replace(layer, rows=tuple(rows))
        self.tell("done", total, total)

    def _row(self, original: Program, layer: LayerOperators, operator: Operator) -> OperatorRow:
        """What the operator makes of the layer."""
        try:
            rewritten = self.program.apply(operator.text(layer.name))
        except (IllegalTransform, ArgumentError) as refusal:
            return OperatorRow(operator.name, "refused", str(refusal))
        if all(each.name != layer.name for each in rewritten.layers):
            return OperatorRow(operator.name, "refused", f"'{layer.name}' is gone: nothing is left to be timed")
        row = _counted(OperatorRow(operator.name, "failed", steps=rewritten.steps), layer, rewritten)
        try:
            rewritten = self._scheduled(rewritten, layer.name)
            row = replace(row, algorithm=_algorithm(rewritten, layer.name, self.worker.target))
            check_layer(rewritten, layer.name, self.worker, seed=self.seed, limit=_LIMIT)
            seconds = self.meter.layer(original, rewritten, layer.name)
        except IllegalTransform as refusal:
            return replace(row, outcome="refused", reason=str(refusal))
        except WrongResult as error:
            return replace(row, outcome="wrong", reason=str(error))
        except (CompilationFailed, ArgumentError) as error:
            return replace(row, reason=str(error))
        return replace(
            row,
            outcome="timed",
            ms_before=seconds.original * 1e3,
            ms_after=seconds.rewritten * 1e3,
            speedup=seconds.speedup,
            gflops_before=2e-9 * layer.macs / seconds.original,
            gflops_after=2e-9 * (row.macs or 0) / seconds.rewritten,
        )

    def _scheduled(self, program: Program, layer: str) -> Program:
        """The program, the layer by direct code if that is asked for."""
        return with_algorithm(program, self.algorithm, layer)


def _distinct(program: Program, names: Sequence[str]) -> list[list[Nest]]:
    """The main nests of the contraction layers, those with the same loops together, a named one first in its group.

    Raises:
        ArgumentError: a name that no contraction layer has.
    """
    groups: dict[object, list[Nest]] = {}
    contractions = [nest for nest in nests(program.module.operation) if nest.role == marks.MAIN and macs(nest)]
    for nest in contractions:
        groups.setdefault(_loops(nest), []).append(nest)
    if not names:
        return list(groups.values())
    by_name = {nest.layer: nest for nest in contractions}
    for name in names:
        if name not in by_name:
            hint = did_you_mean(name, by_name) or f"; there are {first_of(list(by_name), _SHOWN)}"
            raise ArgumentError("layers", f"no contraction layer '{name}' in the program{hint}")
    chosen = {_loops(by_name[name]): by_name[name] for name in reversed(names)}
    return [sorted(group, key=lambda n: n != chosen[key]) for key, group in groups.items() if key in chosen]


def _loops(nest: Nest) -> object:
    """What tells layers apart: iterators, extents, and access maps, in which strides and dilations show."""
    accesses = tuple((access.kind, tuple(str(expr) for expr in access.exprs)) for access in nest.accesses)
    return tuple(nest.iterators), tuple(nest.extents), accesses


def _original(program: Program, group: Sequence[Nest], target: Target) -> LayerOperators:
    nest = group[0]
    extents = dict(zip(nest.iterators, nest.extents, strict=True))
    return LayerOperators(
        nest.layer,
        tuple(each.layer for each in group),
        extents,
        _stride(nest),
        macs(nest),
        _parameters(program, nest.layer),
        _algorithm(program, nest.layer, target),
        (),
    )


def _stride(nest: Nest) -> tuple[int, int]:
    """By how much the window moves from one output row, and column, to the next."""
    positions = {loop.iterator: loop.position for loop in nest.loops}
    stored = [store.memref for store in nest.stores]
    forms = [linear_form(e) for load in nest.loads if load.memref not in stored for e in load.exprs]
    found = {
        name: max((form.coefficients.get(positions[name], 1) for form in forms if form is not None), default=1)
        for name in ("oh", "ow")
        if name in positions
    }
    return found.get("oh", 1), found.get("ow", 1)


def _counted(row: OperatorRow, layer: LayerOperators, rewritten: Program) -> OperatorRow:
    """The row with the rewritten layer's work and parameters."""
    work = next((each.macs for each in rewritten.layers if each.name == layer.name), 0)
    parameters = _parameters(rewritten, layer.name)
    return replace(
        row,
        macs=work,
        parameters=parameters,
        mac_ratio=layer.macs / work if work else None,
        parameter_ratio=layer.parameters / parameters if parameters else None,
    )


def _parameters(program: Program, layer: str) -> int:
    """Elements of the parameters that the layer's own nests read."""
    alone = program.layer_module(layer)
    (function,) = functions(alone.operation)
    names = [ir.StringAttr(m[marks.PARAM]).value for m in marks.argument_marks(function) if marks.PARAM in m]
    return sum(program.parameters[name].numel() for name in names)


def _algorithm(program: Program, layer: str, target: Target) -> str:
    """How the default schedule computes the layer, by its own model; each algorithm once where it has several nests."""
    alone = extract_layer(program.module.operation, layer, closed=True)
    for step in layout_passes(target):
        step.run(alone.operation)
    with alone.context:
        mains = [nest for nest in nests(alone.operation) if nest.layer == layer and nest.role == marks.MAIN]
        found = [read_choice(nest).algorithm or algorithm_name(winograd_tile(nest, target)) for nest in mains]
        return " + ".join(dict.fromkeys(found))
