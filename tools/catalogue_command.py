"""`loopmorph catalogue`: the page of all transformations and schedules."""

from __future__ import annotations

from pathlib import Path

import click

from loopmorph.pipelines.support.files import check_writable, write_atomically


@click.command("catalogue")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write here instead of to standard output.")
def catalogue_command(output: Path | None) -> None:
    """Write one Markdown page of all transformations and shipped schedules, what they require and what they do.

    It is an error, which names the entry, if a transformation is not documented in full or if an example or a schedule
    can no longer be applied.
    """
    check_writable("output", output)
    from loopmorph.pipelines.catalogue.page import catalogue

    page = catalogue()
    if output is None:
        click.echo(page, nl=False)
    else:
        write_atomically(output, lambda file: file.write(page.encode()), argument="output")
