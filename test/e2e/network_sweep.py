"""Architectures of timm at their own sizes, and the networks of `other_networks`, through `lm.compile`.

    PYTHONPATH=. python test/e2e/network_sweep.py --json networks.jsonl
    PYTHONPATH=. python test/e2e/network_sweep.py --only timm:convnext_atto

timm comes with the extra `sweep`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import other_networks
import torch
from rich.console import Console
from rich.table import Table
from sweep import Line, finish, sweep
from timm_models import ARCHITECTURES, create
from verdicts import COMPILE, FAULTS, REFUSED, RIGHT, Outcome, judge

from loopmorph.pipelines.support.probes import Probe


def cases() -> list[str]:
    return [*(f"other:{name}" for name in other_networks.NETWORKS), *(f"timm:{name}" for name in ARCHITECTURES)]


def run(case: str) -> Outcome:
    """What becomes of one network, in the process that runs cases."""
    suite, _, name = case.partition(":")
    if suite == "other":
        model, inputs = other_networks.create(name)
        return judge(model, other_networks.probes(inputs), doors=(COMPILE,))
    model, image = create(name)
    return judge(model, [Probe("example", (image,)), Probe("zero", (torch.zeros_like(image),))], doors=(COMPILE,))


@click.command(context_settings={"show_default": True})
@click.option("--only", multiple=True, help="Networks whose name begins so, like timm:swin; all by default.")
@click.option("--limit", default=600.0, help="Seconds for one network.")
@click.option("--json", "path", type=click.Path(dir_okay=False, path_type=Path), help="Write there, and go on from it.")
@click.option("--fresh", is_flag=True, help="Begin that file anew.")
def main(only: tuple[str, ...], limit: float, path: Path | None, fresh: bool) -> None:
    """Compiles networks and compares them with PyTorch; exits with 1 where there is a fault."""
    chosen = [case for case in cases() if case.startswith(only or "")]
    if not chosen:
        raise click.BadParameter("no network's name begins so", param_hint="--only")
    found = sweep(chosen, "network_sweep:run", limit, path, fresh)
    _show_times(found)
    finish(chosen, found, group=lambda line: line.case.partition(":")[0])


def _show_times(found: Sequence[Line]) -> None:
    table = Table(title=f"{sum(line.verdict == RIGHT for line in found)} of {len(found)} networks agree with PyTorch")
    for column in ("network", "verdict", "import s", "compile s", "why"):
        table.add_column(column, justify="right" if column.endswith(" s") else "left", overflow="fold")
    for line in found:
        why = line.reason if line.verdict in (REFUSED, *FAULTS) else ""
        times = (f"{line.seconds[key]:.1f}" if key in line.seconds else "" for key in ("import", "compile"))
        table.add_row(line.case, line.verdict, *times, why[:200])
    Console().print(table)


if __name__ == "__main__":
    main()
