"""The file of a rewritten network: each kind of change comes back, with torch alone; what is wrong in it is named."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from saved_networks import NAME, STEPS, original
from torch import nn

import loopmorph as lm
from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.pipelines.ingress.models import resolve_model
from loopmorph.pipelines.rewritten.dropped_module import DroppedModule
from loopmorph.pipelines.rewritten.nest_module import NestModule
from loopmorph.pipelines.rewritten.origin import origin_of
from loopmorph.pipelines.rewritten.recipe_data import read_recipe, recipe_data
from loopmorph.pipelines.rewritten.rewritten_layers import SlicedConv2d
from loopmorph.pipelines.support.extras import needs_mlir

HERE = Path(__file__).parent
Content = dict[str, Any]
IMAGES = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network() -> tuple[nn.Module, nn.Module]:
    """The original and the rewritten network."""
    torch.manual_seed(0)
    model, inputs = original()
    return model, lm.import_model(model, inputs).apply(",".join(STEPS)).to_module().eval()


@pytest.fixture(scope="module")
def content(network: tuple[nn.Module, nn.Module], tmp_path_factory: pytest.TempPathFactory) -> Content:
    """What the rewritten network's file holds."""
    model, module = network
    path = tmp_path_factory.mktemp("saved") / "model.pt"
    lm.save_model(path, module, model=NAME, original=model, schedule=",".join(STEPS))
    return torch.load(path, weights_only=True)


def again(tmp_path: Path, module: nn.Module, model: nn.Module) -> nn.Module:
    lm.save_model(tmp_path / "model.pt", module, model=NAME, original=model)
    return lm.load_model(tmp_path / "model.pt", original=model)


# -- what comes back


def test_what_a_file_holds(content: Content) -> None:
    assert [(change["at"], change["kind"]) for change in content["changes"]] == [
        ("dense.0", "Conv2d"),
        ("dense.1", "BatchNorm2d"),
        ("grouped.0", "Conv2d"),
        ("depthwise.0", "Conv2d"),
        ("low_rank.0", "NestModule"),
        ("coarse.0", "NestModule"),
        ("head", "SlicedLinear"),
    ]
    assert (content["model"], content["seed"], content["schedules"]) == (NAME, 0, [",".join(STEPS)])
    assert content["tied"] == [] and content["buffers"] == {}


def test_modes_dtypes_and_frozen_parameters_come_back(network: tuple[nn.Module, nn.Module], tmp_path: Path) -> None:
    model, module = (copy.deepcopy(each).double() for each in network)
    module.low_rank[0].mix.requires_grad_(False)
    module.dense[1].weight.requires_grad_(False)
    module.dense[1].train()
    found = again(tmp_path, module, model.train())
    assert all(each.training for each in found.modules())
    trained = [name for name, parameter in found.named_parameters() if parameter.requires_grad]
    assert trained == [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    assert {parameter.dtype for parameter in found.parameters()} == {torch.float64}
    x = IMAGES.double()
    torch.testing.assert_close(found.eval()(x), module.eval()(x), rtol=0, atol=0)
    half = lm.load_model(tmp_path / "model.pt", original=copy.deepcopy(model).to(torch.bfloat16)).eval()
    torch.testing.assert_close(half(IMAGES.bfloat16()).double(), module(x), rtol=0.1, atol=0.1)


class Own(nn.Module):
    """A weight that its own code reads, and a buffer that no state dict has."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, 4))
        self.register_buffer("scale", torch.rand(width), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * (x @ self.weight.T)


def test_reshaped_and_tied_tensors_come_back(tmp_path: Path) -> None:
    """What surgery leaves of a user's own code, and a module that stands in two places."""
    torch.manual_seed(0)
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, Own(6), nn.Linear(6, 4), shared, nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU())
    model[5].weight = model[4].weight
    module = copy.deepcopy(model)
    module[0] = module[3] = nn.Linear(4, 4, bias=False)
    module[1] = Own(3)
    module[2] = nn.Linear(3, 4)
    module[4], module[5] = nn.Linear(4, 5), nn.Linear(4, 5)
    module[5].weight = module[4].weight
    module[6] = DroppedModule((1, 5), 1)
    found = again(tmp_path, module, model)
    assert found[0] is found[3] and found[4].weight is found[5].weight and type(found[6]) is DroppedModule
    module[6] = found[6] = nn.Identity()
    module[5] = found[5] = nn.Identity()
    x = torch.randn(2, 4)
    torch.testing.assert_close(found(x), module(x), rtol=0, atol=0)


