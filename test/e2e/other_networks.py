"""Twelve networks that are no classifiers, small enough for a test."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from loopmorph.pipelines.support.probes import Probe

Inputs = tuple[torch.Tensor, ...]


def conv(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Convolution, BatchNorm and ReLU."""
    layer = nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


class UNet(nn.Module):
    """An odd size: each upsampled map is padded to the size of the one that it is joined with."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([conv(3, 8), conv(8, 16), conv(16, 32)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(32, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)])
        self.join = nn.ModuleList([conv(32, 16), conv(16, 8)])
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.down[0](x)
        second = self.down[1](functional.max_pool2d(first, 2))
        y = self.down[2](functional.max_pool2d(second, 2))
        for up, join, skip in zip(self.up, self.join, (second, first), strict=True):
            y = up(y)
            y = functional.pad(y, (0, skip.shape[3] - y.shape[3], 0, skip.shape[2] - y.shape[2]))
            y = join(torch.cat([skip, y], 1))
        return self.head(y)


class FeaturePyramid(nn.Module):
    """Returns its maps by name, as detectors want them."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([conv(3, 8, 2), conv(8, 16, 2), conv(16, 32, 2)])
        self.lateral = nn.ModuleList([nn.Conv2d(c, 8, 1) for c in (8, 16, 32)])
        self.smooth = nn.ModuleList([nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)])

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        merged = [lateral(m) for lateral, m in zip(self.lateral, maps, strict=True)]
        for k in (1, 0):
            merged[k] = merged[k] + functional.interpolate(merged[k + 1], size=merged[k].shape[2:], mode="nearest")
        return {f"p{k}": smooth(m) for k, (smooth, m) in enumerate(zip(self.smooth, merged, strict=True))}


