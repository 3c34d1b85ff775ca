"""`loopmorph baseline`: what traditional neural architecture search would choose, compiled by the same compiler."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.support.files import check_writable, prepare_folder
from loopmorph.tools.bars import stage_bars
from loopmorph.tools.options import POSITIVE, SEEDS, cells_option, trust_option
from loopmorph.tools.written import write_results

if TYPE_CHECKING:
    from loopmorph.pipelines.bench.traditional.blockswap import BlockSwap
    from loopmorph.pipelines.bench.traditional.cell_search import CellSearch, RankedCell
    from loopmorph.pipelines.bench.traditional.pruning import Pruning


@click.group("baseline")
def baseline_command() -> None:
    """Choose a network in another way: the cell of a fixed skeleton, BlockSwap's blocks, or pruned channels."""


@baseline_command.command("cells")
@cells_option
@click.option("--limit-ms", required=True, type=float, help="Milliseconds that one image may take.")
@click.option("--data", type=click.Path(path_type=Path), help="CIFAR-10 images; synthetic ones without.")
@click.option(
    "--signals", metavar="LIST", default="naswot", show_default=True, help="What ranks; several by the sum of ranks."
)
@click.option("--count", type=POSITIVE, help="Number of cells, chosen by the seed; all by default.")
@click.option("--keep", type=POSITIVE, default=10, show_default=True, help="Cells within the limit to look for.")
@click.option("--images", type=POSITIVE, default=64, show_default=True, help="Images in the minibatch.")
@click.option("--seed", type=SEEDS, default=0, show_default=True, help="Seed of weights, images and choice of cells.")
@click.option("--threads", type=POSITIVE, default=1, show_default=True, help="Threads of the compiled code.")
@click.option("--device", metavar="DEVICE", help="Of the signals: cpu, cuda; by default a GPU when there is one.")
@click.option("--out", type=click.Path(path_type=Path), help="Append a JSON line a cell; what it has is kept.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result here.")
def cells_command(
    cells: Path,
    limit_ms: float,
    data: Path | None,
    signals: str,
    count: int | None,
    keep: int,
    images: int,
    seed: int,
    threads: int,
    device: str | None,
    out: Path | None,
    json_path: Path | None,
) -> None:
    """Find cells of NAS-Bench-201 within a latency: ranked by signals at initialisation, compiled and timed.

    A cell's network is MODEL nasbench201:CELL in all other commands. Ctrl-C ends the search and prints what was found.
    """
    check_writable("out", out)
    check_writable("json", json_path)
    from loopmorph.pipelines.bench.traditional.cell_search import search_cells

    with stage_bars() as tell:
        found = search_cells(
            cells,
            data,
            limit_ms=limit_ms,
            signals=signals.split(","),
            count=count,
            keep=keep,
            images=images,
            seed=seed,
            threads=threads,
            device=device,
            out=out,
            progress=tell,
        )
    _print_cells(found, out)
    write_results(json_path, found.to_json)


