"""`torch.compile(model, backend="loopmorph")`: eager's numbers, or eager itself with a reason; never stale ones."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from loopmorph.pipelines.codegen.dynamo import FallbackWarning, loopmorph

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "test" / "unit"))

import networks  # noqa: E402


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    with torch.no_grad():
        yield


def compiled(model: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    return torch.compile(model, backend=loopmorph, **options)


def assert_compiled_equal(model: Callable[..., Any], *inputs: torch.Tensor) -> Callable[..., Any]:
    """Compares with eager, and fails where anything fell back."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", FallbackWarning)
        run = compiled(model)
        for _ in range(2):  # the first call is checked against eager by the backend itself
            torch.testing.assert_close(run(*inputs), model(*inputs), rtol=1e-4, atol=1e-5)
    return run


@pytest.mark.parametrize("network", [networks.Residual, networks.Plain, networks.Dense, networks.Separable])
def test_equals_eager(network: type[nn.Module]) -> None:
    assert_compiled_equal(networks.randomized(network()), networks.image())


def test_a_function_without_parameters() -> None:
    assert_compiled_equal(lambda x, y: functional.relu(x) + 2 * y, networks.image(), networks.image(seed=1))


def test_several_outputs_keep_their_order() -> None:
    assert_compiled_equal(lambda x: (functional.relu(x), x.sum((2, 3))), networks.image())


def test_outputs_keep_eager_strides() -> None:
    x = networks.image().to(memory_format=torch.channels_last)
    convolution = nn.Conv2d(3, 4, 3).eval()
    run = assert_compiled_equal(convolution, x)
    assert run(x).stride() == convolution(x).stride()


def test_each_static_shape_has_its_code() -> None:
    model = networks.randomized(networks.Separable())
    with warnings.catch_warnings():
        warnings.simplefilter("error", FallbackWarning)
        run = compiled(model, dynamic=False)
        for batch in (1, 2):
            x = networks.image(batch)
            torch.testing.assert_close(run(x), model(x), rtol=1e-4, atol=1e-5)


def scale_in_place(model: networks.Plain) -> None:
    model.conv1.weight.mul_(-2.0)


def load_state(model: networks.Plain) -> None:
    model.load_state_dict({name: tensor + 0.5 for name, tensor in model.state_dict().items()})


def assign_parameter(model: networks.Plain) -> None:
    model.linear.weight = nn.Parameter(torch.ones_like(model.linear.weight))


def step_of_an_optimizer(model: networks.Plain) -> None:
    with torch.enable_grad():
        functional.cross_entropy(model(networks.image()), torch.tensor([3])).backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()


@pytest.mark.parametrize("change", [scale_in_place, load_state, assign_parameter, step_of_an_optimizer])
def test_changed_parameters_are_seen(change: Callable[[networks.Plain], None]) -> None:
    model = networks.randomized(networks.Plain())
    x = networks.image()
    run = assert_compiled_equal(model, x)
    before = run(x)
    change(model)
    assert not torch.allclose(run(x), before)
    torch.testing.assert_close(run(x), model(x), rtol=1e-4, atol=1e-5)


