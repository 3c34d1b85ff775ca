"""All layers of `torch.nn`, all functions of `torch.nn.functional`, and those of `torch`, at both doors.

Three argument sets each, on three inputs each: right, refused by name, run by PyTorch after a warning, or a fault.

    PYTHONPATH=. python test/e2e/operator_sweep.py --json operators.jsonl
    PYTHONPATH=. python test/e2e/operator_sweep.py --only nn:Conv2d --only functional:interpolate
"""

from __future__ import annotations

from pathlib import Path

import click
from operator_cases import SETS, SUITES, cases, load
from sweep import finish, sweep
from verdicts import DOORS, SKIPPED, Finding, Outcome, judge


def run(case: str) -> Outcome:
    """What becomes of one case, in the process that runs cases."""
    try:
        loaded = load(case)
    except Exception as error:  # whatever PyTorch's lists raise
        return Outcome(
            [Finding(door, SKIPPED, f"no arguments: {type(error).__name__}: {error}"[:200]) for door in DOORS]
        )
    return judge(loaded.model, loaded.probes, loaded.name)


@click.command(context_settings={"show_default": True})
@click.option("--suite", "suites", multiple=True, type=click.Choice(SUITES), help="Which; all by default.")
@click.option("--only", multiple=True, help="Cases whose name begins so, like nn:Conv2d or torch:add:0.")
@click.option("--set", "sets", multiple=True, type=click.IntRange(0, SETS - 1), help="Argument sets; all by default.")
@click.option("--limit", default=60.0, help="Seconds for one case.")
@click.option(
    "--json", "path", type=click.Path(dir_okay=False, path_type=Path), help="Where to write, and to go on from."
)
@click.option("--fresh", is_flag=True, help="Begin that file anew.")
def main(
    suites: tuple[str, ...], only: tuple[str, ...], sets: tuple[int, ...], limit: float, path: Path | None, fresh: bool
) -> None:
    """Sweeps the operators; exits with 1 where there is a fault."""
    chosen = [case for suite in suites or SUITES for case in cases(suite)]
    if only:
        chosen = [case for case in chosen if f"{case}:".startswith(tuple(f"{o}:" if o.count(":") else o for o in only))]
    if sets:
        chosen = [case for case in chosen if int(case.rpartition(":")[2]) in sets]
    if not chosen:
        raise click.BadParameter("no case begins so", param_hint="--only")
    found = sweep(chosen, "operator_sweep:run", limit, path, fresh)
    finish(chosen, found, group=lambda line: line.case.partition(":")[0])


if __name__ == "__main__":
    main()
