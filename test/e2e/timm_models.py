"""timm's models, also where torchvision is missing: its architectures need none of it, only its imports do."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import nn

# The smallest of each of the families, for what is to be seen is operators and structures, not sizes.
ARCHITECTURES = (
    *("resnet10t", "resnext26ts", "seresnet33ts", "resnest14d", "res2net50_14w_8s", "skresnet18", "ecaresnet26t"),
    *(
        "densenet121",
        "dla34",
        "dpn48b",
        "hrnet_w18_small",
        "vovnet39a",
        "ese_vovnet19b_dw",
        "cspresnet50",
        "cs3darknet_s",
    ),
    *("darknet17", "selecsls42b", "inception_v3", "xception41", "vgg11_bn", "regnetx_002", "regnety_002", "gernet_s"),
    *("repvgg_a0", "nf_resnet26", "dm_nfnet_f0", "eca_nfnet_l0", "rexnet_100", "ghostnet_050", "ghostnetv2_100"),
    *("mobilenetv2_035", "mobilenetv3_small_050", "mnasnet_small", "efficientnet_b0", "tf_efficientnet_lite0"),
    *(
        "fbnetc_100",
        "spnasnet_100",
        "hardcorenas_a",
        "lcnet_035",
        "tinynet_e",
        "mixnet_s",
        "mobileone_s0",
        "fasternet_t0",
    ),
    *("starnet_s1", "repghostnet_050", "repvit_m0_9", "fastvit_t8", "inception_next_atto", "convnext_atto"),
    *("convnextv2_atto", "convmixer_768_32", "edgenext_xx_small", "poolformer_s12", "poolformerv2_s12", "caformer_s18"),
    *(
        "mixer_s32_224",
        "gmlp_s16_224",
        "resmlp_12_224",
        "vit_tiny_patch16_224",
        "deit_tiny_patch16_224",
        "cait_xxs24_224",
    ),
    *("swin_tiny_patch4_window7_224", "swinv2_cr_tiny_ns_224", "pit_ti_224", "levit_128s", "efficientformer_l1"),
    *("mobilevit_xxs", "mobilevitv2_050", "xcit_nano_12_p16_224", "coat_tiny", "crossvit_tiny_240", "visformer_tiny"),
    *("twins_svt_small", "pvt_v2_b0", "nest_tiny", "tnt_s_patch16_224", "volo_d1_224", "maxvit_rmlp_pico_rw_256"),
    *("coatnet_pico_rw_224", "halonet26t", "botnet26t_256", "lambda_resnet26t", "sebotnet33ts_256", "gcresnext26ts"),
    *("convit_tiny", "focalnet_tiny_srf", "davit_tiny", "gcvit_xxtiny", "tiny_vit_5m_224", "efficientvit_b0"),
)


def create(name: str) -> tuple[nn.Module, torch.Tensor]:
    """A model with random weights and statistics, for inference, and an image of the size that it is for.

    Raises:
        ImportError: timm is not installed.
        RuntimeError: timm has no model of that name.
    """
    with _torchvision_or_nothing():
        import timm

        torch.manual_seed(0)
        model = timm.create_model(name, pretrained=False).eval()
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return model, torch.randn(1, *model.default_cfg["input_size"], generator=generator)


class _Anything(type):
    """A class that has every attribute, since timm's transforms look some up as they are imported."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _StandIn(ModuleType):
    """A module of which every name is an empty class."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (nn.Module,), {})


@contextmanager
def _torchvision_or_nothing() -> Iterator[None]:
    """Stands in for a missing torchvision while timm is imported; what timm's models compute is their own."""
    if "timm" in sys.modules or importlib.util.find_spec("torchvision") is not None:
        yield
        return
    names = ("torchvision", "torchvision.ops", "torchvision.ops.misc", "torchvision.transforms")
    names += ("torchvision.transforms.functional", "torchvision.datasets")
    for name in names:
        sys.modules[name] = _StandIn(name)
        sys.modules[name].__path__ = []
        parent, _, own = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], own, sys.modules[name])
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
