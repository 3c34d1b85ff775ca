"""`loopmorph bench`: the compiled network against what a user would pick instead."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.support.files import check_writable
from loopmorph.tools.bars import one_bar
from loopmorph.tools.options import SEEDS, trust_option
from loopmorph.tools.precision_output import run_precisions
from loopmorph.tools.rewritten_output import run_rewritten
from loopmorph.tools.slow_output import slow_lines
from loopmorph.tools.suite_output import print_suite, row_line
from loopmorph.tools.written import write_results

if TYPE_CHECKING:
    from loopmorph.pipelines.bench.result import BenchResult, ThreadResult


@click.command("bench")
@click.argument("model", required=False)
@click.option("--suite", metavar="NAME", help="Instead of MODEL: the networks of a suite; timm is one. It takes hours.")
@click.option("--networks", metavar="LIST", help="Of the suite: names, patterns (resnet*), or cnn, mixer, transformer.")
@click.option("--batches", help="Numbers of images at a time, of a suite.  [default: 1,8]")
@click.option("--limit", type=float, metavar="SECONDS", help="For one row of a suite.  [default: 1800]")
@click.option("--fresh", is_flag=True, help="Measure rows of a suite again that were measured before.")
@click.option("--threads", help="Numbers of threads, separated by commas.  [default: 1; of a suite 1,2]")
@click.option(
    "--peers",
    default="eager,inductor,onnxruntime,openvino",
    show_default=True,
    help="Who to compare with, separated by commas.",
)
@click.option("--rounds", type=int, default=10, show_default=True, help="Rounds of eight calls of each contender.")
@click.option("--tune", type=float, metavar="SECONDS", help="Tune our code for so long; untuned, it runs beside it.")
@click.option(
    "--algorithm",
    type=click.Choice(["auto", "direct"]),
    default="auto",
    show_default=True,
    help="auto: Winograd where it is faster by the model; direct: never.",
)
@click.option("--target", metavar="NAME", help="Code for another processor's vectors, as x86-64-v3; peers likewise.")
@click.option("--precision", metavar="LIST", help="Instead of peers: OpenVINO in some of f32,bf16,int8, beside ours.")
@click.option("--data", type=click.Path(path_type=Path), help="Labelled images, for accuracies and int8.")
@click.option("--weights", type=click.Path(path_type=Path), help="MODEL's trained weights: a .pt file or its pieces.")
@click.option("--images", type=int, help="Test images that each precision tells.  [default: 1000]")
@click.option("--rewritten", type=click.Path(path_type=Path), help="Rewrites in turns with MODEL: a file of pipelines.")
@click.option("--only", metavar="NAME", multiple=True, help="Of --rewritten: this one; also several times.")
@click.option("--layers", is_flag=True, help="Time each layer of the compiled network, too.")
@click.option(
    "--explain-slow",
    is_flag=True,
    help="Name nests of our code that could run faster; of a suite, of ratios below 1.2.",
)
@click.option("--plot", type=click.Path(path_type=Path), help="Write a roofline picture of the layers here (PNG).")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the results here.")
@click.option("--seed", type=SEEDS, default=0, show_default=True, help="Seed of weights, statistics and inputs.")
@trust_option
def bench_command(
    model: str | None,
    suite: str | None,
    networks: str | None,
    batches: str | None,
    limit: float | None,
    fresh: bool,
    threads: str | None,
    peers: str,
    rounds: int,
    tune: float | None,
    algorithm: str,
    target: str | None,
    precision: str | None,
    data: Path | None,
    weights: Path | None,
    images: int | None,
    rewritten: Path | None,
    only: tuple[str, ...],
    layers: bool,
    explain_slow: bool,
    plot: Path | None,
    json_path: Path | None,
    seed: int,
    trust: bool,
) -> None:
    """Time MODEL against its peers, interleaved, in one process for each number of threads.

    Ratios are the fastest peer's median over a contender's. Peers that are not installed are named; install them with
    pip install 'loopmorph[peers]'.

    With --precision, OpenVINO in reduced precision instead (int8 by NNCF, post-training), and how many images of --data
    each tells right, beside ours.

    With --rewritten, networks that were made of MODEL, as `evaluation add` keeps them, in turns with it and with the
    peers on MODEL; their weights do not matter.

    With --suite, many networks. What is measured is kept: the same command goes on where it was stopped. Ctrl-C prints
    the rows so far. `loopmorph bench-compare` compares the JSON of two such runs.
    """
    check_writable("plot", plot)
    check_writable("json", json_path)
    names = _names(peers)
    if precision is None:
        _refuse("is for --precision, which is missing", data=data, weights=weights, images=images)
    if suite is not None:
        _refuse("is not for a suite", precision=precision, rewritten=rewritten)
        _refuse("is not for a suite", model=model, target=target, layers=layers, plot=plot, trust=trust)
        counted = {name: _counts(name, text) for name, text in (("batches", batches), ("threads", threads)) if text}
        bounds = {} if limit is None else {"limit": limit}
        _run_suite(
            suite,
            json_path,
            networks=_names(networks or ""),
            peers=names,
            rounds=rounds,
            seed=seed,
            tune=tune,
            algorithm=algorithm,
            fresh=fresh,
            explain_slow=explain_slow,
            **counted,
            **bounds,
        )
        return
    _refuse("is for a suite, and --suite is missing", networks=networks, batches=batches, limit=limit, fresh=fresh)
    if model is None:
        raise click.UsageError("Missing argument 'MODEL', or a suite of networks, as in --suite timm.")
    counts = _counts("threads", threads or "1")
    others = {"target": target, "layers": layers, "plot": plot, "tune": tune, "explain-slow": explain_slow}
    others |= {"algorithm": algorithm != "auto"}
    if rewritten is not None:
        _refuse("is not for --rewritten", precision=precision, **others)
        run_rewritten(
            model,
            rewritten,
            only,
            peers=names,
            threads=_one("--rewritten", counts),
            rounds=rounds,
            seed=seed,
            trust=trust,
            json_path=json_path,
        )
        return
    _refuse("is of --rewritten, which is missing", only=only)
    if precision is not None:
        _refuse("is not for --precision", **others)
        run_precisions(
            model,
            _names(precision),
            data=data,
            weights=weights,
            threads=_one("--precision", counts),
            rounds=rounds,
            images=1000 if images is None else images,
            seed=seed,
            trust=trust,
            json_path=json_path,
        )
        return
    from loopmorph.pipelines.bench.bench import bench, check_arguments

    check_arguments(counts, names, rounds)
    if plot is not None:
        from loopmorph.pipelines.support.plotting import require_matplotlib

        require_matplotlib()
    with one_bar() as tell:
        result = bench(
            model,
            threads=counts,
            peers=names,
            rounds=rounds,
            layers=layers or plot is not None,
            explain_slow=explain_slow,
            seed=seed,
            trust=trust,
            tune=tune,
            algorithm=algorithm,
            target=target,
            progress=tell,
        )
    _print(result, layers)
    write_results(json_path, result.to_json, plot, lambda: _picture(result))


def _refuse(why: str, **given: object) -> None:
    """Raises:
    UsageError: one of these was given.
    """
    for name, value in given.items():
        if value:
            raise click.UsageError(f"{'MODEL' if name == 'model' else f'--{name}'} {why}.")


def _run_suite(suite: str, json_path: Path | None, **settings: Any) -> None:
    from loopmorph.pipelines.bench.suite import bench_suite

    with one_bar(past=math.inf) as tell:
        result = bench_suite(suite, progress=tell, watch=lambda row: click.echo(row_line(row), err=True), **settings)
    print_suite(result)
    write_results(json_path, result.to_json, None, bytes)


def _counts(argument: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ArgumentError(argument, f"expected whole numbers separated by commas, got '{text}'") from None


def _one(option: str, threads: list[int]) -> int:
    """Raises:
    ArgumentError: several numbers of threads.
    """
    if len(threads) != 1:
        raise ArgumentError("threads", f"with {option} one number of threads is expected, got {len(threads)}")
    return threads[0]


def _names(text: str) -> list[str]:
    """Names without repetition, in their order; an empty text names nobody."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _picture(result: BenchResult) -> bytes:
    from loopmorph.pipelines.bench.roofline import roofline

    return roofline(result)


