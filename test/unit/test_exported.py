"""Exported programs of strangers: what they hold is never run, and what could be run is refused by name."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bombs import write_bomb
from torch import nn

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.ingress import exported
from loopmorph.pipelines.ingress.models import resolve_model

Graph = dict[str, Any]


class Net(nn.Module):
    """Constants, names that are no identifiers, a size that is computed, two outputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.add_module("a-b", nn.Conv2d(4, 4, 1))
        self.scale = torch.arange(4.0).reshape(4, 1, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.get_submodule("a-b")(self.conv(x)) * self.scale
        with torch.no_grad():
            z = torch.einsum("nchw,ndhw->ncd", y, y)
        return {"y": y.flatten(1).view(x.shape[0], -1), "z": z}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "net.pt2"
    sizes = ({0: torch.export.Dim("b", max=8), 2: 2 * torch.export.Dim("h", min=2, max=8)},)
    program = torch.export.export(Net().eval(), (torch.randn(2, 3, 8, 8),), dynamic_shapes=sizes)
    torch.export.save(program, path)
    return path


def forged(plain: Path, folder: Path, change: Callable[[str, bytes], bytes | None]) -> str:
    """A copy with some members changed, or left out where `change` gives None."""
    path = folder / "forged.pt2"
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = change(name.partition("/")[2], old.read(name))
            if content is not None:
                new.writestr(name, content)
    return str(path)


def with_graph(plain: Path, folder: Path, change: Callable[[Graph], Any]) -> str:
    def changed(name: str, content: bytes) -> bytes:
        if name != "models/model.json":
            return content
        graph = json.loads(content)
        change(graph)
        return json.dumps(graph).encode()

    return forged(plain, folder, changed)


class Touch:
    """A pickle of it makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._path),)


def test_what_torch_writes_is_read(plain: Path) -> None:
    with zipfile.ZipFile(plain) as archive:
        assert b"expr_str" in archive.read("net/models/model.json")  # sizes that are formulas
    loaded = resolve_model(str(plain))
    torch.testing.assert_close(
        loaded.model(*loaded.example_inputs), torch.export.load(plain).module()(*loaded.example_inputs)
    )


@pytest.mark.parametrize("member", ["data/sample_inputs/model.pt", "data/weights/model.pt", "data/constants/model.pt"])
def test_pickles_are_not_run(plain: Path, tmp_path: Path, member: str) -> None:
    evil = io.BytesIO()
    torch.save({"a": Touch(tmp_path / "ran")}, evil)
    path = forged(plain, tmp_path, lambda name, content: content)
    with zipfile.ZipFile(path, "a") as archive:
        if f"net/{member}" in archive.namelist():
            archive.close()
            path = forged(plain, tmp_path, lambda name, content: evil.getvalue() if name == member else content)
        else:
            archive.writestr(f"net/{member}", evil.getvalue())
    with pytest.raises(ArgumentError, match=rf"forged\.pt2: refused: '{member}' is a pickle.*mkdir.*pass --trust"):
        resolve_model(path)
    assert not (tmp_path / "ran").exists()


def test_pickled_weights_are_not_run(plain: Path, tmp_path: Path) -> None:
    evil = io.BytesIO()
    torch.save(Touch(tmp_path / "ran"), evil)

    def change(name: str, content: bytes) -> bytes:
        if name == "data/weights/weight_0":
            return evil.getvalue()
        return content.replace(b'"use_pickle": false', b'"use_pickle": true')

    with pytest.raises(ArgumentError, match=r"forged\.pt2: cannot be read as an exported program"):
        resolve_model(forged(plain, tmp_path, change))
    assert not (tmp_path / "ran").exists()
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def call(graph: Graph, target: str) -> None:
    graph["graph_module"]["graph"]["nodes"][0]["target"] = target


def name_node(graph: Graph, name: str) -> None:
    graph["graph_module"]["graph"]["inputs"][0]["as_tensor"]["name"] = name


def nest_inputs(graph: Graph, kind: str, context: Any) -> None:
    spec = [1, {"type": kind, "context": json.dumps(context), "children_spec": []}]
    graph["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = json.dumps(spec)


def set_size(graph: Graph, text: str) -> None:
    values = graph["graph_module"]["graph"]["tensor_values"]
    next(iter(values.values()))["sizes"][0] = {"as_expr": {"expr_str": text, "hint": None}}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda g: call(g, "torch.os.abort"), "it calls 'torch.os.abort', which is not an operator"),
        (lambda g: call(g, "torch.ops.load_library"), "it calls 'torch.ops.load_library'"),
        (lambda g: call(g, "torch.ops.aten.__class__.x"), "it calls 'torch.ops.aten.__class__.x'"),
        (lambda g: call(g, "torch.ops.aten.from_file.default"), "it calls 'torch.ops.aten.from_file.default'"),
        (lambda g: call(g, "_operator.attrgetter"), "it calls '_operator.attrgetter'"),
        (lambda g: call(g, "#x:y"), "it calls '#x:y'"),
        (lambda g: call(g, "math.factorial"), "it calls 'math.factorial'"),
        (
            lambda g: call(g, "torch.ops.higher_order.call_torchbind"),
            "it calls 'torch.ops.higher_order.call_torchbind'",
        ),
        (lambda g: name_node(g, "x=print(1)"), r"its name 'x=print\(1\)' is not a name"),
        (lambda g: nest_inputs(g, "collections.defaultdict", {}), "inputs or outputs hold a 'collections.defaultdict'"),
        (lambda g: nest_inputs(g, "builtins.dict", ["a, b=1"]), "have the key 'a, b=1', which is not a name"),
        (lambda g: set_size(g, "__import__('os').abort()"), "its size .* is more than a formula"),
        (lambda g: set_size(g, "sympify('f(1)')"), "its size .* is more than a formula"),
        (lambda g: set_size(g, "Add('os.abort()')"), "its size .* is more than a formula"),
        (lambda g: set_size(g, "Pow(Integer(9), Integer(999999999))"), "its size .* is more than a formula"),
        (lambda g: set_size(g, "(" * 300 + "1" + ")" * 300), "its size .* is more than a formula"),
    ],
)
def test_graphs_of_other_things_are_refused(
    plain: Path, tmp_path: Path, change: Callable[[Graph], None], reason: str
) -> None:
    with pytest.raises(ArgumentError, match=rf"forged\.pt2: refused: .*{reason}.*pass --trust"):
        resolve_model(with_graph(plain, tmp_path, change))


def test_guards_are_not_run(plain: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    path = with_graph(
        plain, tmp_path, lambda g: g.update(guards_code=[f"__import__('os').mkdir({str(ran)!r}) is None"])
    )
    resolve_model(path)
    assert not ran.exists()


def test_compiled_code_is_not_loaded(plain: Path, tmp_path: Path) -> None:
    path = forged(plain, tmp_path, lambda name, content: content)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("net/data/aotinductor/model/model.so", b"")
    assert resolve_model(path).example_inputs[0].shape == (2, 3, 8, 8)


def test_what_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    path = write_bomb(tmp_path / "bomb.pt2", "net/data/weights/w")
    with pytest.raises(ArgumentError, match=r"bomb\.pt2: refused: it unpacks to 3\.0 GiB; at most 2\.0 GiB are read"):
        resolve_model(str(path))


def test_a_claim_of_a_large_tensor_is_refused(plain: Path, tmp_path: Path) -> None:
    def change(name: str, content: bytes) -> bytes:
        if name == "data/weights/weight_0":
            return b""
        if name != "data/weights/model_weights_config.json":
            return content
        config = json.loads(content)
        next(iter(config["config"].values()))["tensor_meta"]["sizes"] = [{"as_int": 10**6}, {"as_int": 10**6}]
        return json.dumps(config).encode()

    with pytest.raises(ArgumentError, match="refused: it has a tensor of 1000000x1000000 elements"):
        resolve_model(forged(plain, tmp_path, change))


def test_a_trusted_file_is_torchs_own_business(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = with_graph(plain, tmp_path, lambda g: nest_inputs(g, "builtins.dict", ["a, b=1"]))
    monkeypatch.setattr(exported, "_check", lambda members: pytest.fail("looked through"))
    with pytest.raises(ArgumentError, match=r"cannot be read as an exported program|the model does not accept"):
        resolve_model(path, trust=True)
