"""Results in the files that a command was asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from loopmorph.pipelines.support.files import write_atomically


def write_results(
    json_path: Path | None,
    to_json: Callable[[], str],
    plot: Path | None = None,
    draw: Callable[[], bytes] = bytes,
) -> None:
    """Writes a result as JSON, and then as a picture, to the files that were named, and says so.

    Raises:
        ArgumentError: a file cannot be written.
    """
    if json_path is not None:
        content = to_json().encode()
        write_atomically(json_path, lambda file: file.write(content), argument="json")
    if plot is not None:
        picture = draw()
        write_atomically(plot, lambda file: file.write(picture), argument="plot")
    written = [str(path) for path in (json_path, plot) if path is not None]
    if written:
        click.echo(f"written: {' '.join(written)}")