class DeepLab(nn.Module):
    """Dilated convolutions side by side, one branch pooled to a pixel, and a bilinear resize to the image's size."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(conv(3, 8, 2), conv(8, 16, 2))
        self.branches = nn.ModuleList([nn.Conv2d(16, 8, 1), *(conv(16, 8, dilation=d) for d in (2, 4, 6))])
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 8, 1), nn.ReLU())
        self.head = nn.Conv2d(40, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.backbone(x)
        pooled = functional.interpolate(self.pooled(y), size=y.shape[2:], mode="bilinear", align_corners=False)
        y = self.head(torch.cat([*(branch(y) for branch in self.branches), pooled], 1))
        return functional.interpolate(y, size=x.shape[2:], mode="bilinear", align_corners=False)


class DetectorBackbone(nn.Module):
    """For each of three scales a list of scores, flattened, and one of boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([conv(3, 8, 2), conv(8, 16, 2), conv(16, 16, 2)])
        self.scores = nn.ModuleList([nn.Conv2d(c, 6, 3, padding=1) for c in (8, 16, 16)])
        self.boxes = nn.ModuleList([nn.Conv2d(c, 8, 3, padding=1) for c in (8, 16, 16)])

    def forward(self, x: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        scores, boxes = [], []
        for stage, score, box in zip(self.stages, self.scores, self.boxes, strict=True):
            x = stage(x)
            scores.append(score(x).permute(0, 2, 3, 1).flatten(1, 2).sigmoid())
            boxes.append(box(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4))
        return scores, torch.cat(boxes, 1)


class SuperResolution(nn.Module):
    """A residual body, PixelShuffle, and the bicubic image that the result is added to."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 5, padding=2)
        self.body = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.PReLU(16), nn.Conv2d(16, 16, 3, padding=1))
        self.up = nn.Sequential(nn.Conv2d(16, 27, 3, padding=1), nn.PixelShuffle(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        y = self.up(y + self.body(y))
        return y + functional.interpolate(x, scale_factor=3, mode="bicubic", align_corners=False)


class AutoEncoder(nn.Module):
    """Strided convolutions and their transposes, with output padding and groups."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(conv(1, 8, 2), conv(8, 16, 2), nn.Flatten(), nn.Linear(16 * 4 * 4, 12))
        self.middle = nn.Linear(12, 16 * 4 * 4)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(16, 16, 3, 2, 1, output_padding=0, groups=4),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 8, 4, 2, 1),
            nn.ELU(),
            nn.ConvTranspose2d(8, 1, 3, 1, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        code = self.encoder(x)
        return self.decoder(self.middle(code).view(-1, 16, 4, 4)), code


class CausalBlock(nn.Module):
    """Attention under a causal mask, written out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, c = x.shape
        q, k, v = (p.view(n, t, self.heads, -1).transpose(1, 2) for p in self.qkv(self.norm1(x)).chunk(3, -1))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(n, t, c))
        return x + self.mlp(self.norm2(x))


class TinyGPT(nn.Module):
    """Tokens in, the logits of the next ones out; the head's weight is the embedding's."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(50, 16), nn.Embedding(12, 16)
        self.blocks = nn.Sequential(CausalBlock(16, 2), CausalBlock(16, 2))
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 50, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
        return self.head(self.norm(self.blocks(x)))


class Bert(nn.Module):
    """PyTorch's own encoder layers over embedded tokens, padding masked, and a pooled first token."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(50, 16, padding_idx=0), nn.Parameter(torch.randn(1, 10, 16))
        layer = nn.TransformerEncoderLayer(16, 2, 32, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.pooler = nn.Linear(16, 16)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.encoder(self.tokens(tokens) + self.places, src_key_padding_mask=mask)
        return {"last_hidden_state": hidden, "pooler_output": torch.tanh(self.pooler(hidden[:, 0]))}


class Tagger(nn.Module):
    """A bidirectional LSTM over embedded words, with a label for each."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(40, 8)
        self.lstm = nn.LSTM(8, 6, num_layers=2, bidirectional=True, batch_first=True)
        self.labels = nn.Linear(12, 5)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.labels(self.lstm(self.words(words))[0]).log_softmax(-1)


class Separation(nn.Module):
    """Conv-TasNet-like: an encoder over samples, dilated depthwise blocks, masks, and a transposed decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv1d(1, 16, 8, 4, bias=False)
        self.norm = nn.GroupNorm(1, 16)
        self.blocks = nn.ModuleList([self._block(2**k) for k in range(3)])
        self.masks = nn.Conv1d(16, 32, 1)
        self.decoder = nn.ConvTranspose1d(16, 1, 8, 4, bias=False)

    @staticmethod
    def _block(dilation: int) -> nn.Sequential:
        depthwise = nn.Conv1d(24, 24, 3, padding=dilation, dilation=dilation, groups=24)
        return nn.Sequential(
            *(nn.Conv1d(16, 24, 1), nn.PReLU(), nn.GroupNorm(1, 24)),
            *(depthwise, nn.PReLU(), nn.GroupNorm(1, 24), nn.Conv1d(24, 16, 1)),
        )

    def forward(self, sound: torch.Tensor) -> torch.Tensor:
        code = functional.relu(self.encoder(sound))
        y = self.norm(code)
        for block in self.blocks:
            y = y + block(y)
        masks = self.masks(y).view(-1, 2, 16, y.shape[-1]).sigmoid()
        parts = (masks * code[:, None]).flatten(0, 1)
        return self.decoder(parts).view(sound.shape[0], 2, -1)


class Volumes(nn.Module):
    """A 3-D network: convolution, BatchNorm, pooling, a transpose, and a trilinear resize."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv3d(1, 6, 3, padding=1), nn.BatchNorm3d(6), nn.LeakyReLU(0.1))
        self.second = nn.Sequential(
            nn.Conv3d(6, 8, (1, 3, 3), stride=(1, 2, 1), padding=(0, 1, 1)), nn.InstanceNorm3d(8)
        )
        self.up = nn.ConvTranspose3d(8, 4, 2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(functional.max_pool3d(self.first(x), 2))
        return functional.interpolate(self.up(y), size=x.shape[2:], mode="trilinear", align_corners=False)


class HighResolution(nn.Module):
    """HRNet-like: two branches of different resolution that exchange twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.lower = conv(3, 8), conv(8, 16, 2)
        self.branches = nn.ModuleList([nn.ModuleList([conv(8, 8), conv(16, 16)]) for _ in range(2)])
        self.down = nn.ModuleList([nn.Conv2d(8, 16, 3, 2, 1) for _ in range(2)])
        self.up = nn.ModuleList([nn.Conv2d(16, 8, 1) for _ in range(2)])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        high = self.stem(x)
        low = self.lower(high)
        for (a, b), down, up in zip(self.branches, self.down, self.up, strict=True):
            high, low = a(high), b(low)
            raised = functional.interpolate(up(low), size=high.shape[2:], mode="bilinear", align_corners=True)
            high, low = functional.relu(high + raised), functional.relu(low + down(high))
        return high, low


def _image(*shape: int) -> Callable[[], Inputs]:
    return lambda: (torch.randn(shape),)


def _tokens(length: int, words: int) -> Callable[[], Inputs]:
    return lambda: (torch.randint(words, (2, length)),)


def _padded_tokens() -> Inputs:
    tokens = torch.randint(1, 50, (2, 10))
    tokens[1, 6:] = 0
    return tokens, tokens == 0


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Inputs]]] = {
    "unet": (UNet, _image(1, 3, 21, 26)),
    "feature-pyramid": (FeaturePyramid, _image(1, 3, 30, 23)),
    "deeplab": (DeepLab, _image(1, 3, 25, 32)),
    "detector": (DetectorBackbone, _image(2, 3, 24, 20)),
    "super-resolution": (SuperResolution, _image(1, 3, 9, 11)),
    "autoencoder": (AutoEncoder, _image(2, 1, 16, 16)),
    "gpt": (TinyGPT, _tokens(12, 50)),
    "bert": (Bert, _padded_tokens),
    "tagger": (Tagger, _tokens(6, 40)),
    "separation": (Separation, _image(2, 1, 68)),
    "volumes": (Volumes, _image(1, 1, 6, 9, 8)),
    "high-resolution": (HighResolution, _image(1, 3, 17, 20)),
}


def create(name: str) -> tuple[nn.Module, Inputs]:
    """A network with random weights and statistics, for inference, and inputs."""
    torch.manual_seed(0)
    factory, inputs = NETWORKS[name]
    model = factory().eval()
    for module in model.modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return model, inputs()


def probes(inputs: Inputs) -> list[Probe]:
    """The inputs, and others of the same shapes: larger ones, tokens in another order."""
    others = tuple(3 * torch.randn(t.shape) if t.is_floating_point() else t.flip(0) for t in inputs)
    return [Probe("example", inputs), Probe("random", others)]
