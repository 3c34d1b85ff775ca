"""`loopmorph`: import a network as MLIR, search for a faster one, or measure it and its layers."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import click

import loopmorph
from loopmorph.passes.errors import LoopmorphError, LoopmorphWarning
from loopmorph.pipelines.support.extras import needs_mlir
from loopmorph.pipelines.support.interrupts import terminations_interrupt
from loopmorph.tools.baseline_command import baseline_command
from loopmorph.tools.bench_command import bench_command
from loopmorph.tools.bench_compare_command import bench_compare_command
from loopmorph.tools.calibrate_command import calibrate_command
from loopmorph.tools.catalogue_command import catalogue_command
from loopmorph.tools.compile_command import compile_command
from loopmorph.tools.demo_command import demo_command
from loopmorph.tools.evaluation_command import evaluation_command
from loopmorph.tools.export_command import export_command
from loopmorph.tools.finetune_command import finetune_command
from loopmorph.tools.graph_command import graph_command
from loopmorph.tools.import_command import import_command
from loopmorph.tools.legality_bench_command import legality_bench_command
from loopmorph.tools.legality_command import legality_command
from loopmorph.tools.operators_command import operators_command
from loopmorph.tools.optimize_command import optimize_command
from loopmorph.tools.study_command import study_command
from loopmorph.tools.target_command import target_command
from loopmorph.tools.train_command import train_command
from loopmorph.tools.variants_command import variants_command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(loopmorph.__version__, prog_name="loopmorph")
def cli() -> None:
    """Neural architecture search as program transformation, on MLIR loop nests.

    MODEL is a zoo name (resnet18, resnet34, resnext29_2x64d, densenet161, ..., nasbench201:CELL),
    package.module:factory, a .pt2 file, or a model.pt of loopmorph's own.
    """


for command in (
    import_command,
    graph_command,
    optimize_command,
    compile_command,
    export_command,
    demo_command,
    variants_command,
    study_command,
    train_command,
    finetune_command,
    calibrate_command,
    baseline_command,
    bench_command,
    bench_compare_command,
    operators_command,
    evaluation_command,
    legality_command,
    legality_bench_command,
    catalogue_command,
    target_command,
):
    cli.add_command(command)


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code: 0, 1 for an error, 2 for wrong usage, 130 for an interrupt.

    SIGTERM is an interrupt, too.
    """
    with warnings.catch_warnings(), terminations_interrupt():
        _show_own_warnings()
        return _run(args)


def _run(args: Sequence[str] | None) -> int:
    try:
        asked = sys.argv[1:] if args is None else list(args)
        with needs_mlir(" ".join(["loopmorph", *asked[:1]])):
            result = cli.main(args=asked, prog_name="loopmorph", standalone_mode=False)
        return int(result or 0)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except LoopmorphError as error:
        click.echo(f"error: {error}", err=True)
        return 1


def _show_own_warnings() -> None:
    """loopmorph's warnings as one line each; those of the libraries below it say nothing to a user of the command."""
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", LoopmorphWarning)
    told: set[str] = set()  # the processes below may say the same

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if issubclass(category, LoopmorphWarning) and str(message) not in told:
            told.add(str(message))
            click.echo(f"warning: {message}", err=True)

    warnings.showwarning = show


if __name__ == "__main__":
    sys.exit(main())
