"""What `lm.compile` takes and gives beyond float tensors: structures, constants, keywords, dtypes; and its refusals."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import pytest
import torch
from agreement import Of
from torch import nn
from torch.utils import _pytree as pytree

import loopmorph as lm

Pair = namedtuple("Pair", "first second")


@dataclass
class Heads:
    logits: torch.Tensor
    hidden: tuple[torch.Tensor, ...]
    loss: torch.Tensor | None = None


@dataclass(frozen=True)
class Frozen:
    logits: torch.Tensor


class Named(OrderedDict[str, torch.Tensor]):
    pass


@dataclass
class ModelOutput(OrderedDict[str, Any]):
    """In the manner of Hugging Face's: a dataclass that is a dictionary of what is not None."""

    logits: torch.Tensor | None = None
    loss: torch.Tensor | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            if getattr(self, each.name) is not None:
                self[each.name] = getattr(self, each.name)


def assert_same(got: Any, expected: Any) -> None:
    a, first = pytree.tree_flatten(got)
    b, second = pytree.tree_flatten(expected)
    assert first == second and type(got) is type(expected)
    for x, y in zip(a, b, strict=True):
        if isinstance(y, torch.Tensor):
            assert x.dtype == y.dtype
            torch.testing.assert_close(x, y)
        else:
            assert x == y and type(x) is type(y)


RESULTS: dict[str, Callable[[torch.Tensor], Any]] = {
    "int": lambda x: (x + 1, 5),
    "float, bool, text": lambda x: (x + 1, 1.5, True, "mean"),
    "extents": lambda x: (x.shape[0], x + 1),
    "shape": lambda x: {"shape": tuple(x.shape), "x": x * 2},
    "None": lambda x: (x + 1, None),
    "only None": lambda x: (None, None),
    "dictionary": lambda x: {"logits": x + 1, "aux": x * 2},
    "nested": lambda x: (x, [x + 1, (x * 2,)]),
    "list of one": lambda x: [x + 1],
    "tuple of one": lambda x: (x + 1,),
    "named tuple": lambda x: Pair(x + 1, 2),
    "ordered dictionary": lambda x: OrderedDict(a=x + 1, b=[x]),
    "dataclass": lambda x: Heads(x + 1, (x, x * 2)),
    "frozen dataclass in a list": lambda x: [Frozen(x + 1)],
    "dictionary class": lambda x: Named(a=x + 1),
    "model output": lambda x: ModelOutput(logits=x + 1),
    "the input": lambda x: x,
    "no elements": lambda x: (x[:0] * 2, x),
    "product over nothing": lambda x: (x[:0] @ x.T, x.T[:, :0] @ x[:0]),
}


@pytest.mark.parametrize("name", RESULTS)
def test_results_keep_their_structure(name: str) -> None:
    x = torch.randn(3, 2)
    got, expected = lm.compile(Of(RESULTS[name]).eval(), (x,))(x), RESULTS[name](x)
    if dataclass_names := [f.name for f in fields(expected)] if hasattr(expected, "__dataclass_fields__") else []:
        assert type(got) is type(expected)
        for each in dataclass_names:
            assert_same(getattr(got, each), getattr(expected, each))
    else:
        assert_same(got, expected)


def test_a_tensor_returned_twice_is_one() -> None:
    def twice(x: torch.Tensor) -> Any:
        y = x + 1
        return y, {"again": y}

    first, second = lm.compile(Of(twice).eval(), (torch.ones(2),))(torch.ones(2))
    assert first is second["again"]


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (lambda x: (x, x.sum().item()), "output 1 is a number that depends on the inputs' values"),
        (lambda x: {"kind": x.dtype}, r"output \['kind'\] is a torch.dtype; what can be returned is tensors"),
        (lambda x: [x, {1}], r"output \[1\] is a builtins.set"),
    ],
    ids=["number", "dtype", "set"],
)
def test_results_that_cannot_come_back(function: Callable[..., Any], match: str) -> None:
    with pytest.raises(lm.ImportRefused, match=match):
        lm.compile(Of(function).eval(), (torch.ones(2),))


def chosen(x: torch.Tensor, times: int = 1, *, mask: torch.Tensor, other: dict[str, Any]) -> torch.Tensor:
    return torch.where(mask, x * times, other["a"])


@pytest.fixture(scope="module")
def keywords() -> lm.Executable:
    x = torch.ones(3)
    given = {"mask": x > 0, "other": {"a": x, "b": "text"}}
    return lm.compile(Of(chosen).eval(), (x, 3), example_kwargs=given)


def test_keywords_constants_and_nested_inputs(keywords: lm.Executable) -> None:
    x, y = torch.randn(3), torch.randn(3)
    expected = torch.where(x > 0, x * 3, y)
    torch.testing.assert_close(keywords(x, 3, mask=x > 0, other={"a": y, "b": "text"}), expected)
    torch.testing.assert_close(keywords(x, 3, other={"a": y, "b": "text"}, mask=x > 0), expected)


def test_a_tensor_given_twice_is_two_inputs() -> None:
    x = torch.randn(3)
    run = lm.compile(Of(lambda a, b: a - b).eval(), (x, x))
    assert torch.equal(run(x, 2 * x), -x)
    linear = nn.Linear(3, 3).eval()
    run = lm.compile(linear, (linear.weight,))
    torch.testing.assert_close(run(torch.eye(3)), linear(torch.eye(3)).detach())


