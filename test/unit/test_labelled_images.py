"""Whole data sets: their two parts, their normalisation, and what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.pipelines.data import labelled_images
from loopmorph.pipelines.data.batches import load_batch
from loopmorph.pipelines.data.labelled_images import LabelledSets, load_labelled_sets


def write_batch(file: Path, count: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)
    file.write_bytes(pickle.dumps({b"data": rows, b"labels": [k % 10 for k in range(count)]}))
    return rows.reshape(-1, 3, 32, 32)


def write_npz(folder: Path, count: int = 30, channels: int = 3) -> Path:
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8, channels), dtype=np.uint8)
    np.savez(folder / "set.npz", images=images, labels=np.arange(count) % 3)
    return folder / "set.npz"


def write_images(folder: Path, names: tuple[str, ...] = ("cat", "dog"), count: int = 4) -> Path:
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for k in range(count):
            Image.new("RGB", (8, 8), (40 * number, k, 0)).save(folder / name / f"{k}.png")
    return folder


def load(path: Path, shape: tuple[int, int, int] = (3, 8, 8), classes: int = 3, seed: int = 0) -> LabelledSets:
    return load_labelled_sets(path, shape=shape, classes=classes, seed=seed)


def test_cifar_has_a_test_part_of_its_own(tmp_path: Path) -> None:
    train = [write_batch(tmp_path / f"data_batch_{k}", 5, k) for k in (1, 2)]
    test = write_batch(tmp_path / "test_batch", 4, 9)
    sets = load(tmp_path, (3, 32, 32), 10)
    assert torch.equal(sets.train.images, torch.from_numpy(np.concatenate(train)))
    assert torch.equal(sets.test.images, torch.from_numpy(test))
    assert sets.train.labels.tolist() == [0, 1, 2, 3, 4] * 2 and sets.test.labels.tolist() == [0, 1, 2, 3]
    assert sets.test.source == "CIFAR-10 python batches, 4 images"


def test_images_are_normalised_as_those_of_minibatches(tmp_path: Path) -> None:
    write_batch(tmp_path / "data_batch_1", 6, 1)
    write_batch(tmp_path / "test_batch", 2, 2)
    train = load(tmp_path, (3, 32, 32), 10).train
    batch = load_batch(tmp_path, count=6, shape=(3, 32, 32), classes=10)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(train.normalised(train.images)[order], batch.images)


def test_a_sixth_is_held_out_where_there_is_no_test_part(tmp_path: Path) -> None:
    file = write_npz(tmp_path)
    sets, again, other = load(file), load(file), load(file, seed=1)
    assert (len(sets.train), len(sets.test)) == (25, 5)
    assert torch.equal(sets.test.images, again.test.images)
    assert not torch.equal(sets.test.images, other.test.images)
    together = torch.cat([sets.train.images, sets.test.images]).flatten(1)
    assert len(together.unique(dim=0)) == 30


def test_the_training_part_has_mean_0_and_deviation_1(tmp_path: Path) -> None:
    sets = load(write_npz(tmp_path))
    values = sets.train.normalised(sets.train.images)
    torch.testing.assert_close(values.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(values.std((0, 2, 3), unbiased=False), torch.ones(3), atol=1e-5, rtol=0)
    assert sets.test.mean == sets.train.mean


def test_a_constant_channel_becomes_zero(tmp_path: Path) -> None:
    images = np.full((12, 4, 4, 1), 200, np.uint8)
    np.savez(tmp_path / "flat.npz", images=images, labels=np.arange(12) % 3)
    train = load(tmp_path / "flat.npz", (1, 4, 4)).train
    assert torch.equal(train.normalised(train.images), torch.zeros(10, 1, 4, 4))


def test_an_image_folder_in_parts(tmp_path: Path) -> None:
    write_images(tmp_path / "train")
    write_images(tmp_path / "val", count=2)
    sets = load(tmp_path, classes=2)
    assert sets.train.labels.tolist() == [0] * 4 + [1] * 4 and sets.test.labels.tolist() == [0, 0, 1, 1]
    assert load_batch(tmp_path, count=8, shape=(3, 8, 8), classes=2).labels.sum() == 4  # the training part


def test_classes_called_train_and_test_are_classes(tmp_path: Path) -> None:
    sets = load(write_images(tmp_path, ("test", "train"), count=6), classes=2)
    assert (len(sets.train), len(sets.test)) == (10, 2)


def test_parts_with_other_classes(tmp_path: Path) -> None:
    write_images(tmp_path / "train")
    write_images(tmp_path / "test", ("cat", "fox"))
    with pytest.raises(
        DataError, match=r"test: its classes differ from those of .*train: 'dog' is in one of them only"
    ):
        load(tmp_path)


def test_images_take_the_networks_shape(tmp_path: Path) -> None:
    sets = load(write_npz(tmp_path, channels=1), (3, 4, 4))
    assert sets.train.images.shape == (25, 3, 4, 4) and sets.train.images.dtype == torch.uint8
    assert torch.equal(sets.train.images[:, 0], sets.train.images[:, 2])


def test_reading_tells_how_far_it_is(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    load_labelled_sets(write_npz(tmp_path), shape=(3, 8, 8), classes=3, progress=lambda *step: told.append(step))
    assert told == [("read", 25, 30), ("read", 30, 30)]


def test_some_of_the_images_are_normalised_as_all(tmp_path: Path) -> None:
    train = load(write_npz(tmp_path)).train
    some = train.part(torch.tensor([3, 1]))
    assert torch.equal(some.labels, train.labels[[3, 1]]) and some.mean == train.mean


def test_what_cannot_be_held_or_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_npz(tmp_path)
    with pytest.raises(DataError, match=r"set\.npz: label 2 is outside 0\.\.1, the network has 2 classes"):
        load(file, classes=2)
    with pytest.raises(ArgumentError, match="'shape'"):
        load(file, (3, 0, 8))
    with pytest.raises(DataError, match=r"set\.npz: holds 5 images, too few to hold one in 6 out for a test"):
        load(write_npz(tmp_path, 5))
    monkeypatch.setattr(labelled_images, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match=r"set\.npz: 25 images of 3x8x8 take .* GiB; at most 0 GiB are held"):
        load(write_npz(tmp_path))
