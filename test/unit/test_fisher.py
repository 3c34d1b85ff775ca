"""Fisher Potential: against an independent reference, its random numbers, its probes, its errors."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.legality.fisher import FisherScore, fisher_potential
from loopmorph.pipelines.legality.initialisation import reinitialize
from loopmorph.pipelines.zoo.densenet import DenseNet
from loopmorph.pipelines.zoo.resnet import BasicBlock

CLASSES = 5


def head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]


def slim_resnet() -> nn.Sequential:
    stem = [nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    return nn.Sequential(*stem, BasicBlock(8, 8), BasicBlock(8, 16, 2), BasicBlock(16, 16), *head(16))


def slim_densenet() -> nn.Module:
    return DenseNet((2, 3), 4, classes=CLASSES)


def slim_vgg(inplace: bool = False) -> nn.Sequential:
    first, second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3)
    return nn.Sequential(first, nn.ReLU(inplace), nn.MaxPool2d(2), second, nn.ReLU(inplace), *head(12))


NETWORKS = {
    "resnet": (slim_resnet, ["3", "4", "5"]),
    "densenet": (slim_densenet, ["features.0.0", "features.0.1", "features.2.0", "features.2.1", "features.2.2"]),
    "vgg": (slim_vgg, ["0", "3"]),
}


@pytest.fixture(autouse=True)
def fixed_weights() -> None:
    torch.manual_seed(0)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, 3, 12, 12, generator=generator), torch.randint(CLASSES, (6,), generator=generator)


def score(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor], **options: Any) -> FisherScore:
    return fisher_potential(model, *batch, device="cpu", **options)


def keep(store: dict[str, torch.Tensor], name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
    store[name] = (output[0] if isinstance(output, tuple) else output).detach()


def reference(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, probes: list[str]) -> float:
    """The definition, word by word: forward hook, backward hook, formula."""
    model = copy.deepcopy(model).train()
    activations: dict[str, torch.Tensor] = {}
    gradients: dict[str, torch.Tensor] = {}
    for name in probes:
        module = model.get_submodule(name)
        module.register_forward_hook(partial(keep, activations, name))
        module.register_full_backward_hook(partial(keep, gradients, name))
    F.cross_entropy(model(images.clone().requires_grad_()), labels).backward()
    total = 0.0
    for name in probes:
        product = activations[name].double() * gradients[name].double()
        for c in range(product.shape[1]):
            total += sum(float(product[n, c].sum()) ** 2 for n in range(len(images))) / (2 * len(images))
    return total


@pytest.mark.parametrize("network", NETWORKS)
def test_equals_the_reference(network: str, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    build, probes = NETWORKS[network]
    model = build()
    as_it_is = score(model, batch, reset=False)
    assert list(as_it_is.probes) == probes
    assert float(as_it_is) == pytest.approx(reference(model, *batch, probes), rel=1e-5)
    fresh = score(model, batch, seed=7)
    reinitialize(model, 7)
    assert float(fresh) == pytest.approx(reference(model, *batch, probes), rel=1e-5)
    assert float(fresh) != pytest.approx(float(as_it_is), rel=1e-3)


def test_convolution_probes_equal_the_reference(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = slim_resnet()
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    result = score(model, batch, reset=False, probes="convs")
    assert list(result.probes) == names
    assert float(result) == pytest.approx(reference(model, *batch, names), rel=1e-5)


def test_named_probes(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = slim_resnet()
    result = score(model, batch, reset=False, probes=["8", "4"])
    assert list(result.probes) == ["8", "4"]
    for name in result.probes:
        assert result.probes[name] == pytest.approx(reference(model, *batch, [name]), rel=1e-5)


def test_in_place_consumers_do_not_change_the_score(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    plain, inplace = slim_vgg(), slim_vgg(inplace=True)
    assert score(plain, batch).values == score(inplace, batch).values


def test_repeats_and_seeds(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = slim_resnet()
    result = score(model, batch, seed=3, repeats=3)
    assert result.values == tuple(score(model, batch, seed=seed).values[0] for seed in (3, 4, 5))
    assert result.mean == pytest.approx(sum(result.values) / 3) == pytest.approx(sum(result.probes.values()))
    spread = math.sqrt(sum((value - result.mean) ** 2 for value in result.values) / 2)
    assert result.standard_error == pytest.approx(spread / math.sqrt(3))
    assert score(model, batch).standard_error == 0.0
    assert score(model, batch, seed=3, repeats=3) == result


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("network", NETWORKS)
def test_cuda_agrees_with_the_cpu(network: str, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = NETWORKS[network][0]()
    state = torch.cuda.get_rng_state()
    wanted, got = score(model, batch, repeats=2), fisher_potential(model, *batch, repeats=2)
    assert got.values == pytest.approx(wanted.values, rel=1e-3)
    assert got == fisher_potential(model, *batch, repeats=2)
    assert torch.equal(state, torch.cuda.get_rng_state())


def test_dropout_is_seeded(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Dropout(0.5), *head(8))
    assert score(model, batch, seed=1).values == score(model, batch, seed=1).values


def test_shared_layers_get_the_same_weights() -> None:
    one, other = slim_resnet(), slim_resnet()
    other[3] = BasicBlock(8, 8)
    other[3].conv2 = nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False)
    reinitialize(one, 5)
    reinitialize(other, 5)
    theirs = other.state_dict()
    for name, mine in one.state_dict().items():
        assert name == "3.conv2.weight" or torch.equal(mine, theirs[name]), name
    kept = one.state_dict()["0.weight"].clone()
    reinitialize(one, 6)
    assert not torch.equal(kept, one.state_dict()["0.weight"])
    assert not torch.equal(one.state_dict()["3.conv1.weight"], one.state_dict()["3.conv2.weight"])


def test_parameters_without_reset_keep_their_values() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.full((3,), 2.0))

    model = Scaled()
    reinitialize(model, 0)
    assert torch.equal(model.scale, torch.full((3,), 2.0))


def test_the_users_model_is_untouched(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = slim_resnet().eval()
    model[4].train()
    model[0].weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    images = batch[0].clone()
    with torch.no_grad():
        score(model, batch, repeats=2)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert modes == [module.training for module in model.modules()]
    assert [parameter.requires_grad for parameter in model.parameters()].count(False) == 1
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(images, batch[0]) and not batch[0].requires_grad


def test_works_in_inference_mode(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = slim_resnet()
    wanted = score(model, batch)
    with torch.inference_mode():
        images, labels = batch[0].clone(), batch[1].clone()
        assert score(model, (images, labels)).values == wanted.values


class Joined(nn.Module):
    """A residual block of a user: in-place addition, and a 4-D bias that is no activation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)
        self.offset = nn.Parameter(torch.ones(1, 8, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x) + self.offset
        y += x
        return y


class Offset(Joined):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) + self.offset


