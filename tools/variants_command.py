"""`loopmorph variants`: what each variant of each block of a network saves, and what harm it does."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loopmorph.pipelines.support.files import check_writable, write_atomically
from loopmorph.tools.bars import stage_bars
from loopmorph.tools.options import SEEDS, trust_option

if TYPE_CHECKING:
    from loopmorph.pipelines.search.variants.table import Variant, VariantTable

POSITIVE = click.IntRange(min=1)


@click.command("variants")
@click.argument("model")
@click.option("--data", type=click.Path(path_type=Path), help="CIFAR-10 python batches, an image folder, or an .npz.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write the table here (.json).")
@click.option("--threads", type=POSITIVE, default=1, show_default=True, help="Threads of the compiled code.")
@click.option("--images", type=POSITIVE, default=256, show_default=True, help="One half is repaired on, one measured.")
@click.option("--limit", type=POSITIVE, help="Variants of each block or layer to try.")
@click.option("--seed", type=SEEDS, default=0, show_default=True, help="Seed of weights and images.")
@click.option("--target", metavar="TARGET", help="The processor; by default this one, see 'loopmorph target'.")
@click.option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1; by default a GPU when there is one.")
@click.option("--jobs", type=POSITIVE, default=1, show_default=True, help="Processes that measure; one of them times.")
@click.option("--cluster", metavar="ADDRESS", help="Dask scheduler whose workers measure: tcp://host:8786.")
@trust_option
def variants_command(
    model: str,
    data: Path | None,
    out: Path | None,
    threads: int,
    images: int,
    limit: int | None,
    seed: int,
    target: str | None,
    device: str | None,
    jobs: int,
    cluster: str | None,
    trust: bool,
) -> None:
    """Measure what variants of MODEL's blocks and layers save by themselves, and what harm each does.

    What was measured is kept, so that a run that was stopped goes on when the command is given again. Ctrl-C ends the
    measuring and gives the table as far as it goes.
    """
    check_writable("out", out)
    from loopmorph.passes.target.detect import resolve_target
    from loopmorph.pipelines.ingress.models import resolve_model
    from loopmorph.pipelines.measure.target import this_computer
    from loopmorph.pipelines.program import import_model
    from loopmorph.pipelines.search.preconditions import check_modes, check_numbers
    from loopmorph.pipelines.search.variants.build import build_table
    from loopmorph.pipelines.search.variants.proposals import LIMIT
    from loopmorph.pipelines.search.variants.table import table_text
    from loopmorph.pipelines.training.task import make_task

    processor = this_computer() if target is None else resolve_target(target)
    loaded = resolve_model(model, seed=seed, trust=trust)
    check_numbers(loaded.model, loaded.example_inputs)
    with stage_bars() as tell:
        tell("import", 0, 1)
        original = import_model(loaded.model, loaded.example_inputs)
        task = make_task(original, data, images, seed, None)
        check_modes(loaded.model, task)
        tell("import", 1, 1)
        table = build_table(
            original,
            task,
            processor,
            name=model,
            threads=threads,
            seed=seed,
            limit=LIMIT if limit is None else limit,
            device=device,
            jobs=jobs,
            cluster=cluster,
            progress=tell,
        )
    _print(table)
    if out is not None:
        content = table_text(table).encode()
        write_atomically(out, lambda file: file.write(content))
        click.echo(f"written to {out}")


def _print(table: VariantTable) -> None:
    console = Console()
    shown = Table(
        title=f"{table.model}: {len(table.variants)} variants, {table.original.milliseconds:.3g} ms",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    shown.add_column("layers", overflow="fold")
    for name in ("variants", "kinds", "saves up to", f"{table.signal} from", "to"):
        shown.add_column(name, justify="right", no_wrap=True)
    for where, group in itertools.groupby(table.variants, key=_place):
        shown.add_row(escape(where), *_cells(list(group), table))
    console.print(shown)
    if not table.complete:
        console.print("interrupted: not all variants were measured; the same command goes on from there")


def _place(variant: Variant) -> str:
    """The layers that a variant is of, in short: what their names begin with."""
    layers = sorted(variant.layers)
    parts = [each.split("|")[0].split(".") for each in layers]
    common = [column[0] for column in itertools.takewhile(lambda c: len(set(c)) == 1, zip(*parts, strict=False))]
    return ".".join(common) if common else f"{layers[0]} and {len(layers) - 1} more"


def _cells(group: list[Variant], table: VariantTable) -> list[str]:
    saved = max(-each.change.milliseconds for each in group)
    losses = [each.loss for each in group]
    kinds = len({each.kind for each in group})
    share = saved / table.original.milliseconds
    return [f"{len(group)}", f"{kinds}", f"{share:.1%}", f"{min(losses):.3g}", f"{max(losses):.3g}"]
