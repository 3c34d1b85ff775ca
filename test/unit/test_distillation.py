"""A teacher: what its term of the loss is, what it teaches, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from patterns import patterns
from test_finetune import QUICK, TRAIN, Small, same
from torch import nn
from trained_networks import trained_residual

from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.pipelines.training.accuracy import accuracy
from loopmorph.pipelines.training.distillation import Teacher, label_loss
from loopmorph.pipelines.training.finetune import finetune

CPU = torch.device("cpu")
LOGITS = st.lists(st.floats(-8, 8, width=32), min_size=3, max_size=3)


class Told(nn.Module):
    """Gives what it was made with, whatever the images."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits


def none(_images: torch.Tensor, _outputs: Any, _labels: torch.Tensor) -> torch.Tensor:
    return torch.zeros(())


def softmax(logits: list[float], temperature: float) -> list[float]:
    powers = [math.exp(each / temperature) for each in logits]
    return [each / sum(powers) for each in powers]


@settings(deadline=None, max_examples=30)
@given(teacher=LOGITS, student=LOGITS, label=st.integers(0, 2), temperature=st.floats(0.5, 8), weight=st.floats(0, 1))
def test_the_loss_is_hintons(
    teacher: list[float], student: list[float], label: int, temperature: float, weight: float
) -> None:
    images = torch.zeros(2, 1, 1, 1)
    taught = Teacher(Told([teacher, teacher]), temperature, weight)
    with taught.objective(label_loss(0.0), Told([student, student]), images, CPU) as loss:
        found = loss(images, torch.tensor([student, student]), torch.tensor([label, label]))
    p, q = softmax(teacher, temperature), softmax(student, temperature)
    divergence = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    expected = weight * temperature**2 * divergence - (1 - weight) * math.log(softmax(student, 1)[label])
    assert float(found) == pytest.approx(expected, rel=1e-4, abs=2e-5 * temperature**2)


def test_it_teaches_what_it_gives_whatever_the_labels_say() -> None:
    teacher, student = trained_residual(), Small()
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    wrong = replace(TRAIN, labels=(TRAIN.labels + 1) % 4)
    how = replace(QUICK, epochs=12, padding=0)  # the teacher knows no shifts
    tuned = finetune(student, wrong, how, teacher=Teacher(teacher.train(), weight=1.0))
    assert accuracy(tuned.model, patterns(200, seed=2)) > 80
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())
    assert teacher.training and all(parameter.requires_grad for parameter in teacher.parameters())


def test_of_no_weight_it_changes_nothing() -> None:
    taught = finetune(Small(), TRAIN, QUICK, teacher=Teacher(Small(), weight=0.0, blocks=0.0))
    assert same(taught, finetune(Small(), TRAIN, QUICK))


def test_several_teach_the_mean_of_their_probabilities() -> None:
    images, targets = torch.zeros(2, 1, 1, 1), torch.tensor([0, 1])
    told = [[[2.0, -1.0, 0.5]] * 2, [[-3.0, 0.0, 4.0]] * 2]
    mean = torch.tensor([softmax(each[0], 1.0) for each in told]).mean(0).log()
    losses = []
    for taught in (Teacher(Told(told[0]), beside=(Told(told[1]),)), Teacher(Told([mean.tolist()] * 2))):
        with taught.objective(none, Told(told[1]), images, CPU) as loss:
            losses.append(float(loss(images, torch.tensor(told[1]), targets)))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_blocks_tell_a_student_that_is_the_teacher_nothing() -> None:
    student, other = trained_residual(), trained_residual()
    nn.init.normal_(other.linear.weight)
    both = Teacher(student, beside=(other,))
    taught = [finetune(student, TRAIN, QUICK, teacher=replace(both, blocks=blocks)) for blocks in (16.0, 0.0)]
    assert same(*taught)
    changed = trained_residual()
    nn.init.normal_(changed.linear.weight)
    taught = [finetune(changed, TRAIN, QUICK, teacher=replace(both, blocks=blocks)) for blocks in (16.0, 0.0)]
    assert not same(*taught)


