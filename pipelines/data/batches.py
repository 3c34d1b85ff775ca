"""Labelled minibatches: of CIFAR-10 python batches, image folders, `.npz` files, or synthetic ones."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.pipelines.data.safe_pickle import load_batch_pickle
from loopmorph.pipelines.support.archives import TooLarge, check_unpacked
from loopmorph.pipelines.support.numbers import check_seed, check_size

# Per-channel mean and standard deviation of CIFAR-10's training images on the [0, 1] scale.
CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2470, 0.2435, 0.2616)

_LEAST_DEVIATION = 1e-6  # of a channel that is more than constant
_CIFAR_FOLDER = "cifar-10-batches-py"
_CIFAR_BATCH = "data_batch_[1-5]"
_CIFAR_TEST = "test_batch"
_TRAIN, _TESTS = "train", ("test", "val")
_IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
_BROKEN_NPZ = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, struct.error, MemoryError)


@dataclass(frozen=True)
class Batch:
    """One labelled minibatch.

    Attributes:
        images: (N, C, H, W) float32. Pixels are scaled to [0, 1], then each channel is normalised: CIFAR-10 by the
            data set's mean and standard deviation, other images by those of the batch itself (all its pixels).
        labels: (N,) int64 in [0, classes); for a loss of the user's, whatever that takes.
        classes: number of classes that the network tells apart; 0 where it tells none apart.
        source: where the images come from, in one line for the report.
    """

    images: torch.Tensor
    labels: Any
    classes: int
    source: str


@dataclass(frozen=True)
class Pool:
    """All images of a data set, each read when it is chosen.

    Attributes:
        where: the file or folder.
        kind: the data set's name in a report.
        labels: (N,), one an image; of other shapes for a loss of the user's.
        read: gives image i as (H, W, C) uint8.
        statistics: the mean and the deviation of each channel by which all are normalised; None where there are none.
        shape: (C, H, W) of all images; None where each is a file with a size of its own.
    """

    where: Path
    kind: str
    labels: np.ndarray[Any, Any]
    read: Callable[[int], np.ndarray[Any, Any]]
    statistics: tuple[Sequence[float], Sequence[float]] | None = None
    shape: tuple[int, int, int] | None = None


def load_batch(
    path: str | Path | None, *, count: int, shape: tuple[int, int, int], classes: int, seed: int = 0
) -> Batch:
    """Reads `count` labelled images, or makes a synthetic batch when there is no data.

    The choice among a data set's images is a function of `seed` alone; a larger batch begins with the smaller one.
    Images of another size are resized (bilinear, antialiased); grey images become RGB, or RGB ones grey where the
    network takes one channel.

    Args:
        path: a CIFAR-10 python-batches folder (or the folder that contains it), a folder with one sub-folder of image
            files for each class, an `.npz` with `images` (N, H, W, C uint8) and `labels` (N integers), or None.
        count: number of images N.
        shape: the network's input, (C, H, W).
        classes: number of classes; every label of the data set has to be below it.
        seed: chooses the images.

    Returns:
        The batch, on the CPU.

    Raises:
        ArgumentError: `count`, `shape` or `classes` is not positive, or a batch of them is too large.
        DataError: a path that is missing, damaged, of another format or unsafe to read, has wrong shapes, types or
            labels, or holds fewer than `count` images. The message begins with the file's name.
    """
    _check_arguments(count, shape, classes)
    check_seed(seed)
    if path is None:
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn((count, *shape), generator=generator)
        labels = torch.randint(classes, (count,), generator=generator)
        return Batch(images, labels, classes, "synthetic: no --data was given")
    pool = open_pool(Path(path))
    check_labels(pool, classes)
    return _drawn(pool, count, shape, seed, classes)


def load_targets(path: str | Path | None, *, count: int, shape: tuple[int, int, int], seed: int = 0) -> Batch:
    """Reads `count` images with targets for a loss of the user's; synthetic images have None for targets.

    Args:
        path, count, shape, seed: see `load_batch`; the labels of an `.npz` may have any shape (N, ...) and number type.

    Raises:
        ArgumentError, DataError: as `load_batch`; but any label will do.
    """
    _check_arguments(count, shape, 1)
    check_seed(seed)
    if path is None:
        images = torch.randn((count, *shape), generator=torch.Generator().manual_seed(seed))
        return Batch(images, None, 0, "synthetic images without targets: no --data was given")
    return _drawn(open_pool(Path(path), any_labels=True), count, shape, seed, 0)


def load_images(path: str | Path | None, *, count: int, shape: tuple[int, int, int], seed: int = 0) -> torch.Tensor:
    """Up to `count` images without labels, as many as there are: (N, C, H, W) float32, as `load_targets` has them.

    Raises:
        ArgumentError, DataError: as `load_targets`; but a set may hold fewer images.
    """
    if path is None:
        return load_targets(None, count=count, shape=shape, seed=seed).images
    _check_arguments(count, shape, 1)
    check_seed(seed)
    pool = open_pool(Path(path), any_labels=True)
    return read_batch(pool, shuffled(pool, seed)[:count], shape).images


def _drawn(pool: Pool, count: int, shape: tuple[int, int, int], seed: int, classes: int) -> Batch:
    total = len(pool.labels)
    if count > total:
        raise DataError(f"{pool.where}: holds {total} images, fewer than the {count} asked for")
    return read_batch(pool, shuffled(pool, seed)[:count], shape, classes)


def shuffled(pool: Pool, seed: int) -> list[int]:
    """The indices of a pool's images in an order that is a function of their number and of `seed` alone."""
    return torch.randperm(len(pool.labels), generator=torch.Generator().manual_seed(seed)).tolist()


