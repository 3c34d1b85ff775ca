"""NAS-Bench-201: published sizes, the cell's arithmetic, what malformed architectures are told, import."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import loopmorph as lm
from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.ingress.models import resolve_model
from loopmorph.pipelines.zoo.nasbench201 import (
    INPUT_SHAPE,
    Cell,
    has_no_idle_operation,
    nasbench201,
    parse_architecture,
)

ALL_3X3 = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
NOTHING = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
MIXED = "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|"
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


def architecture(*operations: str) -> str:
    return "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*operations)


def cell(text: str, channels: int = 4) -> Cell:
    torch.manual_seed(0)
    return Cell(parse_architecture(text), channels)


def test_the_largest_cell_has_the_published_size() -> None:
    model = nasbench201(ALL_3X3)
    with FlopCounterMode(display=False) as counter:
        assert model(torch.randn(2, *INPUT_SHAPE)).shape == (2, 10)
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_531_546
    assert counter.get_total_flops() / 2 / 2 == 220_119_680


def test_the_number_of_cells_without_idle_operations_is_the_published_one() -> None:
    assert sum(has_no_idle_operation(architecture(*six)) for six in product(OPERATIONS, repeat=6)) == 9_445


@pytest.mark.parametrize(
    ("operations", "works"),
    [
        (("none", "none", "none", "skip_connect", "none", "none"), True),
        (("nor_conv_1x1", "none", "none", "skip_connect", "none", "none"), False),  # nothing reads node 1
        (("none", "none", "none", "skip_connect", "nor_conv_1x1", "none"), False),  # nothing feeds node 1
        (("skip_connect", "none", "skip_connect", "none", "none", "skip_connect"), True),
    ],
)
def test_idle_operations(operations: tuple[str, ...], works: bool) -> None:
    assert has_no_idle_operation(architecture(*operations)) == works


def test_a_cell_adds_up_its_operations() -> None:
    made = cell(MIXED).eval()
    x = torch.randn(2, 4, 5, 5)
    part = made.operations
    first = part["0_1"](x)
    second = part["1_2"](first)
    expected = x + part["1_3"](first) + part["2_3"](second)
    torch.testing.assert_close(made(x), expected)
    assert [type(module) for module in part["1_3"]] == [nn.ReLU, nn.Conv2d, nn.BatchNorm2d]


def test_pooling_does_not_count_the_border() -> None:
    only = cell(architecture("none", "none", "none", "avg_pool_3x3", "none", "none"))
    torch.testing.assert_close(only(torch.ones(1, 4, 3, 3)), torch.ones(1, 4, 3, 3))


def test_nothing_but_none_gives_zeros_with_a_zero_gradient() -> None:
    x = torch.randn(1, 4, 3, 3, requires_grad=True)
    result = cell(NOTHING)(x)
    result.sum().backward()
    assert torch.equal(result, torch.zeros(1, 4, 3, 3)) and torch.equal(x.grad, torch.zeros_like(x))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'' has 1 nodes, separated by '\\+'"),
        (ALL_3X3 + "+|none~0|", "has 4 nodes, separated by '\\+'"),
        ("|none~0|+|none~0|+|none~0|none~1|none~2|", r"node 2 is '\|none~0\|', which reads nodes \[0\]"),
        ("|none~0|+|none~1|none~0|+|none~0|none~1|none~2|", r"which reads nodes \[1, 0\]"),
        ("|none~0|+|none~0|conv~1|+|none~0|none~1|none~2|", "where 'conv' is not known"),
        ("none~0+|none~0|none~1|+|none~0|none~1|none~2|", "node 1 is 'none~0'"),
        ("|none|+|none~0|none~1|+|none~0|none~1|none~2|", r"node 1 is '\|none\|'"),
        (7, "a int was given"),
    ],
)
def test_malformed_architectures(text: str, reason: str) -> None:
    expected = r"; \|op~0\|\+\|op~0\|op~1\|\+\|op~0\|op~1\|op~2\| is expected, each op one of none, skip_connect"
    with pytest.raises(ArgumentError, match=f"'architecture': .*{reason}{expected}"):
        nasbench201(text)


def test_a_cell_is_a_model_by_its_name() -> None:
    loaded = resolve_model(f"nasbench201:{MIXED}", seed=3)
    assert loaded.classes == 10 and loaded.example_inputs[0].shape == (1, *INPUT_SHAPE)
    torch.manual_seed(3)
    twin = nasbench201(MIXED).state_dict()
    assert all(torch.equal(tensor, twin[name]) for name, tensor in loaded.model.state_dict().items())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nasbench201:", "nasbench201: '' has 1 nodes, separated by '\\+'; .* is expected, each op one of none, skip"),
        (
            f"nasbench201:{architecture('conv', *['none'] * 5)}",
            "nasbench201: node 1 is .*, where 'conv' is not known; ",
        ),
        ("nasbench201", r"'nasbench201' is not known.*resnet34.*, nasbench201:\|op~0\|\+\|op~0\|op~1\|"),
    ],
)
def test_a_model_that_is_no_cell(text: str, reason: str) -> None:
    with pytest.raises(ArgumentError, match=f"'model': {reason}"):
        resolve_model(text)


def test_the_model_file_of_a_cell_loads_without_more_ado(tmp_path: Path) -> None:
    name = f"nasbench201:{architecture(*['none'] * 3, 'skip_connect', 'none', 'none')}"
    model = resolve_model(name, seed=1).model
    lm.save_model(tmp_path / "cell.pt", model, model=name)
    x = torch.randn(2, *INPUT_SHAPE)
    torch.testing.assert_close(lm.load_model(tmp_path / "cell.pt").eval()(x), model(x))


@pytest.mark.parametrize("classes", [0, -1, 2.0, True])
def test_classes_are_counted(classes: int) -> None:
    with pytest.raises(ArgumentError, match=f"'classes': expected an integer of at least 1, got {classes}"):
        nasbench201(MIXED, classes)


@pytest.mark.parametrize("text", [MIXED, architecture("none", *["avg_pool_3x3"] * 2, "none", "none", "skip_connect")])
def test_a_cell_compiles(text: str) -> None:
    made, x = cell(text).eval(), torch.randn(1, 4, 6, 6)
    torch.testing.assert_close(lm.compile(made, (x,))(x), made(x), rtol=1e-4, atol=1e-5)


def test_the_whole_network_imports_and_counts_its_work() -> None:
    torch.manual_seed(0)
    pointwise = architecture("none", "none", "none", "nor_conv_1x1", "none", "none")
    program = lm.import_model(nasbench201(pointwise).eval(), (torch.randn(1, *INPUT_SHAPE),))
    skeleton, cells = 7_783_040, 3 * 5 * 16 * 16 * 32 * 32
    assert sum(layer.macs for layer in program.layers) == skeleton + cells
