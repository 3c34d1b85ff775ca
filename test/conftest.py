"""What holds for all tests."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Iterator

import pytest

os.environ.setdefault(
    "LOOPMORPH_CODE_CACHE", "0"
)  # what is tested is what this checkout compiles, not what it has kept

# Tests start hundreds of processes, each of which would compile all modules anew, as would each that runs tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_collection_finish() -> None:
    """What has been loaded stays to the end: a full collection of garbage, of which tests cause many, leaves it out."""
    importlib.import_module("torch._dynamo")  # large, and otherwise loaded by the first import of a network
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def own_cache(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder of a test file's own, where what one test has measured serves the next.

    Files with the same `CACHE` share one.
    """
    name = getattr(request.module, "CACHE", f"cache of {request.module.__name__}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOPMORPH_CACHE", str(tmp_path_factory.getbasetemp() / name))
        yield


@pytest.fixture
def own_code(own_cache: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test of a file has compiled is kept in the file's own cache; for tests that compile the same again."""
    monkeypatch.setenv("LOOPMORPH_CODE_CACHE", "on")
