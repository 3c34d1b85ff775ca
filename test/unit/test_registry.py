"""The registry: loopmorph's own passes and plug-ins by one door."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from torch_mlir import ir

from loopmorph.passes.base import Pass
from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.registry import ENTRY_POINT_GROUP, all_passes, merge

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "plugin"))
from expose import expose, visible, write_metadata


@dataclass(frozen=True)
class Nothing(Pass):
    """Does nothing."""

    name: ClassVar[str] = "test-nothing"

    def run(self, module: ir.Operation) -> None:
        pass


@dataclass(frozen=True)
class Shouting(Nothing):
    name: ClassVar[str] = "Test_Nothing"


@dataclass(frozen=True)
class FloatOption(Nothing):
    name: ClassVar[str] = "test-float"
    ratio: float = 0.5


class Unfinished(Pass):
    name: ClassVar[str] = "test-unfinished"


@pytest.fixture
def plug_in(tmp_path: Path) -> Iterator[None]:
    with visible(*expose(tmp_path)):
        yield


def test_every_key_is_the_name_in_the_class() -> None:
    assert {name: cls.name for name, cls in all_passes().items()} == {name: name for name in all_passes()}


def test_own_passes_are_found_without_an_installation() -> None:
    assert all(name.startswith("morph-") for name in all_passes())
    assert {cls.__module__.split(".")[0] for cls in all_passes().values()} == {"loopmorph"}


def test_every_pass_says_what_it_does() -> None:
    for name, cls in all_passes().items():
        assert cls.__doc__ and not cls.__doc__.startswith(f"{cls.__name__}("), name


def test_a_plug_in_comes_through_the_entry_point(plug_in: None) -> None:
    assert all_passes()["test-count-loops"].__module__ == "loopmorph_test_plugin"
    assert "test-rename-layer" in all_passes()


def test_the_result_cannot_be_changed_by_callers() -> None:
    with pytest.raises(TypeError, match="does not support item assignment"):
        all_passes()["x"] = Nothing  # type: ignore[index]


def test_a_name_used_twice_names_both_providers() -> None:
    with pytest.raises(ArgumentError, match="'test-nothing' is defined twice, by first and by second"):
        merge([("first", Nothing), ("second", Nothing)])


def test_two_plug_ins_with_one_name_name_both_packages(tmp_path: Path) -> None:
    other = {ENTRY_POINT_GROUP: {"other": "loopmorph_test_plugin:PASSES"}}
    write_metadata(tmp_path, "other-plugin", "1.0", other)
    with (
        visible(*expose(tmp_path)),
        pytest.raises(ArgumentError, match=r"is defined twice, by (loopmorph-test|other)-plugin and by .*-plugin"),
    ):
        all_passes()


@pytest.mark.parametrize(
    ("offered", "message"),
    [
        (Shouting, "with the name 'Test_Nothing'; expected words in lower case"),
        (FloatOption, "FloatOption, whose option 'ratio' is none of int, str, bool"),
        (Unfinished, "Unfinished, which lacks run"),
        (int, "offers <class 'int'>, which is not a subclass of Pass"),
        ("text", "offers 'text', which is not a subclass of Pass"),
    ],
)
def test_what_is_not_a_pass_is_refused(offered: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=f"someone {message}|someone offers .*{message}"):
        merge([("someone", offered)])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("", "AttributeError: module 'broken_{n}' has no attribute 'PASSES'"),
        ("PASSES = 3", "expected a tuple or list of Pass classes, got int"),
    ],
)
def test_a_broken_plug_in_gives_one_line_with_its_entry_point(tmp_path: Path, source: str, message: str) -> None:
    module = f"broken_{abs(hash(source))}"
    (tmp_path / f"{module}.py").write_text(source)
    write_metadata(tmp_path, "broken-plugin", "1.0", {ENTRY_POINT_GROUP: {"bad": f"{module}:PASSES"}})
    with visible(str(tmp_path)), pytest.raises(ArgumentError) as caught:
        all_passes()
    expected = message.replace("broken_{n}", module)
    assert f"the plug-in entry point 'bad = {module}:PASSES' does not load: {expected}" in str(caught.value)
    assert "\n" not in str(caught.value)