def test_changed_statistics_are_seen() -> None:
    model = networks.randomized(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    x = networks.image()
    run = assert_compiled_equal(model, x)
    model[1].running_mean.add_(1.0)
    torch.testing.assert_close(run(x), model(x), rtol=1e-4, atol=1e-5)


def test_parameters_that_always_change_end_in_eager() -> None:
    model = nn.Linear(8, 4).eval()
    x = networks.image()
    run = assert_compiled_equal(model, x)
    with pytest.warns(FallbackWarning, match="its parameters changed 9 times"):
        for _ in range(10):
            model.weight.add_(0.1)
            torch.testing.assert_close(run(x), model(x), rtol=1e-4, atol=1e-5)


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        return x * self.count


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda x: torch.sort(x)[0], r"sort .*cannot be lowered"),
        (nn.Dropout(), r"'aten.bernoulli_.float' draws random numbers"),
        (nn.BatchNorm2d(3, affine=False), r"num_batches_tracked.* is torch.int64"),
        (nn.InstanceNorm2d(3, track_running_stats=True), r"updates running statistics"),
        (Counter(), r"'aten.add_.Tensor' changes an input or a parameter in place"),
        (lambda x: (x.view(-1), x + 1), r"output 0 shares memory"),
        (lambda x: x.double() * 2, None),
    ],
    ids=["unsupported", "random", "training", "statistics", "mutation", "alias", "double inside"],
)
def test_falls_back_with_the_reason(model: Callable[..., Any], message: str | None) -> None:
    x = networks.image()
    reference = model
    if message is None:
        assert_compiled_equal(model, x)
        return
    with pytest.warns(FallbackWarning, match=f"operations runs in eager PyTorch: .*{message}"):
        result = compiled(model)(x)
    if not isinstance(model, nn.Module):
        torch.testing.assert_close(result, reference(x))


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.ones(2, 3, dtype=torch.float64), r"input 'l_x_' is torch.float64; only torch.float32 is compiled"),
        (torch.ones(2, 3, dtype=torch.int64), r"input 'l_x_' is torch.int64"),
        (torch.ones(2, 3).to_sparse(), None),
    ],
    ids=["double", "integer", "sparse"],
)
def test_other_tensors_fall_back(tensor: torch.Tensor, message: str | None) -> None:
    def double(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    if message is None:
        torch.testing.assert_close(compiled(double)(tensor).to_dense(), double(tensor).to_dense())
        return
    with pytest.warns(FallbackWarning, match=message):
        torch.testing.assert_close(compiled(double)(tensor), double(tensor))


def test_grad_falls_back_and_flows() -> None:
    model = networks.randomized(networks.Plain())
    with torch.enable_grad(), pytest.warns(FallbackWarning, match="requires grad; only inference is compiled"):
        compiled(model)(networks.image()).sum().backward()
    assert model.conv1.weight.grad is not None


def test_dynamic_shapes_fall_back() -> None:
    model = networks.randomized(networks.Separable())
    run = compiled(model, dynamic=True)
    with pytest.warns(FallbackWarning, match=r"torch.compile\(..., dynamic=False\)"):
        for batch in (2, 3):
            x = networks.image(batch)
            torch.testing.assert_close(run(x), model(x))


def test_autocast_falls_back() -> None:
    model, x = nn.Linear(8, 4), networks.image()
    with torch.autocast("cpu"), pytest.warns(FallbackWarning, match="autocast is on"):
        assert compiled(model)(x).dtype == torch.bfloat16


def test_graph_break_compiles_both_parts() -> None:
    def broken(x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(x)
        torch._dynamo.graph_break()
        return y * 3

    assert_compiled_equal(broken, networks.image())


def test_unknown_option_is_named() -> None:
    run = compiled(nn.ReLU(), options={"thread": 1})
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match="unknown option 'thread'; known are: threads"):
        run(networks.image())


def test_dynamo_finds_the_backend_by_its_name(tmp_path: Path) -> None:
    """The entry point of pyproject.toml, installed as a wheel would install it, in a fresh process."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    group = project["entry-points"]["torch_dynamo_backends"]
    info = tmp_path / "entry_of_loopmorph-0.0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: entry_of_loopmorph\nVersion: 0.0.0\n")
    lines = ["[torch_dynamo_backends]", *(f"{name} = {value}" for name, value in group.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    code = (
        "import torch\n"
        "model, x = torch.nn.Linear(4, 2), torch.ones(3, 4)\n"
        "with torch.no_grad():\n"
        "    torch.testing.assert_close(torch.compile(model, backend='loopmorph')(x), model(x))\n"
        "print('loopmorph' in torch._dynamo.list_backends())\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run([sys.executable, "-W", "error::UserWarning:loopmorph", "-c", code], env=environment,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "True"), done.stderr