@baseline_command.command("blockswap")
@click.argument("model")
@click.option("--budget", required=True, type=POSITIVE, help="The most trainable parameters.")
@click.option("--data", type=click.Path(path_type=Path), help="Labelled images; synthetic ones without.")
@click.option("--weights", type=click.Path(path_type=Path), help="MODEL's trained weights: a .pt file or its pieces.")
@click.option("--samples", type=POSITIVE, default=1000, show_default=True, help="Random networks to rank.")
@click.option("--window", type=float, default=0.05, show_default=True, help="How far below the budget, as a share.")
@click.option("--pointwise", is_flag=True, help="Substitute convolutions of size 1, too; BlockSwap leaves them.")
@click.option("--images", type=POSITIVE, default=128, show_default=True, help="Images in the minibatch.")
@click.option("--repeats", type=POSITIVE, default=1, show_default=True, help="Initialisations of each network.")
@click.option("--seed", type=SEEDS, default=0, show_default=True, help="Seed of networks, weights and images.")
@click.option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1; by default a GPU when there is one.")
@click.option("--rows", type=click.Path(path_type=Path), help="Append a JSON line a network; what it has is kept.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result here.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write the network here, as a model.pt.")
@trust_option
def blockswap_command(
    model: str,
    budget: int,
    data: Path | None,
    weights: Path | None,
    samples: int,
    window: float,
    pointwise: bool,
    images: int,
    repeats: int,
    seed: int,
    device: str | None,
    rows: Path | None,
    json_path: Path | None,
    out: Path | None,
    trust: bool,
) -> None:
    """Swap the blocks of MODEL at a budget of parameters: random ones, the best by Fisher Potential.

    The model.pt is compiled, repaired, timed and trained as every other. Ctrl-C ends the ranking and takes the best so
    far.
    """
    for name, path in (("rows", rows), ("json", json_path), ("out", out)):
        check_writable(name, path)
    from loopmorph.pipelines.bench.traditional.blockswap import blockswap
    from loopmorph.pipelines.ingress.models import resolve_model
    from loopmorph.pipelines.ingress.state import load_state
    from loopmorph.pipelines.program import import_model
    from loopmorph.pipelines.search.saved_model import save_model

    loaded = resolve_model(model, seed=seed, trust=trust)
    if loaded.original is not None:
        raise ArgumentError("model", f"{model} is rewritten already; BlockSwap starts from the original network")
    if weights is not None:
        load_state(loaded.model, weights)
    program = import_model(loaded.model, loaded.example_inputs)
    with stage_bars() as tell:
        found = blockswap(
            program,
            data,
            budget,
            samples=samples,
            window=window,
            pointwise=pointwise,
            images=images,
            repeats=repeats,
            seed=seed,
            device=device,
            out=rows,
            progress=tell,
        )
    _print_blocks(model, found, rows)
    write_results(json_path, found.to_json)
    if out is not None:
        module = found.program.to_module()
        save_model(out, module, model=model, seed=seed, original=loaded.model, schedule=found.schedule)
        click.echo(f"written: {out}")


@baseline_command.command("pruning")
@click.argument("model")
@click.option("--speedup", "speedups", type=float, multiple=True, required=True, help="Over MODEL, also several times.")
@click.option("--weights", type=click.Path(path_type=Path), help="MODEL's trained weights: a .pt file or its pieces.")
@click.option(
    "--style",
    type=click.Choice(["uniform", "isomorphic"]),
    default="uniform",
    show_default=True,
    help="Channels compete within a layer, or with those of all layers of the same structure.",
)
@click.option(
    "--clock",
    type=click.Choice(["loopmorph", "onnxruntime"]),
    default="loopmorph",
    show_default=True,
    help="Whose code has to be so much faster.",
)
@click.option("--round-to", type=POSITIVE, default=8, show_default=True, help="Channels are left in multiples of this.")
@click.option("--threads", type=POSITIVE, default=1, show_default=True, help="Threads of the compiled code.")
@click.option("--seed", type=SEEDS, default=0, show_default=True, help="Seed of the weights, where there are none.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result here.")
@click.option("--out", type=click.Path(path_type=Path), help="A folder for the networks: STYLE-2x.pt, a model.pt each.")
@trust_option
def pruning_command(
    model: str,
    speedups: tuple[float, ...],
    weights: Path | None,
    style: str,
    clock: str,
    round_to: int,
    threads: int,
    seed: int,
    json_path: Path | None,
    out: Path | None,
    trust: bool,
) -> None:
    """Prune whole channels of MODEL by their group norm, with Torch-Pruning, down to a measured speed-up.

    The settings are those of the library's examples. What was timed is kept: the same command goes on where it was
    stopped. Each network is a model.pt, to be fine-tuned, compiled and timed as every other.
    """
    check_writable("json", json_path)
    if out is not None:
        prepare_folder(out)
    from loopmorph.pipelines.bench.traditional.pruning import prune_to_speedups
    from loopmorph.pipelines.ingress.models import resolve_model
    from loopmorph.pipelines.ingress.state import load_state
    from loopmorph.pipelines.search.saved_model import save_model

    loaded = resolve_model(model, seed=seed, trust=trust)
    if loaded.original is not None:
        raise ArgumentError("model", f"{model} is rewritten already; pruning starts from the original network")
    if weights is not None:
        load_state(loaded.model, weights)
    with stage_bars() as tell:
        found = prune_to_speedups(
            loaded.model,
            loaded.example_inputs,
            speedups,
            style=style,
            clock=clock,
            round_to=round_to,
            threads=threads,
            progress=tell,
        )
    _print_pruned(model, found)
    write_results(json_path, found.to_json)
    if out is None:
        return
    for each in found.found:
        file = out / f"{style}-{each.asked:g}x.pt"
        save_model(file, each.model, model=model, seed=seed, original=loaded.model)
        click.echo(f"written: {file}")


