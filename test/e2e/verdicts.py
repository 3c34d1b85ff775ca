"""What becomes of one network at each door: right, refused by name, eager again, or one of the kinds of fault."""

from __future__ import annotations

import copy
import re
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

import loopmorph as lm
from loopmorph.pipelines.codegen.dynamo import FallbackWarning, loopmorph
from loopmorph.pipelines.support.agreement import Agreement
from loopmorph.pipelines.support.probes import Probe, nearby, nearby_module

RIGHT, REFUSED, FALLBACK = "right", "refused", "fallback"
WRONG, CRASH, RAW, TIMEOUT = "WRONG", "CRASH", "RAW", "TIMEOUT"
SKIPPED = "skipped"  # PyTorch itself does not run it
FAULTS = (WRONG, CRASH, RAW, TIMEOUT)
COMPILE, DYNAMO = "lm.compile", "torch.compile"
DOORS = (COMPILE, DYNAMO)
_NEARBY = 3  # inputs that differ hardly at all, which tell how much a network amplifies rounding

Batch = tuple[torch.Tensor, ...]

# A refusal that a user can act on: the operator, or the argument, dtype, aliasing or control flow that is not taken.
_OPERATOR = r"\boperator '[\w.]+'|\baten[.:]+\w+|\btorch\.(?!compile|export|constant|prim|vtensor|operator\b)\w+"
_NAMED = re.compile(
    rf"{_OPERATOR}|\bargument '|\b(complex|int|float)\d+|\boutput \d+ (is|shares)|depends on data|data-dependent"
)


@dataclass(frozen=True)
class Finding:
    """What became of a network at one door.

    Attributes:
        door: one of `DOORS`.
        verdict: one of the constants above.
        reason: the refusal, the warning, or what differs.
        seconds: to import and compile, by name.
    """

    door: str
    verdict: str
    reason: str = ""
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What became of one case at the doors that it was tried at."""

    findings: list[Finding]


def judge(model: nn.Module, probes: Sequence[Probe], name: str = "", doors: Sequence[str] = DOORS) -> Outcome:
    """Compiles a network for the first inputs, runs it on all, and compares with PyTorch.

    Args:
        model: in eval mode; left as it is.
        probes: inputs of the same shapes and dtypes; of those after the first, what PyTorch does not take is left out.
        name: of the operator, as a refusal may call it.
        doors: where to try.
    """
    kinds = " ".join([name, *(type(module).__name__ for module in model.modules())]).lower()
    spreads = any(word in kinds for word in ("conv", "attention", "transformer"))
    trials: list[Trial] = []
    for probe in probes:
        try:
            trials.append(Trial(probe, eager(model, probe.tensors), model, spreads))
        except Exception as error:  # whatever PyTorch raises for its own reasons, as for values outside a domain
            if not trials:
                return Outcome([Finding(door, SKIPPED, f"eager: {one_line(error)}") for door in doors])
    ways = {COMPILE: _through_compile, DYNAMO: _through_dynamo}
    return Outcome([ways[door](model, trials, name) for door in doors])


@dataclass(frozen=True)
class Result:
    """What a call returned, and its inputs and the network's tensors afterwards: what it changed in place."""

    value: Any
    inputs: Batch
    state: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Trial:
    """Inputs, and what PyTorch makes of them.

    Attributes:
        spreads: whether a NaN may reach elements that PyTorch keeps finite: the others of a tile of a convolution, and
            the rows of an attention, whose fused kernel in PyTorch makes zeros of NaN.
    """

    probe: Probe
    expected: Result
    model: nn.Module
    spreads: bool

    @property
    def rule(self) -> Agreement:
        return Agreement(spreads=self.spreads, indeterminate=self.probe.kind == "infinite")

    def nearby(self) -> list[Result]:
        """What PyTorch makes of inputs that differ hardly at all."""
        return [eager(nearby_module(self.model, k), tensors) for k, tensors in enumerate(nearby(self.probe, _NEARBY))]


def eager(model: nn.Module, batch: Batch) -> Result:
    """Runs a copy of the model on copies of the inputs, without gradients, from a fixed seed."""
    return _call(copy.deepcopy(model), batch)


def _call(run: Any, batch: Batch, network: nn.Module | None = None) -> Result:
    """Calls what may belong to a network."""
    own = tuple(t.clone() for t in batch)
    torch.manual_seed(0)
    with torch.no_grad():
        value = run(*own)
    owner = run if network is None else network
    state = owner.state_dict() if isinstance(owner, nn.Module) else {}
    return Result(value, own, {name: tensor.clone() for name, tensor in state.items()})


def _through_compile(model: nn.Module, trials: Sequence[Trial], name: str) -> Finding:
    seconds: dict[str, float] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _timed(seconds, "import"):
                program = lm.import_model(copy.deepcopy(model), tuple(t.clone() for t in trials[0].probe.tensors))
            with _timed(seconds, "compile"):
                run = lm.compile(program)
            results = [_call(run, trial.probe.tensors) for trial in trials]
    except lm.WrongResult as error:
        return Finding(COMPILE, WRONG, one_line(error), seconds)
    except lm.LoopmorphError as error:
        verdict, reason = judged_refusal(str(error), name)
        return Finding(COMPILE, verdict, reason, seconds)
    except Exception as error:  # what must not happen
        return Finding(COMPILE, RAW, one_line(error), seconds)
    wrong = _first_difference(results, trials)
    return Finding(COMPILE, WRONG if wrong else RIGHT, wrong, seconds)