def _print(result: BenchResult, layers: bool) -> None:
    console = Console(highlight=False)
    limited = f", code for {result.target}" if result.target is not None else ""
    console.print(f"{escape(result.model)} on {result.cpu}{limited}, {result.rounds} rounds")
    for each in result.results:
        _print_contenders(console, each)
        if layers and each.layers:
            _print_layers(console, each)
        if each.slow:
            console.print(f"{_threads(each)}: nests that could run faster, by their layers' time")
        for line in slow_lines(each):
            console.print(escape(line), soft_wrap=True)


def _print_contenders(console: Console, result: ThreadResult) -> None:
    title = f"{_threads(result)}: {result.macs / 1e6:,.1f} M MACs, peak measured {result.peak_gflops:.0f} GFLOP/s"
    table = _table(title)
    table.add_column("contender", no_wrap=True)
    for heading in ("median ms", "min ms", "peer/this", "rel. error", "% of peak", "% of roof", "build s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in result.rows:
        ratio = "-" if row.fastest_peer_over_this is None else f"{row.fastest_peer_over_this:.2f}"
        error = f"{row.relative_error:.1e}"
        table.add_row(
            row.name,
            f"{row.median_ms:.3f}",
            f"{row.min_ms:.3f}",
            ratio,
            error if row.right else f"[red]{error}[/red]",
            f"{100 * row.share_of_peak:.1f}",
            "-" if row.share_of_roof is None else f"{100 * row.share_of_roof:.1f}",
            f"{row.build_s:.1f}",
        )
    console.print(table)
    if result.fastest_peer is not None:
        console.print(f"fastest peer: {result.fastest_peer}")
    for row in result.rows:
        if row.build_cached:
            console.print(f"{row.name}: built from the code of an earlier build; LOOPMORPH_CODE_CACHE=0 builds anew")
        if not row.right:
            console.print(f"{row.name}: outputs differ from eager's by {row.relative_error:.1e} of the largest value")
    for each in result.missing:
        # One line, also where it is longer than the screen: it is there to be copied.
        console.print(f"{each.name}: not run: {escape(each.reason)}", soft_wrap=True)


def _print_layers(console: Console, result: ThreadResult) -> None:
    """The layers, those that compute the same in one row."""
    table = _table(f"{_threads(result)}: layers within the network")
    table.add_column("layer", no_wrap=True)
    table.add_column("extents")
    for heading in ("x", "M MACs", "mean ms", "GFLOP/s", "% of peak"):
        table.add_column(heading, justify="right", no_wrap=True)
    distinct = result.distinct_layers
    for each in distinct:
        row = each.first
        table.add_row(
            escape(row.name),
            " ".join(f"{name}={'?' if extent is None else extent}" for name, extent in row.extents.items()),
            str(each.count),
            f"{row.macs / 1e6:.3f}" if row.macs else "-",
            "-" if each.ms is None else f"{each.ms:.4f}",
            "-" if each.gflops is None else f"{each.gflops:.1f}",
            "-" if each.share_of_peak is None else f"{100 * each.share_of_peak:.1f}",
        )
    console.print(table)
    total = sum(row.ms for row in result.layers if row.ms is not None)
    console.print(f"{len(result.layers)} layers, {len(distinct)} of them distinct: {total:.3f} ms in sum")
    for row in result.layers:
        if row.note:
            console.print(f"{escape(row.name)}: not timed: {escape(row.note)}", soft_wrap=True)


def _table(title: str) -> Table:
    """A table narrow enough for 80 columns."""
    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, pad_edge=False)


def _threads(result: ThreadResult) -> str:
    return f"{result.threads} thread{'s' if result.threads > 1 else ''}"
