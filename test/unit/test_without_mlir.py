"""A `model.pt` is loaded, trained and saved where MLIR is not installed, and comes back to where it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from saved_networks import NAME, STEPS, original

import loopmorph as lm
from loopmorph.pipelines.rewritten.nest_module import NestModule
from loopmorph.pipelines.rewritten.rewritten_layers import SlicedLinear

HERE = Path(__file__).parent


def test_trained_elsewhere_and_compiled_here(tmp_path: Path) -> None:
    torch.manual_seed(0)
    (model, inputs), schedule = original(), ",".join(STEPS)
    rewritten = lm.import_model(model, inputs).apply(schedule)
    module = rewritten.to_module().eval()
    assert isinstance(module.coarse[0], NestModule) and isinstance(module.low_rank[0], NestModule)
    assert isinstance(module.head, SlicedLinear) and module.grouped[0].groups == 4 and module.depthwise[0].groups == 8
    lm.save_model(tmp_path / "model.pt", module, model=NAME, original=model, schedule=schedule)
    images = torch.randn(2, 3, 6, 6)
    torch.save(images, tmp_path / "images.pt")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}
    command = [sys.executable, str(HERE / "without_mlir.py"), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = "takes MLIR, and {} is not installed: pip install 'loopmorph[mlir]'"
    assert done.stdout.strip() == f"loopmorph.compile {said.format('archspec')}"
    errors = [f"error: {what} {said.format('torch-mlir')}" for what in ("loopmorph import", "loopmorph-opt")]
    assert done.stderr.splitlines() == [*errors, "1 1"]

    told = torch.load(tmp_path / "told.pt")
    torch.testing.assert_close(told["before"], module(images), rtol=1e-5, atol=1e-5)
    assert told["gradients"].isfinite().all() and (told["after"] - told["before"]).abs().max() > 1e-2
    tuned = lm.load_model(tmp_path / "tuned.pt", original=model).eval()
    torch.testing.assert_close(tuned(images), told["after"], rtol=1e-5, atol=1e-5)
    program = lm.load_program(tmp_path / "tuned.pt", original=(model, inputs))
    assert program.steps == rewritten.steps
    run = lm.compile(program, check=False)
    for k in range(len(images)):
        torch.testing.assert_close(run(images[k : k + 1]), told["after"][k : k + 1], rtol=1e-4, atol=1e-4)


def test_any_other_missing_package_keeps_its_own_message(monkeypatch: pytest.MonkeyPatch) -> None:
    from loopmorph.pipelines.support.extras import needs_mlir

    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_package'"), needs_mlir("this"):
        import no_such_package  # noqa: F401
