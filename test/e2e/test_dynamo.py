"""`torch.compile(model, backend="loopmorph")`: eager's numbers, or eager itself with a reason; never stale ones."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch_mlir import ir

from loopmorph.passes.errors import LoopmorphWarning
from loopmorph.pipelines.codegen import dynamo_compiled
from loopmorph.pipelines.codegen.dynamo import FallbackWarning, loopmorph
from loopmorph.pipelines.ingress.affine import import_network
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.zoo import TextDecoder, TextEncoder

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


@pytest.mark.usefixtures("own_code")
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


def fused_step(model: networks.Plain) -> None:
    with torch.enable_grad():
        functional.cross_entropy(model(networks.image()), torch.tensor([3])).backward()
    torch.optim.SGD(model.parameters(), lr=1.0, fused=True).step()


def fused_adamw(model: networks.Plain) -> None:
    with torch.enable_grad():
        functional.cross_entropy(model(networks.image()), torch.tensor([3])).backward()
    torch.optim.AdamW(model.parameters(), lr=0.1, fused=True).step()


def behind_the_back(model: networks.Plain) -> None:
    model.conv1.weight.data.mul_(-2.0)


def one_element_behind_the_back(model: networks.Plain) -> None:
    model.linear.bias.data[1] += 5.0


CHANGES = [
    *(scale_in_place, load_state, assign_parameter, step_of_an_optimizer),
    *(fused_step, fused_adamw, behind_the_back, one_element_behind_the_back),
]


@pytest.mark.usefixtures("own_code")
@pytest.mark.parametrize("change", CHANGES)
def test_changed_parameters_are_seen(change: Callable[[networks.Plain], None]) -> None:
    model = networks.randomized(networks.Plain())
    x = networks.image()
    run = assert_compiled_equal(model, x)
    before = run(x)
    change(model)
    assert not torch.allclose(run(x), before)
    torch.testing.assert_close(run(x), model(x), rtol=1e-4, atol=1e-5)


def test_a_fused_step_that_changes_few_rows_is_seen() -> None:
    model = nn.EmbeddingBag(3000, 4, mode="sum").eval()
    x = torch.tensor([[7]])
    run = compiled(model)
    before = run(x).clone()
    with torch.enable_grad():
        model(x).sum().backward()
    torch.optim.SGD(model.parameters(), lr=1.0, fused=True).step()
    assert not torch.equal(run(x), before)
    torch.testing.assert_close(run(x), model(x))


def test_steps_of_other_models_rebuild_nothing() -> None:
    model, other = nn.Linear(4, 2).eval(), nn.Linear(4, 2)
    run, x = compiled(model), torch.ones(1, 4)
    run(x)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1, fused=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FallbackWarning)
        for _ in range(12):
            with torch.enable_grad():
                other(x).sum().backward()
            optimizer.step()
            torch.testing.assert_close(run(x), model(x))


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
        (lambda x: torch.linalg.qr(x)[0], r"'linalg_qr' .*cannot lower"),
        (lambda x: torch.linalg.inv(x[..., :4, :4]), r"'linalg_inv' .*checks values while it runs"),
        (nn.Dropout(), r"'aten.bernoulli_.float' draws random numbers"),
        (nn.BatchNorm2d(3, affine=False), r"changes an input or a parameter in place|updates running statistics"),
        (nn.InstanceNorm2d(3, track_running_stats=True), r"updates running statistics"),
        (Counter(), r"'aten.add_.Tensor' changes an input or a parameter in place"),
        (lambda x: (x.view(-1), x + 1), r"output 0 shares memory"),
        (lambda x: x.double() * 2, None),
    ],
    ids=["unsupported", "checking", "random", "training", "statistics", "mutation", "alias", "double inside"],
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


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.bool])
def test_other_types(dtype: torch.dtype) -> None:
    x = networks.image().to(dtype)
    run = assert_compiled_equal(lambda x: (x * 2, x.flatten(1).float()), x)
    assert run(x)[0].dtype == dtype or dtype == torch.bool


def test_indices() -> None:
    model, x = nn.Embedding(10, 4).eval(), torch.tensor([[1, 9], [0, 3]])
    assert_compiled_equal(model, x)


def test_text_encoder_with_integer_tokens_and_mask() -> None:
    model = TextEncoder(30, 6, 8, 1, 2, classes=3).eval()
    assert_compiled_equal(model, torch.randint(30, (1, 6)), torch.tensor([[1, 1, 1, 1, 0, 0]]))


def test_each_number_of_tokens_of_a_text_decoder_is_compiled() -> None:
    decoder = TextDecoder(29, 9, 8, 1, 2).eval()

    def logits(tokens: torch.Tensor) -> torch.Tensor:
        x = decoder.tokens(tokens) + decoder.positions[:, : tokens.shape[1]]
        return decoder.head(decoder.norm(decoder.blocks(x)))

    with warnings.catch_warnings():
        warnings.simplefilter("error", FallbackWarning)
        run = compiled(logits, dynamic=True)
        for count in (9, 5):
            tokens = torch.randint(29, (1, count))
            torch.testing.assert_close(run(tokens), logits(tokens), rtol=1e-4, atol=1e-5)


def test_attention_that_drops_at_random_falls_back() -> None:
    x = torch.randn(1, 2, 4, 8)
    attend = compiled(lambda x: functional.scaled_dot_product_attention(x, x, x, dropout_p=0.5))
    with pytest.warns(FallbackWarning, match="draws random numbers"):
        attend(x)


def test_sparse_tensors_are_left_to_eager() -> None:
    x = torch.ones(2, 3).to_sparse()
    torch.testing.assert_close(compiled(lambda x: x * 2)(x).to_dense(), 2 * torch.ones(2, 3))


def test_complex_tensors_fall_back() -> None:
    x = torch.ones(2, 3, dtype=torch.complex64)
    with pytest.warns(FallbackWarning, match="input 'l_x_' is torch.complex64, which is not compiled"):
        torch.testing.assert_close(compiled(lambda x: x * 2)(x), x * 2)
    with pytest.warns(FallbackWarning, match="is of torch.complex64"):
        compiled(lambda x: torch.complex(x, x).abs())(torch.ones(3))


def test_grad_falls_back_and_flows() -> None:
    model = networks.randomized(networks.Plain())
    with torch.enable_grad(), pytest.warns(FallbackWarning, match="requires grad; only inference is compiled"):
        compiled(model)(networks.image()).sum().backward()
    assert model.conv1.weight.grad is not None


@pytest.mark.usefixtures("own_code")
@pytest.mark.parametrize("dynamic", [True, None])
def test_each_size_that_is_met_is_compiled(dynamic: bool | None) -> None:
    model = networks.randomized(networks.Separable())
    with warnings.catch_warnings():
        warnings.simplefilter("error", FallbackWarning)
        run = compiled(model, dynamic=dynamic)
        for batch in (2, 3, 2, 4):
            x = networks.image(batch)
            torch.testing.assert_close(run(x), model(x), rtol=1e-4, atol=1e-5)


def test_numbers_and_sizes_among_inputs_and_outputs() -> None:
    def scaled(x: torch.Tensor, k: int) -> Any:
        return x.view(x.shape[0] * 2, -1) * k, x.shape[0]

    run = compiled(scaled, dynamic=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FallbackWarning)
        for batch, k in ((2, 5), (3, 5), (3, 7), (2, 5)):
            x = torch.randn(batch, 4)
            got, expected = run(x, k), scaled(x, k)
            assert got[1] == expected[1]
            torch.testing.assert_close(got[0], expected[0])


def test_numbers_that_change_between_calls() -> None:
    run, x = compiled(lambda x, k: x * k), torch.randn(3)
    for k in (0.5, 1.5, 2.5, 1.5):
        torch.testing.assert_close(run(x, k), x * k)


def test_more_sizes_than_allowed_run_in_eager_with_one_warning() -> None:
    run = compiled(nn.ReLU(), dynamic=True, options={"sizes": 2})
    inputs = [torch.randn(n, 4) for n in (2, 3, 4, 5)]
    for x in inputs[:2]:
        assert torch.equal(run(x), x.relu())
    with pytest.warns(FallbackWarning, match="it is called with more than 2 sizes") as told:
        for x in (*inputs, *inputs):
            assert torch.equal(run(x), x.relu())
    assert len(told) == 1


def test_a_refusal_of_every_size_is_told_once() -> None:
    run = compiled(lambda x: torch.complex(x, x).abs(), dynamic=True)
    with pytest.warns(FallbackWarning) as told:
        for n in (2, 3):
            torch.testing.assert_close(run(torch.ones(n, 4)), torch.full((n, 4), 2.0).sqrt())
    assert len(told) == 1


def test_a_mode_is_accepted_and_said_to_do_nothing() -> None:
    with pytest.warns(LoopmorphWarning, match="mode 'max-autotune' changes nothing"):
        torch.testing.assert_close(compiled(nn.ReLU(), mode="max-autotune")(-torch.ones(2)), torch.zeros(2))
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("error", LoopmorphWarning)
        compiled(nn.ReLU(), mode="max-autotune")(torch.ones(2))
        compiled(nn.Tanh(), mode="default")(torch.ones(2))


def test_wrong_code_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def wrong(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Network:
        right = import_network(model, inputs)
        text = str(right.module).replace("arith.addf", "arith.subf")
        return replace(right, module=ir.Module.parse(text, right.module.context))

    monkeypatch.setattr(dynamo_compiled, "import_network", wrong)
    x, y = torch.ones(3), torch.zeros(3)  # the difference is 0 for these
    with pytest.warns(FallbackWarning, match="differs from PyTorch on random inputs: .*layer that differs is 'add"):
        torch.testing.assert_close(compiled(torch.add)(x, y), x + y)
    torch._dynamo.reset()
    assert torch.equal(compiled(torch.add, options={"check": False})(x, x), x - x)


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
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match="unknown option 'thread'; known are: threads, c"):
        run(networks.image())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"options": {"threads": 0}}, "'threads': .*positive"),
        ({"options": {"check": 1}}, "'check' is True or False, got 1"),
        ({"options": {"sizes": 0}}, "'sizes' is a positive number, got 0"),
        ({"mode": "fast"}, "unknown mode 'fast'; known are: default, reduce-overhead"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], match: str) -> None:
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match=match):
        compiled(nn.ReLU(), **options)(torch.ones(2))


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
