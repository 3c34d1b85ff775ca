"""Random compositions of neural and loop transformations, and what must hold of each: drawing and checking one case."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from composition_networks import SUBJECTS, TRANSFORMERS
from networks import image, randomized
from test_random_schedules import draw_value
from torch import nn
from torch_mlir import ir

from loopmorph.dialects.morph import schedule_text
from loopmorph.passes import marks
from loopmorph.passes.address import find_nest
from loopmorph.passes.analysis.dimension_names import NAMES
from loopmorph.passes.analysis.roles import is_reduction
from loopmorph.passes.base import OptionValue
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.nest import Nest, nests
from loopmorph.passes.registry import all_passes
from loopmorph.passes.transformation import Transformation
from loopmorph.pipelines.compile import Executable
from loopmorph.pipelines.network import copy_module
from loopmorph.pipelines.program import Program, import_model
from loopmorph.pipelines.rewritten.nest_module import NestModule
from loopmorph.pipelines.support.agreement import relative_error

FEWEST_STEPS, MOST_STEPS = 2, 8
TOLERANCE = 1e-4  # of the largest output
NEURAL_SHARE = 0.6
FOCUS_SHARE = 0.6  # of the steps that go to the layer that the case is about, so that steps build on each other
BAD_SHARE = 0.03
NAMED_SHARE = 0.3  # of the iterators of transformers that are drawn by name
WEIGHT_OPTIONS = ("keep", "inherit")
COMPUTING = (marks.MAIN, marks.MIX, marks.MIX_IN)
NEURAL_WEIGHTS = {
    **{"morph-bottleneck": 5, "morph-narrow": 2, "morph-group": 4, "morph-depthwise": 1, "morph-mix": 2},
    **{"morph-permute": 3},
}
EXACT = ("morph-mix", "morph-permute")  # neural ones that keep the values
LOOP_WEIGHTS = {
    **{"morph-split": 5, "morph-partition": 5, "morph-interchange": 3, "morph-fuse": 3, "morph-tile": 2},
    **{"morph-unroll": 2, "morph-unroll-jam": 2, "morph-vectorize": 2},
}


@dataclass
class Outcome:
    """What became of one case.

    Attributes:
        network: a name of `SUBJECTS` or `TRANSFORMERS`.
        accepted: the steps that were applied.
        refused: of the others, the name of the transformation and the reason.
        ending: "nothing accepted", "equal"; or "refused by PyTorch" or "refused by compilation" with the `reason`.
        replayed: whether the recorded schedule was printed, parsed and replayed to the same IR.
    """

    network: str
    accepted: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    ending: str = "nothing accepted"
    reason: str = ""
    replayed: bool = False


@functools.cache
def imported(name: str) -> Program:
    subject = {**SUBJECTS, **TRANSFORMERS}[name]
    torch.manual_seed(0)
    return import_model(randomized(subject.factory()), (image(subject.batch, subject.size),))


def run(case: int | tuple[str, str]) -> Outcome:
    """The case of a number, or of a network's name and steps."""
    return run_case(case) if isinstance(case, int) else run_steps(*case)


def run_transformer(case: int | tuple[str, str]) -> Outcome:
    """As `run`, of the transformers, whose dimensions are also drawn by name."""
    return run_case(case, tuple(TRANSFORMERS), named=True) if isinstance(case, int) else run_steps(*case)


def run_case(seed: int, networks: Sequence[str] = tuple(SUBJECTS), *, named: bool = False) -> Outcome:
    """Draws the case of a number, applies it and checks what becomes of it.

    Args:
        seed: the number.
        networks: of which one is drawn.
        named: whether dimensions are drawn by their names, too.

    Raises:
        AssertionError: what must hold does not.
        Exception: whatever else went wrong; the note says which network and steps.
    """
    rng = random.Random(seed)
    outcome = Outcome(rng.choice(networks))
    steps: list[str] = []
    try:
        start = imported(outcome.network)
        module = copy_module(start.module)
        focus = rng.choice(_contractions(module.operation)).layer
        for _ in range(rng.randint(FEWEST_STEPS, MOST_STEPS)):
            _try_step(rng, module, focus, outcome, steps, named)
        if outcome.accepted:
            check(start, module, outcome)
    except Exception as error:
        error.add_note(f"{outcome.network}: {','.join(steps)}")
        raise
    return outcome


def run_steps(network: str, text: str) -> Outcome:
    """The case of given steps, all of which must be accepted: for what a run has found."""
    outcome = Outcome(network)
    program = imported(network).apply(text)
    outcome.accepted += program.steps
    check(imported(network), program.module, outcome)
    return outcome


