"""Minibatches: the three formats, the synthetic batch, and what is refused."""

from __future__ import annotations

import os
import pickle
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bombs import write_bomb
from PIL import Image

from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.pipelines.data.batches import CIFAR_MEAN, CIFAR_STD, Batch, load_batch
from loopmorph.pipelines.data.safe_pickle import load_batch_pickle

CIFAR = (3, 32, 32)


def load(
    path: Path | None, count: int = 2, shape: tuple[int, int, int] = CIFAR, classes: int = 10, **more: Any
) -> Batch:
    return load_batch(path, count=count, shape=shape, classes=classes, **more)


def cifar_rows(count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


def write_cifar(root: Path, sizes: tuple[int, ...] = (4, 3), protocol: int = 2) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    for number, size in enumerate(sizes, start=1):
        content = {b"data": cifar_rows(size, number), b"labels": [(number + i) % 10 for i in range(size)]}
        (folder / f"data_batch_{number}").write_bytes(pickle.dumps(content, protocol=protocol))
    return folder


def python2_batch(rows: np.ndarray[Any, Any], labels: list[int]) -> bytes:
    """The byte stream that Python 2's cPickle wrote with protocol 2: native strings, numpy.core, integer flags."""
    raw = rows.tobytes()
    minus = b"J" + struct.pack("<i", -1)
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN" + minus + minus + b"K\x00tb"
    shape = b"K" + bytes([len(rows)]) + b"M\x00\x0c\x86"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01" + shape + dtype
    array += b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(U\x04data" + array + b"U\x06labels" + numbers + b"U\x0bbatch_labelU\x05firstu."


def test_synthetic_batch_is_seeded_and_says_so() -> None:
    first, again, other = load(None, 5), load(None, 5), load(None, 5, seed=1)
    assert first.images.shape == (5, 3, 32, 32) and first.images.dtype == torch.float32
    assert first.labels.shape == (5,) and first.labels.dtype == torch.int64
    assert first.source == "synthetic: no --data was given"
    assert torch.equal(first.images, again.images) and torch.equal(first.labels, again.labels)
    assert not torch.equal(first.images, other.images)


@pytest.mark.parametrize("inside", [True, False], ids=["folder itself", "folder around it"])
def test_cifar_folder(tmp_path: Path, inside: bool) -> None:
    folder = write_cifar(tmp_path)
    batch = load(folder if inside else tmp_path, 7)
    assert batch.source == "CIFAR-10 python batches, 7 of 7 images"
    assert sorted(batch.labels.tolist()) == sorted([1, 2, 3, 4, 2, 3, 4])
    rows = np.concatenate([cifar_rows(4, 1), cifar_rows(3, 2)]).reshape(-1, 3, 32, 32) / 255.0
    wanted = (torch.from_numpy(rows) - torch.tensor(CIFAR_MEAN).reshape(3, 1, 1)) / torch.tensor(CIFAR_STD).reshape(
        3, 1, 1
    )
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(batch.images, wanted[order].float())


def test_choice_is_a_function_of_the_seed(tmp_path: Path) -> None:
    folder = write_cifar(tmp_path, (20,))
    small, large, other = load(folder, 4), load(folder, 9), load(folder, 9, seed=3)
    assert torch.equal(small.images, large.images[:4])
    assert not torch.equal(large.images, other.images)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_python3_protocol_is_read(tmp_path: Path, protocol: int) -> None:
    file = tmp_path / "data_batch_1"
    numbers = np.arange(6, dtype=">i4").reshape(2, 3, order="F")
    content = {b"data": cifar_rows(3), "labels": [np.int64(4), 1], b"numbers": numbers, b"batch_label": b"one"}
    file.write_bytes(pickle.dumps(content, protocol=protocol))
    read = load_batch_pickle(file)
    np.testing.assert_array_equal(read["data"], cifar_rows(3))
    np.testing.assert_array_equal(read["numbers"], numbers)
    assert read["labels"] == [4, 1] and read["batch_label"] == b"one"


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"], ids=["numpy 1", "numpy 2"])
def test_python2_pickles_are_read(tmp_path: Path, core: bytes) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    stream = python2_batch(cifar_rows(2), [3, 9]).replace(b"numpy.core", core)
    (folder / "data_batch_1").write_bytes(stream)
    assert sorted(load(folder).labels.tolist()) == [3, 9]


class Hostile:
    """Pickles into a call of `function(*args)`."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("function", [os.mkdir, eval, np.savetxt], ids=["os", "builtin", "numpy"])
def test_hostile_pickle_runs_nothing(tmp_path: Path, function: Any, protocol: int) -> None:
    folder = write_cifar(tmp_path)
    trace = tmp_path / "trace"
    arguments = {os.mkdir: (str(trace),), eval: (f"open({str(trace)!r}, 'w')",), np.savetxt: (str(trace), [1])}
    content = {b"data": Hostile(function, *arguments[function]), b"labels": [1]}
    (folder / "data_batch_1").write_bytes(pickle.dumps(content, protocol=protocol))
    with pytest.raises(DataError, match=r"data_batch_1: refused.*it asks for '.*', which no CIFAR-10 batch needs"):
        load(folder)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"cnumpy\ndtype\nU\x01O\x85R.", "array of type 'O'"),
        (b"c_codecs\nencode\n(U\x01aU\x04rot_tR.", "another encoding"),
        (b"cnumpy\nndarray\n}U\x01aK\x01sb.", "sets the state"),
        (b"cnumpy\nndarray\nN}U\x0c__defaults__K\x01s\x86b.", "sets the state"),
        (b"U\x01aQ.", "outside the file"),
        (b"Nr\xff\xff\xff\x7f.", "memo index"),
        (b"cnumpy\nndarray\n)\x81.", "truncated or not"),
    ],
)
def test_misuse_of_admitted_globals_is_refused(tmp_path: Path, stream: bytes, reason: str) -> None:
    file = tmp_path / "data_batch_1"
    file.write_bytes(b"\x80\x02" + stream)
    with pytest.raises(DataError, match=f"data_batch_1: .*{reason}"):
        load_batch_pickle(file)


def test_damaged_pickles_never_raise_anything_else(tmp_path: Path) -> None:
    file = tmp_path / "data_batch_1"
    whole = pickle.dumps({b"data": np.zeros((1, 8), np.uint8), b"labels": [1, 2]}, protocol=2)
    for end in range(len(whole)):
        file.write_bytes(whole[:end])
        with pytest.raises(DataError, match="truncated or not a CIFAR-10 batch"):
            load_batch_pickle(file)
    chance = random.Random(0)
    for _ in range(400):
        mutated = bytearray(whole)
        mutated[chance.randrange(len(mutated))] = chance.randrange(256)
        file.write_bytes(bytes(mutated))
        try:
            assert isinstance(load_batch_pickle(file), dict)
        except DataError as error:
            assert "data_batch_1" in str(error)


ROWS = cifar_rows(2)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1, 2], "holds a list, not a dictionary"),
        ({b"labels": [1]}, "has no 'data'"),
        ({b"data": ROWS}, "has no 'labels'"),
        ({b"data": ROWS.astype(np.float32), b"labels": [1, 2]}, r"'data' is \(2, 3072\) float32"),
        ({b"data": ROWS[:, :100], b"labels": [1, 2]}, r"'data' is \(2, 100\) uint8"),
        ({b"data": b"text", b"labels": [1, 2]}, "'data' is a bytes"),
        ({b"data": ROWS, b"labels": [1]}, "has 1 labels for 2 images"),
        ({b"data": ROWS, b"labels": [1, 10]}, r"outside CIFAR-10's 0\.\.9"),
        ({b"data": ROWS, b"labels": [1, 1 << 70]}, "beyond 64 bits"),
        ({b"data": ROWS, b"labels": ["cat", "dog"]}, "a list of integers is expected"),
        ({b"data": ROWS[:0], b"labels": []}, "holds no image"),
    ],
)
def test_cifar_files_with_other_contents(tmp_path: Path, content: Any, reason: str) -> None:
    folder = write_cifar(tmp_path)
    (folder / "data_batch_2").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=f"data_batch_2: .*{reason}"):
        load(folder)


def test_labels_beyond_the_classes_and_too_few_images(tmp_path: Path) -> None:
    folder = write_cifar(tmp_path)
    with pytest.raises(DataError, match=r"label 4 is outside 0\.\.2, the network has 3 classes"):
        load(folder, classes=3)
    with pytest.raises(DataError, match="holds 7 images, fewer than the 8 asked for"):
        load(folder, 8)


def write_npz(path: Path, size: tuple[int, ...] = (6, 8, 8, 3), labels: Any = (0, 1, 2, 0, 1, 2)) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    np.savez(path, images=pixels, labels=np.array(labels))
    return path


def test_npz_is_normalised_by_its_own_statistics(tmp_path: Path) -> None:
    batch = load(write_npz(tmp_path / "a.npz"), 6, shape=(3, 8, 8), classes=3)
    torch.testing.assert_close(batch.images.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(batch.images.std((0, 2, 3), unbiased=False), torch.ones(3))
    assert batch.source == "npz a.npz, 6 of 6 images"


@pytest.mark.parametrize(("have", "want"), [(3, 3), (1, 3), (3, 1)])
def test_images_are_resized_and_recoloured(tmp_path: Path, have: int, want: int) -> None:
    batch = load(write_npz(tmp_path / "a.npz", (6, 9, 5, have)), 2, shape=(want, 16, 12))
    assert batch.images.shape == (2, want, 16, 12)
    if have == 1:
        torch.testing.assert_close(batch.images[:, 0], batch.images[:, 2])


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"pictures": np.zeros(3)}, r"has no array 'images' \(it holds pictures\)"),
        ({"images": np.zeros((2, 4, 4, 3), np.uint8)}, "has no array 'labels'"),
        ({"images": np.zeros((2, 4, 4, 3)), "labels": np.zeros(2, int)}, r"'images' is \(2, 4, 4, 3\) float64"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.zeros(2, int)}, r"\(N, H, W, C\) uint8 is expected"),
        ({"images": np.zeros((2, 4, 4, 3), np.uint8), "labels": np.zeros(2)}, r"'labels' is \(2,\) float64"),
        ({"images": np.zeros((2, 4, 4, 3), np.uint8), "labels": np.zeros(3, int)}, "has 3 labels for 2 images"),
        ({"images": np.zeros((2, 4, 4, 3), np.uint8), "labels": np.array([0, -1])}, r"label -1 is outside 0\.\.9"),
        ({"images": np.zeros((2, 4, 4, 5), np.uint8), "labels": np.zeros(2, int)}, "5 channels, the network takes 3"),
        ({"images": np.array([{}], object), "labels": np.zeros(1, int)}, "not an .npz of plain arrays"),
    ],
)
def test_npz_with_other_contents(tmp_path: Path, arrays: dict[str, Any], reason: str) -> None:
    file = tmp_path / "bad.npz"
    np.savez(file, allow_pickle=True, **arrays)
    with pytest.raises(DataError, match=f"bad.npz: .*{reason}"):
        load(file)


@pytest.mark.parametrize(
    "content", [b"", b"junk", pickle.dumps([1]), b"PK\x03\x04 cut"], ids=["0", "junk", "pickle", "zip"]
)
def test_broken_npz(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "bad.npz"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.npz: is damaged or not an \.npz"):
        load(file)


def test_constant_channels_become_zero(tmp_path: Path) -> None:
    images = np.full((6, 30, 30, 3), 77, np.uint8)
    images[..., 0] = np.arange(30)
    np.savez(tmp_path / "flat.npz", images=images, labels=np.arange(6))
    found = load(tmp_path / "flat.npz").images  # resized, which rounds
    assert not found[:, 1:].any() and found[:, 0].std() == pytest.approx(1, abs=1e-3)


def test_npz_that_unpacks_to_too_much(tmp_path: Path) -> None:
    path = write_bomb(tmp_path / "images.npz", "images.npy")
    with pytest.raises(DataError, match=r"images\.npz: refused: it unpacks to 3\.0 GiB; at most 2\.0 GiB are read"):
        load(path)


def test_batches_that_are_too_large(tmp_path: Path) -> None:
    with (write_cifar(tmp_path) / "data_batch_1").open("r+b") as file:
        file.truncate((256 << 20) + 1)
    with pytest.raises(DataError, match=r"data_batch_1: is larger than 256 MiB, so it is not a CIFAR-10 batch"):
        load(tmp_path)


def test_truncated_npz(tmp_path: Path) -> None:
    file = write_npz(tmp_path / "cut.npz")
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"cut\.npz: is damaged"):
        load(file)


def write_images(root: Path) -> Path:
    for label, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for number in range(3):
            mode, value = ("L", 40 * number) if number == 0 else ("RGB", (90 * label, 20 * number, 7))
            Image.new(mode, (10 + number, 8), value).save(root / name / f"{number}.png")
    (root / "readme.txt").write_text("no image")
    return root


def test_image_folder(tmp_path: Path) -> None:
    batch = load(write_images(tmp_path / "pets"), 6, shape=(3, 16, 16), classes=2)
    assert batch.images.shape == (6, 3, 16, 16) and batch.images.isfinite().all()
    assert sorted(batch.labels.tolist()) == [0, 0, 0, 1, 1, 1]
    assert batch.source == "image folder pets, 6 of 6 images"


def test_image_folder_errors(tmp_path: Path) -> None:
    root = write_images(tmp_path / "pets")
    with pytest.raises(DataError, match=r"pets: label 1 is outside 0\.\.0"):
        load(root, classes=1)
    for file in root.glob("*/*.png"):
        file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(DataError, match=r"\.png: is not a readable image"):
        load(root, classes=2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: holds no images"):
        load(tmp_path / "empty")


def test_paths_that_are_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: there is no such file or folder"):
        load(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"notes\.txt: is neither a folder"):
        load(tmp_path / "notes.txt")
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(DataError, match=r"has none of the files data_batch_1 \.\. data_batch_5"):
        load(tmp_path)


def test_arguments_out_of_range() -> None:
    with pytest.raises(ArgumentError, match="'count': 0 images"):
        load(None, 0)
    with pytest.raises(ArgumentError, match="'classes': -1 classes"):
        load(None, classes=-1)
    with pytest.raises(ArgumentError, match="'shape'"):
        load(None, shape=(3, 0, 32))
