"""Tied dimensions through concatenations, slices and padding: what each keeps, what pins it, and the numbers."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch_mlir import ir
from transformed import agrees, imported

import loopmorph as lm
from loopmorph.passes.address import find_nest
from loopmorph.passes.analysis.coupling.classes import DimensionClass, dimension_classes
from loopmorph.passes.analysis.coupling.coupling import Coupling
from loopmorph.passes.neural.bottleneck import Bottleneck
from loopmorph.passes.neural.shrink import shrink
from loopmorph.pipelines.network import copy_module
from loopmorph.pipelines.oracle.saliency import axis_readers
from loopmorph.pipelines.program import Program


class PaddedShortcut(nn.Module):
    """A residual addition of 4 channels, padded with zeros to 8 in the middle, and 8 others."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.wide = nn.Conv2d(4, 8, 1)
        self.linear = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.linear((functional.pad(x, (0, 0, 0, 0, 2, 2)) + self.wide(x)).mean((2, 3)))


class Halves(nn.Module):
    """The two halves of a convolution's channels, multiplied with each other."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.linear = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.stem(x).chunk(2, 1)
        return self.linear((a * b).mean((2, 3)))


class Doubled(nn.Module):
    """A concatenation of a map with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.conv = nn.Conv2d(8, 6, 1)
        self.linear = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.linear(self.conv(torch.cat([x, x], 1)).mean((2, 3)))


def kept_values(before: Program, after: Program, kept: dict[str, tuple[list[int] | slice, ...]]) -> None:
    """Exactly the parameters of `kept` have changed, to what plain indexing of the old ones gives."""
    for name, old in before.parameters.items():
        expected = old
        for axis, index in enumerate(kept.get(name, ())):
            expected = expected[(slice(None),) * axis + (index,)]
        assert torch.equal(after.parameters[name], expected), name


def norm(name: str, kept: list[int]) -> dict[str, tuple[list[int], ...]]:
    return {f"{name}.{each}": (kept,) for each in ("weight", "bias", "running_mean", "running_var")}


ALL = slice(None)
FOUR = list(range(4))
GROWTH = [0, 1, *range(4, 12)]  # what the first concatenation keeps when the first layer's 4 channels are halved


def test_a_growth_layer_shrinks_and_all_that_reads_the_concatenation_follows(dense: Program) -> None:
    after = dense.apply("morph-bottleneck{layer=layer1.conv2 iter=co factor=2}")
    second = [*range(4), *(4 + i for i in GROWTH)]
    kept = {
        "layer1.conv2.weight": ([0, 1],),
        **norm("layer2.bn1", GROWTH),
        "layer2.conv1.weight": (ALL, GROWTH),
        "linear.weight": (ALL, second),
    }
    kept_values(dense, after, kept)


@pytest.mark.parametrize("part", ["co.0", "co.1"])
def test_a_part_of_a_split_iterator_shrinks_by_itself(dense: Program, part: str) -> None:
    split = dense.apply("morph-split{layer=layer1.conv2 iter=co factor=2}")
    after = split.apply(f"morph-bottleneck{{layer=layer1.conv2 iter={part} factor=2}}")
    kept = [0, 1] if part == "co.0" else [0, 2]
    weights = {
        "layer1.conv2.weight": (kept,),
        **norm("layer2.bn1", [*kept, *range(4, 12)]),
        "layer2.conv1.weight": (ALL, [*kept, *range(4, 12)]),
        "linear.weight": (ALL, [*range(4), *(4 + i for i in kept), *range(8, 16)]),
    }
    kept_values(dense, after, weights)
    agrees(after)


def test_a_norm_of_a_concatenation_keeps_the_head_of_each_slice(dense: Program) -> None:
    after = dense.apply("morph-bottleneck{layer=layer2.bn1 iter=c factor=2}")
    kept = {
        "conv1.weight": (FOUR,),
        **norm("layer1.bn1", FOUR),
        "layer1.conv1.weight": (ALL, FOUR),
        "layer1.conv2.weight": ([0, 1],),
        **norm("layer2.bn1", [0, 1, 4, 5, 6, 7]),
        "layer2.conv1.weight": (ALL, [0, 1, 4, 5, 6, 7]),
        "linear.weight": (ALL, [0, 1, 2, 3, 4, 5, 8, 9, 10, 11]),
    }
    kept_values(dense, after, kept)
    agrees(after)


