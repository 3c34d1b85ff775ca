"""Fine-tuning: it learns, the seed decides, it goes on where it ended, and what it refuses."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bombs import write_bomb
from patterns import patterns
from torch import nn

from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.pipelines.training.accuracy import accuracy
from loopmorph.pipelines.training.augmentation import mixed, shifted_and_flipped, squares
from loopmorph.pipelines.training.finetune import EARLY, Diverged, FineTuned, finetune
from loopmorph.pipelines.training.recipe import FineTuning

QUICK = FineTuning(epochs=2, batch_size=16, padding=1, flip=False)  # 24 steps
TRAIN = patterns(192, seed=1)


class Small(nn.Module):
    """A network with all that has state: BatchNorm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.bn = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.drop, self.linear = nn.Dropout(0.1), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.drop(self.bn(self.conv(x)).relu().mean((2, 3))))


def same(one: FineTuned, other: FineTuned) -> bool:
    states = one.model.state_dict(), other.model.state_dict()
    numbers = (one.early_loss, one.loss, one.steps) == (other.early_loss, other.loss, other.steps)
    return numbers and all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_it_learns_and_leaves_the_model_as_it_is() -> None:
    model = Small().eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    tuned = finetune(model, TRAIN, replace(QUICK, epochs=15))
    test = patterns(200, seed=2)
    assert accuracy(model, test) < 40 and accuracy(tuned.model, test) > 80
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not model.training and not tuned.model.training
    assert torch.equal(torch.get_rng_state(), state)


def test_the_seed_alone_decides() -> None:
    first = finetune(Small(), TRAIN, QUICK)
    torch.manual_seed(77)
    model = Small()
    torch.rand(5)
    assert same(finetune(model, TRAIN, QUICK), first)
    assert not same(finetune(Small(), TRAIN, replace(QUICK, seed=1)), first)


@pytest.mark.parametrize("at", [1, 12, 17, 24])
def test_it_goes_on_from_a_checkpoint_to_the_same_result(tmp_path: Path, at: int) -> None:
    def stop(stage: str, done: int, of: int) -> None:
        if done == at:
            raise KeyboardInterrupt

    file = tmp_path / "c.pt"
    with pytest.raises(KeyboardInterrupt):
        finetune(Small(), TRAIN, QUICK, checkpoint=file, checkpoint_seconds=0, progress=stop)
    told: list[int] = []
    resumed = finetune(Small(), TRAIN, QUICK, checkpoint=file, progress=lambda stage, done, of: told.append(done))
    assert told == list(range(at, 25))
    assert same(resumed, finetune(Small(), TRAIN, QUICK))
    assert [each.name for each in tmp_path.iterdir()] == ["c.pt"]


