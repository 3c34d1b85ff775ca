"""`loopmorph export`: a network as a C library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loopmorph.pipelines.codegen.export.cmake_package import CMAKE_FOLDER
from loopmorph.tools.bars import stage_bars
from loopmorph.tools.options import POSITIVE, SEEDS, trust_option

if TYPE_CHECKING:
    from loopmorph.pipelines.codegen.export.folder import Format


def _print_cmake_folder(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(CMAKE_FOLDER)
        context.exit()


@click.command("export")
@click.argument("model")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="The folder to write to.")
@click.option("--name", help="How C calls the network; its own name, or its file's, by default.")
@click.option(
    "--target",
    "targets",
    metavar="NAME",
    multiple=True,
    help="The processor: this computer's, or another as archspec calls it. Of several, separated by commas or each with"
    " its --target, the library chooses the best that runs.",
)
@click.option("--threads", type=POSITIVE, default=1, show_default=True, help="Threads that each call uses.")
@click.option(
    "--format",
    type=click.Choice(["library", "object", "llvm-ir"]),
    default="library",
    show_default=True,
    help="A shared and a static library; or a C file and an object file, or LLVM IR, for another build to take over.",
)
@click.option(
    "--weights",
    type=click.Choice(["file", "embedded"]),
    default="file",
    show_default=True,
    help="In a file that is mapped into memory, or in the code.",
)
@click.option("--tune", type=float, metavar="SECONDS", help="Measure for so long what is fastest on this computer.")
@click.option("--original", metavar="MODEL", help="What a model.pt was made from, where that is code of its own.")
@click.option("--seed", type=SEEDS, default=0, show_default=True, help="Seed of the weights.")
@trust_option
@click.option("--no-check", is_flag=True, help="Do not compare the code with PyTorch.")
@click.option(
    "--cmake-dir",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_cmake_folder,
    help="Print where CMake finds the package loopmorph (loopmorph_DIR), and do nothing else.",
)
def export_command(model: str, format: Format, no_check: bool, targets: tuple[str, ...], **options: Any) -> None:
    """Write MODEL as a C library that needs neither Python nor PyTorch; MODEL may also be a model.pt of a search."""
    from loopmorph.pipelines.export import export

    with stage_bars() as tell:
        target = ",".join(targets) or None
        done = export(model, format=format, target=target, check=not no_check, progress=tell, **options)
    for kind, ports in (("input", done.inputs), ("output", done.outputs)):
        for port in ports:
            click.echo(f"{kind:7} {port}")
    click.echo(f"written to {done.folder}: {' '.join(done.files)}")