class Sliced(nn.Module):
    """Stands for a rewritten convolution: joins slices of its own output."""

    is_convolution = True

    def __init__(self) -> None:
        super().__init__()
        self.halves = nn.ModuleList(nn.Conv2d(8, 4, 1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([half(x) for half in self.halves], 1)


class RootJoin(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.inner = inner
        self.tail = nn.Sequential(*head(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.tail(x + self.inner(self.inner(x)))


@pytest.mark.parametrize(
    ("inner", "probes", "names"),
    [
        (Joined, "blocks", ["inner"]),
        (Offset, "blocks", ["stem", "inner.conv"]),
        (Sliced, "blocks", ["stem", "inner", "inner.halves.0", "inner.halves.1"]),
        (Joined, "convs", ["stem", "inner.conv"]),
    ],
)
def test_automatic_probes(
    inner: type[nn.Module], probes: str, names: list[str], batch: tuple[torch.Tensor, torch.Tensor]
) -> None:
    assert list(score(RootJoin(inner()), batch, probes=probes).probes) == names


class Unrolled(RootJoin):
    def __init__(self, twice: RootJoin) -> None:
        super().__init__(nn.Sequential(copy.deepcopy(twice.inner), copy.deepcopy(twice.inner)))
        self.stem, self.tail = twice.stem, twice.tail

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.tail(x + self.inner(x))


def test_each_run_of_a_module_contributes(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    twice = RootJoin(Joined())
    wanted = reference(Unrolled(twice), *batch, ["inner.0", "inner.1"])
    assert float(score(twice, batch, reset=False)) == pytest.approx(wanted, rel=1e-5)


def test_overflow_is_reported(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    images = batch[0].clone()
    images[0, 0, 0, 0] = math.inf
    result = score(slim_vgg(), (images, batch[1]), repeats=2)
    assert not result.finite and math.isnan(result.standard_error)
    assert score(slim_vgg(), batch).finite


@pytest.mark.parametrize(
    ("images", "labels", "reason"),
    [
        (torch.zeros(2, 3, 8), torch.zeros(2, dtype=torch.int64), r"'images': \(2, 3, 8\)"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), "'images': .*uint8"),
        (torch.zeros(0, 3, 8, 8), torch.zeros(0, dtype=torch.int64), "'images': "),
        ([[1.0]], torch.zeros(2, dtype=torch.int64), "'images': a list was given"),
        (torch.zeros(2, 3, 8, 8), torch.zeros(3, dtype=torch.int64), "'labels': 3 labels were given for 2 images"),
        (torch.zeros(2, 3, 8, 8), torch.zeros(2), "'labels': .*float32"),
        (torch.zeros(2, 3, 8, 8), torch.tensor([0, CLASSES]), r"'labels': label 5 is outside 0\.\.4"),
        (torch.zeros(2, 3, 8, 8), torch.tensor([-1, 0]), r"'labels': label -1 is outside 0\.\.4"),
    ],
)
def test_batches_that_do_not_fit(images: Any, labels: Any, reason: str) -> None:
    with pytest.raises(ArgumentError, match=reason):
        score(slim_vgg(), (images, labels))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"repeats": 0}, "'repeats': 0 repeats"),
        ({"probes": "all"}, "'probes': 'all' is not known; 'blocks', 'convs', 'layers'"),
        ({"probes": ["0", "nowhere"]}, "'probes': the model has no module 'nowhere'"),
        ({"probes": []}, "'probes': no module was named"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], reason: str, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.raises(ArgumentError, match=reason):
        score(slim_vgg(), batch, **options)


@pytest.mark.parametrize(("device", "reason"), [("gpu", "'gpu' is no device"), ("cuda:99", "'cuda:99' was asked for")])
def test_unknown_devices(device: str, reason: str, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.raises(ArgumentError, match=f"'device': {reason}"):
        fisher_potential(slim_vgg(), *batch, device=device)


def test_models_that_cannot_be_measured(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.raises(ArgumentError, match=r"'model': it gives \(6, 4, 10, 10\); logits"):
        score(nn.Sequential(nn.Conv2d(3, 4, 3)), batch)
    with pytest.raises(ArgumentError, match="'probes': the model has neither blocks nor convolutions"):
        score(nn.Sequential(nn.Flatten(), nn.Linear(432, CLASSES)), batch)
    unused = RootJoin(nn.Identity())
    unused.spare = nn.Identity()
    with pytest.raises(ArgumentError, match="'probes': module 'spare' does not take part"):
        score(unused, batch, probes=["stem", "spare"])


def test_exported_graphs_have_no_train_mode(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    exported = torch.export.export(slim_vgg(), (batch[0],)).module()
    with pytest.raises(ArgumentError, match="'model': the graph of an exported program has no train mode"):
        score(exported, batch)


def test_train_mode_is_the_model_s_own() -> None:
    class Frozen(nn.Sequential):
        """Keeps its BatchNorm in inference form, as fine-tuning often does."""

        def train(self, mode: bool = True) -> nn.Module:
            super().train(mode)
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.training = False
            return self

    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]
    frozen, plain = Frozen(*layers), nn.Sequential(*layers)
    images, labels = torch.randn(4, 3, 6, 6), torch.tensor([0, 1, 2, 0])
    found, other = (fisher_potential(model, images, labels).mean for model in (frozen, plain))
    assert found != other
