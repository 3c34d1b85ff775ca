"""`loopmorph target`: what code is generated for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from loopmorph.passes.target.target import Target


@click.command("target")
@click.argument("name", required=False)
@click.option(
    "--measure", is_flag=True, help="Measure how fast this computer multiplies and reads memory, and keep it."
)
def target_command(name: str | None, measure: bool) -> None:
    """Show a processor as code generation sees it: this computer, or NAME, as archspec calls it.

    NAME may give figures of its own, as in zen4+l2=512K+balance=2.5; balance is the multiply-adds that a core does
    while it reads a byte of memory. docs/targets.md has them all.
    """
    from loopmorph.passes.errors import ArgumentError
    from loopmorph.passes.target.detect import processor_name, resolve_target
    from loopmorph.pipelines.measure.target import measure_target, this_computer

    if measure and name is not None:
        raise ArgumentError("measure", "only this computer can be measured; leave NAME out")
    target = measure_target() if measure else this_computer() if name is None else resolve_target(name)
    if name is None:
        click.echo(f"processor  {processor_name()}")
    click.echo(f"target     {target}")
    click.echo(f"vectors    {target.registers} registers of {target.lanes} float32 lanes")
    sizes = (("L1", target.l1_bytes), ("L2", target.l2_bytes), ("L3", target.l3_bytes))
    click.echo(f"caches     {', '.join(f'{level} {size >> 10} KiB' for level, size in sizes if size)}")
    click.echo(f"balance    {target.balance} multiply-adds a byte of memory")
    click.echo(f"cores      {target.cores}")
    for line in _speed(target):
        click.echo(line)


def _speed(target: Target) -> Iterator[str]:
    """What the models know of a core, a line each."""
    team = target.team_balance
    levels = {"L2": target.l2_balance, "L3": target.l3_balance if target.l3_bytes else 0.0, "memory": target.balance}
    reads = [f"{level} {target.bandwidth(balance):.0f}" for level, balance in levels.items() if balance]
    shared = f", memory while all cores read {target.bandwidth(team):.0f}" if team else ""
    loads = target.bandwidth(target.load_cost / 4)
    yield f"peak       {target.peak:.0f} GFLOP/s a core, with {target.in_flight} multiply-adds in flight"
    yield f"GB/s       L1 {loads:.0f}, {', '.join(reads)}{shared}"
    scalars = f"{target.scalar_cost} times that for scalars in few registers"
    yield f"loads      {target.load_cost} multiply-adds each, {scalars}"
    yield f"512 bits   {f'{target.wide} times the speed of 256 bits' if target.wide else 'none'}"
