"""The shipped schedules: each against a module of PyTorch's own written for it, with the same weights, and its work."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import nn
from torch.nn import functional

import loopmorph as lm
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.schedules import read_schedule, schedules

SIZE, INPUTS = 8, 16
Weights = Mapping[str, torch.Tensor]


class Network(nn.Module):
    """A 3x3 convolution `a` between two others; `body` computes in its place, if it is given."""

    def __init__(self, outputs: int = INPUTS, stride: int = 1, body: nn.Module | None = None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, INPUTS, 1)
        self.a = body or nn.Conv2d(INPUTS, outputs, 3, stride, 1)
        self.norm = nn.BatchNorm2d(outputs)
        self.head = nn.Conv2d(outputs, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(functional.relu(self.norm(self.a(self.stem(x)))))


def imported(outputs: int = INPUTS, stride: int = 1) -> Program:
    torch.manual_seed(0)
    model = Network(outputs, stride)
    nn.init.uniform_(model.norm.weight, 0.5, 1.5)
    return lm.import_model(model.eval(), (torch.randn(1, 3, SIZE, SIZE),))


@pytest.fixture(scope="module")
def square() -> Program:
    return imported()


@pytest.fixture(scope="module")
def widening() -> Program:
    return imported(2 * INPUTS, 2)


def conv(weights: Weights, name: str, bias: torch.Tensor | None = None, **options: int) -> nn.Conv2d:
    """`nn.Conv2d` with given weights, which may be the matrix of a pointwise one."""
    weight = weights[name]
    weight = weight[:, :, None, None] if weight.dim() == 2 else weight
    groups = options.get("groups", 1)
    outputs, inputs, size, _ = weight.shape
    module = nn.Conv2d(inputs * groups, outputs, size, padding=size // 2, bias=bias is not None, **options)
    module.weight.data = weight.clone()
    if bias is not None:
        module.bias.data = bias.clone()
    return module


class Slices(nn.Module):
    """Each convolution computes a slice of the output channels from the inputs from some channel on."""

    def __init__(self, slices: list[tuple[int, nn.Conv2d]]) -> None:
        super().__init__()
        self.begins = [begin for begin, _ in slices]
        self.parts = nn.ModuleList(part for _, part in slices)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([part(x[:, begin:]) for begin, part in zip(self.begins, self.parts, strict=True)], 1)


class Bands(nn.Module):
    """Each convolution computes a band of rows."""

    def __init__(self, parts: list[nn.Conv2d]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.shape[2] // len(self.parts)
        return torch.cat([part(x)[:, :, k * rows : (k + 1) * rows] for k, part in enumerate(self.parts)], 2)


class Coarse(nn.Module):
    """Every b-th row and column, repeated."""

    def __init__(self, part: nn.Conv2d, b: int) -> None:
        super().__init__()
        self.part, self.b = part, b

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.interpolate(self.part(x), scale_factor=self.b, mode="nearest")


class Head(nn.Module):
    """A convolution of the first input channels."""

    def __init__(self, part: nn.Conv2d) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.part(x[:, : self.part.in_channels])


def sliced(groups: list[int]) -> Callable[[Weights], nn.Module]:
    def build(w: Weights) -> nn.Module:
        biases = w["a.bias"].chunk(len(groups))
        parts = [conv(w, f"a.weight.part{k}", biases[k], groups=g) for k, g in enumerate(groups)]
        return Slices([(0, part) for part in parts])

    return build


def unrolled(u: int, g: int) -> Callable[[Weights], nn.Module]:
    def build(w: Weights) -> nn.Module:
        bias = w["a.bias"]
        rest = conv(w, "a.weight.part1", bias[u:], groups=g)
        return Slices([(0, conv(w, "a.weight.part0", bias[:u])), (u, rest)])

    return build


def banded(w: Weights) -> nn.Module:
    (weights,) = (t for name, t in w.items() if name.startswith("a.weight"))
    return Bands([conv({"band": band}, "band", w["a.bias"]) for band in weights])


def coarse(b: int) -> Callable[[Weights], nn.Module]:
    return lambda w: Coarse(conv(w, "a.weight", w["a.bias"], stride=b), b)


def head(w: Weights) -> nn.Module:
    return Head(conv(w, "a.weight", w["a.bias"]))


def grouped(groups: int) -> Callable[[Weights], nn.Module]:
    return lambda w: conv(w, "a.weight", w["a.bias"], groups=groups)


def chain(groups: int, stride: int = 1) -> Callable[[Weights], nn.Module]:
    """The pointwise convolution before, where there is one, the layer, and the pointwise one after."""

    def build(w: Weights) -> nn.Module:
        before = [conv(w, "a.mix_in")] if "a.mix_in" in w else []
        layer = conv(w, "a.weight", w["a.bias"], groups=groups, stride=stride)
        return nn.Sequential(*before, layer, conv(w, "a.mix"))

    return build


N, C, K = SIZE * SIZE, INPUTS, 9
DENSE = N * K * C * C
CASES = [
    ("seq1", {}, sliced([2, 4]), DENSE * 3 // 8),
    ("seq1", {"g0": 8, "g1": 2}, sliced([8, 2]), DENSE * 5 // 16),
    ("seq1-4", {}, sliced([2, 2, 4, 4]), DENSE * 3 // 8),
    ("seq2", {"u": 4, "g": 3}, unrolled(4, 3), N * K * (4 * C + 12 * 12 // 3)),
    ("seq2", {"u": 8, "g": 2}, unrolled(8, 2), N * K * (8 * C + 8 * 8 // 2)),
    ("seq3", {"s": 2}, banded, DENSE),
    ("seq3", {"s": 4}, banded, DENSE),
    ("spatial-bottleneck", {"b": 2}, coarse(2), DENSE // 4),
    ("input-bottleneck", {"b": 4}, head, DENSE // 4),
    ("grouped-pointwise", {"g": 4}, chain(4), DENSE // 4 + N * C * C),
    ("bottleneck-block", {"b": 2}, chain(1), DENSE // 4 + N * C * C),
    ("bottleneck-grouped", {"b": 2, "g": 4}, chain(4), DENSE // 16 + N * C * C),
    ("separable", {}, chain(C), N * K * C + N * C * C),
    ("low-rank", {"b": 2}, chain(1), DENSE // 2 + N * C * C // 2),
    ("block-diagonal", {"g": 4}, grouped(4), DENSE // 4),
]
OF_TRANSFORMERS = {  # in test_transformers.py
    *("fewer-heads", "fewer-features", "fewer-values", "narrower-hidden", "narrower-stream", "drop-block")
}
WIDENING = [
    ("separable-widening", {"f": 2}, chain(C, 2), N // 4 * (K * C + C * 2 * C)),
    ("grouped-pointwise", {"g": 2}, chain(2, 2), N // 4 * (K * C * C + 4 * C * C)),
]


def check(program: Program, name: str, values: Mapping[str, int], build: Callable[[Weights], nn.Module]) -> Program:
    """The scheduled program, once compiled code, its module and the independent one agree on random weights."""
    after = program.apply(lm.load_schedule(name, layer="a", **values))
    module = after.to_module().eval()
    generator = torch.Generator().manual_seed(1)
    for tensor in module.a.parameters():  # not the inherited ones: an identity would hide errors
        tensor.data.normal_(generator=generator)
    weights = {f"a.{local}": t for local, t in module.a.state_dict().items()}
    weights = {name.replace("_part", ".part"): t for name, t in weights.items()}
    outputs = program.model.a.out_channels
    reference = Network(outputs, body=build(weights)).eval()
    for own in ("stem", "norm", "head"):
        reference.get_submodule(own).load_state_dict(program.model.get_submodule(own).state_dict())
    x = torch.randn(2, 3, SIZE, SIZE, generator=generator)
    result = module(x)
    torch.testing.assert_close(result, reference(x), rtol=1e-4, atol=1e-4)
    result.sum().backward()
    assert all(t.grad is not None for t in module.a.parameters())
    return after


@pytest.mark.parametrize(("name", "values", "build", "macs"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_schedule_is_the_operator(
    square: Program, name: str, values: dict[str, int], build: Callable[[Weights], nn.Module], macs: int
) -> None:
    after = check(square, name, values, build)
    assert {layer.name: layer.macs for layer in after.layers}["a"] == macs


@pytest.mark.parametrize(("name", "values", "build", "macs"), WIDENING, ids=lambda v: v if isinstance(v, str) else "")
def test_schedule_of_a_strided_layer(
    widening: Program, name: str, values: dict[str, int], build: Callable[[Weights], nn.Module], macs: int
) -> None:
    after = check(widening, name, values, build)
    assert {layer.name: layer.macs for layer in after.layers}["a"] == macs


@pytest.mark.parametrize(("name", "values"), [case[:2] for case in CASES[::2]], ids=lambda v: str(v))
def test_compiled_code_computes_what_the_module_does(square: Program, name: str, values: dict[str, int]) -> None:
    after = square.apply(lm.load_schedule(name, layer="a", **values))
    (x,) = after.example_inputs
    torch.testing.assert_close(lm.compile(after)(x), after.to_module().eval()(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["seq1", "seq2", "bottleneck-block"])
def test_what_was_applied_can_be_replayed_and_its_weights_loaded(square: Program, name: str) -> None:
    values = {"u": 4} if name == "seq2" else {}
    after = square.apply(lm.load_schedule(name, layer="a", **values))
    replayed = square.apply(",".join(after.steps))
    assert str(replayed) == str(after)
    file = io.BytesIO()
    torch.save(after.to_module().state_dict(), file)
    file.seek(0)
    twin = replayed.to_module()
    twin.load_state_dict(torch.load(file, weights_only=True))


@pytest.mark.parametrize("name", ["seq1", "bottleneck-block", "spatial-bottleneck"])
def test_the_module_can_be_imported_like_any_other(square: Program, name: str) -> None:
    module = square.apply(lm.load_schedule(name, layer="a")).to_module().eval()
    (x,) = square.example_inputs
    again = lm.import_model(module, (x,))
    torch.testing.assert_close(lm.compile(again)(x), module(x), rtol=1e-4, atol=1e-5)


def test_every_schedule_is_tested() -> None:
    assert {case[0] for case in [*CASES, *WIDENING]} | OF_TRANSFORMERS == set(schedules())


def test_every_schedule_says_what_it_does_and_what_its_parameters_mean() -> None:
    for schedule in schedules().values():
        assert schedule.summary.endswith(".")
        assert "MACs: " in schedule.description
        layer, *others = schedule.parameters
        assert (layer.name, layer.kind, layer.default) == ("layer", "name", None)
        assert all(parameter.kind == "int" and parameter.default is not None for parameter in others)


@pytest.mark.parametrize(
    ("name", "values", "match"),
    [
        (
            "seq4",
            {"layer": "a"},
            r"argument 'name': no schedule 'seq4'; there are .*bottleneck-block, .*; did you mean",
        ),
        ("seq2", {}, "argument 'layer': schedule 'seq2' needs a name: the convolution"),
        ("seq2", {"layer": "a", "v": 2}, "argument 'v': unknown parameter of schedule 'seq2'; it has layer, u, g"),
        ("seq2", {"layer": "a", "u": "many"}, "argument 'u': schedule 'seq2': expected an integer .*, got 'many'"),
        ("seq2", {"layer": "a", "u": True}, "argument 'u': schedule 'seq2': expected an integer .*, got True"),
        ("seq2", {"layer": 3}, "argument 'layer': schedule 'seq2': expected a name .*, got 3"),
    ],
)
def test_wrong_use_is_explained(name: str, values: dict[str, int | str], match: str) -> None:
    with pytest.raises(lm.ArgumentError, match=match):
        lm.load_schedule(name, **values)


def test_names_are_quoted_as_mlir_wants() -> None:
    assert 'layer = "say \\22hi\\22#main.1"' in lm.load_schedule("seq2", layer='say "hi"')


def test_a_schedule_without_a_comment_has_no_parameters() -> None:
    schedule = read_schedule("mine", "module {\n}\n")
    assert (schedule.summary, schedule.parameters) == ("", ())


def test_a_schedule_that_does_not_fit_the_layer_is_refused(square: Program) -> None:
    with pytest.raises(lm.IllegalTransform, match="the extent 8 of iterator 'co' is not divisible by 3"):
        square.apply(lm.load_schedule("seq1", layer="a", g0=3))