def test_early_losses_are_those_of_the_steps_after_the_first() -> None:
    losses: list[float] = []

    def noted(images: torch.Tensor, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        loss = F.cross_entropy(outputs, labels)
        losses.append(float(loss.detach()))
        return loss

    tuned = finetune(Small(), TRAIN, replace(QUICK, epochs=6), objective=noted)
    early = losses[EARLY[0] : EARLY[1]]
    assert tuned.steps == len(losses) == 72 and tuned.early_loss == pytest.approx(sum(early) / 50)
    assert tuned.loss == pytest.approx(losses[-1])
    assert finetune(Small(), TRAIN, replace(QUICK, batch_size=192)).early_loss is None


def test_vectors_do_not_decay() -> None:
    settings = replace(QUICK, epochs=1, weight_decay=0.5)

    def nothing(images: torch.Tensor, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return 0 * outputs.sum()

    model = Small()
    tuned = finetune(model, TRAIN, settings, objective=nothing).model.state_dict()
    assert torch.equal(tuned["bn.weight"], model.bn.weight) and torch.equal(tuned["linear.bias"], model.linear.bias)
    assert tuned["conv.weight"].norm() < 0.9 * model.conv.weight.norm()


def test_parameters_that_need_no_gradient_stay() -> None:
    model = Small()
    model.conv.requires_grad_(False)
    tuned = finetune(model, TRAIN, replace(QUICK, epochs=1)).model.state_dict()
    assert torch.equal(tuned["conv.weight"], model.conv.weight)
    assert not torch.equal(tuned["linear.weight"], model.linear.weight)


def test_a_set_smaller_than_a_batch_is_one_batch() -> None:
    assert finetune(Small(), patterns(20, seed=1), FineTuning(epochs=3)).steps == 3


def test_shifts_stay_inside_the_mirrored_image_and_flips_are_one_in_two() -> None:
    images = torch.arange(64).reshape(1, 1, 8, 8)
    generator = torch.Generator().manual_seed(0)
    drawn = shifted_and_flipped(images, torch.zeros(400, dtype=torch.int64), 2, True, generator)
    mirrored = F.pad(images.float(), (2, 2, 2, 2), mode="reflect").long()
    windows = [mirrored[0, 0, y : y + 8, x : x + 8] for y in range(5) for x in range(5)]
    admitted = {tuple(w.flatten().tolist()) for w in windows} | {tuple(w.flip(1).flatten().tolist()) for w in windows}
    assert {tuple(image.flatten().tolist()) for image in drawn} == admitted
    flipped = (drawn[:, 0, 3, 3] > drawn[:, 0, 3, 4]).sum()
    assert 170 <= flipped <= 230


def test_without_shifts_and_flips_images_stay_as_they_are() -> None:
    chosen = torch.tensor([4, 0, 2])
    drawn = shifted_and_flipped(TRAIN.images, chosen, 0, False, torch.Generator())
    assert torch.equal(drawn, TRAIN.images[chosen])


def test_one_square_of_each_image_is_erased() -> None:
    erased = squares(torch.Size((400, 3, 8, 6)), 3, torch.Generator().manual_seed(0))
    assert erased.shape == (400, 1, 8, 6)
    windows = set()
    for y in range(8):
        for x in range(6):
            window = torch.zeros(8, 6, dtype=torch.bool)
            window[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = True
            windows.add(tuple(window.flatten().tolist()))
    assert {tuple(each.flatten().tolist()) for each in erased} == windows


def test_erased_images_are_grey_there() -> None:
    seen: list[torch.Tensor] = []

    def loss(images: torch.Tensor, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return outputs.sum()

    finetune(Small(), TRAIN, replace(QUICK, erased=100), steps=1, objective=loss)
    assert not seen[0].any()


def test_a_rectangle_of_another_image_comes_with_its_share_of_the_label() -> None:
    labels = torch.arange(600) % 4
    images = labels[:, None, None, None].float().expand(600, 3, 8, 6)
    drawn, targets = mixed(images, labels, 4, 0.5, torch.Generator().manual_seed(0))
    shares = torch.stack([(drawn == c).float().mean((1, 2, 3)) for c in range(4)], 1)
    assert torch.allclose(targets, shares, atol=1e-6)
    assert 0.3 < (targets.amax(1) < 1).float().mean() < 0.45  # half, less those of the same class or with no pixel
    for image, changed in ((each[0], each[0] != label) for each, label in zip(drawn, labels, strict=True)):
        rows, columns = changed.any(1), changed.any(0)
        assert torch.equal(changed, rows[:, None] & columns[None])
        assert len(image[changed].unique()) <= 1


def test_no_image_is_mixed_where_no_share_is_asked() -> None:
    images, labels = torch.rand(32, 3, 8, 8), torch.arange(32) % 4
    drawn, targets = mixed(images, labels, 4, 0.0, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, images)
    assert torch.equal(targets, nn.functional.one_hot(labels, 4).float())


def test_it_learns_from_mixed_images_and_goes_on_to_the_same_result(tmp_path: Path) -> None:
    settings = replace(QUICK, mixed=0.5, epochs=6)
    finetune(Small(), TRAIN, settings, steps=17, checkpoint=tmp_path / "c")
    whole = finetune(Small(), TRAIN, settings)
    assert same(finetune(Small(), TRAIN, settings, checkpoint=tmp_path / "c"), whole)
    assert whole.early_loss is not None
    assert whole.loss < whole.early_loss


def test_labels_of_an_own_loss_cannot_be_mixed() -> None:
    with pytest.raises(ArgumentError, match=r"'mixed': expected 0 beside an objective, whose labels .*, got 0\.5"):
        finetune(Small(), TRAIN, replace(QUICK, mixed=0.5), objective=lambda _images, outputs, _labels: outputs.sum())


@pytest.mark.parametrize("limit", [None, 1e-3])
def test_gradients_beyond_the_limit_are_scaled_to_it(limit: float | None) -> None:
    settings = replace(QUICK, weight_decay=0.0, warm_up=0.0, momentum=0.5, gradient_norm=limit)
    model = Small()
    tuned = finetune(model, TRAIN, settings, steps=1).model
    steps = [b - a for a, b in zip(model.parameters(), tuned.parameters(), strict=True)]
    moved = torch.cat([each.flatten() for each in steps]).norm().item()
    # Nesterov's first step is the rate times (1 + momentum) times the gradient.
    assert moved == pytest.approx(0.1 * 1.5 * 1e-3, rel=0.02) if limit else moved > 0.01


def test_adamw_moves_every_weight_by_the_rate_and_its_decay() -> None:
    settings = replace(QUICK, optimiser="adamw", learning_rate=1e-2, weight_decay=0.5, warm_up=0.0)
    model = Small()
    tuned = finetune(model, TRAIN, settings, steps=1).model
    for before, after in zip(model.parameters(), tuned.parameters(), strict=True):
        decayed = before * (1 - 1e-2 * 0.5) if before.dim() > 1 else before
        moved = (after - decayed).abs()
        assert moved.max().item() == pytest.approx(1e-2, rel=0.01)  # Adam's first step, whatever the gradient


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "'epochs': expected an integer of at least 1, got 0"),
        ({"batch_size": 1.5}, r"'batch_size': expected an integer of at least 1, got 1\.5"),
        ({"learning_rate": 0.0}, r"'learning_rate': expected a positive number, got 0\.0"),
        ({"learning_rate": float("nan")}, "'learning_rate': expected a positive number, got nan"),
        ({"weight_decay": -1.0}, r"'weight_decay': expected a number of at least 0, got -1\.0"),
        ({"momentum": 1.0}, r"'momentum': expected a number between 0 and 1, got 1\.0"),
        ({"label_smoothing": 1.0}, r"'label_smoothing': expected a share from 0 to below 1, got 1\.0"),
        ({"warm_up": -0.1}, r"'warm_up': expected a share from 0 to below 1, got -0\.1"),
        ({"padding": -1}, "'padding': expected pixels, at least 0, got -1"),
        ({"erased": 1.0}, r"'erased': expected pixels, at least 0, got 1\.0"),
        ({"mixed": 1.5}, r"'mixed': expected a share from 0 to 1, got 1\.5"),
        ({"optimiser": "adam"}, "'optimiser': expected one of sgd, adamw, got 'adam'"),
        ({"gradient_norm": 0.0}, r"'gradient_norm': expected a positive number, got 0\.0"),
        ({"seed": "a"}, "'seed': expected an integer, got 'a'"),
    ],
)
def test_settings_out_of_range(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        finetune(Small(), TRAIN, replace(QUICK, **change))


class TwoOutputs(Small):
    def forward(self, x: torch.Tensor) -> Any:
        return (super().forward(x),)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear(3, 4), r"'model': in train mode it fails on a batch of shape \(16, 3, 8, 8\): RuntimeError"),
        (TwoOutputs(), "'model': the loss cannot be computed from its outputs: AttributeError"),
        (Small().requires_grad_(False), "'model': it has no parameter that requires a gradient"),
    ],
    ids=["other inputs", "no logits", "frozen"],
)
def test_models_that_cannot_be_trained(model: nn.Module, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        finetune(model, TRAIN, QUICK)


def test_no_images_and_no_such_device() -> None:
    with pytest.raises(ArgumentError, match="'train': there is no image to train on"):
        finetune(Small(), TRAIN.part(torch.tensor([], dtype=torch.int64)), QUICK)
    with pytest.raises(ArgumentError, match="'device': 'tpu9' is no device"):
        finetune(Small(), TRAIN, QUICK, device="tpu9")


def test_a_loss_that_is_no_number_any_more_is_told() -> None:
    message = r"'learning_rate': with learning_rate=1e\+30 the loss is nan at step \d+ of 24; a smaller one is needed"
    with pytest.raises(Diverged, match=message):
        finetune(Small(), TRAIN, replace(QUICK, learning_rate=1e30))


def test_checkpoints_that_are_damaged_or_of_another_training(tmp_path: Path) -> None:
    file = tmp_path / "c.pt"
    finetune(Small(), TRAIN, replace(QUICK, epochs=1), checkpoint=file)
    with pytest.raises(DataError, match=r"c\.pt: is of another training \(other weights, images or settings\); remove"):
        finetune(Small(), TRAIN, QUICK, checkpoint=file)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"c\.pt: is not a readable checkpoint \(BadZipFile\); remove it to begin anew"):
        finetune(Small(), TRAIN, QUICK, checkpoint=file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", b"")
    with pytest.raises(DataError, match=r"c\.pt: is not a readable checkpoint"):
        finetune(Small(), TRAIN, QUICK, checkpoint=file)
    torch.save({"format": "other"}, file)
    with pytest.raises(DataError, match=r"c\.pt: is not a checkpoint \(format 'loopmorph-training-1' is expected\)"):
        finetune(Small(), TRAIN, QUICK, checkpoint=file)
    with pytest.raises(DataError, match=r"bomb: refused: it unpacks to 3\.0 GiB"):
        finetune(Small(), TRAIN, QUICK, checkpoint=write_bomb(tmp_path / "bomb", "data.pkl"))


def test_a_checkpoint_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"'checkpoint': cannot write '.*c\.pt': No such file"):
        finetune(Small(), TRAIN, QUICK, checkpoint=tmp_path / "none" / "c.pt", checkpoint_seconds=0)
