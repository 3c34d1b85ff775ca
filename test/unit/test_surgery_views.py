"""Networks whose own code slices, splits and shuffles channels: each layer's module is handed the view."""

from __future__ import annotations

import pytest
import torch
from agreement import Of, require_agreement, require_rewrite
from torch import nn

import loopmorph as lm

X = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def shuffle(x: torch.Tensor) -> torch.Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def shuffle_block() -> nn.Module:
    def forward(stem: nn.Module, branch: nn.Module, last: nn.Module, x: torch.Tensor) -> torch.Tensor:
        a, b = stem(x).chunk(2, 1)
        return last(shuffle(torch.cat([a, branch(b)], 1)).mean((2, 3)))

    depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
    branch = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), depthwise, nn.Conv2d(4, 4, 1))
    return Of(forward, nn.Conv2d(3, 8, 3, padding=1), branch, nn.Linear(8, 4))


def split_block() -> nn.Module:
    """The C2f block of YOLO: a split by sizes, one part through a chain, all joined."""

    def forward(first: nn.Module, inner: nn.Module, last: nn.Module, x: torch.Tensor) -> torch.Tensor:
        a, b = first(x).split((4, 4), 1)
        return last(torch.cat([a, b, inner(b)], 1))

    return Of(forward, nn.Conv2d(3, 8, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(12, 8, 1))


def scales() -> nn.Module:
    """A Res2Net block: each part of the channels is added to what the part before became."""

    def forward(first: nn.Module, a: nn.Module, b: nn.Module, last: nn.Module, x: torch.Tensor) -> torch.Tensor:
        p, q, r, s = torch.chunk(first(x), 4, 1)
        y = a(q)
        return last(torch.cat([p, y, b(r + y), s], 1))

    inner = [nn.Conv2d(4, 4, 3, padding=1) for _ in range(2)]
    return Of(forward, nn.Conv2d(3, 16, 1), *inner, nn.Conv2d(16, 8, 1))


def ghost() -> nn.Module:
    def forward(first: nn.Module, cheap: nn.Module, last: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = first(x)
        return last(torch.cat([y, cheap(y)], 1)[:, :12])

    return Of(forward, nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(12, 8, 1))


def shared() -> nn.Module:
    def forward(first: nn.Module, twice: nn.Module, x: torch.Tensor) -> torch.Tensor:
        a, b = first(x).chunk(2, 1)
        return torch.cat([twice(a), twice(b)], 1)

    return Of(forward, nn.Conv2d(3, 8, 1), nn.Conv2d(4, 4, 3, padding=1))


def cropped() -> nn.Module:
    return Of(lambda a, b, x: b(a(x)[:, :, 1:, :-2]), nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3))


def shuffled() -> nn.Module:
    return Of(lambda a, b, x: b(shuffle(a(x))), nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1))


def parts() -> nn.Module:
    def forward(a: nn.Module, b: nn.Module, c: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = a(x.flatten(1))
        return torch.cat([b(y[:, :8]), c(y[:, 8:])], 1)

    return Of(forward, nn.Linear(108, 16), nn.Linear(8, 8), nn.Linear(8, 8))


@pytest.mark.parametrize("make", [shuffle_block, split_block, scales, ghost, shared, cropped, shuffled, parts])
def test_the_module_of_the_unchanged_program_is_the_model(make: type) -> None:
    torch.manual_seed(0)
    require_agreement(make(), X, module=True)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (shuffle_block, "morph-group{layer=parts.1.0 iters=co,ci factor=2}"),
        (shuffle_block, "morph-bottleneck{layer=parts.1.0 iter=ci factor=2}"),
        (shuffle_block, "morph-bottleneck{layer=parts.1.0 iter=co factor=2}"),
        (split_block, "morph-group{layer=parts.1 iters=co,ci factor=4}"),
        (split_block, "morph-bottleneck{layer=parts.2 iter=ci factor=2}"),
        (scales, "morph-group{layer=parts.2 iters=co,ci factor=2}"),
        (ghost, "morph-bottleneck{layer=parts.2 iter=ci factor=2}"),
        (shared, "morph-bottleneck{layer=parts.0 iter=co factor=2}"),
        (cropped, "morph-group{layer=parts.1 iters=co,ci factor=2}"),
        (parts, "morph-bottleneck{layer=parts.1 iter=ci factor=2}"),
        (shuffled, "morph-interchange{layer=parts.1 order=n,ow,oh,co,ci,kh,kw}"),
    ],
)
def test_a_layer_behind_a_view_is_rewritten(make: type, text: str) -> None:
    torch.manual_seed(0)
    require_rewrite(lm.import_model(make().eval(), (X,)), text)


@pytest.mark.parametrize(
    ("make", "text", "layer"),
    [
        (shuffled, "morph-group{layer=parts.1 iters=co,ci factor=2}", "parts.1"),
        (split_block, "morph-mix{layer=parts.1 iter=co}", "parts.1"),
        (parts, "morph-group{layer=parts.2 iters=co,ci factor=2}", "parts.2"),
    ],
)
def test_a_module_cannot_take_the_place_of_nests_that_read_through_a_view(make: type, text: str, layer: str) -> None:
    program = lm.import_model(make().eval(), (X,)).apply(text)
    with pytest.raises(lm.IllegalTransform, match=rf"layer '{layer}': its nests read their input through a view"):
        program.to_module()


def test_a_split_by_sizes_cannot_follow_a_bottleneck() -> None:
    program = lm.import_model(split_block().eval(), (X,)).apply("morph-bottleneck{layer=parts.0 iter=co factor=2}")
    with pytest.raises(lm.IllegalTransform, match="does not run with the new shapes"):
        program.to_module()


def test_a_model_that_is_called_by_keyword_is_run_so() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)

        def forward(self, x: torch.Tensor, *, scale: torch.Tensor) -> torch.Tensor:
            return self.last(self.conv(x) * scale)

    scale = torch.tensor([2.0])
    program = lm.import_model(Scaled().eval(), (X,), {"scale": scale}).apply("morph-mix{layer=conv iter=co}")
    torch.testing.assert_close(lm.compile(program)(X, scale=scale), program.to_module().eval()(X, scale=scale))
    with pytest.raises(lm.ArgumentError, match=r"argument 'how': its error cannot be judged of a network .* keywords"):
        program.inherit("slice")
