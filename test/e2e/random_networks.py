"""Random networks, of layers of every kind at odd sizes: drawing one, building it, and what becomes of it.

Run as a program it tries many, makes those that fail smaller, and counts refusals by reason:

    PYTHONPATH=. python test/e2e/random_networks.py --examples 1000 --seed 0 --json random.jsonl
    PYTHONPATH=. python test/e2e/random_networks.py --network "((1, 3, 9, 7), [('activation', {'kind': 'GELU'})])"
"""

from __future__ import annotations

import ast
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from case_runner import Runner
from hypothesis import strategies as st
from random_layers import KINDS, Shape, Step
from rich.console import Console
from sweep import Line, finish, lines_of, sweep
from torch import nn
from verdicts import COMPILE, FAULTS, Outcome, judge

from loopmorph.pipelines.support.probes import Probe

FEWEST_STEPS, MOST_STEPS = 2, 7
MOST_ELEMENTS = 6000  # of an activation
LAST_SIZES = (3, 4, 5, 7, 8, 9, 11, 16)


@dataclass(frozen=True)
class RandomNetwork:
    """The shape of the input and the steps that follow; `str()` of it is what `parse` takes."""

    shape: Shape
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return repr((self.shape, list(self.steps)))

    def build(self) -> nn.Sequential:
        """The network for inference, with weights and statistics that depend on the steps alone.

        Raises:
            Exception: PyTorch does not admit a step for the shape that the ones before it leave.
        """
        model, x = nn.Sequential(), torch.zeros(self.shape)
        for step in self.steps:
            layer, x = _apply(step, x)
            model.append(layer)
        return model.eval()


def parse(text: str) -> RandomNetwork:
    shape, steps = ast.literal_eval(text)
    return RandomNetwork(shape, tuple(steps))


def random_networks() -> st.SearchStrategy[RandomNetwork]:
    """Networks by number: hypothesis' own draws are mostly the simplest, the same few layers."""
    return st.integers(0, 2**32).map(drawn)


def drawn(seed: int) -> RandomNetwork:
    """The network of a number."""
    rng = random.Random(seed)
    dims = rng.choices([1, 2, 3], [2, 6, 1])[0]
    largest = {1: 8, 2: 8, 3: 4}[dims]
    sizes = [rng.choice(LAST_SIZES[:largest]) for _ in range(dims)]
    shape = (rng.choice([1, 1, 2]), rng.choice([1, 2, 3, 4, 6, 8, 16]), *sizes)
    x, steps = torch.zeros(shape), []
    wanted = rng.randint(FEWEST_STEPS, MOST_STEPS)
    for _ in range(20 * wanted):
        if len(steps) == wanted:
            break
        kind = rng.choices(list(KINDS), [often for often, _, _ in KINDS.values()])[0]
        options = KINDS[kind][1](rng, tuple(x.shape))
        if options is None:
            continue
        try:
            _, after = _apply((kind, options), x)
        except (RuntimeError, ValueError):  # PyTorch does not admit it for this shape
            continue
        if 0 < after.numel() <= MOST_ELEMENTS and after.dim() == x.dim():
            x = after
            steps.append((kind, options))
    return RandomNetwork(shape, tuple(steps))


def _apply(step: Step, x: torch.Tensor) -> tuple[nn.Module, torch.Tensor]:
    """The layer of a step, with weights and statistics, and its result."""
    kind, options = step
    torch.manual_seed(len(repr(step)))
    layer = KINDS[kind][2](tuple(x.shape), options).eval()
    for module in layer.modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        return layer, layer(x)


def probes(shape: Shape) -> list[Probe]:
    """Normal numbers, those of another seed, and edge values: zeros of both signs, large and tiny ones."""
    first, other = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    edge = torch.zeros(shape)
    values = torch.tensor([1e4, -1e4, -0.0, 1e-30, 1.0, -1.0])
    places = torch.arange(0, edge.numel(), 3)
    edge.view(-1)[places] = values[places % len(values)]
    return [Probe("example", (first,)), Probe("random", (other,)), Probe("large", (edge,))]


def run(case: str) -> Outcome:
    """What becomes of a network, given by number or as text, in the process that runs cases."""
    network = drawn(int(case)) if case.isdigit() else parse(case)
    return judge(network.build(), probes(network.shape), doors=(COMPILE,))


def smaller(network: RandomNetwork, fails: Callable[[RandomNetwork], bool]) -> RandomNetwork:
    """With as many steps left out as can be while it fails."""
    for k in reversed(range(len(network.steps))):
        shorter = RandomNetwork(network.shape, (*network.steps[:k], *network.steps[k + 1 :]))
        if shorter.steps and _builds(shorter) and fails(shorter):
            network = shorter
    return network


def _builds(network: RandomNetwork) -> bool:
    try:
        network.build()
    except Exception:  # whatever PyTorch raises: that step needs the one that was left out
        return False
    return True


@click.command(context_settings={"show_default": True})
@click.option("--examples", default=100, type=click.IntRange(min=1), help="How many networks.")
@click.option("--seed", default=0, type=click.IntRange(min=0), help="Number of the first; a number is one network.")
@click.option("--network", help="Try this one alone.")
@click.option("--limit", default=120.0, help="Seconds for one network.")
@click.option("--json", "path", type=click.Path(dir_okay=False, path_type=Path), help="Write there, and go on from it.")
@click.option("--fresh", is_flag=True, help="Begin that file anew.")
def main(examples: int, seed: int, network: str | None, limit: float, path: Path | None, fresh: bool) -> None:
    """Compiles random networks and compares them with PyTorch; exits with 1 where there is a fault."""
    chosen = [network] if network else [str(k) for k in range(seed, seed + examples)]
    found = sweep(chosen, "random_networks:run", limit, path, fresh)
    _show_smaller([line for line in found if line.verdict in FAULTS], limit)
    finish(chosen, found, group=lambda line: "random")


def _show_smaller(faults: list[Line], limit: float) -> None:
    """The shortest form of each network that failed."""
    console = Console()
    with Runner("random_networks:run", limit) as runner:
        for fault in faults:

            def fails(network: RandomNetwork, verdict: str = fault.verdict) -> bool:
                return any(line.verdict == verdict for line in lines_of(runner.run(str(network))))

            start = drawn(int(fault.case)) if fault.case.isdigit() else parse(fault.case)
            text = f"{fault.verdict} {fault.case}: {smaller(start, fails)}: {fault.reason}"
            console.print(text, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
