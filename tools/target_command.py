"""`loopmorph target`: what code is generated for."""

from __future__ import annotations

import click


@click.command("target")
@click.argument("name", required=False)
@click.option(
    "--measure", is_flag=True, help="Measure how fast this computer multiplies and reads memory, and keep it."
)
def target_command(name: str | None, measure: bool) -> None:
    """Show a processor as code generation sees it: this computer, or NAME, as archspec calls it.

    NAME may give figures of its own, as in zen4+l2=512K+balance=2.5; balance is the multiply-adds that a core does
    while it reads a byte of memory.
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
