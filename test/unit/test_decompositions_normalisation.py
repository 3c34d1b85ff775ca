"""Normalisation in core operations: groups, layers, instances, root mean squares; ranks, dtypes, absent parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from decomposed import assert_compiles, assert_decomposes, assert_same

from loopmorph.pipelines.ingress.decompositions import normalisation as n

aten = torch.ops.aten


def parameters(count: int, present: str) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    return torch.randn(count) if "w" in present else None, torch.randn(count) if "b" in present else None


@pytest.mark.parametrize("present", ["wb", "w", "b", ""])
@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 5), (1, 6, 4, 3), (2, 6, 2, 3, 4)], ids=str)
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_norm(shape: tuple[int, ...], groups: int, present: str) -> None:
    x, (weight, bias) = torch.randn(shape) * 3 + 5, parameters(6, present)
    if x[0].numel() == groups:
        pytest.skip("groups of one element: PyTorch's result is rounding noise")
    assert_same(n.group_norm_of_layer(x, groups, weight, bias), F.group_norm(x, groups, weight, bias))
    sizes = (shape[0], 6, x[0, 0].numel(), groups)
    assert_same(n.group_norm(x, weight, bias, *sizes, 1e-5), aten.native_group_norm(x, weight, bias, *sizes, 1e-5))


@pytest.mark.parametrize("present", ["wb", "w", "b", ""])
@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_layer_norm(axes: int, present: str, dtype: torch.dtype) -> None:
    x, shape = torch.randn(2, 3, 4, 5).to(dtype), [4, 5][-axes:]
    weight, bias = (
        p if p is None else p.view(shape).to(dtype) for p in parameters(5 * (4 if axes == 2 else 1), present)
    )
    ours, reference = n.layer_norm(x, shape, weight, bias, 1e-5), F.layer_norm(x, shape, weight, bias)
    assert_same(ours[0], reference)
    assert_same(ours[1].flatten(), x.double().flatten(-axes).mean(-1).to(ours[1].dtype).flatten())


@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 3, 4, 3), (2, 3, 2, 3, 4)], ids=str)
def test_instance_norm(shape: tuple[int, ...]) -> None:
    x, (weight, bias) = torch.randn(shape) * 3 + 5, parameters(3, "wb")
    assert_same(
        n.instance_norm(x, weight, bias, None, None, True, 0.1, 1e-5, False),
        F.instance_norm(x, None, None, weight, bias),
    )


@pytest.mark.parametrize("epsilon", [None, 1e-3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_rms_norm(epsilon: float | None, dtype: torch.dtype) -> None:
    x, weight = (torch.randn(2, 3, 4) * 1e-3).to(dtype), torch.randn(4).to(dtype)
    assert_same(n.rms_norm(x, [4], weight, epsilon), F.rms_norm(x, [4], weight, epsilon))
    assert_same(n.rms_norm(x, [3, 4], None, epsilon), F.rms_norm(x, [3, 4], None, epsilon))


def with_running_means(x: torch.Tensor) -> torch.Tensor:
    return F.instance_norm(x, torch.linspace(0, 1, 4), torch.linspace(1, 2, 4), use_input_stats=False)


EXPORTED: dict[str, Callable[..., Any]] = {
    "groups": lambda x: F.group_norm(x, 2),
    "one group": lambda x: F.group_norm(x, 1),
    "layer": lambda x: F.layer_norm(x, [5, 5]),
    "layer over channels": lambda x: F.layer_norm(x.permute(0, 2, 3, 1), [4]).permute(0, 3, 1, 2),
    "instance": F.instance_norm,
    "root mean square": lambda x: F.rms_norm(x, [5]),
    "neighbouring channels": lambda x: F.local_response_norm(x, 3),
    "neighbouring channels, even": lambda x: F.local_response_norm(x[0], 2),
}


@pytest.mark.parametrize("name", EXPORTED)
def test_the_exporter_uses_the_rules(name: str) -> None:
    names = assert_decomposes(EXPORTED[name], torch.randn(2, 4, 5, 5))
    assert not {each for each in names if "norm" in each or "var" in each or "as_strided" in each}


def test_running_means_are_left_to_batch_norm() -> None:
    assert_decomposes(with_running_means, torch.randn(2, 4, 5, 5))


@pytest.mark.parametrize("name", ["groups", "layer over channels", "neighbouring channels"])
def test_compiled(name: str) -> None:
    assert_compiles(EXPORTED[name], torch.randn(2, 4, 5, 5))