def test_two_layers_of_a_dense_block_one_after_the_other(dense: Program) -> None:
    after = dense.apply(
        "morph-bottleneck{layer=layer1.conv2 iter=co factor=2},morph-narrow{layer=conv1 iter=co begin=1 extent=3}"
    )
    first = [0, 1, 5, 6, 7]  # of 4 and 8 channels: the first two, and three from the second
    assert torch.equal(after.parameters["layer2.bn1.bias"], dense.parameters["layer2.bn1.bias"][first])
    second = [*range(4), *(4 + i for i in first)]
    assert torch.equal(after.parameters["linear.weight"], dense.parameters["linear.weight"][:, second])
    agrees(after)


def test_layers_inside_a_dense_layer_do_not_touch_the_concatenation(dense: Program) -> None:
    after = dense.apply("morph-bottleneck{layer=layer2.conv1 iter=co factor=2}")
    inner = {"layer2.conv1.weight": (FOUR,), "layer2.conv2.weight": (ALL, FOUR)}
    kept_values(dense, after, {**inner, **norm("layer2.bn2", FOUR)})


def test_the_reader_of_a_concatenation_can_read_a_part_of_it(dense: Program) -> None:
    after = dense.apply("morph-bottleneck{layer=layer2.conv1 iter=ci factor=2}")
    kept_values(dense, after, {"layer2.conv1.weight": (ALL, list(range(6)))})


def test_channels_padded_with_zeros_stay_beside_those_that_shrink() -> None:
    program = imported(PaddedShortcut())
    after = program.apply("morph-bottleneck{layer=stem iter=co factor=2}")
    kept = [0, 1, 2, 3, 6, 7]
    stem = {"stem.weight": ([0, 1],), "stem.bias": ([0, 1],)}
    wide = {"wide.weight": (kept, [0, 1]), "wide.bias": (kept,)}
    kept_values(program, after, {**stem, **wide, "linear.weight": (ALL, kept)})


def test_both_halves_of_a_map_that_is_cut_in_two_keep_the_same() -> None:
    program = imported(Halves())
    after = program.apply("morph-bottleneck{layer=stem iter=co factor=2}")
    kept = [0, 1, 4, 5]
    kept_values(program, after, {"stem.weight": (kept,), "stem.bias": (kept,), "linear.weight": (ALL, [0, 1])})
    agrees(after)


def test_a_half_that_is_multiplied_with_the_other_cannot_shrink_alone() -> None:
    program = imported(Halves())
    with pytest.raises(lm.IllegalTransform, match=r"itself at another place: of 0\.\.5 only 0\.\.1, 4\.\.5"):
        program.apply("morph-narrow{layer=stem iter=co begin=0 extent=6}")


def test_a_map_concatenated_with_itself_shrinks_in_both_places() -> None:
    program = imported(Doubled())
    after = program.apply("morph-bottleneck{layer=stem iter=co factor=2}")
    assert after.parameters["conv.weight"].shape == (6, 4, 1, 1)
    assert torch.equal(after.parameters["conv.weight"], program.parameters["conv.weight"][:, [0, 1, 4, 5]])


def test_any_union_of_intervals_can_be_kept(residual: Program) -> None:
    module = copy_module(residual.module)
    with module.context, ir.Location.unknown():
        nest = find_nest(module.operation, "block1.conv1")
        shrink(Coupling(module.operation).keep(nest, nest.loop("co"), [(0, 1), (3, 5), (7, 8)]))
    after = replace(residual, module=module)
    kept = [0, 3, 4, 7]
    weights = {"block1.conv1.weight": (kept,), **norm("block1.bn1", kept), "block1.conv2.weight": (ALL, kept)}
    kept_values(residual, after, weights)
    again = lm.import_model(residual.model, residual.example_inputs)
    parsed = replace(again, module=ir.Module.parse(str(module), again.module.context))
    kept_values(residual, parsed, weights)


# -- windows


@pytest.mark.parametrize("layer", ["block1.conv1", "block2.conv1"])  # the second with stride 2
def test_a_window_keeps_its_central_tap(residual: Program, layer: str) -> None:
    both = ",".join(f"morph-bottleneck{{layer={layer} iter={i} factor=3}}" for i in ("kh", "kw"))
    after = residual.apply(both)
    kept_values(residual, after, {f"{layer}.weight": (ALL, ALL, [1], [1])})
    macs = [next(entry.macs for entry in p.layers if entry.name == layer) for p in (residual, after)]
    assert macs[0] == 9 * macs[1]
    agrees(after)