def _try_step(
    rng: random.Random, module: ir.Module, focus: str, outcome: Outcome, steps: list[str], named: bool
) -> None:
    before = str(module)
    name = "drawing"
    try:
        step = draw_step(rng, module.operation, focus, named=named)
        name = step.name
        steps.append(str(step))  # for the note, should it crash
        step.apply(module.operation)
    except (ArgumentError, IllegalTransform) as refusal:
        del steps[len(outcome.accepted) :]
        assert str(module) == before, f"changed although refused: {refusal}"
        outcome.refused.append((name, str(refusal)))
        return
    outcome.accepted.append(str(step))
    assert module.operation.verify(), f"does not verify after {step}"


# ---- what is drawn


def draw_step(rng: random.Random, module: ir.Operation, focus: str, *, named: bool = False) -> Transformation[Any]:
    """A transformation whose options mostly fit.

    Args:
        rng: where the chances come from.
        module: the program as it is now.
        focus: the layer that most of the steps are for.
        named: whether dimensions are drawn by their names, too.

    Raises:
        ArgumentError: a value that no program admits.
    """
    neural = rng.random() < NEURAL_SHARE
    kinds = _transformations("neural" if neural else "loop")
    weights = NEURAL_WEIGHTS if neural else LOOP_WEIGHTS
    cls = rng.choices(kinds, [weights.get(kind.name, 1) for kind in kinds])[0]
    address = _draw_address(rng, module, focus, neural)
    values: dict[str, OptionValue | None] = {"layer": address if rng.random() > BAD_SHARE else "nowhere"}
    nest = find_nest(module, address)
    if cls.name == "morph-mix":
        values["layer"] = address.partition("#")[0]
    if named and "iter" in cls.option_types() and neural and rng.random() < NAMED_SHARE:
        values["iter"] = rng.choice(NAMES)
    for name in [option for option in cls.option_types() if option not in values]:
        likely = 0.2 if name in WEIGHT_OPTIONS else 0.8
        if name in cls.required_options() or rng.random() < likely:
            draw = _draw_neural if neural else functools.partial(draw_value, step=cls.name)
            values[name] = draw(rng, option=name, nest=nest, values=values)
    return cls(**values)


def _draw_address(rng: random.Random, module: ir.Operation, focus: str, neural: bool) -> str:
    """How `find_nest` calls a nest: of the focus, of another contraction, or any."""
    chance = rng.random()
    computing = _contractions(module)
    own = [nest for nest in computing if nest.layer == focus]
    if chance < FOCUS_SHARE and own:
        return address_of(module, rng.choice(own))
    if chance < 0.9 if neural else chance < 0.8:
        return address_of(module, rng.choice(computing))
    return address_of(module, rng.choice(nests(module)))


def address_of(module: ir.Operation, nest: Nest) -> str:
    """`LAYER` or `LAYER#ROLE.K`."""
    alike = [n.root for n in nests(module) if (n.layer, n.role) == (nest.layer, nest.role)]
    if nest.role == marks.MAIN and len(alike) == 1:
        return nest.layer
    return f"{nest.layer}#{nest.role}.{alike.index(nest.root)}"


def _contractions(module: ir.Operation) -> list[Nest]:
    """The nests that reduce over a parameter, however they are written by now."""
    found = [nest for nest in nests(module) if nest.role in COMPUTING]
    return [nest for nest in found if any(is_reduction(nest, loop.position) for loop in nest.loops)]


