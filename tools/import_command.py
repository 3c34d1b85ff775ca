"""`loopmorph import`: a network as MLIR."""

from __future__ import annotations

from pathlib import Path

import click

from loopmorph.pipelines.support.files import write_atomically
from loopmorph.tools.options import SEEDS, trust_option


@click.command("import")
@click.argument("model")
@click.option("--stage", type=click.Choice(["linalg", "affine"]), default="affine", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write here instead of to standard output.")
@click.option("--seed", type=SEEDS, default=0, show_default=True, help="Seed of the weights.")
@trust_option
def import_command(model: str, stage: str, output: Path | None, seed: int, trust: bool) -> None:
    """Print MODEL as MLIR; the weights stay outside, as named arguments."""
    from loopmorph.pipelines.ingress.importer import import_to_linalg
    from loopmorph.pipelines.ingress.models import resolve_model
    from loopmorph.pipelines.saved_program import program_of

    loaded = resolve_model(model, seed=seed, trust=trust)
    if stage == "linalg":
        text = str(import_to_linalg(loaded.model, loaded.example_inputs).module)
    else:
        text = str(program_of(loaded))
    if output is None:
        click.echo(text, nl=not text.endswith("\n"))
    else:
        write_atomically(output, lambda file: file.write(text.encode()), argument="output")
