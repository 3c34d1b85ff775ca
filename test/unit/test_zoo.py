"""The zoo: published sizes, shapes, and networks that run."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from loopmorph.pipelines.zoo import ZOO

PARAMETERS = {
    "resnet18": 11_173_962,
    "resnet34": 21_282_122,
    "resnext29_2x64d": 9_128_778,
    "densenet161": 26_482_378,
    "vgg11": 9_240_970,
    "mobilenet": 3_217_226,
    "resnet8_digits": 1_226_442,
    "resnet18_i": 11_689_512,
    "resnet34_i": 21_797_672,
    "densenet161_i": 28_681_000,
    "densenet169_i": 14_149_480,
    "densenet201_i": 20_013_928,
    "vit_tiny": 5_717_416,
    "deit_small": 22_050_664,
    "vit_cifar": 2_693_578,
    "mixer_small": 18_528_264,
    "convnext_atto": 3_695_520,
    "bert_tiny": 4_320_258,
    "bert_base_2": 37_718_018,
    "gpt2_small": 52_872_960,
}
IMAGENET = ("vit_tiny", "deit_small", "mixer_small", "convnext_atto")


def without_weights(name: str) -> nn.Module:
    with torch.device("meta"):
        return ZOO[name].factory()


@pytest.mark.parametrize("name", ZOO)
def test_parameter_counts_and_logits(name: str) -> None:
    model = without_weights(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]
    logits = model(*inputs(name))
    assert logits.shape == ((2, 128, 50257) if name == "gpt2_small" else (2, ZOO[name].classes))


def inputs(name: str) -> list[torch.Tensor]:
    return [x.to("meta") for x in ZOO[name].example(0, 2)]


@pytest.mark.parametrize("name", [name for name in ZOO if not ZOO[name].words])
def test_shapes_follow_the_stem(name: str) -> None:
    shapes = {"i": (3, 224, 224), "digits": (1, 16, 16)}
    if name in IMAGENET:
        shapes[name.rpartition("_")[2]] = (3, 224, 224)
    assert ZOO[name].input_shape == shapes.get(name.rpartition("_")[2], (3, 32, 32))


@pytest.mark.parametrize("name", ["resnet18", "resnext29_2x64d", "vgg11", "mobilenet", "resnet8_digits"])
def test_real_forward(name: str) -> None:
    logits = ZOO[name].factory()(torch.randn(2, *ZOO[name].input_shape))
    assert logits.shape == (2, 10) and logits.isfinite().all()


@pytest.mark.parametrize("name", ZOO)
def test_every_parameter_is_used(name: str) -> None:
    model = without_weights(name)
    model(*inputs(name)).sum().backward()
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []


def test_texts_are_tokens_and_a_mask() -> None:
    tokens, mask = ZOO["bert_tiny"].example(0, 2)
    assert tokens.shape == mask.shape == (2, 128) and tokens.dtype == mask.dtype == torch.int64
    assert tokens.max() < 30522 and mask.sum(1).tolist() == [96, 96]


def test_layer_names() -> None:
    names = dict(without_weights("resnet18").named_modules())
    assert {"conv1", "bn1", "layer1.0.conv1", "layer2.0.shortcut.0", "layer4.1.bn2", "linear"} <= names.keys()
    assert "features.0.0.conv1" in dict(without_weights("densenet161").named_modules())


def test_vgg_has_biases_and_flattens_a_map() -> None:
    model = without_weights("vgg11")
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 8 and all(module.bias is not None for module in convolutions)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert model.get_submodule("features")(torch.empty(1, 3, 32, 32, device="meta")).shape == (1, 512, 2, 2)


def test_mobilenet_is_depthwise_separable() -> None:
    convolutions = [module for module in without_weights("mobilenet").modules() if isinstance(module, nn.Conv2d)]
    assert sum(module.groups == module.in_channels for module in convolutions) == 13