def _through_dynamo(model: nn.Module, trials: Sequence[Trial], name: str) -> Finding:
    try:
        results, said = _dynamo(model, trials, loopmorph)
    except Exception as error:
        return _dynamo_failure(model, trials, error)
    wrong = _first_difference(results, trials)
    if not wrong:
        wrong = next((text for text in said if "wrong" in text), "")
    if wrong:
        return Finding(DYNAMO, WRONG, wrong)
    if not said:
        return Finding(DYNAMO, RIGHT)
    verdict, reason = judged_refusal(said[0], name)
    return Finding(DYNAMO, FALLBACK if verdict == REFUSED else verdict, reason)


def _dynamo(model: nn.Module, trials: Sequence[Trial], backend: Any) -> tuple[list[Result], list[str]]:
    """The results, and what the backend's warnings say."""
    torch._dynamo.reset()
    model = copy.deepcopy(model)
    with warnings.catch_warnings(record=True) as caught, torch.no_grad():
        warnings.simplefilter("always")
        run = torch.compile(model, backend=backend)
        start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        results = []
        for trial in trials:
            _restore(model, start)
            results.append(_call(run, trial.probe.tensors, model))
    return results, [str(w.message) for w in caught if issubclass(w.category, FallbackWarning)]


def _restore(model: nn.Module, start: dict[str, torch.Tensor]) -> None:
    """Undoes what a call changed in the network's tensors, in place; leaves alone what it did not change."""
    for name, tensor in model.state_dict().items():
        if difference(tensor, start[name]):
            tensor.copy_(start[name])


def _dynamo_failure(model: nn.Module, trials: Sequence[Trial], error: Exception) -> Finding:
    """Of ours, or of Dynamo's own, which then shows with its eager backend too."""
    try:
        _dynamo(model, trials, "eager")
    except Exception as own:
        return Finding(DYNAMO, SKIPPED, f"torch.compile with eager: {one_line(own)}")
    return Finding(DYNAMO, RAW, one_line(error))


def judged_refusal(text: str, name: str) -> tuple[str, str]:
    """Verdict and reason: a refusal is one line that says what is refused."""
    short = name.rpartition(".")[2].lower().replace("_", "")
    named = _NAMED.search(text) or (short and short in text.lower().replace("_", ""))
    if not named:
        return RAW, f"names no operator: {text.splitlines()[0]}"
    if "\n" in text.strip():
        return RAW, f"more than a line: {text.splitlines()[0]}"
    return REFUSED, text


def one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:400]


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - started


# ---- what is compared


def _first_difference(results: Sequence[Result], trials: Sequence[Trial]) -> str:
    """Empty where all agree."""
    for result, trial in zip(results, trials, strict=True):
        text = difference(result.value, trial.expected.value, trial.rule)
        if text:
            text = difference(result.value, trial.expected.value, trial.rule, [each.value for each in trial.nearby()])
        if not text:
            text = _prefixed("input afterwards: ", difference(result.inputs, trial.expected.inputs))
        if not text and result.state:  # an executable has a copy of its own
            text = _prefixed("state afterwards: ", difference(result.state, trial.expected.state, trial.rule))
        if text:
            return text if trial.probe.kind == "example" else f"on {trial.probe.name}: {text}"
    return ""


def _prefixed(what: str, text: str) -> str:
    return f"{what}{text}" if text else ""


def difference(value: Any, expected: Any, rule: Agreement | None = None, near: Sequence[Any] = ()) -> str:
    """How what was computed differs from what PyTorch computes, in structure, shape, dtype or numbers; or empty.

    Args:
        value: what was computed.
        expected: what PyTorch computes.
        rule: when numbers agree.
        near: what PyTorch computes for inputs that differ hardly at all.
    """
    leaves, structure = pytree.tree_flatten(_plain(value))
    right, right_structure = pytree.tree_flatten(_plain(expected))
    if len(leaves) != len(right):
        return f"{len(leaves)} outputs, PyTorch has {len(right)}"
    around = [pytree.tree_leaves(_plain(each)) for each in near]
    for k, (a, b) in enumerate(zip(leaves, right, strict=True)):
        text = _leaf_difference(a, b, rule or Agreement(), [each[k] for each in around])
        if text:
            return f"output {k}: {text}" if len(right) > 1 else text
    if _shape_of(structure) != _shape_of(right_structure):
        return f"structure {_shape_of(structure)}, PyTorch's {_shape_of(right_structure)}"
    return ""


def _plain(value: Any) -> Any:
    """PyTorch's own named tuples, as of `torch.max`, are tuples to who compiles them."""
    return tuple(value) if type(value).__module__ == "torch.return_types" else value


def _shape_of(structure: pytree.TreeSpec) -> str:
    return re.sub(r"\s+", "", str(structure))[:200]


def _leaf_difference(a: Any, b: Any, rule: Agreement, near: Sequence[Any]) -> str:
    if not isinstance(b, torch.Tensor):
        same = type(a) is type(b) and (a == b or (a != a and b != b))
        return "" if same else f"{a!r} instead of {b!r}"[:200]
    if not isinstance(a, torch.Tensor):
        return f"{type(a).__name__} instead of a tensor"
    if a.layout != b.layout:
        return f"layout {a.layout}, PyTorch's {b.layout}"
    if b.layout != torch.strided:
        a, b, *near = (each.to_dense() for each in (a, b, *near))
    if b.is_complex() and a.is_complex():
        a, b, *near = (torch.view_as_real(each.resolve_conj()) for each in (a, b, *near))
    return rule.disagreement(a, b, [each for each in near if each.shape == b.shape]) or ""