def test_a_window_of_a_grouped_layer(separable: Program) -> None:
    after = separable.apply("morph-bottleneck{layer=grouped iter=kw factor=3}")
    kept_values(separable, after, {"grouped.weight": (ALL, ALL, ALL, [1])})
    agrees(after)


# -- what is refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("morph-bottleneck{layer=layer1.conv2 iter=co factor=8}", "extent 4 of iterator 'co' .* not divisible by 8"),
        ("morph-bottleneck{layer=layer2.bn1 iter=c factor=3}", r"the extent 4 of c in layer 'layer1\|cat' is not"),
        ("morph-bottleneck{layer=mean iter=h factor=2}", "layer 'mean' reduces over it without a parameter"),
        ("morph-bottleneck{layer=linear iter=co factor=2}", "tied to the network's output through layer 'linear'"),
        (
            "morph-group{layer=layer2.conv1 iters=co,ci factor=4},"
            "morph-bottleneck{layer=layer1.conv2 iter=co factor=2}",
            r"layer 'layer2\.conv1' reads the tied dimension of extent 12 at 'g \* 3 \+ ci' and cannot keep 0\.\.1, "
            r"4\.\.11 \(the dimension of layer1\.conv2 co, .* more\)",
        ),
        (
            "morph-narrow{layer=layer2.bn1 iter=c begin=4}",
            "nothing would be left of iterator 'c' of layer 'layer1|cat'",
        ),
        ("morph-narrow{layer=layer1.conv2 iter=oh begin=1}", r"at 'oh \+ kh': a window or an offset"),
    ],
)
def test_what_a_dense_block_does_not_admit_is_refused(dense: Program, text: str, message: str) -> None:
    before = str(dense)
    with pytest.raises(lm.IllegalTransform, match=message):
        dense.apply(text)
    assert str(dense) == before


# -- the classes


def class_of(classes: list[DimensionClass], member: str) -> DimensionClass:
    return next(c for c in classes if member in c.iterators)


def test_a_concatenation_is_a_class_and_each_of_its_slices_another(dense: Program) -> None:
    classes = dimension_classes(dense.module.operation)
    whole = class_of(classes, "layer2.bn1 c")
    first, second = class_of(classes, "layer1.conv2 co"), class_of(classes, "conv1 co")
    number = classes.index(whole)
    assert (first.slices, second.slices) == (((number, 0, 4),), ((number, 4, 12),))
    assert (first.extents, second.extents, whole.extents) == ((4,), (8,), (12,))
    assert {"layer2.bn1.running_var[0]", "layer2.conv1.weight[1]"} <= set(whole.parameters)
    assert not whole.pins and not whole.windows


def test_classes_say_what_pins_them(dense: Program) -> None:
    classes = dimension_classes(dense.module.operation)
    assert class_of(classes, "linear co").pins == (
        "its dimension is tied to the network's output through layer 'linear'",
    )
    assert "layer1.conv2 'oh + kh'" in class_of(classes, "layer1.conv2 oh").windows
    taps = class_of(classes, "layer1.conv2 kh")
    assert (taps.pins, taps.windows) == ((), ())


def test_every_iterator_is_in_one_class(dense: Program) -> None:
    classes = dimension_classes(dense.module.operation)
    for layer in dense.layers:
        for iterator, extent in layer.extents.items():
            found = [c for c in classes for m in c.iterators if m == f"{layer.name} {iterator}"]
            assert len(found) == (extent != 1), (layer.name, iterator)


def test_the_report_leaves_the_program_as_it_is(dense: Program) -> None:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert str(dense.apply("morph-print-coupling")) == str(dense)
    lines = output.getvalue().splitlines()
    assert all(line.startswith("//") and len(line) <= 120 for line in lines)
    assert sum(line.startswith("// class ") for line in lines) == len(dimension_classes(dense.module.operation))


def test_a_dimension_is_followed_through_hundreds_of_layers() -> None:
    layers = [nn.Conv2d(3, 4, 1), *(nn.ReLU() for _ in range(340)), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)]
    deep = imported(nn.Sequential(*layers), torch.zeros(1, 3, 2, 2))
    readers, extent = axis_readers(deep, Bottleneck("0", "co", 2))
    assert ([(each.name, each.axis) for each in readers], extent) == ([("342.weight", 1)], 4)
