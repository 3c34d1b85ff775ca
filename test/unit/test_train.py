"""Training on a data set: what it says of the network, how it goes on after a break, several processes, refusals."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from factories import classifier
from patterns import patterns, save_patterns
from PIL import Image
from scipy.stats import binomtest
from test_finetune import QUICK, TRAIN, Small, same
from torch import nn
from trained_networks import trained_residual

import loopmorph as lm
from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.data.labelled_images import LabelledSets
from loopmorph.pipelines.training.accuracy import Accuracy, accuracy, measure_accuracy
from loopmorph.pipelines.training.finetune import Diverged, finetune
from loopmorph.pipelines.training.processes import Processes
from loopmorph.pipelines.training.recipe import FineTuning

SETS = LabelledSets(TRAIN, patterns(200, seed=2))


def train(model: nn.Module, **more: Any) -> lm.Trained:
    return lm.train(model, SETS, **{"settings": QUICK, "device": "cpu", **more})


@pytest.mark.parametrize(("right", "images"), [(0, 10), (15, 20), (9240, 10_000), (299, 299)])
def test_the_interval_is_wilsons(right: int, images: int) -> None:
    found = Accuracy(right, images)
    expected = binomtest(right, images).proportion_ci(0.95, method="wilson")
    assert found.interval == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-9)
    assert found.percent == pytest.approx(100 * right / images)


def test_it_says_what_the_network_was_worth_and_is(tmp_path: Path) -> None:
    save_patterns(tmp_path / "set.npz", 240, seed=1)
    model, told = Small(), set()
    found = lm.train(
        model,
        tmp_path / "set.npz",
        settings=replace(QUICK, epochs=12),
        device="cpu",
        progress=lambda stage, done, of: told.add((stage, done == of)),
    )
    assert found.data == "npz set.npz, 200 images; tested on npz set.npz, 40 images"
    assert found.before.images == found.after.images == 40 and found.teacher is None
    assert found.before.percent < 60 and found.after.percent > 80 and found.steps == 12 * 12
    assert {stage for stage, last in told if last} == {"read", "test before", "train", "test after"}


class Left(nn.Module):
    """Gives the mean of each quarter of the columns, from left to right: an image's class is where it is bright."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((1, 2)).reshape(len(x), 4, 2).mean(2)


def test_images_and_their_mirror_images() -> None:
    images = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    images[0, ..., :2], images[1, ..., 4:6], images[2, ..., 6:] = 200, 200, 200
    images[1, ..., 2:4] = 100
    test = replace(TRAIN, images=images, labels=torch.tensor([0, 2, 3]))
    assert measure_accuracy(Left(), test, "cpu") == Accuracy(3, 3)
    assert measure_accuracy(Left(), test, "cpu", mirrored=True) == Accuracy(1, 3)  # of two that are equal the first


def test_with_a_teacher() -> None:
    teacher = trained_residual()
    found = lm.finetune(Small(), SETS, teacher=teacher, settings=QUICK, device="cpu")
    assert found.teacher == Accuracy(round(2 * accuracy(teacher, SETS.test)), 200)
    same_teacher = lm.finetune(Small(), SETS, teacher=lm.Teacher(teacher), settings=QUICK, device="cpu")
    assert found.loss == same_teacher.loss != train(Small()).loss


class Viewed(nn.Module):
    """Runs on activations in the usual order alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.linear = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 64, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, 8, 8) to (N, 4)."""
        x = self.conv(x).relu()
        return self.linear(x.view(x.size(0), -1))


def test_a_network_that_views_its_activations_is_trained() -> None:
    found = train(Viewed(), settings=replace(QUICK, epochs=8))
    assert found.after.percent > 60 > found.before.percent


def test_a_teacher_that_knows_nothing_is_refused() -> None:
    ignorant = Small()
    nn.init.zeros_(ignorant.linear.weight)
    with pytest.raises(ArgumentError, match=r"'teacher': it tells 25\.0 % of the test images right, no more"):
        lm.finetune(Small(), SETS, teacher=ignorant, settings=replace(QUICK, epochs=1), device="cpu")


# --- breaks ---