def read_batch(pool: Pool, chosen: Sequence[int], shape: tuple[int, int, int], classes: int = 0) -> Batch:
    """Some images of a pool, at least one, as a minibatch of a shape (C, H, W).

    Raises:
        DataError: an image is damaged, or has another number of channels.
    """
    images = torch.cat([fit_image(pool.read(index), shape, pool.where) for index in chosen])
    labels = torch.from_numpy(pool.labels[list(chosen)])
    if not labels.is_floating_point() and labels.dtype is not torch.bool:
        labels = labels.long()
    source = f"{pool.kind}, {len(chosen)} of {len(pool.labels)} images"
    return Batch(_normalise(images, pool), labels, classes, source)


def _check_arguments(count: int, shape: tuple[int, int, int], classes: int) -> None:
    if count < 1:
        raise ArgumentError("count", f"{count} images were asked for; at least 1 is needed")
    check_shape(shape, classes)
    check_size("count", (count, *shape), "a batch")


def check_shape(shape: tuple[int, int, int], classes: int) -> None:
    """Raises:
    ArgumentError: `shape` or `classes` is not positive.
    """
    if classes < 1:
        raise ArgumentError("classes", f"{classes} classes were given; at least 1 is needed")
    if len(shape) != 3 or min(shape) < 1:
        raise ArgumentError("shape", f"{tuple(shape)} is not a (channels, height, width) of positive numbers")


def check_labels(pool: Pool, classes: int) -> None:
    """Raises:
    DataError: a label is outside of 0 .. classes - 1.
    """
    low, high = int(pool.labels.min()), int(pool.labels.max())
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        raise DataError(f"{pool.where}: label {wrong} is outside 0..{classes - 1}, the network has {classes} classes")


def open_pool(path: Path, any_labels: bool = False) -> Pool:
    """Finds out what a path holds, and reads its labels; of a data set in parts, those of the training part.

    Args:
        path: see `load_batch`; an image folder may also have a folder `train` with the classes' sub-folders in it.
        any_labels: see `load_targets`.

    Raises:
        DataError: see `load_batch`.
    """
    if path.is_dir():
        for folder in (path, path / _CIFAR_FOLDER):
            if folder.is_dir() and (folder.name == _CIFAR_FOLDER or any(folder.glob(_CIFAR_BATCH))):
                return _open_cifar(folder)
        return _open_folder(path / _TRAIN if _is_in_parts(path) else path)
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder")
    if path.suffix.lower() == ".npz":
        return _open_npz(path, any_labels)
    raise DataError(f"{path}: is neither a folder (CIFAR-10 python batches, image folder) nor an .npz file")


def open_test_pool(train: Pool) -> Pool | None:
    """The test part that a data set has beside its training part; None where it has none.

    Raises:
        DataError: it is damaged, or has other classes.
    """
    if (train.where / _CIFAR_TEST).is_file():
        return _cifar_pool(train.where, [train.where / _CIFAR_TEST])
    if train.where.is_dir() and train.where.name == _TRAIN and _is_in_parts(train.where.parent):
        folder = next(folder for name in _TESTS if (folder := train.where.parent / name).is_dir())
        names, expected = ([entry.name for entry in _class_folders(each)] for each in (folder, train.where))
        if names != expected:
            odd = sorted(set(names) ^ set(expected))[0]
            raise DataError(f"{folder}: its classes differ from those of {train.where}: '{odd}' is in one of them only")
        return _open_folder(folder)
    return None


def _is_in_parts(folder: Path) -> bool:
    """Whether the sub-folders are parts of a data set, each with a sub-folder for each class, and no classes."""
    train = folder / _TRAIN
    has_test = any((folder / name).is_dir() for name in _TESTS)
    return has_test and train.is_dir() and bool(_class_folders(train)) and not _image_files(train)


def _open_cifar(folder: Path) -> Pool:
    files = sorted(folder.glob(_CIFAR_BATCH))
    if not files:
        raise DataError(f"{folder}: has none of the files data_batch_1 .. data_batch_5")
    return _cifar_pool(folder, files)


