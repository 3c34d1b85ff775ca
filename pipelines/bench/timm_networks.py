"""The networks of `bench --suite timm`, and timm itself, also where torchvision is missing or does not work.

timm's architectures need nothing of torchvision; only its imports do.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.ingress.models import LoadedModel
from loopmorph.pipelines.support.extras import require_extra
from loopmorph.pipelines.support.foreign import describe

IMAGE = 224  # pixels of a side

CNN, MIXER, TRANSFORMER = "cnn", "mixer", "transformer"
_OF_KIND = {
    CNN: (
        *("resnet18", "resnet34", "resnet50", "resnext50_32x4d", "seresnet18", "skresnet18", "res2net50_26w_4s"),
        *("cspresnet50", "densenet121", "dla34", "dpn48b", "inception_v3", "legacy_xception", "vgg11_bn"),
        *("regnety_002", "repvgg_a0", "rexnet_100", "ghostnet_100", "mobilenetv2_100", "mobilenetv3_small_100"),
        *("mobilenetv3_large_100", "mobilenetv4_conv_small", "mnasnet_100", "efficientnet_b0", "efficientnet_lite0"),
        *("hardcorenas_a", "ese_vovnet19b_dw", "hrnet_w18_small", "eca_nfnet_l0", "convnext_tiny"),
    ),
    MIXER: ("mixer_s16_224", "resmlp_12_224", "gmlp_s16_224", "poolformer_s12"),
    TRANSFORMER: (
        *("vit_tiny_patch16_224", "deit_small_patch16_224", "levit_128s", "swin_tiny_patch4_window7_224"),
        *("pvt_v2_b0", "efficientformer_l1"),
    ),
}
NETWORKS: dict[str, str] = {name: kind for kind, names in _OF_KIND.items() for name in names}  # name -> kind

_OF_TORCHVISION = (
    *("torchvision", "torchvision.ops", "torchvision.ops.misc", "torchvision.transforms"),
    *("torchvision.transforms.functional", "torchvision.datasets"),
)


def require_timm(argument: str) -> None:
    """Makes sure that timm is there.

    Args:
        argument: what asked for it.

    Raises:
        ArgumentError: timm is not installed.
    """
    require_extra(argument, "timm", "peers", "its networks are timm's, which is not installed")


def load_network(name: str, *, batch: int, seed: int) -> LoadedModel:
    """Builds one of timm's networks with fresh weights, and images for it.

    Args:
        name: as timm knows it.
        batch: how many images.
        seed: of weights and images.

    Returns:
        The network in eval mode with one input, (batch, 3, 224, 224) float32.

    Raises:
        ArgumentError: timm is not installed, cannot be imported, or does not make a network of that name.
    """
    require_timm("suite")
    try:
        timm = import_timm()
    except Exception as error:  # what is installed may be broken in any way
        raise ArgumentError("suite", f"timm cannot be imported: {describe(error)}") from error
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = timm.create_model(name, pretrained=False).eval()
    except Exception as error:  # foreign code
        raise ArgumentError("networks", f"timm {timm.__version__} does not make '{name}': {describe(error)}") from error
    images = torch.randn((batch, 3, IMAGE, IMAGE), generator=torch.Generator().manual_seed(seed))
    return LoadedModel(name, model, (images,), None)


def import_timm() -> Any:
    """The module timm.

    Where nobody has imported torchvision, an empty one stands in for it while timm is imported, and goes away again.
    timm keeps classes of it (a BatchNorm that it looks for in models) and could not read image folders: this is for
    processes that look at its networks alone.

    Raises:
        ImportError: timm is not installed.
    """
    if "timm" in sys.modules or "torchvision" in sys.modules:
        return importlib.import_module("timm")
    with empty_torchvision():
        return importlib.import_module("timm")


@contextmanager
def empty_torchvision() -> Iterator[None]:
    """Within it `import torchvision` finds modules of which every name is an empty class."""
    for name in _OF_TORCHVISION:
        sys.modules[name] = _Empty(name)
        sys.modules[name].__path__ = []
        parent, _, own = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], own, sys.modules[name])
    try:
        yield
    finally:
        for name in _OF_TORCHVISION:
            del sys.modules[name]


class _Anything(type):
    """A class that has every attribute, since timm's transforms look some up as they are imported."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _Empty(ModuleType):
    """A module of which every name is an empty class."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (nn.Module,), {})
