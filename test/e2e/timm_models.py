"""timm's models, a family each."""

from __future__ import annotations

import torch
from torch import nn

from loopmorph.pipelines.bench.timm_networks import import_timm

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
    timm = import_timm()
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False).eval()
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return model, torch.randn(1, *model.default_cfg["input_size"], generator=generator)