def _print_cells(found: CellSearch, out: Path | None) -> None:
    console = Console(highlight=False)
    threads = f"{found.threads} thread{'s' if found.threads > 1 else ''}"
    about = f"{found.ranked} cells of NAS-Bench-201 ranked by {', '.join(found.signals)} ({found.source})"
    console.print(escape(f"{about}; {threads} of {found.processor}"), soft_wrap=True)
    count = len(found.best) + len(found.slower)
    console.print(f"within {found.limit_ms:g} ms: {len(found.best)} of the {count} that were timed")
    for cell in found.best:
        console.print(escape(_line(cell)), soft_wrap=True)
    for name, reason in found.failed.items():
        console.print(escape(f"{name}: failed: {reason}"), soft_wrap=True)
    if found.interrupted:
        console.print(f"stopped early; {_how_to_go_on(out, '--out')}")


def _line(cell: RankedCell) -> str:
    """What is known of a cell; one line, also where it is longer than the screen: it is there to be copied."""
    figures = f"{cell.milliseconds:8.3f} ms  {cell.scores['macs'] / 1e6:6.1f} M MACs  {cell.accuracy:6.2f} %"
    return f"{cell.rank:5d}.  {figures}  {cell.model}"


def _print_blocks(model: str, found: BlockSwap, rows: Path | None) -> None:
    console = Console(highlight=False)
    for block, name in found.choice.items():
        console.print(escape(f"{block}: {name}"), soft_wrap=True)
    size = f"{found.parameters:,} of {found.original:,} parameters ({found.parameters / found.original:.1%})"
    console.print(escape(f"{model}: {size}; the least possible is {found.least:,}"), soft_wrap=True)
    error = f" +- {found.fisher.error:.2g}" if found.fisher.error else ""
    networks = f"{found.samples} network{'s'[: found.samples > 1]}"
    best = f"Fisher Potential {found.fisher.value:.6g}{error}, the largest of {networks}"
    console.print(escape(f"{best} ({found.drawn:,} drawn; {found.source})"), soft_wrap=True)
    if found.interrupted:
        console.print(f"stopped early; {_how_to_go_on(rows, '--rows')}")


def _print_pruned(model: str, found: Pruning) -> None:
    console = Console(highlight=False)
    threads = f"{found.threads} thread{'s'[: found.threads > 1]}"
    about = f"{model}: {found.milliseconds:.3f} ms, {found.parameters:,} parameters; {threads} of {found.processor}"
    console.print(escape(about), soft_wrap=True)
    for each in found.found:
        speeds = ", ".join(f"{ratio:.2f} times by {clock}" for clock, ratio in each.speedups.items())
        size = f"{each.parameters:,} parameters, {each.macs / 1e6:,.1f} M MACs"
        line = (
            f"{each.asked:g}x: {each.ratio:.1%} of the channels asked for: {each.milliseconds:.3f} ms, {speeds}; {size}"
        )
        console.print(escape(line), soft_wrap=True)


def _how_to_go_on(path: Path | None, option: str) -> str:
    return "the same command goes on" if path is not None else f"with {option} it could be taken up again"
