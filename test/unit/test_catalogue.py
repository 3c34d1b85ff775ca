"""The catalogue has every transformation and schedule, shows what they do, and refuses dead or undocumented entries."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import ClassVar

import pytest
from torch_mlir import ir

from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.loop.split import Split
from loopmorph.passes.neural.depthwise import Depthwise
from loopmorph.passes.registry import OWN_PACKAGES, all_passes
from loopmorph.passes.transformation import Kind, Transformation
from loopmorph.pipelines.catalogue.docstrings import describe, require_complete
from loopmorph.pipelines.catalogue.page import catalogue
from loopmorph.pipelines.schedules import read_schedule, schedules
from loopmorph.tools.cli import main

OWN = {n: cls for n, cls in all_passes().items() if cls.__module__.startswith(OWN_PACKAGES)}


@pytest.fixture(scope="module")
def page() -> str:
    return catalogue(OWN)


def test_every_transformation_and_schedule_has_an_entry(page: str) -> None:
    wanted = [name for name, cls in OWN.items() if issubclass(cls, Transformation)] + list(schedules())
    assert sorted(re.findall(r"^### `(.*)`$", page, flags=re.MULTILINE)) == sorted(wanted)
    assert all(f"`{name}`" in page for name in OWN)


def test_entries_say_what_is_required_and_show_the_options(page: str) -> None:
    split = page.partition("### `morph-split`")[2].partition("\n### ")[0]
    assert "| `factor` | integer | required | extent of the inner loop" in split
    assert "**Requires** a loop that starts at 0 with step 1." in split
    assert "```mlir\naffine.for %ow = 0 to 30 {" in split


def test_effects_are_counted(page: str) -> None:
    macs, weights = 32 * 32 * 9 * 64, 32 * 32 * 9 + 32
    after = 32 * 32 * 9 // 2 + 32
    expected = f"| `morph-group{{layer=a iters=co,ci factor=2}}` | {macs:,} -> {macs // 2:,} (/ 2.00) | {weights:,} -> "
    assert expected + f"{after:,} (/ 1.99)" in page


def test_schedules_show_their_steps(page: str) -> None:
    seq1 = page.partition("### `seq1`")[2].partition("\n### ")[0]
    assert "\nmorph-partition{layer=a iter=co parts=2}\nmorph-group{layer=a#main.0 iters=co,ci factor=2}\n" in seq1


def test_each_transformation_shows_what_it_does_to_the_nests(page: str) -> None:
    entries = re.split(r"^### ", page.partition("\n## Schedules\n")[0], flags=re.MULTILINE)[1:]
    assert [entry.count("<details>") for entry in entries] == [1] * len(entries)
    (split,) = (entry for entry in entries if entry.startswith("`morph-split`"))
    assert "before and after <code>morph-split{layer=a iter=ow factor=4}</code></summary>" in split
    assert re.search(r"^==== @main a#pad: unchanged\n(.*\n)*==== @main a: before, after$", split, re.MULTILINE)
    assert re.search(r"a_main_S0\[n = 0, co, oh, ow, ci, .* \| .*a_main_S0\[n = 0, co, oh, ow_0, ow_1, ci, ", split)
    (trim,) = (entry for entry in entries if entry.startswith("`morph-trim`"))
    assert "</code>, after <code>morph-promote{layer=a}</code></summary>" in trim


def test_an_example_that_no_layer_admits_is_named() -> None:
    class Stale(Split):
        __doc__ = (Split.__doc__ or "").replace("iter=ow factor=4}", "iter=od factor=4}")

    match = r"no example of 'morph-split' can be applied .*'morph-split\{layer=a iter=od .*\}': .* no iterator 'od'"
    with pytest.raises(ArgumentError, match=match):
        catalogue({"morph-split": Stale}, {})


def documented(text: str) -> type[Transformation[None]]:
    """A neural transformation of no effect with that docstring."""

    class Idle(Transformation[None]):
        name: ClassVar[str] = "morph-idle"
        kind: ClassVar[Kind] = "neural"

        layer: str

        def analyze(self, module: ir.Operation) -> None:
            return None

        def rewrite(self, plan: None) -> ir.Operation:
            raise AssertionError("never applied")

    Idle.__doc__ = text
    return dataclasses.dataclass(frozen=True)(Idle)


COMPLETE = """Does nothing: `morph-idle{layer=a}`.

    affine.for %i = 0 to 8 { }      ->    affine.for %i = 0 to 8 { }

Requires nothing.

Attributes:
    layer: the layer, or
        another.
"""


def test_a_docstring_is_taken_apart() -> None:
    description = describe(documented(COMPLETE))
    assert description.summary == "Does nothing: `morph-idle{layer=a}`."
    assert [block.kind for block in description.blocks] == ["code", "text"]
    assert description.options == {"layer": "the layer, or another."}
    assert description.examples == ("morph-idle{layer=a}",)
    assert description.prepared == ()


def test_a_pipeline_that_prepares_a_nest_is_read_across_lines() -> None:
    prepared = COMPLETE.replace(
        "Requires nothing", "First: `morph-split{layer=a},\nmorph-idle{layer=a}`.\n\nRequires nothing"
    )
    assert describe(documented(prepared)).prepared == ("morph-split{layer=a},morph-idle{layer=a}",)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (COMPLETE, "", "'morph-idle' has no docstring"),
        ("Requires", "It needs", "'morph-idle' has no paragraph that begins with 'Requires'"),
        ("->", "  ", "'morph-idle' does not show the IR before and after"),
        (": `morph-idle{layer=a}`", "", "'morph-idle' has no example such as 'morph-idle{layer=a}'"),
        ("    layer: ", "    label: ", "'morph-idle' and its options do not agree on: label, layer"),
    ],
)
def test_what_is_not_documented_in_full_is_named(old: str, new: str, match: str) -> None:
    cls = documented(COMPLETE.replace(old, new))
    with pytest.raises(ArgumentError, match=match):
        require_complete(cls, describe(cls))


def test_an_example_that_no_pass_understands_is_named() -> None:
    class Stale(Depthwise):
        __doc__ = (Depthwise.__doc__ or "").replace("{layer=a}", "{layer=a factor=2}")

    with pytest.raises(ArgumentError, match=r"the example 'morph-depthwise\{layer=a factor=2\}' .* is wrong: .*factor"):
        catalogue({"morph-depthwise": Stale}, {})


def test_a_schedule_that_no_longer_applies_is_named() -> None:
    text = schedules()["seq3"].text.replace('"oh"', '"od"')
    with pytest.raises(ArgumentError, match=r"schedule 'old' cannot be applied to the example: .* no iterator 'od'"):
        catalogue({}, {"old": read_schedule("old", text)})


def test_the_command_refuses_a_file_that_it_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalogue", "-o", str(tmp_path)]) == 1
    assert re.search("error: argument 'output': cannot write '.*': it is a folder", capsys.readouterr().err)
