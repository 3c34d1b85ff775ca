"""The page that a search's report is: its pictures, what it says, and that nothing in it is run or fetched."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import Plain
from transformed import network

from loopmorph.passes.analysis.layer_graph import TensorEdge
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.measure.peak import Peak
from loopmorph.pipelines.page.bars import BeforeAfter, draw_before_after, draw_time
from loopmorph.pipelines.page.costs import LayerCost, NetworkCosts, held_by
from loopmorph.pipelines.page.flow import draw_flow
from loopmorph.pipelines.page.front import draw_front, efficient
from loopmorph.pipelines.page.page import Measured, measured_or_why, render_page
from loopmorph.pipelines.page.svg import Scale, element, short
from loopmorph.pipelines.search.report import FrontPoint, LayerReport, RepairReport, Report, ScoreReport
from loopmorph.pipelines.search.tuning_report import TunedLayerReport, TunedNetworkReport, TuningReport
from loopmorph.pipelines.search.verdict import Verdict

HOSTILE = '"><img src=x onerror=alert(1)></pre><script>alert(2)</script>'
CACHES = Target("zen5", "x86_64", 16, 32, l1_bytes=100, l2_bytes=1000, l3_bytes=10_000)
PEAK = Peak(1, gflops=200.0, bandwidth=20.0)
BEST = RepairReport("some", 0.1, 0.01, 0.9, 91.0, 90.0, 1.0, 0.4, -0.1, math.inf, 0.9, "net on data, 8 epochs", False)


class Tags(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def report(name: str = "net", **more: Any) -> Report:
    layer = LayerReport(name, (f"morph-depthwise{{layer={name}}}",), 0.5, 0.1, 1000, 100, 0.2, 0.03)
    details = (Verdict((name,), "accepted", "", 0.1, 1.0, 0.5), Verdict((name,), "repair", name))
    scores = {"repair": ScoreReport(name, 0.1, 0.4)}
    fields = {"repair": BEST, "baseline_ms": 2.0, "optimized_ms": 0.5, "speedup": 4.0, "legal": True, **more}
    return Report(name, name, scores, 10, 5, 6, 3, (layer,), details=details, candidates=2, note=name, **fields)


def measured(name: str = "conv") -> Measured:
    layers = LayerCost(name, 1000, 400, 500, 0.01), LayerCost("relu", 0, 0, 200, None)
    edges = TensorEdge(name, "relu", (1, 8), "f32", 32, 32, 5000), TensorEdge("relu", name, (8,), "f32", 32, 16, 50, 1)
    costs = NetworkCosts(layers, edges, 0.02)
    return Measured({"original": costs, "result": costs}, PEAK, CACHES)


# ---- pictures


def test_texts_and_attributes_are_escaped() -> None:
    assert element("text", "<b>&", element("a"), x=1.5, class_='"x"') == (
        '<text x="1.5" class="&#34;x&#34;">&lt;b&gt;&amp;<a></a></text>'
    )


@given(st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=20), st.booleans())
def test_a_scale_keeps_order_and_has_round_ticks(values: list[float], log: bool) -> None:
    scale = Scale.around(values, 10.0, 110.0, log=log)
    places = [scale(value) for value in sorted(values)]
    assert places == sorted(places) and all(10 <= place <= 110 for place in places)
    assert scale(scale.low / 2 if log else scale.low - 1) == 10 and scale(scale.high * 2) == 110
    ticks = scale.ticks()
    assert ticks == sorted(ticks) and 2 <= len(ticks) <= 16
    slack = 1e-9 * abs(scale.high)
    assert all(scale.low - slack <= tick <= scale.high + slack for tick in ticks)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (999.9, "1k"), (12_345_678, "12.3M"), (2.5e9, "2.5G"), (0.00123, "0.00123")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert short(value) == text


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(-3, 8)), min_size=1, max_size=20))
def test_the_front_is_what_no_other_beats(pairs: list[tuple[int, int]]) -> None:
    points = [FrontPoint(str(k), ms, loss) for k, (ms, loss) in enumerate(pairs)]
    found = {(point.ms, point.loss) for point in efficient(points)}
    best = {
        (ms, loss) for ms, loss in pairs if not any(a <= ms and b <= loss and (a, b) != (ms, loss) for a, b in pairs)
    }
    assert found == best


def test_an_open_interval_is_drawn_to_the_edge() -> None:
    drawn = draw_front([FrontPoint("net", 1.0, 0.5, 0.0, math.inf)])
    assert "nan" not in drawn and "inf" not in drawn.replace("inf)", "")
    assert "net: 1 ms, 0.5 points (0 to inf)" in drawn
    whole, cap = re.findall(r'<line x1="[\d.]+" y1="([\d.]+)" x2="[\d.]+" y2="([\d.]+)" class="interval">', drawn)
    assert whole[1] == "34" and cap[0] == cap[1] != "34"  # one end has a cap, the other is the edge


def test_bars_are_as_long_as_their_values() -> None:
    drawn = draw_before_after([BeforeAfter("a", 4.0, 1.0), BeforeAfter("b", None, 2.0)], "ms")
    assert [float(width) for width in re.findall(r'width="([\d.]+)"', drawn)] == [420, 105, 210]
    assert "4 → 1" in drawn and "- → 2" in drawn


def test_the_time_of_a_network_is_made_of_its_layers() -> None:
    layers = tuple(LayerCost(str(ms), 1, 1, 1, ms) for ms in (1.0, 3.0, None))
    drawn = draw_time([("net", NetworkCosts(layers, (), 4.0))])
    assert [float(width) for width in re.findall(r'width="([\d.]+)"', drawn)] == [190, 570]
    assert "3.0: 3 ms, 75.0%" in drawn and "None" not in drawn


def test_a_tensor_is_an_arc_of_what_holds_it() -> None:
    edges = [TensorEdge("a", "b", (8,), "f32", 32, 32, 50), TensorEdge("a", "c", (8,), "f32", 32, 16, 50_000)]
    drawn = draw_flow(edges, CACHES)
    assert re.findall(r'class="arc (\w+)"', drawn) == ["L1", "memory"]
    assert "a → c: 32B written, 16B read, 50kB touched between" in drawn


# ---- costs


@pytest.mark.parametrize(("distance", "held"), [(100, "L1"), (101, "L2"), (1001, "L3"), (10_001, "memory")])
def test_the_nearest_memory_that_is_large_enough_holds_it(distance: int, held: str) -> None:
    assert held_by(distance, CACHES) == held


def test_a_layer_is_bound_by_the_roof_that_it_meets_first() -> None:
    below, above = LayerCost("a", 4_000, 0, 1_000, 0.001), LayerCost("b", 6_000, 0, 1_000, 0.001)
    assert (below.intensity, below.bound(PEAK), above.bound(PEAK)) == (8.0, "memory", "arithmetic")  # the ridge is 10
    assert below.gflops == pytest.approx(8.0)
    assert below.share_of_roof(PEAK) == pytest.approx(0.05) and above.share_of_roof(PEAK) == pytest.approx(0.06)
    silent = LayerCost("c", 0, 0, 0, None)
    assert (silent.gflops, silent.share_of_roof(PEAK), silent.intensity) == (None, None, 0.0)


def test_the_costs_of_a_network_are_those_of_its_layers() -> None:
    program = network(Plain)
    found = measured_or_why(program, report(), Target("x86_64_v3", "x86_64-unknown-linux-gnu", 8, 16))
    assert isinstance(found, Measured)
    costs = found.costs["result"]
    macs = {layer.name: layer.macs for layer in costs.layers}
    assert {name: macs[name] for name in ("conv1", "hidden", "linear")} == {
        "conv1": 3 * 8 * 9 * 64,
        "hidden": 64 * 12,
        "linear": 120,
    }
    assert all(layer.ms is not None and layer.ms > 0 for layer in costs.timed) and costs.ms > 0
    assert {"conv1", "conv2", "hidden", "linear"} <= {layer.name for layer in costs.timed}
    assert any(edge.target == "hidden" for edge in costs.edges)
    again = measured_or_why(program, report(), found.target, known=found)
    assert isinstance(again, Measured)
    assert again.costs["original"] is found.costs["original"] and again.costs["result"] is not costs


def test_what_was_not_timed_is_not_run() -> None:
    untimed = report(optimized_ms=None, speedup=None)
    assert measured_or_why(network(Plain), untimed, CACHES) == "the network was not timed"


# ---- the page


@pytest.mark.parametrize("parts", [measured(HOSTILE), "no compiler"])
def test_nothing_in_a_page_is_run_or_fetched(parts: Measured | str) -> None:
    page = render_page(report(HOSTILE, points=(FrontPoint(HOSTILE, 1.0, 0.0, kind="result"),)), HOSTILE, parts)
    found = Tags(page)
    names = [tag for tag, _ in found.tags]
    assert not found.open and "img" not in names and names.count("script") == 1
    assert not {"src", "href", "xlink:href"} & {name for _, attributes in found.tags for name in attributes}
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)
    assert not re.search(r"url\(|@import|https?:", page)
    policy = dict(found.tags)["meta"] | next(a for tag, a in found.tags if "http-equiv" in a)
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert policy["content"] == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert found.text.count(HOSTILE) >= 5


def test_a_page_says_what_the_report_says() -> None:
    text = re.sub(r"\s+", " ", Tags(render_page(report(), "transform.named_sequence", measured())).text)
    for told in (
        "net: 4.00 times as fast",
        "2 ms → 0.5 ms, legal by",
        "0.4 points, -0.1 to inf at 90%; at most 1 is legal",
        "net on data, 8 epochs (of another network: the interval is borrowed)",
        "KL of predictions, before fine-tuning0.1 nats (standard error 0.01)",
        "accuracy before fine-tuning91.0 % → 90.0 %",
        "2 drawn: accepted 1, repair 1",
        "operations for each byte",
        "transform.named_sequence",
        "skip",
    ):
        assert told in text, told


def test_a_page_says_what_tuning_gained() -> None:
    layer = TunedLayerReport("conv", "direct", "1x4x4", "winograd2", "1x4x2")
    original, result = TunedNetworkReport(4.0, 3.0, 4 / 3, 5, ()), TunedNetworkReport(2.0, 1.0, 2.0, 6, (layer,))
    page = render_page(report(tuning=TuningReport(9.0, original, result)), "", "no compiler")
    assert "<tr><th>gained by tuning, original</th><td>4 ms → 3 ms, 1.33 times as fast</td></tr>" in page
    assert "<tr><th>gained by tuning, result</th><td>2 ms → 1 ms, 2.00 times as fast</td></tr>" in page
    row = ["conv", "direct", "1x4x4", "winograd2", "1x4x2"]
    assert "".join(f"<td>{cell}</td>" for cell in row) in page.replace("\n", "")
    assert "gained by tuning" not in render_page(report(), "", "no compiler")


def test_networks_stand_in_a_table_beside_the_picture() -> None:
    points = (
        FrontPoint("original", 2.0, 0.0, kind="original"),
        FrontPoint("greedy", 1.0, 0.5, -0.1, math.inf, "baseline"),
    )
    page = render_page(report(points=points), "", "no compiler")
    rows = re.findall(r"<tr><td>(original|greedy)</td>(.*?)</tr>", page, re.DOTALL)
    cells = [[name, *re.findall(r">([^<>]*)</td>", rest)] for name, rest in rows]
    assert cells == [
        ["original", "", "2", "0.00", "-", "-"],
        ["greedy", "baseline", "1", "0.50", "-0.10", "inf"],
    ]


def test_without_a_prediction_the_page_says_why_there_is_no_front() -> None:
    fisher = report(repair=RepairReport(), legality="fisher", legality_reason="no images are given")
    assert "No loss of accuracy was predicted: no images are given." in render_page(fisher, "", "no compiler")
    bare = replace(fisher, layers=(), details=(), speedup=None, baseline_ms=None, legal=None, doubt="it overflows")
    page = Tags(render_page(bare, "", "no compiler"))
    assert "Not measured: no compiler." in page.text and "it overflows" in page.text and not page.open


def test_points_that_are_no_numbers_are_left_out() -> None:
    points = FrontPoint("a", math.nan, 1.0), FrontPoint("b", 1.0, math.inf)
    page = render_page(report(points=points), "", "no compiler")
    assert "<svg" not in page.partition("Legality")[0]