def _cifar_pool(folder: Path, files: Sequence[Path]) -> Pool:
    parts = [_read_cifar_file(file) for file in files]
    rows = np.concatenate([data for data, _ in parts]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([labels for _, labels in parts])
    return Pool(
        where=folder,
        kind="CIFAR-10 python batches",
        labels=labels,
        read=lambda index: rows[index].transpose(1, 2, 0),
        statistics=(CIFAR_MEAN, CIFAR_STD),
        shape=(3, 32, 32),
    )


def _read_cifar_file(file: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    content = load_batch_pickle(file)
    missing = [key for key in ("data", "labels") if key not in content]
    if missing:
        raise DataError(f"{file}: is not a CIFAR-10 batch: it has no '{missing[0]}'")
    data = content["data"]
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
        raise DataError(f"{file}: 'data' is {_describe(data)}; (N, 3072) uint8 is expected")
    labels = _label_array(content["labels"], len(data), file)
    if labels.min() < 0 or labels.max() > 9:
        raise DataError(f"{file}: 'labels' are outside CIFAR-10's 0..9")
    return data, labels


def _label_array(labels: Any, images: int, file: Path) -> np.ndarray[Any, Any]:
    """The labels as one integer an image, checked."""
    if isinstance(labels, list) and all(type(label) is int for label in labels):
        try:
            labels = np.array(labels, dtype=np.int64)
        except OverflowError as error:
            raise DataError(f"{file}: 'labels' holds a number beyond 64 bits") from error
    if not isinstance(labels, np.ndarray) or labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"{file}: 'labels' is {_describe(labels)}; a list of integers is expected")
    if len(labels) != images:
        raise DataError(f"{file}: has {len(labels)} labels for {images} images")
    if images == 0:
        raise DataError(f"{file}: holds no image")
    return labels


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.shape} {value.dtype}"
    return f"a {type(value).__name__}"


def _open_npz(file: Path, any_labels: bool) -> Pool:
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as content:
                check_unpacked(content)
        with np.load(file, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(f"{file}: is not an .npz archive")
            missing = [key for key in ("images", "labels") if key not in archive]
            if missing:
                names = ", ".join(archive.files) or "nothing"
                raise DataError(f"{file}: has no array '{missing[0]}' (it holds {names})")
            images, labels = archive["images"], archive["labels"]
    except TooLarge as error:
        raise DataError(f"{file}: refused: {error}; a folder of images can be larger") from error
    except _BROKEN_NPZ as error:
        raise DataError(f"{file}: is damaged or not an .npz of plain arrays: {error}") from error
    if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape[1:]:
        raise DataError(f"{file}: 'images' is {_describe(images)}; (N, H, W, C) uint8 is expected")
    if not any_labels:
        labels = _label_array(labels, len(images), file)
    elif labels.dtype.kind not in "iufb" or labels.ndim < 1 or len(labels) != len(images) or len(images) == 0:
        raise DataError(
            f"{file}: 'labels' is {_describe(labels)}; numbers for each of {len(images)} images are expected"
        )
    _, height, width, channels = images.shape
    return Pool(
        where=file,
        kind=f"npz {file.name}",
        labels=labels,
        read=lambda index: images[index],
        shape=(channels, height, width),
    )


def _open_folder(folder: Path) -> Pool:
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(_class_folders(folder)):
        images = _image_files(name)
        files += images
        labels += [label] * len(images)
    if not files:
        raise DataError(
            f"{folder}: holds no images; CIFAR-10 python batches or one sub-folder of image files for each class "
            "are expected"
        )
    return Pool(
        where=folder,
        kind=f"image folder {folder.resolve().name}",
        labels=np.array(labels, dtype=np.int64),
        read=lambda index: _read_image(files[index]),
    )


def _class_folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _image_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in _IMAGE_SUFFIXES and file.is_file())


def _read_image(file: Path) -> np.ndarray[Any, Any]:
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB"))
    except _UNREADABLE as error:
        raise DataError(f"{file}: is not a readable image: {error}") from error


def fit_image(image: np.ndarray[Any, Any], shape: tuple[int, int, int], where: Path) -> torch.Tensor:
    """(H, W, C) uint8 -> (1, C', H', W') float32 in [0, 1] of the wanted shape."""
    channels, height, width = shape
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    have = pixels.shape[1]
    if have == 1 and channels == 3:
        pixels = pixels.expand(-1, 3, -1, -1)
    elif have == 3 and channels == 1:
        luma = torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)  # ITU-R BT.601
        pixels = (pixels * luma).sum(1, keepdim=True)
    elif have != channels:
        raise DataError(f"{where}: images have {have} channels, the network takes {channels}")
    if tuple(pixels.shape[2:]) != (height, width):
        pixels = F.interpolate(pixels, size=(height, width), mode="bilinear", antialias=True)
    return pixels


def _normalise(images: torch.Tensor, pool: Pool) -> torch.Tensor:
    if pool.statistics is not None and images.shape[1] == 3:
        mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in pool.statistics)
    else:
        mean = images.mean(dim=(0, 2, 3), keepdim=True)
        std = images.std(dim=(0, 2, 3), keepdim=True, unbiased=False)
        std = std.where(std >= _LEAST_DEVIATION, torch.inf)  # a constant channel becomes 0, not its rounding errors
    return (images - mean) / std