@pytest.mark.usefixtures("python_handles_interrupts")
def test_an_interrupt_ends_it_after_the_step_and_loses_nothing(tmp_path: Path) -> None:
    def interrupt(stage: str, done: int, of: int) -> None:
        if (stage, done) == ("train", 7):
            os.kill(os.getpid(), signal.SIGINT)

    file = tmp_path / "c.pt"
    with pytest.raises(KeyboardInterrupt):
        train(Small(), checkpoint=file, progress=interrupt)
    steps: list[int] = []
    resumed = train(
        Small(), checkpoint=file, progress=lambda stage, done, _: steps.append(done) if stage == "train" else None
    )
    assert steps[0] == 8 and resumed.steps == 24
    assert_equal(resumed.model, train(Small()).model)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch with one thread, as in a child; with several it adds up in another order."""
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(usual)


@pytest.mark.usefixtures("one_thread")
def test_what_is_killed_goes_on_to_the_same_result(tmp_path: Path) -> None:
    def kill(stage: str, done: int, of: int) -> None:
        if done == 9:
            os.kill(os.getpid(), signal.SIGKILL)

    file = tmp_path / "c.pt"
    status = in_child(lambda: finetune(Small(), TRAIN, QUICK, checkpoint=file, checkpoint_seconds=0, progress=kill))
    assert os.WTERMSIG(status()) == signal.SIGKILL
    told: list[int] = []
    resumed = finetune(Small(), TRAIN, QUICK, checkpoint=file, progress=lambda stage, done, of: told.append(done))
    assert told[0] == 9 and same(resumed, finetune(Small(), TRAIN, QUICK))


def test_what_diverged_leaves_no_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "c.pt"
    train(Small(), settings=replace(QUICK, epochs=1), checkpoint=file)
    assert file.exists()
    file.unlink()
    with pytest.raises(Diverged, match=r"'learning_rate': with learning_rate=1e\+30 the loss is nan"):
        train(Small(), settings=replace(QUICK, learning_rate=1e30), checkpoint=file)
    assert not file.exists()


def assert_equal(found: nn.Module, expected: nn.Module) -> None:
    states = found.state_dict(), expected.state_dict()
    assert all(torch.equal(states[0][name], tensor) for name, tensor in states[1].items())


def in_child(work: Callable[[], Any]) -> Callable[[], int]:
    """Begins some work in a process of its own; what is given waits for its end, and gives its status."""
    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(1)  # a child has none of its parent's threads
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return lambda: os.waitpid(child, 0)[1]


# --- several processes ---


@pytest.mark.skipif(torch.cuda.is_available(), reason="PyTorch refuses autograd in the child of a process with CUDA")
def test_two_processes_train_one_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = FineTuning(epochs=2, batch_size=16, padding=0, flip=False)
    torch.manual_seed(0)
    model = classifier()  # without BatchNorm and without draws, a share of a batch gives a share of its gradient
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
    for name, value in {
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": port,
        "WORLD_SIZE": 2,
        "TORCHELASTIC_RUN_ID": "a",
    }.items():
        monkeypatch.setenv(name, str(value))

    def work(rank: int) -> None:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
        found = train(model, settings=settings, checkpoint=tmp_path / "c.pt")
        torch.save((found.model.state_dict(), found.after.right), tmp_path / f"{rank}.pt")

    waits = [in_child(lambda rank=rank: work(rank)) for rank in range(2)]
    assert [wait() for wait in waits] == [0, 0]
    (first, right), (second, also) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first) and right == also
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    torch.testing.assert_close(first, dict(train(model, settings=settings).model.state_dict()), rtol=1e-4, atol=1e-5)
    with pytest.raises(lm.DataError, match=r"c\.pt: is of another training"):
        train(model, settings=settings, checkpoint=tmp_path / "c.pt")


def test_a_batch_that_cannot_be_shared_out() -> None:
    with pytest.raises(ArgumentError, match="'batch_size': expected a multiple of 3, the number of processes, got 16"):
        Processes(0, 3, torch.device("cpu")).share(16)


# --- refusals ---


class Last(nn.Module):
    """Gives the pixels of the last column."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[..., -1]


def with_nan() -> nn.Module:
    model = Small()
    with torch.no_grad():
        model.linear.bias[1] = torch.nan
    return model


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"model": Last()}, r"'model': expected logits \(N, classes\) from it"),
        (
            {"model": nn.Linear(5, 4)},
            r"'model': in eval mode it fails on a batch of shape \(2, 3, 8, 8\): RuntimeError",
        ),
        ({"model": nn.Flatten()}, "'model': it tells 192 classes apart, the images are of 4"),
        ({"model": "resnet34"}, r"'model': a str was given; an nn\.Module is expected"),
        ({"model": with_nan()}, r"'model': its parameter 'linear\.bias' holds NaN or infinities"),
        ({"model": nn.LazyLinear(4)}, "'model': its parameter 'weight' has no values yet"),
        ({"teacher": "resnet34"}, r"'teacher': a str was given; a module or Teacher\(...\) is expected"),
        ({"settings": {"epochs": 1}}, r"'settings': expected FineTuning\(...\), got a dict"),
        ({"image_shape": (3, 8, 8)}, "'image_shape': the images are there and have a shape; expected none beside them"),
        ({"teacher": nn.Flatten()}, "'teacher': it tells 192 classes apart, the images are of 4"),
        ({"settings": FineTuning(epochs=0)}, "'epochs': expected an integer of at least 1, got 0"),
        ({"checkpoint": "none/c.pt"}, "'checkpoint': cannot write 'none/c.pt': there is no folder 'none'"),
        ({"device": "tpu9"}, "'device': 'tpu9' is no device"),
    ],
)
def test_what_cannot_be_trained(more: dict[str, Any], message: str) -> None:
    arguments = {"model": Small(), "data": SETS, "settings": QUICK, "device": "cpu", **more}
    with pytest.raises(ArgumentError, match=message):
        lm.finetune(**arguments)


def test_files_of_any_size_need_a_size(tmp_path: Path) -> None:
    for label in ("cat", "dog", "eel", "fox"):
        (tmp_path / label).mkdir()
        for size in (8, 9):
            Image.new("RGB", (size, 8)).save(tmp_path / label / f"{size}.png")
    with pytest.raises(
        ArgumentError, match=r"'image_shape': the images of .* have sizes of their own; expected \(C, H, W\)"
    ):
        lm.train(Small(), tmp_path)
    found = lm.train(Small(), tmp_path, image_shape=(3, 8, 8), settings=replace(QUICK, epochs=1), device="cpu")
    assert found.after.images == 1