def test_blocks_learn_what_those_of_the_teacher_give() -> None:
    teacher, student = trained_residual(), trained_residual()
    with torch.no_grad():
        student.block1.conv2.weight *= 1.5
    images = TRAIN.normalised(TRAIN.images[:8])
    outputs: dict[nn.Module, torch.Tensor] = {}
    for block in (student.block1, student.block2, teacher.block1, teacher.block2):
        block.register_forward_hook(lambda module, _args, output: outputs.__setitem__(module, output))
    with Teacher(teacher, weight=0.0, blocks=3.0).objective(none, student, images, CPU) as loss:
        found = loss(images, student(images), TRAIN.labels[:8]).detach()
    teacher(images)
    pairs = [(outputs[s], outputs[t]) for s, t in ((student.block1, teacher.block1), (student.block2, teacher.block2))]
    errors = [float(((given - wanted).square().sum() / wanted.square().sum()).detach()) for given, wanted in pairs]
    assert errors[0] > 0.01
    assert float(found) == pytest.approx(3 * sum(errors) / 2, rel=1e-5)
    assert [len(module._forward_hooks) for module in (student.block1, student.block2)] == [1, 1]  # its own are gone


class Skip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x)


def test_a_block_before_a_dropped_one_is_told_what_comes_after_both() -> None:
    teacher, student = (nn.Sequential(Skip(), Skip(), nn.Flatten()) for _ in range(2))
    student[1] = nn.Sequential()  # gives on what it gets
    images = torch.rand(8, 1, 6, 6)
    with Teacher(teacher, weight=0.0, blocks=3.0).objective(none, student, images, CPU) as loss:
        found = loss(images, student(images), torch.zeros(8)).detach()
    wanted = teacher(images)
    error = float(((student(images) - wanted).square().sum() / wanted.square().sum()).detach())
    assert error > 0.01 and float(found) == pytest.approx(3 * error, rel=1e-5)


def test_a_teacher_of_other_blocks_teaches_by_its_outputs_alone() -> None:
    alone = Teacher(trained_residual(), blocks=0.0)
    assert same(
        finetune(Small(), TRAIN, QUICK, teacher=replace(alone, blocks=16.0)),
        finetune(Small(), TRAIN, QUICK, teacher=alone),
    )


def test_a_checkpoint_is_of_one_teacher(tmp_path: Path) -> None:
    def stop(stage: str, done: int, of: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    file, teacher = tmp_path / "c.pt", Teacher(trained_residual())
    with pytest.raises(KeyboardInterrupt):
        finetune(Small(), TRAIN, QUICK, teacher=teacher, checkpoint=file, checkpoint_seconds=0, progress=stop)
    other = trained_residual()
    with torch.no_grad():
        other.linear.bias += 1.0
    for another in (
        None,
        Teacher(other),
        replace(teacher, temperature=1.0),
        replace(teacher, weight=0.5),
        replace(teacher, blocks=1.0),
        replace(teacher, beside=(trained_residual(),)),
    ):
        with pytest.raises(DataError, match=r"c\.pt: is of another training"):
            finetune(Small(), TRAIN, QUICK, teacher=another, checkpoint=file)
    resumed = finetune(Small(), TRAIN, QUICK, teacher=teacher, checkpoint=file)
    assert same(resumed, finetune(Small(), TRAIN, QUICK, teacher=teacher))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, r"'temperature': expected a positive number, got 0\.0"),
        ({"temperature": math.inf}, "'temperature': expected a positive number, got inf"),
        ({"weight": 1.5}, r"'weight': expected a share from 0 to 1, got 1\.5"),
        ({"weight": math.nan}, "'weight': expected a share from 0 to 1, got nan"),
        ({"network": "resnet34"}, r"'teacher': a str was given; an nn\.Module is expected"),
        ({"beside": (nn.Flatten(), "resnet34")}, r"'teacher': a str was given; an nn\.Module is expected"),
        ({"network": nn.Linear(5, 4)}, r"'teacher': in eval mode it fails on images of shape \(1, 3, 8, 8\)"),
        (
            {"network": nn.Linear(5, 4), "blocks": 0.0},
            r"'teacher': in eval mode it fails on a batch of shape \(16, 3, 8, 8\)",
        ),
        ({"blocks": -1.0}, r"'blocks': expected a number of at least 0, got -1\.0"),
        ({"network": nn.Flatten()}, r"'teacher': it gives a tensor \(16, 192\), the network that it teaches \(16, 4\)"),
    ],
)
def test_what_is_no_teacher(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        finetune(Small(), TRAIN, QUICK, teacher=replace(Teacher(Small()), **change))