def _draw_neural(rng: random.Random, option: str, nest: Nest, values: dict[str, OptionValue | None]) -> OptionValue:
    extents = dict(zip(nest.iterators, nest.extents, strict=True))
    names = [name for name in extents if name != "n" or rng.random() < 0.1]
    bad = rng.random() < BAD_SHARE
    if option == "iter":
        return "nowhere" if bad else rng.choice(names)
    if option == "iters":
        return _draw_group(rng, names)
    extent = extents.get(str(values.get("iter"))) or 4
    if option == "begin":
        return extent if bad else rng.randrange(extent)
    if option == "extent":
        return rng.randint(1, max(1, extent - int(str(values["begin"]))))
    if option == "keep":
        kept = max(1, extent // max(1, int(str(values["factor"]))))
        return tuple(sorted(rng.sample(range(extent), kept)))
    if option == "order":
        return tuple(rng.sample(range(extent), extent - bad))
    if option == "inherit":
        return "slice" if "keep" in values else "mean"
    if "iters" in values:
        extent = min(extents.get(name) or 4 for name in values["iters"])  # type: ignore[union-attr]
    divisors = [d for d in (2, 2, 3, 4, 8) if extent % d == 0]
    return rng.choice([0, 1, 7]) if bad or not divisors else rng.choice(divisors)


def _draw_group(rng: random.Random, names: list[str]) -> tuple[str, ...]:
    """Channels with channels, rows with channels, or rows alone, mostly; parts of split iterators too."""

    def one(start: str) -> str:
        return rng.choice([n for n in names if n.partition(".")[0] == start] or names)

    wanted = rng.choices([("co", "ci"), ("oh", "ci"), ("oh",), ("ow",), ("*", "*")], [5, 2, 2, 1, 1])[0]
    return tuple(one(start) for start in wanted)


@functools.cache
def _transformations(kind: str) -> list[type[Transformation[Any]]]:
    own = [cls for cls in all_passes().values() if cls.__module__.startswith("loopmorph.")]
    return [cls for cls in own if issubclass(cls, Transformation) and cls.kind == kind]


# ---- what is checked


def check(start: Program, module: ir.Module, outcome: Outcome) -> None:
    """Printing, replay, and the compiled network against the trainable module; fills in how the case ends.

    Raises:
        AssertionError: what must hold does not.
        CompilationFailed: there is no code.
    """
    program = Program(module, start.model, start.example_inputs, start.imported, start.origin)
    _check_text(module)
    _check_replay(start, program)
    outcome.replayed = True
    try:
        trainable = program.to_module()
    except IllegalTransform as refusal:
        outcome.ending, outcome.reason = "refused by PyTorch", str(refusal)
        return
    _check_shapes(program, trainable)
    with torch.no_grad():
        expected = trainable.eval()(*program.example_inputs)
    _check_loop_steps(start, program, expected)
    try:
        compiled = Executable(program)(*program.example_inputs)
    except (ArgumentError, IllegalTransform) as refusal:
        if not any(step.startswith("morph-choose{") for step in program.steps):
            raise  # only a choice can be one that the default schedule cannot follow
        outcome.ending, outcome.reason = "refused by compilation", str(refusal)
    else:
        _require_equal(compiled, expected, "compiled code")
        outcome.ending = "equal"
    _check_training(program, trainable)


def _check_text(module: ir.Module) -> None:
    text = str(module)
    with ir.Context():
        assert str(ir.Module.parse(text)) == text, "printed and parsed, the text is another"


def _check_replay(start: Program, program: Program) -> None:
    """The recorded steps, printed as transform IR and parsed, make the same IR."""
    again = start.apply(schedule_text(program.steps))
    assert str(again.module) == str(program.module), "the replayed schedule makes other IR"


def _check_shapes(program: Program, model: nn.Module) -> None:
    """Each parameter that the program takes has that shape in the module; pieces may have been joined again."""
    found = module_shapes(model)
    own = {name for name, _ in program.model.named_parameters(remove_duplicate=False)}
    for name, tensor in program.parameters.items():
        source = program.sources[name]
        if name in found:
            assert found[name] == tensor.shape, f"'{name}' has shape {found[name]}, the program takes {tensor.shape}"
        elif source != name:
            whole = None if source is None else program.imported[source].shape
            assert source in found and found[source] == whole, f"the module has neither '{name}' nor '{source}'"
        else:
            assert name not in own, f"the module has no '{name}'"


def module_shapes(model: nn.Module) -> dict[str | None, torch.Size]:
    """Name in the program -> shape, for all parameters and buffers of the module."""
    shapes: dict[str | None, torch.Size] = {}
    for path, module in model.named_modules():
        names = module.parameter_names if isinstance(module, NestModule) else {}
        for tensors in (module.named_parameters, module.named_buffers):
            for local, tensor in tensors(recurse=False, remove_duplicate=False):
                shapes[names.get(local, f"{path}.{local}" if path else local)] = tensor.shape
    return shapes


def _check_loop_steps(start: Program, program: Program, expected: torch.Tensor) -> None:
    """What comes after the last neural step keeps the values."""
    neural = tuple(f"{cls.name}{{" for cls in _transformations("neural") if cls.name not in EXACT)
    last = max((k for k, step in enumerate(program.steps) if step.startswith(neural)), default=-1)
    if last + 1 == len(program.steps):
        return
    before = start.apply(",".join(program.steps[: last + 1])) if last >= 0 else start
    with torch.no_grad():
        _require_equal(before.to_module().eval()(*program.example_inputs), expected, "without the last loop steps")


def _require_equal(output: Any, expected: torch.Tensor, what: str) -> None:
    assert expected.isfinite().all(), f"{what}: nothing to compare with"
    difference = relative_error(output, expected)
    assert difference <= TOLERANCE, f"{what}: relative difference {difference:.2g}"


def _check_training(program: Program, model: nn.Module) -> None:
    """Everything that is trained gets a gradient of its own shape."""
    model.train()(*program.example_inputs).square().sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"'{name}' has no gradient"
            assert parameter.grad.shape == parameter.shape, f"the gradient of '{name}' has another shape"
            assert parameter.grad.isfinite().all(), f"the gradient of '{name}' is not finite"


def shape_of(refusal: str) -> str:
    """A reason without where it was found, its names and its numbers."""
    text = re.sub(r"^(layer|argument|option|schedule)[^:]*: ", "", refusal)
    text = re.sub(r"(?<!\w)'[^']*'|\"[^\"]*\"|%\S+|\[[^]]*\]|\([^)]*\)|\b[\w|]+(\.\w+)+\b", "_", text)
    return re.sub(r"-?\d+", "N", text)[:100]
