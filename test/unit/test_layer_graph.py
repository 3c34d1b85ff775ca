"""The layer graph: nodes, tensors, how far they travel; counted by hand on small networks. And how it is shown."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
from agreement import Of
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import image
from torch import nn
from torch_mlir import ir
from transformed import imported

from loopmorph.passes.analysis.layer_graph import LayerGraph, TensorEdge, layer_graph
from loopmorph.passes.analysis.memory.footprint import footprints
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.nest import nests
from loopmorph.passes.target.target import parse_target
from loopmorph.pipelines.layer_graph.dot import graph_dot
from loopmorph.pipelines.layer_graph.labels import bytes_text, count_text, coupled_dimensions
from loopmorph.pipelines.layer_graph.picture import graph_picture
from loopmorph.pipelines.layer_graph.stages import network_graph
from loopmorph.pipelines.layer_graph.text import graph_text
from loopmorph.pipelines.program import Program, import_model
from loopmorph.tools.cli import cli, main

MAP = 8 * 8 * 8 * 4  # bytes of a map of `Residual`'s first block
PADDED, WEIGHT = 8 * 10 * 10 * 4, 8 * 8 * 9 * 4
HALF = 16 * 4 * 4 * 4  # of a map of the second


@pytest.fixture(scope="module")
def graph(residual: Program) -> LayerGraph:
    return network_graph(residual)


def edge(graph: LayerGraph, source: str, target: str) -> TensorEdge:
    """The edge between two layers; a name that ends in `*` stands for the one that begins like this."""
    names = [source, target]
    found = [e for e in graph.edges if all(_fits(n, own) for n, own in zip(names, (e.source, e.target), strict=True))]
    assert len(found) == 1, (source, target, found)
    return found[0]


def _fits(pattern: str, name: str) -> bool:
    return name == pattern if not pattern.endswith("*") else name.startswith(pattern[:-1])


# -- nodes and edges


def test_every_layer_is_a_node_with_its_work(residual: Program, graph: LayerGraph) -> None:
    nodes = {node.name: node for node in graph.nodes}
    assert [n for n in nodes if nodes[n].kind == "layer"] == [layer.name for layer in residual.layers]
    assert [node.kind for node in graph.nodes[:2]] == ["input", "layer"] and graph.nodes[-1].name == "output 0"
    assert {layer.name: layer.macs for layer in residual.layers} == {n: nodes[n].macs for n in nodes if " " not in n}
    conv = nodes["block1.conv1"]
    assert conv.extents == {"n": 1, "co": 8, "oh": 8, "ow": 8, "ci": 8, "kh": 3, "kw": 3}
    assert (conv.parameters, conv.parameter_bytes) == ({"block1.conv1.weight": (8, 8, 3, 3)}, WEIGHT)
    assert conv.bytes_touched == 2 * MAP + PADDED + WEIGHT
    norm = nodes["block1.bn1"]  # its scale and shift are made of four vectors, ahead of all calls
    assert list(norm.parameters) == [f"block1.bn1.{n}" for n in ("bias", "running_mean", "running_var", "weight")]
    assert (norm.parameter_bytes, norm.bytes_touched) == (2 * 8 * 4, 2 * MAP + 2 * 8 * 4)


def test_skips_are_told_from_ways_through_layers(graph: LayerGraph) -> None:
    skips = [(e.source, e.target.rpartition("_")[0], e.passes_by) for e in graph.edges if e.is_skip]
    assert skips == [("relu", "block1|add", 5), ("block2.shortcut.1", "block2|add", 3)]


def test_bytes_of_an_edge(graph: LayerGraph) -> None:
    straight = edge(graph, "block1.conv1", "block1.bn1")
    assert (straight.shape, straight.element) == ((1, 8, 8, 8), "f32")
    assert (straight.bytes_written, straight.bytes_read, straight.reuse_distance) == (MAP, MAP, MAP)
    strided = edge(graph, "block1|relu*", "block2.shortcut.0")  # 1x1, every other row and column
    assert (strided.bytes_written, strided.bytes_read) == (MAP, MAP // 4)


def test_reuse_distances_count_what_lies_between_once(graph: LayerGraph) -> None:
    assert edge(graph, "relu", "block1.conv1").reuse_distance == MAP + PADDED  # whose borders are filled before
    convolutions = 2 * (MAP + PADDED + WEIGHT)
    norms = 2 * (MAP + 2 * 8 * 4) + MAP  # and the ReLU between them
    assert edge(graph, "relu", "block1|add*").reuse_distance == MAP + convolutions + norms
    second = 16 * 8 * 9 * 4 + PADDED + HALF, 16 * 16 * 9 * 4 + 16 * 6 * 6 * 4 + HALF
    between = sum(second) + 2 * (HALF + 2 * 16 * 4) + HALF
    assert edge(graph, "block1|relu*", "block2.shortcut.0").reuse_distance == MAP + between + HALF


def test_slices_of_a_concatenation(dense: Program) -> None:
    graph = network_graph(dense)
    old, new = edge(graph, "conv1", "layer1|cat*"), edge(graph, "layer1.conv2", "layer1|cat*")
    assert (old.bytes_read, new.bytes_read) == (8 * 64 * 4, 4 * 64 * 4)
    assert (old.passes_by, new.passes_by) == (6, 0)


def test_layers_that_were_fused_are_no_nodes(residual: Program) -> None:
    graph = network_graph(residual, parse_target("x86_64_v3"))
    names = [node.name for node in graph.nodes if node.kind == "layer"]
    assert {"conv1", "block1.conv1", "block2.conv2", "linear"} <= set(names)
    assert not any("bn" in name for name in names)
    conv = next(node for node in graph.nodes if node.name == "block1.conv1")
    assert {"block1.conv1.weight", "block1.bn1.running_var"} <= conv.parameters.keys()
    assert [(e.source, e.target) for e in graph.edges if e.is_skip] == [
        ("conv1", "block1.conv2"),
        ("block2.shortcut.0", "mean"),
    ]
    assert sum(node.macs for node in graph.nodes) == residual.macs
    assert network_graph(residual) == layer_graph(residual.module.operation)


def test_towers_that_share_nothing_have_no_skips() -> None:
    deep = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))
    model = Of(lambda f, g, x: f(x[:1]) * g(x[1:]), deep, nn.Conv2d(3, 4, 1))
    alone = network_graph(imported(model, image(batch=2)))
    assert all(e.passes_by == 2 for e in alone.edges if e.is_skip)  # both read the one input
    assert len([e for e in alone.edges if e.is_skip]) == 1


TWO_INPUTS = """
func.func @f(%x: memref<4xf32>, %z: memref<4xf32>, %y: memref<4xf32>) {
  %t = memref.alloc() : memref<4xf32>
  affine.for %i = 0 to 4 {
    %0 = affine.load %x[%i] : memref<4xf32>
    affine.store %0, %t[%i] : memref<4xf32>
  } {morph.layer = "copy"}
  affine.for %i = 0 to 2 {
    %0 = affine.load %t[%i * 2] : memref<4xf32>
    %1 = affine.load %z[%i + 1] : memref<4xf32>
    %2 = arith.addf %0, %1 : f32
    affine.store %2, %y[%i] : memref<4xf32>
  }
  return
}
"""


def test_a_program_without_marks() -> None:
    with ir.Context(), ir.Location.unknown():
        module = ir.Module.parse(TWO_INPUTS)
        graph = layer_graph(module.operation)
    assert [node.name for node in graph.nodes] == ["input 0", "input 1", "copy", "step 3", "output 2"]
    found = [(e.source, e.target, e.bytes_read, e.reuse_distance, e.passes_by) for e in graph.edges]
    assert found == [
        ("input 0", "copy", 16, 32, 0),  # the other input counts as written in between
        ("copy", "step 3", 8, 16, 0),
        ("input 1", "step 3", 8, 48, 0),
        ("step 3", "output 2", 8, 8, 0),
    ]


def test_a_module_without_a_function_is_refused() -> None:
    with ir.Context(), ir.Location.unknown():
        module = ir.Module.create()
        with pytest.raises(IllegalTransform, match="it has no function with a body, so that there is no graph"):
            layer_graph(module.operation)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(0, 3), st.integers(0, 3), st.integers(0, 2)), min_size=2, max_size=2
    )
)
def test_footprints_hold_what_is_touched(axes: list[tuple[int, int, int, int]]) -> None:
    """Of axes with iterators of their own, exactly that: `a * i + b * j + c` each."""
    loops = [(5, 3), (4, 2)]
    text = ", ".join(f"%i{k} * {a} + %j{k} * {b} + {c}" for k, (a, b, c, _) in enumerate(axes))
    shape = "x".join(str(a * 4 + b * 3 + c + 1 + d) for a, b, c, d in axes)
    heads = "".join(f"affine.for %i{k} = 0 to {n} {{ affine.for %j{k} = 0 to {m} {{ " for k, (n, m) in enumerate(loops))
    body = f"%0 = affine.load %x[{text}] : memref<{shape}xf32>"
    with ir.Context(), ir.Location.unknown():
        module = ir.Module.parse(f"func.func @f(%x: memref<{shape}xf32>) {{ {heads} {body} {'} ' * 4} return }}")
        (nest,) = nests(module.operation)
        (found,) = footprints(nest, "load").values()
    touched = [
        sorted({a * i + b * j + c for i, j in itertools.product(range(n), range(m))})
        for (a, b, c, _), (n, m) in zip(axes, loops, strict=True)
    ]
    assert [axis.tolist() for axis in found.indices] == touched
    assert found.elements == math.prod(map(len, touched))
    assert (found & found).elements == (found | found).elements == found.elements
    assert all(np.all(np.diff(axis) > 0) for axis in found.indices)


# -- how it is shown


def test_coupled_dimensions(graph: LayerGraph) -> None:
    texts = [re.sub(r" d\d+", "", str(each)) for each in coupled_dimensions(graph)]
    assert "dimension (8): conv1.co, block1.conv1.ci, block1.conv2.co, block2.conv1.ci, block2.shortcut.0.ci" in texts
    assert "dimension (8): block1.conv1.co, block1.conv2.ci" in texts
    assert "dimension (16): block2.conv2.co, block2.shortcut.0.co, linear.ci" in texts
    free = [each for each in coupled_dimensions(graph) if not each.held]
    assert {m.iterators for each in free for m in each.members} == {("co",), ("ci",)}


def test_text(graph: LayerGraph) -> None:
    lines = graph_text(graph, "residual").splitlines()
    assert lines[0].startswith("residual: 21 layers, 145 k multiply-accumulates, 24 tensors between them, 2 of which")
    (at,) = [k for k, line in enumerate(lines) if line.startswith("block1|add")]
    distance = r"reuse distance \d+(\.\d+)? KiB"
    assert re.fullmatch(rf"    < block1\.bn2: 1x8x8x8xf32, 2 KiB, {distance}", lines[at + 1])
    assert re.fullmatch(rf"    ~ relu: 1x8x8x8xf32, 2 KiB, {distance} \(skip, passes 5 layers by\)", lines[at + 2])
    assert re.search(
        r"^block1\.conv1  co=8\[d\d+\] oh=8 ow=8 ci=8\[d\d+\] kh=3 kw=3  36\.9 k MACs, 576 parameters$",
        "\n".join(lines),
        flags=re.MULTILINE,
    )
    assert all(len(line) <= 120 for line in lines if line.startswith("dimension"))


def test_dot(graph: LayerGraph) -> None:
    text = graph_dot(graph, 'a "quoted" name')
    assert text.startswith("digraph layers {\n") and text.endswith("}\n") and text.count("{") == text.count("}") == 1
    assert text.count(" -> ") == len(graph.edges) and text.count("style=dashed") == 2
    assert 'label="a \\"quoted\\" name\\l' in text
    assert len(re.findall(r'^  "[^"]+" \[label=', text, flags=re.MULTILINE)) == len(graph.nodes)


@pytest.mark.parametrize(("format_", "begin"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_picture(graph: LayerGraph, format_: str, begin: bytes) -> None:
    pytest.importorskip("matplotlib")
    assert graph_picture(graph, "residual", format_).startswith(begin)


@pytest.mark.parametrize(("count", "text"), [(0, "0"), (999, "999"), (1000, "1 k"), (555_422_720, "555 M")])
def test_counts(count: int, text: str) -> None:
    assert count_text(count) == text


@pytest.mark.parametrize(("count", "text"), [(40, "40 B"), (1536, "1.5 KiB"), (3 << 20, "3 MiB")])
def test_bytes(count: int, text: str) -> None:
    assert bytes_text(count) == text


FACTORY = """import torch
from torch import nn