class Sized(nn.Module):
    """Code that reads sizes of its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.shape, self.name = width, (-1, width), "sized"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, : self.width].reshape(self.shape)


def test_sizes_that_a_module_keeps_come_back(tmp_path: Path) -> None:
    model, module, x = nn.Sequential(Sized(4)), nn.Sequential(Sized(2)), torch.randn(2, 4)
    assert torch.equal(again(tmp_path, module, model)(x), module(x))
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    sizes = content["changes"][0]["arguments"]["sizes"]
    for wrong, message in (
        ({**sizes, "width": "2"}, "field 'width' is '2'; a whole number"),
        ({**sizes, "shape": [2]}, r"field 'shape' is \[2\]; a list of 2 whole numbers"),
        ({**sizes, "forward": 1}, "field 'forward' is not known"),
        ([], "sizes: is .*; a dictionary is expected"),
    ):
        content["changes"][0]["arguments"]["sizes"] = wrong
        torch.save(content, tmp_path / "model.pt")
        with pytest.raises(DataError, match=message):
            lm.load_model(tmp_path / "model.pt", original=model)


@pytest.mark.parametrize(
    ("old", "new", "shape"),
    [
        (nn.Conv1d(4, 4, 3), nn.Conv1d(4, 2, 3, groups=2, padding="same"), (2, 4, 9)),
        (nn.Conv3d(2, 2, 3), nn.Conv3d(2, 6, 3, padding=1, padding_mode="circular"), (1, 2, 4, 4, 4)),
        (nn.Conv2d(4, 4, 3), SlicedConv2d(2, 4, 3, channels=(3, 1), uneven_padding=(1, 0, -1, 2)), (1, 4, 6, 6)),
        (nn.BatchNorm1d(4), nn.BatchNorm1d(2, eps=0.1, momentum=None), (3, 2)),
        (nn.BatchNorm2d(4), nn.BatchNorm2d(2, affine=False), (3, 2, 2, 2)),
        (nn.InstanceNorm2d(4), nn.InstanceNorm2d(2, affine=True), (3, 2, 4, 4)),
    ],
    ids=lambda each: type(each).__name__,
)
def test_each_layer_of_pytorch_comes_back(
    tmp_path: Path, old: nn.Module, new: nn.Module, shape: tuple[int, ...]
) -> None:
    found = again(tmp_path, nn.Sequential(new), nn.Sequential(old))
    assert repr(found[0]) == repr(new)
    x = torch.randn(shape)
    torch.testing.assert_close(found(x), nn.Sequential(new)(x), rtol=0, atol=0)


def test_a_network_that_is_one_layer(tmp_path: Path) -> None:
    model, x = nn.Conv2d(4, 8, 3), torch.randn(1, 4, 6, 6)
    steps = "morph-bottleneck{layer=conv2d iter=oh factor=2}"
    program = lm.import_model(model, (x,))
    layer = program.layers[0].name
    module = program.apply(steps.replace("conv2d", layer)).to_module()
    found = again(tmp_path, module, model)
    assert isinstance(found, NestModule)
    torch.testing.assert_close(found(x), module(x), rtol=0, atol=0)


def test_a_recipe_is_read_as_it_was_written(network: tuple[nn.Module, nn.Module]) -> None:
    for module in network[1].modules():
        if isinstance(module, NestModule):
            plain = replace(module.recipe, batch=None, batched=frozenset(), batch_loops=())
            assert read_recipe("here", recipe_data(module.recipe)) == plain


# -- where MLIR is not installed


def test_trained_elsewhere_and_compiled_here(
    content: Content, network: tuple[nn.Module, nn.Module], tmp_path: Path
) -> None:
    model, module = network
    torch.save(content, tmp_path / "model.pt")
    torch.save(IMAGES, tmp_path / "images.pt")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}
    command = [sys.executable, str(HERE / "without_mlir.py"), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = "takes MLIR, and {} is not installed: pip install 'loopmorph[mlir]'"
    assert done.stdout.strip() == f"loopmorph.compile {said.format('archspec')}"
    errors = [f"error: {what} {said.format('torch-mlir')}" for what in ("loopmorph import", "loopmorph-opt")]
    assert done.stderr.splitlines() == [*errors, "1 1"]

    told = torch.load(tmp_path / "told.pt")
    torch.testing.assert_close(told["before"], module(IMAGES), rtol=1e-5, atol=1e-5)
    assert told["gradients"].isfinite().all() and (told["after"] - told["before"]).abs().max() > 1e-2
    tuned = lm.load_model(tmp_path / "tuned.pt", original=model).eval()
    torch.testing.assert_close(tuned(IMAGES), told["after"], rtol=1e-5, atol=1e-5)
    program = lm.load_program(tmp_path / "tuned.pt", original=(model, (IMAGES[:1],)))
    assert len(program.steps) == len(STEPS)
    run = lm.compile(program, check=False)
    for k in range(len(IMAGES)):
        torch.testing.assert_close(run(IMAGES[k : k + 1]), told["after"][k : k + 1], rtol=1e-4, atol=1e-4)


def test_any_other_missing_package_keeps_its_own_message() -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_package'"), needs_mlir("this"):
        import no_such_package  # noqa: F401


# -- where it is from


def test_what_was_loaded_is_saved_without_more_ado(content: Content, network: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pt")
    module = copy.deepcopy(lm.load_model(tmp_path / "model.pt", original=network[0]))
    with torch.no_grad():
        module.head.weight.mul_(2)
    lm.save_model(tmp_path / "tuned.pt", module)
    found = lm.load_model(tmp_path / "tuned.pt", original=network[0])
    assert torch.equal(found.head.weight, 2 * network[1].head.weight)
    tuned = torch.load(tmp_path / "tuned.pt", weights_only=True)
    assert {**tuned, "state_dict": 0} == {**content, "state_dict": 0}


def test_a_network_that_is_rewritten_twice_is_from_its_first_original(network: Any, tmp_path: Path) -> None:
    model, module = network
    lm.save_model(tmp_path / "first.pt", module, model=NAME, original=model, schedule="first")
    first = lm.load_model(tmp_path / "first.pt", original=model)
    second = copy.deepcopy(first)
    second.grouped = DroppedModule((1, 8, 6, 6), 1)
    second.head = nn.Linear(8, 4)
    lm.save_model(tmp_path / "second.pt", second, model="first.pt", original=first, schedule="second")
    found = lm.load_model(tmp_path / "second.pt", original=model)
    origin = origin_of(found)
    assert origin is not None and (origin.model, origin.schedules) == (NAME, ("first", "second"))
    assert "grouped.0" not in [change["at"] for change in origin.changes] and type(found.head) is nn.Linear
    torch.testing.assert_close(found.eval()(IMAGES), second.eval()(IMAGES), rtol=0, atol=0)


def test_what_no_file_can_hold_is_refused(network: Any, tmp_path: Path) -> None:
    model, module = network
    path = tmp_path / "model.pt"
    with pytest.raises(ArgumentError, match=r"'module': where it is from is not known; only what load_model gave"):
        lm.save_model(path, module)
    changed = copy.deepcopy(module)
    changed.dense[2] = nn.GELU()
    with pytest.raises(ArgumentError, match=r"its module 'dense\.2' is a GELU, the original's a ReLU; only"):
        lm.save_model(path, changed, model=NAME, original=model)
    changed.dense[2] = nn.Sequential(nn.ReLU(), nn.ReLU())
    with pytest.raises(ArgumentError, match=r"'dense\.2' is a Sequential"):
        lm.save_model(path, changed, model=NAME, original=model)
    loaded = again(tmp_path, module, model)
    saved = path.read_bytes()
    loaded.head = nn.Linear(8, 100)
    with pytest.raises(ArgumentError, match=r"of 'head\.weight' its shape is \(100, 8\), and it was \(4, 4\) in"):
        lm.save_model(path, loaded)
    assert path.read_bytes() == saved


# -- as MODEL of the command line


def test_a_file_of_the_zoo_is_a_model_by_its_path(tmp_path: Path) -> None:
    path, loaded = tmp_path / "trained.pt", resolve_model("resnet8_digits", seed=3)
    lm.save_model(path, loaded.model, model="resnet8_digits", seed=3)
    found = resolve_model(str(path))
    assert found.note == "resnet8_digits with other weights" and found.classes == 10
    assert torch.equal(found.example_inputs[0], loaded.example_inputs[0])
    assert all(map(torch.equal, found.model.state_dict().values(), loaded.model.state_dict().values()))
    narrow = copy.deepcopy(loaded.model)
    narrow.linear = nn.Linear(narrow.linear.in_features, 10, bias=False)
    lm.save_model(path, narrow, model="resnet8_digits")
    assert resolve_model(str(path)).note == "resnet8_digits with other weights, rewritten in 1 module"


def test_what_a_file_names_is_run_only_with_trust(content: Content, network: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    with pytest.raises(ArgumentError, match=rf"made from '{NAME}', which is code of its own; .* pass --trust"):
        resolve_model(str(path))
    found = resolve_model(str(path), trust=True)
    torch.testing.assert_close(found.model(IMAGES), network[1](IMAGES), rtol=0, atol=0)
    torch.save({**content, "model": str(path)}, path)
    with pytest.raises(DataError, match="a damaged model file: it says that it was made from another"):
        resolve_model(str(path), trust=True)


def test_the_former_format(content: Content, network: Any, tmp_path: Path) -> None:
    """A schedule in the place of changes: it is loaded by replaying, and saved in the present format."""
    path, (model, module) = tmp_path / "old.pt", network
    old = {name: content[name] for name in ("model", "seed", "state_dict")}
    torch.save({**old, "format": "loopmorph-model-1", "schedule": ",".join(STEPS)}, path)
    with pytest.raises(ArgumentError, match=r"'original': .*an earlier version; give example inputs, too"):
        lm.load_model(path, original=model)
    found = lm.load_model(path, original=(model, (IMAGES[:1],)))
    lm.save_model(tmp_path / "new.pt", found)
    assert torch.load(tmp_path / "new.pt", weights_only=True)["changes"] == content["changes"]
    torch.testing.assert_close(found.eval()(IMAGES), module(IMAGES), rtol=0, atol=0)
    makes = re.escape("python -c \"import loopmorph as lm; lm.save_model('new.pt', lm.load_model(")
    with pytest.raises(DataError, match=rf"old\.pt: has the format of an earlier version; {makes}"):
        resolve_model(str(path))


# -- what is wrong in a file


def test_a_schedule_that_makes_another_network(content: Content, network: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    given = network[0], (IMAGES[:1],)
    other = [
        ",".join(STEPS).replace("{layer=grouped.0 iters=co,ci factor=4}", "{layer=grouped.0 iters=co,ci factor=2}")
    ]
    torch.save({**content, "schedules": other}, path)
    with pytest.raises(DataError, match=r"its schedule cannot be applied to its original: .*'grouped\.0\.weight'"):
        lm.load_program(path, original=given)
    torch.save({**content, "schedules": [",".join(STEPS).replace("iter=oh", "iter=ow")]}, path)
    with pytest.raises(DataError, match=r"its schedule makes another network than the one that it holds"):
        lm.load_program(path, original=given)
    with pytest.raises(ArgumentError, match=r"example inputs are missing: original=\(module, inputs\)"):
        lm.load_program(path, original=network[0])


def change(number: int, **fields: Any) -> Callable[[Content], None]:
    return lambda content: content["changes"][number].update(fields)


def argument(number: int, **fields: Any) -> Callable[[Content], None]:
    return lambda content: content["changes"][number]["arguments"].update(fields)


def statement(**fields: Any) -> Callable[[Content], None]:
    """A field of the first statement of the own nests of 'low_rank.0'."""
    return lambda content: content["changes"][4]["arguments"]["recipe"]["statements"][-1].update(fields)


def buffer(**fields: Any) -> Callable[[Content], None]:
    return lambda content: content["changes"][4]["arguments"]["recipe"]["buffers"][0].update(fields)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c.pop("tied"), "a damaged model file: field 'tied' is missing"),
        (lambda c: c.update(more=1), "field 'more' is not known"),
        (lambda c: c.update(seed="0"), "field 'seed' is '0'; a whole number"),
        (lambda c: c.update(schedules="text"), "field 'schedules' is 'text'; a list of texts"),
        (lambda c: c.update(changes={}), r"field 'changes' is {}; a list"),
        (lambda c: c.update(state_dict=[1]), "field 'state_dict' is .*; a dictionary of tensors"),
        (lambda c: c["state_dict"].update(x=1), "field 'state_dict': 'x' is no plain tensor"),
        (
            lambda c: c["state_dict"].update(x=torch.zeros(1).expand(1 << 30)),
            "field 'state_dict': its tensors have 4,294,.* bytes; 2,147,483,648 are read",
        ),
        (lambda c: c["state_dict"].pop("head.bias"), r"changes\[6\] .*its weights do not fit .* no 'head.bias'"),
        (lambda c: c["state_dict"].pop("coarse.1.bias"), r'its weights do not fit .* "coarse.1.bias"'),
        (lambda c: c.update(buffers={"no.where": torch.zeros(1)}), "the rebuilt network has no buffer 'no.where'"),
        (lambda c: c.update(tied=[["head.weight"]]), "tied: each of it is a list of two or more"),
        (lambda c: c.update(tied=[["head.weight", "head.bias"]]), "'head.bias' is no parameter of the shape of"),
        (lambda c: c["changes"].append(3), r"changes\[7\]: is 3; a dictionary"),
        (change(0, at="nowhere"), r"changes\[0\]: the original network has no module 'nowhere'; was it made from an"),
        (change(1, at="dense.0"), r"changes\[1\]: the module 'dense.0' was replaced by an earlier one"),
        (change(0, at=""), r"changes\[1\]|weights do not fit"),
        (change(0, kind="Exec"), r"changes\[0\] \('dense.0'\): field 'kind' is 'Exec'; one of .*Conv2d"),
        (change(0, frozen=["x"]), "field 'frozen' is .*; a list of the layer's parameters"),
        (argument(0, more=1), "arguments: field 'more' is not known"),
        (argument(0, groups=3), "field 'arguments': ValueError: .*divisible by groups"),
        (argument(0, groups=True), "field 'groups' is True; a whole number"),
        (argument(0, stride=[1]), "field 'stride' is .1.; a list of 2 whole numbers"),
        (argument(0, padding="none"), "field 'padding' is 'none'; a list of 2"),
        (argument(0, padding_mode="x"), "field 'padding_mode' is 'x'; one of circular"),
        (argument(0, out_channels=1 << 30), r"weights do not fit .*'dense.0.weight' has shape \(4, 3, 3, 3\); \(10737"),
        (argument(1, eps=float("inf")), "field 'eps' is inf; a finite number"),
        (argument(6, bias=0), "field 'bias' is 0; True or False"),
        (argument(4, tensors=["low_rank.0.weight"]), "field 'tensors' is .*; the recipe's parameters"),
        (argument(4, trained=["x"]), "field 'trained' is .*; some of 'tensors'"),
        (argument(4, recipe=None), "recipe: is None; a dictionary"),
        (buffer(kind="file"), r"buffers\[0\]: field 'kind' is 'file'; one of input, output"),
        (buffer(shape=[1 << 15, 1 << 15]), r"field 'shape' is .*; a shape of at most 536,870,912 elements"),
        (buffer(name=0), "field 'name' is 0; a text"),
        (statement(extents=[1]), "field 'extents' is .1.; a list of . whole numbers"),
        (statement(loops=[0] * 9), "field 'loops' is .*; a list of different numbers"),
        (statement(target=0.0), r"field 'target' is malformed where \[buffer, \[form, ...\]\]"),
        (statement(target=[99, []]), r"field 'target' is malformed where \[buffer"),
        (statement(target=[0, []]), "field 'target' is malformed where an index of buffer 0, which has"),
        (
            statement(value=[0.0, *[["arith.negf", ""]] * 301]),
            "where a value of at most 300 operations within",
        ),
        (statement(value=[0.0, 0.0]), "field 'value' is malformed where one value"),
        (statement(value=[0.0, ["os.system", ""]]), "field 'value': there is no operation 'os.system'"),
        (statement(value=[0.0, ["arith.addf", ""]]), "malformed where 2 operands before arith.addf"),
        (statement(value=[0.0, 0.0, ["arith.cmpf", "x"]]), r"malformed where \[arith.cmpf, predicate\]"),
        (statement(guards=[[0, [[99, 1]]]]), "an index by loop 99, which field 'loops' does not have"),
        (statement(guards=[[0, [[0, 0]]]]), r"field 'guards' is malformed where \[atom, coefficient\]"),
        (statement(guards=[[0, [[[[0, []], 0], 1]]]]), r"malformed where a loop or \[numerator, divisor\]"),
    ],
)
def test_a_wrong_field_is_named(
    damage: Callable[[Content], Any], message: str, content: Content, network: Any, tmp_path: Path
) -> None:
    damaged = copy.deepcopy({**content, "state_dict": {}})
    damaged["state_dict"] = dict(content["state_dict"])
    damage(damaged)
    torch.save(damaged, tmp_path / "model.pt")
    with pytest.raises(DataError, match=rf"model\.pt: .*{message}"):
        lm.load_model(tmp_path / "model.pt", original=network[0])


def test_an_index_beyond_its_buffer(content: Content, network: Any, tmp_path: Path) -> None:
    damaged = copy.deepcopy(content)
    last = damaged["changes"][4]["arguments"]["recipe"]["statements"][-1]
    last["target"][1][1][0] += 1000
    torch.save(damaged, tmp_path / "model.pt")
    with pytest.raises(DataError, match=r"statements\[\d\]: an index from 1000 to 1007 on an axis of 8"):
        lm.load_model(tmp_path / "model.pt", original=network[0])


def test_what_a_few_bytes_would_make_large_is_not_made(tmp_path: Path) -> None:
    torch.save({"format": "loopmorph-model-2", "state_dict": bytearray(8)}, tmp_path / "bomb.pt")
    with pytest.raises(DataError, match=r"bomb\.pt: not a readable model file \(UnpicklingError\)"):
        lm.load_model(tmp_path / "bomb.pt")


def test_a_recipe_of_few_lists_in_many_places_ends() -> None:
    form: list[Any] = [0, []]
    for _ in range(30):
        form = [0, [[[form, 2], 1], [[form, 3], 1]]]  # read anew wherever it stands: 2^30 times
    statement = {"loops": [0], "extents": [2], "target": [0, [form]], "value": [0.0], "guards": [], "role": "main"}
    content = {"layer": "x", "buffers": [{"kind": "output", "shape": [2], "name": "y"}], "statements": [statement]}
    with pytest.raises(DataError, match="at most 100,000 forms in a recipe"):
        read_recipe("file", content)
