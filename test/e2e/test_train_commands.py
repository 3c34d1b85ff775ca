"""`train` and `finetune`: a network trained on digits, made smaller, and trained on by what it was made from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from factories import digits

import loopmorph as lm
from loopmorph.pipelines.data.digits import DIGITS
from loopmorph.pipelines.data.labelled_images import LabelledImages, load_labelled_sets
from loopmorph.pipelines.evaluation.outputs import training_of
from loopmorph.pipelines.ingress.models import resolve_model
from loopmorph.pipelines.ingress.state import load_state
from loopmorph.pipelines.search.retrained import Retrained
from loopmorph.pipelines.search.saved_model import save_model
from loopmorph.pipelines.training.accuracy import accuracy
from loopmorph.pipelines.zoo import ZOO, ZooEntry
from loopmorph.tools.cli import main

MODEL = "factories:digits"
SCHEDULE = "morph-bottleneck{layer=0 iter=co factor=4}"
HOW = ["--data", str(DIGITS), "--batch-size", "64", "--no-flip", "--device", "cpu"]

pytestmark = pytest.mark.usefixtures("in_unit")


@pytest.fixture(scope="module")
def test_part() -> LabelledImages:
    return load_labelled_sets(DIGITS, shape=(1, 8, 8), classes=10).test


def write_rewritten(path: Path, weights: Path | None, model: str = MODEL) -> Path:
    """A `model.pt`, as `optimize` writes it."""
    loaded = resolve_model(model)
    if weights is not None:
        load_state(loaded.model, weights)
    module = lm.import_model(loaded.model, loaded.example_inputs).apply(SCHEDULE).to_module()
    with path.open("wb") as file:
        save_model(file, module, model=model, seed=0, schedule=SCHEDULE)
    return path


def told_accuracies(output: str) -> list[float]:
    (line,) = re.findall(r"^accuracy on 299 test images: (.*); intervals of 95 %$", output, re.MULTILINE)
    return [float(number) for number in re.findall(r"([\d.]+) % \(", line)]


def test_a_network_is_trained_made_smaller_and_fine_tuned(
    tmp_path: Path, test_part: LabelledImages, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, saved, tuned = tmp_path / "weights.pt", tmp_path / "model.pt", tmp_path / "tuned.pt"
    assert main(["train", MODEL, "-o", str(weights), "--epochs", "4", "--learning-rate", "0.1", *HOW]) == 0
    output = capsys.readouterr().out
    fresh, trained = told_accuracies(output)
    assert fresh < 30 and trained > 90
    assert "data: npz digits.npz, 1498 images; tested on npz digits.npz, 299 images\n" in output
    assert accuracy(lm.load_model(weights, MODEL), test_part, "cpu") == pytest.approx(trained, abs=0.006)

    write_rewritten(saved, weights)
    told = tmp_path / "tuned.json"
    arguments = [str(saved), "--original", MODEL, "--teacher", str(weights), "-o", str(tuned), "--epochs", "2", *HOW]
    arguments += ["--json", str(told)]
    assert main(["finetune", *arguments]) == 0
    output = capsys.readouterr().out
    before, after = told_accuracies(output)
    assert f"the teacher's accuracy on 299 test images: {trained:.2f} % (" in output
    assert before < after and after > 80
    training = training_of(told)
    assert (training.recipe_name, training.recipe.epochs, training.seed, training.gpu) == ("teacher", 2, 0, None)
    assert training.accuracy == pytest.approx(after, abs=0.006) and training.versions["torch"] == torch.__version__
    assert "made it worse" not in output
    rebuilt = [accuracy(lm.load_model(file, MODEL), test_part, "cpu") for file in (saved, tuned)]
    assert rebuilt == pytest.approx([before, after], abs=0.006)
    contents = [torch.load(file, weights_only=True) for file in (saved, tuned)]
    assert len({tuple(content.pop("state_dict")) for content in contents}) == 1 and contents[0] == contents[1]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.pt", "tuned.json", "tuned.pt", "weights.pt"]


def test_that_training_has_made_it_worse_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, again = tmp_path / "weights.pt", tmp_path / "again.pt"
    assert main(["train", MODEL, "-o", str(weights), "--epochs", "2", "--learning-rate", "0.1", *HOW]) == 0
    assert "made it worse" not in capsys.readouterr().out
    how = ["--epochs", "1", "--learning-rate", "3", *HOW]
    assert main(["finetune", str(weights), "--original", MODEL, "--teacher", "none", "-o", str(again), *how]) == 0
    output = capsys.readouterr().out
    before, after = told_accuracies(output)
    assert before > after
    told = "it may have been good already, and --learning-rate too high; a lower one than 3 changes less"
    assert f"\ntraining has made it worse: {told}\n" in output


def test_the_teacher_is_the_original_where_its_weights_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(ZOO, "digits", ZooEntry(digits, (1, 8, 8), 10))
    saved = str(write_rewritten(tmp_path / "model.pt", None, "digits"))
    how = ["-o", str(tmp_path / "tuned.pt"), *HOW, "--epochs", "1"]
    assert main(["finetune", saved, "--teacher", "original", *how]) == 1
    error = capsys.readouterr().err
    assert (
        error.count("\n") == 1 and "made from 'digits' of the zoo and does not hold its trained weights; name" in error
    )
    assert main(["finetune", saved, "--teacher", str(tmp_path / "none.pt"), *how]) == 1
    assert "none.pt: cannot be read as weights" in capsys.readouterr().err
    assert main(["finetune", saved, "--teacher", "none", "--teacher", "original", *how]) == 1
    assert "'none' was asked for beside others; it is expected alone" in capsys.readouterr().err
    assert main(["finetune", saved, *how]) == 0
    output = capsys.readouterr().out
    assert "model.pt does not hold the original's trained weights; --teacher names their file" in output
    assert "the teacher's accuracy" not in output
    assert main(["finetune", saved, "--original", MODEL, *how]) == 1
    assert "no more than chance would: it is not trained, or takes other inputs" in capsys.readouterr().err


def test_the_teacher_shares_nothing_with_what_it_teaches(tmp_path: Path) -> None:
    saved = Retrained.load(write_rewritten(tmp_path / "model.pt", None), MODEL)
    own = {name: tensor.clone() for name, tensor in saved.original.state_dict().items()}
    torch.save({name: tensor + 1 for name, tensor in own.items()}, tmp_path / "weights.pt")
    before = {name: tensor.clone() for name, tensor in saved.network.state_dict().items()}
    teacher = saved.teacher([str(tmp_path / "weights.pt"), "original"])
    assert teacher is not None and len(teacher.beside) == 1
    for network, more in ((teacher.network, 1), (teacher.beside[0], 0)):
        assert torch.equal(network.state_dict()["0.weight"], own["0.weight"] + more)
    assert all(torch.equal(before[name], tensor) for name, tensor in saved.network.state_dict().items())


def test_what_is_refused_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*arguments: str) -> str:
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    where = ["-o", str(tmp_path / "w.pt")]
    assert "there is no folder" in refused("train", MODEL, *HOW, "-o", str(tmp_path / "none" / "w.pt"))
    assert "none.npz: there is no such file or folder" in refused("train", MODEL, *HOW, *where, "--data", "none.npz")
    assert "'learning_rate': expected a positive number" in refused(
        "train", MODEL, *HOW, *where, "--learning-rate", "0"
    )
    assert "expected logits (N, classes) from it" in refused("train", "factories:heads", *HOW, *where)
    assert "none.pt: no such file" in refused("finetune", str(tmp_path / "none.pt"), *HOW, *where)
    assert list(tmp_path.iterdir()) == []