def net():
    return nn.Conv2d(3, 4, 1).eval(), (torch.zeros(1, 3, 2, 2),)
"""


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "graph_user.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(tmp_path)
    shown = CliRunner().invoke(cli, ["graph", "graph_user:net"], catch_exceptions=False).output
    assert shown.startswith("graph_user:net: 1 layers, 48 multiply-accumulates, 2 tensors between them, 0 of which")
    assert shown.endswith("no dimension is shared by several layers\n")
    for name in ("g.txt", "g.dot"):
        assert main(["graph", "graph_user:net", "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / "g.txt").read_text() == shown
    assert (tmp_path / "g.dot").read_text().startswith("digraph layers {")
    assert main(["graph", "graph_user:net", "--code"]) == 0


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    arguments = ["graph", "resnet18", "-o", str(tmp_path / "g.jpg")]
    with pytest.raises(
        ArgumentError, match=r"ends in '\.jpg'; expected one of \.txt, \.dot, \.gv, \.svg, \.png, \.pdf"
    ):
        CliRunner().invoke(cli, arguments, catch_exceptions=False, standalone_mode=False)
    with pytest.raises(ArgumentError, match=r"cannot write .*: there is no folder"):
        CliRunner().invoke(cli, ["graph", "resnet18", "-o", str(tmp_path / "none" / "g.svg")], catch_exceptions=False)


def test_input_tensors_are_no_skips_by_themselves() -> None:
    """An input that is read late passes nothing by: it does not come from where the others do."""
    model = Of(lambda f, x, z: f(x) + z, nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()))
    graph = network_graph(import_model(model.eval(), (image(), image(seed=1))))
    assert not any(e.is_skip for e in graph.edges)
