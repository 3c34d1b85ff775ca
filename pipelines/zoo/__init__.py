"""The networks that the figures are quoted on, by name.

CIFAR networks take 3x32x32 images and tell 10 classes apart; those whose name ends in `_i` have the ImageNet stem,
take 3x224x224 and tell 1000 apart. `resnet8_digits` is for the 1x16x16 images of `pipelines/data/digits.py`.
Of the transformers `vit_cifar` is for 32x32 images; `bert_tiny`, `bert_base_2` (two of BERT-base's blocks) and
`gpt2_small` (two of GPT-2's) take 128 integer tokens, the others 224x224 images.
Beside them stands each cell of NAS-Bench-201, as `nasbench201:|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.zoo.convnext import ConvNeXt
from loopmorph.pipelines.zoo.densenet import DenseNet
from loopmorph.pipelines.zoo.mixer import Mixer
from loopmorph.pipelines.zoo.mobilenet import MobileNet
from loopmorph.pipelines.zoo.nasbench201 import FORM, INPUT_SHAPE, nasbench201, parse_architecture
from loopmorph.pipelines.zoo.resnet import ResNet, ResNeXt
from loopmorph.pipelines.zoo.text import TextDecoder, TextEncoder
from loopmorph.pipelines.zoo.vgg import VGG
from loopmorph.pipelines.zoo.vit import VisionTransformer

__all__ = [
    "CELL",
    "NAMES",
    "VGG",
    "ZOO",
    "ConvNeXt",
    "DenseNet",
    "Mixer",
    "MobileNet",
    "ResNeXt",
    "ResNet",
    "TextDecoder",
    "TextEncoder",
    "VisionTransformer",
    "ZooEntry",
    "is_in_zoo",
    "zoo_entry",
]

CIFAR_SHAPE = (3, 32, 32)
IMAGENET_SHAPE = (3, 224, 224)
DIGITS_SHAPE = (1, 16, 16)
LENGTH = 128  # of a text, in tokens
BERT_WORDS, GPT2_WORDS = 30522, 50257


@dataclass(frozen=True)
class ZooEntry:
    """One network of the zoo.

    Attributes:
        factory: builds the network with fresh weights from the global random generator.
        input_shape: (C, H, W) of one image, (tokens,) of a text.
        classes: number of logits; 0 for a network that gives some for each token.
        words: how many tokens there are; 0 of images.
        masked: whether the network takes a mask of the tokens as well, int64 like these.
    """

    factory: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    classes: int
    words: int = 0
    masked: bool = False

    def example(self, seed: int, count: int = 1) -> tuple[torch.Tensor, ...]:
        """Random inputs: images (count, C, H, W), or int64 tokens (count, tokens), with a mask that hides a quarter."""
        generator, shape = torch.Generator().manual_seed(seed), (count, *self.input_shape)
        if not self.words:
            return (torch.randn(shape, generator=generator),)
        tokens = torch.randint(self.words, shape, generator=generator)
        mask = (torch.arange(shape[1]) < shape[1] - shape[1] // 4).long().repeat(count, 1)
        return (tokens, mask) if self.masked else (tokens,)


def _cifar(factory: Callable[..., nn.Module]) -> ZooEntry:
    return ZooEntry(partial(factory, classes=10), CIFAR_SHAPE, 10)


def _imagenet(factory: Callable[..., nn.Module]) -> ZooEntry:
    return ZooEntry(partial(factory, classes=1000, imagenet_stem=True), IMAGENET_SHAPE, 1000)


def _vit(size: int, patch: int, features: int, depth: int, heads: int, classes: int) -> ZooEntry:
    factory = partial(VisionTransformer, size, patch, features, depth, heads, classes=classes)
    return ZooEntry(factory, (3, size, size), classes)


_RESNET18 = partial(ResNet, (2, 2, 2, 2))
_RESNET34 = partial(ResNet, (3, 4, 6, 3))
_RESNET8 = partial(ResNet, (1, 1, 1), widths=(64, 128, 256), channels=1)
_DENSENET161 = partial(DenseNet, (6, 12, 36, 24), 48)
_DENSENET169 = partial(DenseNet, (6, 12, 32, 32), 32)
_DENSENET201 = partial(DenseNet, (6, 12, 48, 32), 32)

ZOO: dict[str, ZooEntry] = {
    "resnet18": _cifar(_RESNET18),
    "resnet34": _cifar(_RESNET34),
    "resnext29_2x64d": _cifar(partial(ResNeXt, cardinality=2, width=64)),
    "densenet161": _cifar(_DENSENET161),
    "vgg11": _cifar(VGG),
    "mobilenet": _cifar(MobileNet),
    "resnet8_digits": ZooEntry(partial(_RESNET8, classes=10), DIGITS_SHAPE, 10),
    "resnet18_i": _imagenet(_RESNET18),
    "resnet34_i": _imagenet(_RESNET34),
    "densenet161_i": _imagenet(_DENSENET161),
    "densenet169_i": _imagenet(_DENSENET169),
    "densenet201_i": _imagenet(_DENSENET201),
    "vit_tiny": _vit(224, 16, 192, 12, 3, 1000),
    "deit_small": _vit(224, 16, 384, 12, 6, 1000),
    "vit_cifar": _vit(32, 4, 192, 6, 3, 10),
    "mixer_small": ZooEntry(partial(Mixer, 224, 16, 512, 8, classes=1000), IMAGENET_SHAPE, 1000),
    "convnext_atto": ZooEntry(partial(ConvNeXt, (2, 2, 6, 2), (40, 80, 160, 320), classes=1000), IMAGENET_SHAPE, 1000),
    "bert_tiny": ZooEntry(
        partial(TextEncoder, BERT_WORDS, LENGTH, 128, 2, 2, classes=2), (LENGTH,), 2, BERT_WORDS, masked=True
    ),
    "bert_base_2": ZooEntry(
        partial(TextEncoder, BERT_WORDS, LENGTH, 768, 2, 12, classes=2), (LENGTH,), 2, BERT_WORDS, masked=True
    ),
    "gpt2_small": ZooEntry(partial(TextDecoder, GPT2_WORDS, LENGTH, 768, 2, 12), (LENGTH,), 0, GPT2_WORDS),
}

CELL = "nasbench201:"  # what the cell follows
NAMES = (*ZOO, f"{CELL}{FORM}")  # for messages


def is_in_zoo(name: str) -> bool:
    """Whether a name is one of `ZOO`, or of a cell (which may turn out to be malformed)."""
    return name in ZOO or name.startswith(CELL)


def zoo_entry(name: str) -> ZooEntry | None:
    """The network of a name; None where it is not of the zoo.

    Args:
        name: one of `ZOO`, or `nasbench201:` and a cell (see `parse_architecture`), which tells 10 classes apart.

    Raises:
        ArgumentError: a malformed cell; names the fault and what is accepted.
    """
    if not name.startswith(CELL):
        return ZOO.get(name)
    architecture = name.removeprefix(CELL)
    try:
        parse_architecture(architecture)
    except ArgumentError as error:
        raise ArgumentError("model", f"{CELL} {error.message}") from error
    return ZooEntry(partial(nasbench201, architecture), INPUT_SHAPE, 10)
