"""Random sequences of loop transformations on small networks: refused cleanly, or the same numbers as PyTorch.

Many more cases than the suite has time for, with a table of what became of them:

    PYTHONPATH=. python test/e2e/test_random_schedules.py CASES [FIRST_SEED]
"""

from __future__ import annotations

import dataclasses
import faulthandler
import functools
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.address import find_nest
from loopmorph.passes.base import OptionValue
from loopmorph.passes.errors import ArgumentError, CompilationFailed, IllegalTransform
from loopmorph.passes.lowering.to_llvm import plan_functions
from loopmorph.passes.nest import Nest, nests
from loopmorph.passes.registry import all_passes
from loopmorph.passes.target.detect import native_target
from loopmorph.passes.transformation import Transformation
from loopmorph.pipelines.measure.worker import Worker
from loopmorph.pipelines.measure.worker_protocol import RunJob
from loopmorph.pipelines.network import copy_module
from loopmorph.pipelines.program import Program, import_model

MOST_STEPS = 6
TOLERANCE = 1e-4  # of the largest output
LIMIT = 60.0  # seconds for compiling and running one program
BAD_SHARE = 0.05  # of the option values
TWO_THREADS_SHARE = 0.1
CASES_PER_NETWORK = 4  # in a long run; importing takes as long as compiling
# A step is drawn as often as its weight says, so that long sequences that make sense occur.
WEIGHTS = {
    **{"morph-vectorize": 4, "morph-promote": 3, "morph-fuse-epilogue": 3, "morph-pack": 3, "morph-unroll-jam": 2},
    **{"morph-interchange": 3, "morph-split": 2, "morph-winograd": 2, "morph-prefetch": 2, "morph-fuse-nests": 2},
}
# What a case begins with; in a blocked layout more of the steps are possible.
STARTS = (
    "",
    "",
    "morph-local-borders,morph-blocked-layout{width=4}",
    "morph-fold-scale,morph-blocked-layout{width=16}",
)
FOR_ACCUMULATION = {
    "morph-promote",
    "morph-fuse-epilogue",
    "morph-winograd",
    "morph-choose",
    "morph-pack",
    "morph-fuse-nests",
}


@dataclass(frozen=True)
class Network:
    """What a small network does to an image of (batch, channels, size, size).

    Attributes:
        layer: "conv", "max", "avg" or "" for none.
        then: the element-wise steps after it, by name.
    """

    layer: str
    then: tuple[str, ...] = ("relu",)
    batch: int = 1
    channels: int = 16
    size: int = 6
    outputs: int = 16
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    groups: int = 1
    bias: bool = True


class Small(nn.Module):
    """The network; takes an image and, where it adds a residual, that too."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        n = network
        window = {"kernel_size": n.kernel, "stride": n.stride, "padding": n.padding}
        self.layer: nn.Module = nn.Identity()
        if n.layer == "conv":
            self.layer = nn.Conv2d(n.channels, n.outputs, groups=n.groups, bias=n.bias, **window)
        elif n.layer:
            self.layer = nn.MaxPool2d(**window) if n.layer == "max" else nn.AvgPool2d(**window)

    def forward(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        x = self.layer(x)
        for step in self.network.then:
            if step == "add":
                x = x + residual
            elif step == "scale":
                x = x * 0.5 + 0.25
            else:
                x = getattr(functional, step)(x)
        return x


@dataclass(frozen=True)
class Imported:
    """An imported network with inputs, and PyTorch's output for these."""

    program: Program
    inputs: tuple[torch.Tensor, ...]
    expected: torch.Tensor


@dataclass
class Outcome:
    """What became of one case: the steps applied, why the others were not, and why the whole was not, if so."""

    accepted: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    refused_choice: str = ""


@functools.lru_cache(maxsize=64)
def imported(network: Network) -> Imported:
    torch.manual_seed(0)
    model = Small(network).eval()
    inputs = [torch.randn(network.batch, network.channels, network.size, network.size)]
    with torch.no_grad():
        if "add" in network.then:
            inputs.append(torch.randn_like(model.layer(inputs[0])))
        expected = model(*inputs)
    return Imported(import_model(model, tuple(inputs)), tuple(inputs), expected)


# ---- what is drawn


