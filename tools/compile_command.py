"""`loopmorph compile`: a network as fast code, compared with PyTorch and timed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from loopmorph.pipelines.support.files import check_writable, prepare_folder, write_atomically
from loopmorph.tools.bars import stage_bars
from loopmorph.tools.options import POSITIVE, SEEDS, trust_option
from loopmorph.tools.written import write_results

if TYPE_CHECKING:
    from loopmorph.pipelines.bench.compiled import CompiledModel


@click.command("compile")
@click.argument("model")
@click.option("--weights", type=click.Path(path_type=Path), help="MODEL's trained weights: a .pt file or its pieces.")
@click.option("--threads", type=POSITIVE, default=1, show_default=True, help="Threads that the code uses.")
@click.option("--tune", type=float, metavar="SECONDS", help="Measure for so long what is fastest on this computer.")
@click.option("--target", metavar="NAME", help="Code for another processor's vectors, as x86-64-v3.")
@click.option("--calls", type=POSITIVE, default=50, show_default=True, help="Calls that are timed.")
@click.option("--seed", type=SEEDS, default=0, show_default=True, help="Seed of weights and inputs.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write it here: a folder with a library for C.")
@click.option("--schedule", type=click.Path(path_type=Path), help="Write here what makes this code, as transform IR.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write what was measured here.")
@trust_option
def compile_command(
    model: str,
    weights: Path | None,
    threads: int,
    tune: float | None,
    target: str | None,
    calls: int,
    seed: int,
    out: Path | None,
    schedule: Path | None,
    json_path: Path | None,
    trust: bool,
) -> None:
    """Compile MODEL, compare the code with PyTorch, and time it.

    MODEL may be the model.pt of a search, fine-tuned or not: it is compiled with its schedule and the weights in it.
    What was compiled is kept: lm.compile of the same network comes at once. With -o it is written as loopmorph export
    writes it, for C and C++.
    """
    check_writable("schedule", schedule)
    check_writable("json", json_path)
    if out is not None:
        prepare_folder(out)
    from loopmorph.pipelines.bench.compiled import compile_model

    with stage_bars() as tell:
        done = compile_model(
            model,
            weights=weights,
            threads=threads,
            tune=tune,
            target=target,
            calls=calls,
            seed=seed,
            trust=trust,
            progress=tell,
        )
    _print(done)
    if out is not None:
        _write(done, out)
    if schedule is not None:
        text = done.executable.schedule.encode()
        write_atomically(schedule, lambda file: file.write(text), argument="schedule")
        click.echo(f"written: {schedule}")
    write_results(json_path, done.to_json)


def _print(done: CompiledModel) -> None:
    click.echo(f"{done.model}: {done.origin}")
    changed = f", after {done.steps} transformation{'s'[: done.steps > 1]}" if done.steps else ""
    click.echo(f"{done.parameters / 1e6:.2f} million parameters, {done.macs / 1e6:,.1f} million MACs{changed}")
    built = "code of an earlier compilation" if done.cached else f"compiled in {done.compile_s:.1f} s"
    click.echo(f"{built}; equal to PyTorch: relative error {done.relative_error:.1e}")
    threads = f"{done.threads} thread{'s'[: done.threads > 1]}"
    where = f"{threads} of {done.processor}, code for {done.target}"
    speed = 2 * done.macs / done.median_ms / 1e6
    click.echo(
        f"{done.median_ms:.3f} ms (median of {done.calls}; least {done.min_ms:.3f}), {speed:.1f} GFLOP/s; {where}"
    )


def _write(done: CompiledModel, out: Path) -> None:
    from loopmorph.pipelines.export import export

    target = done.executable.target
    with stage_bars() as tell:
        written = export(
            done.program, out=out, name=_c_name(done.model), threads=done.threads, target=target, progress=tell
        )
    click.echo(f"written to {written.folder}: {' '.join(written.files)}")


def _c_name(model: str) -> str:
    """What C calls a network: the name in the zoo, of the factory or of the file, where that is one in C."""
    name = Path(model.rpartition(":")[2]).stem
    return name if name.isidentifier() and name.isascii() else "model"
