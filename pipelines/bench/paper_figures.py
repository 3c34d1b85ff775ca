"""Figures of the paper, to be shown beside ours."""

from __future__ import annotations

from loopmorph.pipelines.bench.operators_result import LayerOperators, PaperRow

# Turner, Crowley and O'Boyle, "Neural Architecture Search as Program Transformation Exploration", ASPLOS 2021, Fig. 6:
# speed-up of ResNet-34's layers on an Intel Core i7, over the original compiled by TVM. Read off the picture, to about
# 2 %; those of Seq1, whose bars are hatched, by eye.
FIG6_OPERATORS = ("group-2", "seq1", "seq2", "seq3")
FIG6: dict[int, tuple[float, float, float, float]] = {
    0: (1.98, 2.0, 2.27, 5.49),
    1: (2.12, 2.1, 2.46, 6.81),
    2: (1.0, 1.0, 1.0, 1.0),
    3: (2.12, 2.1, 3.24, 6.89),
    4: (1.0, 1.0, 1.0, 1.0),
    5: (2.05, 2.2, 3.07, 6.02),
    6: (2.06, 2.2, 3.61, 6.04),
    7: (1.0, 1.0, 1.0, 1.0),
    8: (2.03, 2.4, 3.49, 2.69),
    9: (2.01, 2.3, 3.39, 2.68),
    10: (1.0, 1.0, 1.0, 1.0),
    11: (2.01, 3.4, 3.67, 2.69),
}
# The figure numbers the layers and does not name them. The numbers are read here as going stage by stage: first
# convolution, shortcut, second convolution; 4, 7 and 10, which no sequence changes, are then the 1x1 shortcuts. 0 and
# 1, both of which can be grouped, are the 3x3 convolutions of the first stage; 2 has no counterpart in our ResNet-34.
FIG6_LAYERS = {
    0: "layer1.0.conv1",
    1: "layer1.0.conv2",
    2: None,
    3: "layer2.0.conv1",
    4: "layer2.0.shortcut.0",
    5: "layer2.0.conv2",
    6: "layer3.0.conv1",
    7: "layer3.0.shortcut.0",
    8: "layer3.0.conv2",
    9: "layer4.0.conv1",
    10: "layer4.0.shortcut.0",
    11: "layer4.0.conv2",
}
FIG6_MODEL = "resnet34"
# Fig. 4, bars of the CPU: speed-up over TVM with its default schedules, which is 1, by BlockSwap's network compiled by
# the same, and by the paper's own; read off the picture, to about 2 %.
FIG4: dict[str, tuple[float, float]] = {
    "resnet34": (2.07, 3.26),
    "resnext29_2x64d": (1.00, 1.34),
    "densenet161": (2.32, 3.21),
}
# Fig. 8: top-1 accuracy on ImageNet and milliseconds, of the original by TVM and of the paper's own; accuracies to
# about 0.1 points, milliseconds to about 3 %. The caption does not say of which platform.
FIG8: dict[str, tuple[float, float, float, float]] = {
    "ResNet-18": (70.8, 2.40, 70.4, 0.80),
    "ResNet-34": (73.25, 8.2, 73.4, 2.75),
    "DenseNet-169": (73.9, 20.2, 73.9, 5.8),
    "DenseNet-201": (74.8, 26.1, 74.9, 7.5),
    "DenseNet-161": (76.0, 33.1, 76.1, 9.5),
}


def beside_fig6(model: str, layers: tuple[LayerOperators, ...]) -> tuple[PaperRow, ...]:
    """The paper's Fig. 6 beside our speed-ups.

    Args:
        model: the network's name; only ResNet-34's has a figure.
        layers: what was measured.

    Returns:
        One row for each layer of the figure that was measured, and for those without a counterpart; none for another
        network.
    """
    if model != FIG6_MODEL:
        return ()
    rows = []
    for index, figures in FIG6.items():
        name = FIG6_LAYERS[index]
        layer = next((each for each in layers if name in each.same), None)
        if name is None or layer is not None:
            paper = dict(zip(FIG6_OPERATORS, figures, strict=True))
            rows.append(PaperRow(index, name, paper, {each: _speedup(layer, each) for each in FIG6_OPERATORS}))
    return tuple(rows) if any(row.layer for row in rows) else ()


def _speedup(layer: LayerOperators | None, operator: str) -> float | None:
    row = layer.row(operator) if layer is not None else None
    return row.speedup if row is not None else None
