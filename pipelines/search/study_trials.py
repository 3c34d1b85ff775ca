"""Records of a study as trials of Optuna, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.history import layer_of, parse_steps, transformations
from loopmorph.pipelines.search.study import CANDIDATE, Record
from loopmorph.pipelines.search.verdict import FAILED, WRONG

MILLISECONDS, SCORE = "ms", "score"  # the names of values
NONE, SEVERAL = "none", "several"
_MOST = 1 << 16  # steps of a record
_TEXTS = ("kind", "steps", "outcome", "reason")  # what a record has besides numbers


@dataclass(frozen=True)
class Objective:
    """One of the values of a trial.

    Attributes:
        name: "ms" for milliseconds (of a candidate what it adds, of a network all that it takes), or the name of one of
            a record's numbers.
        larger_is_better: its direction.
        unchanged: gives the value of what was not measured because it does not change the network.
    """

    name: str
    larger_is_better: bool = False
    unchanged: Callable[[], float] | None = None

    def value(self, record: Record) -> float:
        """The value of a record.

        Raises:
            ArgumentError: the record has no such number.
        """
        if self.name == MILLISECONDS and "ms_after" in record.numbers:
            before = record.numbers.get("ms_before", 0.0) if record.kind == CANDIDATE else 0.0
            return record.numbers["ms_after"] - before
        if self.name in record.numbers:
            return record.numbers[self.name]
        if self.unchanged is None:
            raise ArgumentError("record", f"a {record.kind} that is accepted needs the number '{self.name}'")
        return self.unchanged()


@dataclass(frozen=True)
class Space:
    """What the parameters of trials are drawn from. Optuna takes no further choices once a trial has had some.

    Attributes:
        layers: the layers of the network that candidates are about, in program order.
    """

    layers: tuple[str, ...]

    def parameters(self, record: Record) -> dict[str, tuple[Any, BaseDistribution]]:
        """Name -> value and distribution: the coordinates of a record by which Optuna plots it.

        Of a candidate "layer" and "transforms" (the name of its transformation of the network) and "loop_steps"; of a
        network "layers" (how many it changes) and "steps".
        """
        steps = parse_steps(",".join(record.steps))
        layers = [name for name in dict.fromkeys(map(layer_of, steps)) if name is not None]
        counts = IntDistribution(0, _MOST)
        if record.kind != CANDIDATE:
            return {"layers": (len(layers), counts), "steps": (len(steps), counts)}
        neural = [step.name.removeprefix("morph-") for step in steps if step.kind == "neural"]
        transform = neural[0] if len(neural) == 1 else SEVERAL if neural else NONE
        found: dict[str, tuple[Any, BaseDistribution]] = {"loop_steps": (len(steps) - len(neural), counts)}
        transforms = _transforms()
        if transform in transforms:
            found["transforms"] = (transform, CategoricalDistribution(transforms))
        if layers and layers[0] in self.layers:
            found["layer"] = (layers[0], CategoricalDistribution(self.layers))
        return found


def trial_of(record: Record, space: Space, objectives: Sequence[Objective]) -> FrozenTrial:
    """A finished trial: its parameters from `space`, its user attributes the record, its values the objectives.

    Raises:
        ArgumentError: the record was accepted, and lacks a number that is an objective.
    """
    parameters = space.parameters(record)
    content = record.as_json()
    state = _state(record)
    return optuna.create_trial(
        state=state,
        values=[each.value(record) for each in objectives] if state == TrialState.COMPLETE else None,
        params={name: value for name, (value, _) in parameters.items()},
        distributions={name: distribution for name, (_, distribution) in parameters.items()},
        user_attrs={**{name: content[name] for name in _TEXTS}, **content["numbers"]},
    )


def read_record(attributes: Mapping[str, Any]) -> Record | None:
    """The record of which a trial has the user attributes; None where it has none.

    Raises:
        KeyError, TypeError, ValueError, AttributeError, OverflowError: they are damaged.
    """
    if "kind" not in attributes and "steps" not in attributes:
        return None
    texts = {name: attributes[name] for name in _TEXTS}
    numbers = {name: value for name, value in attributes.items() if name not in _TEXTS and _is_number(value)}
    return Record.from_json({**texts, "numbers": numbers})


def _state(record: Record) -> TrialState:
    if record.accepted:
        return TrialState.COMPLETE
    return TrialState.FAIL if record.outcome in (FAILED, WRONG) else TrialState.PRUNED


def _transforms() -> tuple[str, ...]:
    return (NONE, *sorted(each.name.removeprefix("morph-") for each in transformations("neural")), SEVERAL)


def _is_number(value: Any) -> bool:
    return (isinstance(value, int | float) and not isinstance(value, bool)) or value in ("inf", "-inf", "nan")