def draw_network(rng: random.Random) -> Network:
    layer = rng.choice(["conv", "conv", "conv", "max", "avg", ""])
    then = rng.choice([("relu",), ("add",), ("add", "relu"), ("relu", "add"), ("scale", "relu", "add"), ("scale",), ()])
    if not layer:
        then = tuple(rng.choice(["add", "relu", "scale", "hardswish", "sigmoid"]) for _ in range(rng.randint(1, 3)))
    kernel = rng.choice([3, 3, 1]) if layer == "conv" else rng.choice([2, 3])
    channels, outputs = rng.choice([3, 4, 16, 20, 32]), rng.choice([3, 4, 16, 20, 32])
    groups = rng.choice([1, 1, 1, 4]) if channels % 4 == outputs % 4 == 0 else 1
    return Network(
        layer=layer,
        then=then,
        batch=rng.choice([1, 1, 2, 4]),
        channels=channels,
        size=rng.randint(4, 9),
        outputs=outputs,
        kernel=kernel,
        stride=rng.choice([1, 1, 2]),
        padding=rng.randint(0, kernel // 2),
        groups=groups,
        bias=rng.random() < 0.7,
    )


def loop_transformations() -> list[type[Transformation[Any]]]:
    """Those of the registry that keep the values."""
    own = [cls for cls in all_passes().values() if cls.__module__.startswith("loopmorph.")]
    return [cls for cls in own if issubclass(cls, Transformation) and cls.kind == "loop"]


def draw_step(rng: random.Random, module: ir.Operation) -> Transformation[Any]:
    """A transformation with options that mostly fit a nest of the program; a constructor may refuse them.

    Raises:
        ArgumentError: a value that no program admits.
    """
    kinds = loop_transformations()
    cls = rng.choices(kinds, [WEIGHTS.get(kind.name, 1) for kind in kinds])[0]
    known = addresses(module)
    accumulating = cls.name in FOR_ACCUMULATION and "layer" in known and rng.random() < 0.8
    address = "layer" if accumulating else rng.choice(known)
    nest = find_nest(module, address)
    values: dict[str, OptionValue | None] = {"layer": address if rng.random() > BAD_SHARE / 2 else "nowhere"}
    for name in cls.option_types():
        if name != "layer" and (name in cls.required_options() or rng.random() < 0.8):
            values[name] = draw_value(rng, cls.name, name, nest, values)
    return cls(**values)


def addresses(module: ir.Operation) -> list[str]:
    """How `find_nest` calls the nests; the main ones several times, so that they are drawn more often."""
    pairs = [(nest.layer, nest.role) for nest in nests(module)]
    found = []
    for layer, role in dict.fromkeys(pairs):
        count = pairs.count((layer, role))
        if role == marks.MAIN and count == 1:
            found += [layer] * (6 if layer == "layer" else 3)
        else:
            found += [f"{layer}#{role}.{k}" for k in range(count)]
    return found


def draw_value(
    rng: random.Random, step: str, option: str, nest: Nest, values: dict[str, OptionValue | None]
) -> OptionValue | None:
    bad = rng.random() < BAD_SHARE
    names = list(nest.iterators)
    if option == "iter":
        last = step in ("morph-vectorize", "morph-prefetch", "morph-unroll") and rng.random() < 0.7
        return "nowhere" if bad else names[-1] if last else rng.choice(names)
    if option == "spread":
        return None if values.get("distance") is not None and not bad else rng.choice(names)
    if step == "morph-fuse-nests" and option == "iters" and rng.random() < 0.8:
        return ("nowhere",) if bad else tuple(names[: rng.choice([1, 1, 2])])
    if option == "samples":
        return 0 if bad else rng.choice([None, None, 1, 2])
    if option == "iters":
        start, count = rng.randrange(len(names)), rng.randint(1, 3)
        chosen = names[start : start + count] if rng.random() < 0.7 else rng.sample(names, min(count, len(names)))
        return (*chosen, *(["nowhere"] if bad else []))
    if option == "order":
        return draw_order(rng, names) if not bad else (names[0], names[0])
    if option == "factor":
        return rng.choice([-1, 0, 1, 7]) if bad else draw_factor(rng, nest, str(values.get("iter")))
    if step == "morph-partition" and option in ("sizes", "parts"):
        return draw_parts(rng, nest, values, bad)[option]
    if option == "sizes":
        return tuple(draw_factor(rng, nest, name) for name in values["iters"]) + ((2,) if bad else ())  # type: ignore
    if option == "factors":
        return tuple(rng.choice([1] if bad else [2, 4, 4, 5, 16]) for _ in values["axes"])  # type: ignore[union-attr]
    if option in ("rows", "columns"):
        return "nowhere" if bad else names[-1] if option == "columns" and rng.random() < 0.7 else rng.choice(names)
    if option == "size":
        extent = next((loop.extent for loop in nest.loops if loop.iterator == values.get("iter")), None) or 4
        return rng.choice([0, extent]) if bad else rng.randint(1, max(1, extent - 1))
    if option == "width":
        extent = nest.loops[-1].extent
        return rng.choice([1, 3] if bad else [w for w in (2, 4, 8, 16) if extent is None or w <= extent] or [16])
    plain: dict[str, tuple[Sequence[OptionValue], OptionValue]] = {
        "operand": (("output", "input", "weight"), "bias"),
        "axes": (((1,), (1,), (0,), (3,), (1, 0), (2, 3)), (7,)),
        "distance": ((1, 2, 8), 0),
        "tile": ((2, 4), 3),
        "algorithm": (("direct", "winograd2", "winograd4"), "fft"),
        "block": (("1x4x1", "2x2x1", "1x6x2", "4x1x1"), "0x1"),
        "again": ((0, 0, 1, 2), -1),
        "suffix": ((".rest", ".last"), "rest"),
    }
    good, wrong = plain[option]  # a new option of a transformation has to be listed here
    return wrong if bad else rng.choice(good)


def draw_parts(
    rng: random.Random, nest: Nest, values: dict[str, OptionValue | None], bad: bool
) -> dict[str, OptionValue | None]:
    """The sizes of two parts, or the number of equal ones where no sizes are given."""
    iterator = str(values.get("iter"))
    if values.get("sizes"):
        return {"parts": 2 if bad else None}
    extent = next((loop.extent for loop in nest.loops if loop.iterator == iterator), None) or 4
    first = rng.randint(1, max(1, extent - 1))
    sizes = (first, extent - first) if rng.random() < 0.5 else (first, 0)
    return {"sizes": (extent, 1) if bad else sizes, "parts": draw_factor(rng, nest, iterator)}


def draw_order(rng: random.Random, names: list[str]) -> tuple[str, ...]:
    """One iterator moved to the end, or any order of a few."""
    if rng.random() < 0.6:
        last = rng.choice(names)
        start = names.index(last)
        return (*(n for n in names[start:] if n != last), last)
    return tuple(rng.sample(names, rng.randint(min(2, len(names)), len(names))))


def draw_factor(rng: random.Random, nest: Nest, iterator: str) -> int:
    """A divisor of the iterator's extent, mostly."""
    extent = next((loop.extent for loop in nest.loops if loop.iterator == iterator), None) or 4
    divisors = [d for d in range(2, extent + 1) if extent % d == 0]
    return rng.choice(divisors) if divisors and rng.random() < 0.8 else rng.randint(2, max(2, extent))


# ---- what is checked


def run_case(network: Network, rng: random.Random, worker: Worker) -> Outcome:
    """Applies a random sequence and checks what becomes of it.

    Raises:
        AssertionError: a refusal left something changed, or the code computes something else.
        CompilationFailed: there is no code.
    """
    start = rng.choice(STARTS)
    module = imported(network).program.apply(start).module if start else copy_module(imported(network).program.module)
    outcome = Outcome()
    try:
        for _ in range(rng.randint(1, MOST_STEPS)):
            before = str(module)
            try:
                step = draw_step(rng, module.operation)
                step.apply(module.operation)
            except (ArgumentError, IllegalTransform) as refusal:
                assert str(module) == before, f"changed although refused: {refusal}"
                outcome.refusals.append(str(refusal))
                continue
            outcome.accepted.append(str(step))
            assert module.operation.verify()
        threads = 2 if rng.random() < TWO_THREADS_SHARE else 1
        outcome.refused_choice = require_equal(network, module, outcome.accepted, worker, threads)
    except Exception as error:
        error.add_note(f"{network}: {','.join([*filter(None, [start]), *outcome.accepted])}")
        raise
    return outcome


def run_seed(seed: int, worker: Worker) -> Outcome:
    """The case of a number, so that it can be run again; see `run_case`."""
    return run_case(draw_network(random.Random(seed // CASES_PER_NETWORK)), random.Random(seed), worker)


def require_equal(network: Network, module: ir.Module, steps: Sequence[str], worker: Worker, threads: int) -> str:
    """Compiles and compares with PyTorch; returns why a choice (`morph-choose`) cannot be followed, if that is so.

    Raises:
        AssertionError: another result.
        CompilationFailed: there is no code, or it crashes.
    """
    subject = imported(network)
    program = dataclasses.replace(subject.program, module=module)
    parameters = {name: tensor.detach().numpy() for name, tensor in program.parameters.items()}
    job = RunJob(str(module), parameters, [x.numpy() for x in subject.inputs], threads)
    try:
        (output,) = worker.run(job, limit=LIMIT).outputs
    except CompilationFailed:
        refusal = refused_choice(module) if any(s.startswith("morph-choose{") for s in steps) else ""
        if not refusal:
            raise
        return refusal
    difference = (torch.from_numpy(output) - subject.expected).abs().max() / subject.expected.abs().max()
    assert difference <= TOLERANCE, f"relative error {float(difference):.2g} with {threads} thread(s)"
    return ""


def refused_choice(module: ir.Module) -> str:
    """Why the default schedule cannot follow a choice, which only it can judge."""
    try:
        plan_functions(copy_module(module), native_target())
    except (ArgumentError, IllegalTransform) as refusal:
        return str(refusal)
    return ""


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as worker:
        yield worker


@settings(max_examples=25, derandomize=True, deadline=None, database=None, phases=[Phase.generate])
@given(seed=st.integers(0, 2**32))  # not `st.randoms`: its draws are mostly the simplest, which are refused
def test_random_sequences_are_refused_or_compute_the_same(worker: Worker, seed: int) -> None:
    run_seed(seed, worker)


@pytest.mark.parametrize(
    ("network", "step"),
    [
        (Network("conv", padding=0, size=8, then=()), "morph-vectorize{layer=layer iter=kw width=2}"),
        (Network("conv", then=("add", "relu"), bias=False), "morph-vectorize{layer=add iter=w width=4}"),
        (Network("avg", then=("relu",), bias=False), "morph-vectorize{layer=layer#epilogue.0 iter=w width=2}"),
        (Network("conv", size=7), "morph-vectorize{layer=layer#init.1 iter=w width=2}"),
        (Network("conv", kernel=1, padding=0, then=("scale",)), "morph-vectorize{layer=layer#init.0 iter=w width=4}"),
    ],
)
def test_what_compilation_adds_leaves_vectorised_nests_alone(worker: Worker, network: Network, step: str) -> None:
    module = imported(network).program.apply(step).module
    assert require_equal(network, module, [step], worker, threads=1) == ""


def survey(cases: int, first: int = 0) -> int:
    """Runs many cases and prints what became of them; returns the number of failures."""
    applied: Counter[str] = Counter()
    refusals: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    with Worker() as worker:
        for seed in range(first, first + cases):
            print(f"\rseed {seed}", end="", file=sys.stderr, flush=True)
            try:
                outcome = run_seed(seed, worker)
            except Exception as error:  # the point of the run is to see all of them
                counts["failures"] += 1
                first_line = next(iter(str(error).splitlines()), "")
                notes = " | ".join(getattr(error, "__notes__", []))
                print(f"\nseed {seed}: {type(error).__name__}: {first_line}\n  {notes}", flush=True)
                continue
            counts["cases with an accepted step"] += bool(outcome.accepted)
            counts["cases with two or more"] += len(outcome.accepted) > 1
            counts["choices refused when compiled"] += bool(outcome.refused_choice)
            applied.update(step.partition("{")[0] for step in outcome.accepted)
            refusals.update(map(shape_of, filter(None, [*outcome.refusals, outcome.refused_choice])))
    steps = applied.total() + refusals.total()
    print(f"\n{cases} cases; {applied.total()} of {steps} steps accepted; {dict(counts)}")
    print("accepted:", ", ".join(f"{name} {n}" for name, n in applied.most_common()))
    for reason, n in refusals.most_common():
        print(f"{n:5} {reason}")
    return counts["failures"]


def shape_of(refusal: str) -> str:
    """A refusal without its names and numbers."""
    reason = re.sub(r"'[^']*'|%\S+|\[[^]]*\]|\([^)]*\)", "_", refusal)
    return re.sub(r"-?\d+", "N", reason)[:90]


if __name__ == "__main__":
    faulthandler.enable()
    sys.exit(min(1, survey(*map(int, sys.argv[1:]))))
