"""What pyproject.toml installs is what lies in the rooms, and every public name is behind the door."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import loopmorph
from loopmorph.pipelines.data.digits import DIGITS

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("dialects", "passes", "pipelines", "tools")


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def packages_on_disk() -> set[str]:
    rooms = {
        "loopmorph." + ".".join(init.parent.relative_to(ROOT).parts)
        for room in ROOMS
        for init in (ROOT / room).rglob("__init__.py")
    }
    return {"loopmorph", *rooms}


def test_every_package_is_installed(pyproject: dict[str, Any]) -> None:
    assert set(pyproject["tool"]["setuptools"]["packages"]) == packages_on_disk()


def test_every_python_file_lies_in_a_package() -> None:
    folders = {file.parent for room in ROOMS for file in (ROOT / room).rglob("*.py")}
    assert [str(f.relative_to(ROOT)) for f in folders if not (f / "__init__.py").exists()] == []


def test_every_calibration_is_installed(pyproject: dict[str, Any]) -> None:
    patterns = pyproject["tool"]["setuptools"]["package-data"]["loopmorph.pipelines.legality"]
    legality = ROOT / "pipelines" / "legality"
    installed = {file for pattern in patterns for file in legality.glob(pattern)}
    assert installed == set(legality.rglob("*.json")) and len(installed) == 1


def test_what_an_export_is_made_from_is_installed(pyproject: dict[str, Any]) -> None:
    patterns = pyproject["tool"]["setuptools"]["package-data"]["loopmorph.pipelines.codegen.export"]
    export = ROOT / "pipelines" / "codegen" / "export"
    other = {file for file in export.rglob("*") if file.is_file() and file.suffix not in (".py", ".pyc")}
    assert {file for pattern in patterns for file in export.glob(pattern)} == other and len(other) == 6


def test_the_digits_are_installed(pyproject: dict[str, Any]) -> None:
    patterns = pyproject["tool"]["setuptools"]["package-data"]["loopmorph.pipelines.data"]
    data = ROOT / "pipelines" / "data"
    assert {file for pattern in patterns for file in data.glob(pattern)} == set(data.rglob("*.npz")) == {DIGITS}


def test_every_room_is_mapped(pyproject: dict[str, Any]) -> None:
    mapping = {"loopmorph": "loopmorph"} | {f"loopmorph.{room}": room for room in ROOMS}
    assert pyproject["tool"]["setuptools"]["package-dir"] == mapping


def test_version_is_read_from_the_package(pyproject: dict[str, Any]) -> None:
    assert pyproject["project"]["dynamic"] == ["version"]
    assert pyproject["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "loopmorph.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", loopmorph.__version__)


def test_installed_version_is_the_package_version() -> None:
    try:
        installed = importlib.metadata.version("loopmorph")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("loopmorph runs from the checkout, uninstalled")
    assert installed == loopmorph.__version__


@pytest.mark.parametrize("script", ["loopmorph", "loopmorph-opt"])
def test_each_script_has_a_main(pyproject: dict[str, Any], script: str) -> None:
    entry = importlib.metadata.EntryPoint(script, pyproject["project"]["scripts"][script], "console_scripts")
    assert callable(entry.load())


@pytest.mark.parametrize("name", loopmorph.__all__)
def test_public_name_is_importable(name: str) -> None:
    assert getattr(loopmorph, name) is not None


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'loopmorph' has no attribute 'no_such_name'"):
        _ = loopmorph.no_such_name


def test_import_is_lazy() -> None:
    """`import loopmorph` loads neither torch nor the MLIR bindings."""
    code = "import sys, loopmorph; print([m for m in ('torch', 'torch_mlir', 'islpy') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"