ONES = torch.ones(3)
OTHER = {"a": ONES, "b": "text"}


@pytest.mark.parametrize(
    ("args", "kwargs", "match"),
    [
        ((ONES, 4), {"mask": ONES > 0, "other": OTHER}, "leaf 1 is compiled in as 3, got 4"),
        ((ONES, 3.0), {"mask": ONES > 0, "other": OTHER}, r"leaf 1 is compiled in as 3, got 3\.0"),
        ((ONES, ONES), {"mask": ONES > 0, "other": OTHER}, "leaf 1 is compiled in as 3, got a Tensor"),
        ((ONES, 3), {"mask": ONES > 0}, r"expected \(\*, \*, mask=\*, other={'a': \*, 'b': \*}\), got \(\*, \*, mask="),
        ((ONES, 3), {"mask": ONES > 0, "other": OTHER, "more": 1}, r"got \(\*, \*, mask=\*, other=.*, more=\*\)"),
        ((ONES, 3), {"mask": ONES, "other": OTHER}, r"input 1: expected a dense CPU tensor \(3,\) torch.bool"),
        ((ONES, 3), {"mask": 1, "other": OTHER}, r"input 1: expected a dense CPU tensor .*, got a int"),
    ],
)
def test_wrong_calls(keywords: lm.Executable, args: tuple[Any, ...], kwargs: dict[str, Any], match: str) -> None:
    with pytest.raises(lm.ArgumentError, match=match):
        keywords(*args, **kwargs)


def test_wrong_examples() -> None:
    with pytest.raises(lm.ArgumentError, match=r"argument 'example_inputs': expected tensors, numbers.*, got a set"):
        lm.compile(nn.ReLU(), ({1},))
    with pytest.raises(lm.ArgumentError, match="argument 'example_kwargs': expected a dictionary, got a list"):
        lm.compile(nn.ReLU(), (ONES,), example_kwargs=[1])
    program = lm.import_model(nn.ReLU(), (), {"input": ONES})
    torch.testing.assert_close(lm.compile(program)(input=-ONES), 0 * ONES)
    with pytest.raises(lm.ArgumentError, match="argument 'example_kwargs': a Program has its example inputs already"):
        lm.compile(program, example_kwargs={"input": ONES})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_models_of_other_floats(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 25, 4))
    model, x = nn.Sequential(*layers).eval().to(dtype), torch.randn(2, 3, 5, 5, dtype=dtype)
    assert_same(lm.compile(model, (x,))(x), model(x).detach())


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool])
def test_integers_and_booleans(dtype: torch.dtype) -> None:
    x = torch.tensor([0, 1, 2, 100, 200, 255] if dtype == torch.uint8 else [0, 1, 2, 100]).to(dtype)

    def function(x: torch.Tensor) -> Any:
        return x.float() / 3, x.flip(0) if dtype != torch.uint8 else x.view(2, 3), x

    assert_same(lm.compile(Of(function).eval(), (x,))(x), function(x))


def test_indices() -> None:
    model, x = nn.Embedding(7, 3), torch.tensor([[0, 6, 2]])
    assert_same(lm.compile(model, (x,))(x), model(x).detach())


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("n", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.n.add_(1)
        return x + self.n


def half_in_training() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)).eval()
    model[1].train()
    return model


def exported_in_training() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)).train()
    return torch.export.export(model, (torch.ones(1, 1, 4, 4),)).module()


def dropping_out() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout()).eval()
    model[1].train()
    return model


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (Counter, r"'add_' \(.*test_compile_values.py:\d+\) changes the buffer 'n' in place; only networks without"),
        (lambda: Of(lambda x: x.mul_(2)), r"'mul_' \(.*\) changes the input 'args_0' in place"),
        (lambda: nn.ReLU(inplace=True), "'relu_'.* changes the input 'input' in place"),
        (half_in_training, "'batch_norm' of module '1' is in training mode and changes the buffer '1.running_mean'"),
        (exported_in_training, "'batch_norm'.* is in training mode and changes the buffer '1.running_mean'"),
        (dropping_out, r"'dropout' of module '1' draws random numbers; .*call eval\(\) on it"),
        (lambda: Of(torch.rand_like), r"'rand_like' .* draws random numbers"),
        (lambda: Of(lambda x: torch.complex(x, x).real), r"'complex' \(.*\) is of torch.complex64; what can be"),
        (lambda: Of(lambda x: x.to(torch.uint8)), r"'to'.* computes with torch.uint8, which is not compiled"),
    ],
)
def test_effects_and_types_are_refused_by_name(model: Callable[[], nn.Module], match: str) -> None:
    network = model()
    network.training = False
    with pytest.raises(lm.ImportRefused, match=match):
        lm.compile(network, (torch.ones(1, 1, 4, 4),))


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (1, 3, 1, 1)])
def test_convolutions_of_nothing_and_of_one_pixel(shape: tuple[int, ...]) -> None:
    model, x = nn.Conv2d(3, 4, 3, padding=1).eval(), torch.randn(shape)
    assert_same(lm.compile(model, (x,))(x), model(x).detach())


def test_a_map_that_is_cropped_to_nothing() -> None:
    model, x = nn.ConvTranspose2d(4, 6, 5, 1, 4).eval(), torch.randn(1, 4, 4, 5)
    assert_same(lm.compile(model, (x,))(x), model(x).detach())
