"""`loopmorph graph`: the layers of a network, what goes from one to another, and the dimensions that tie them."""

from __future__ import annotations

from pathlib import Path

import click

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.support.files import check_writable, write_atomically
from loopmorph.tools.options import SEEDS, trust_option

_TEXTS, _DOTS, _PICTURES = ("", ".txt"), (".dot", ".gv"), (".svg", ".png", ".pdf")


@click.command("graph")
@click.argument("model")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Write here instead of to standard output: text, .dot for Graphviz, or a picture (.svg, .png, .pdf).",
)
@click.option("--code", is_flag=True, help="Of the code for this computer, whose layers are fused, not of the program.")
@click.option("--seed", type=SEEDS, default=0, show_default=True, help="Seed of the weights.")
@trust_option
def graph_command(model: str, output: Path | None, code: bool, seed: int, trust: bool) -> None:
    """Print the dependence graph of MODEL's layers, with coupled dimensions and skips.

    Each layer has its extents, multiply-accumulates and parameters; each tensor that it reads its shape, the bytes that
    are read, and the reuse distance: the distinct bytes touched since it was written.
    """
    suffix = "" if output is None else output.suffix.lower()
    known = (*_TEXTS, *_DOTS, *_PICTURES)
    if suffix not in known:
        raise ArgumentError("output", f"'{output}' ends in '{suffix}'; expected one of {', '.join(known[1:])}")
    check_writable("output", output)
    content = _drawn(model, suffix, code, seed, trust)
    if output is None:
        click.echo(content.decode(), nl=False)
    else:
        write_atomically(output, lambda file: file.write(content), argument="output")


def _drawn(model: str, suffix: str, code: bool, seed: int, trust: bool) -> bytes:
    from loopmorph.pipelines.ingress.models import resolve_model
    from loopmorph.pipelines.layer_graph.dot import graph_dot
    from loopmorph.pipelines.layer_graph.picture import graph_picture
    from loopmorph.pipelines.layer_graph.stages import network_graph
    from loopmorph.pipelines.layer_graph.text import graph_text
    from loopmorph.pipelines.measure.target import this_computer
    from loopmorph.pipelines.saved_program import program_of
    from loopmorph.pipelines.support.plotting import require_matplotlib

    if suffix in _PICTURES:
        require_matplotlib("output")
    loaded = resolve_model(model, seed=seed, trust=trust)
    program = program_of(loaded)
    graph = network_graph(program, this_computer() if code else None)
    if suffix in _PICTURES:
        return graph_picture(graph, model, suffix.removeprefix("."))
    return (graph_dot if suffix in _DOTS else graph_text)(graph, model).encode()
