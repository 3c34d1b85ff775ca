"""A network in the reduced precisions of OpenVINO, beside its float32 and ours: speed in turns, accuracy on images."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.target.detect import processor_features, processor_name
from loopmorph.pipelines.bench.contenders import compiled_by_openvino, converted_by_openvino, missing, versions
from loopmorph.pipelines.bench.turns import in_turns
from loopmorph.pipelines.codegen.threads import check_threads
from loopmorph.pipelines.compile import compile
from loopmorph.pipelines.data.labelled_images import LabelledImages, load_labelled_sets
from loopmorph.pipelines.ingress.models import LoadedModel, resolve_model
from loopmorph.pipelines.ingress.state import load_state
from loopmorph.pipelines.saved_program import program_of
from loopmorph.pipelines.support.extras import require_extra
from loopmorph.pipelines.support.foreign import describe
from loopmorph.pipelines.support.numbers import check_count
from loopmorph.pipelines.support.progress import Progress, silent, stage

PRECISIONS = ("f32", "bf16", "int8")
OURS, OPENVINO = "loopmorph", "openvino"
# What an instruction set is asked for, and what the system calls what has it: without, a precision saves little.
_FAST = {"bf16": ("avx512_bf16", "amx_bf16"), "int8": ("avx512_vnni", "avx_vnni", "amx_int8")}

Run = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class PrecisionRow:
    """A network by one engine in one precision.

    Attributes:
        engine: `loopmorph` or `openvino`.
        precision: one of `PRECISIONS`.
        median_ms: of one image.
        speedup: how many times as fast as our float32.
        right: images that it tells right; None without data.
        note: what became of the precision here; empty where all of it is as it says.
    """

    engine: str
    precision: str
    median_ms: float
    speedup: float
    right: int | None
    note: str = ""


@dataclass(frozen=True)
class PrecisionResult:
    """What was measured.

    Attributes:
        model: as it was asked for.
        threads: of each engine.
        cpu: the processor's name.
        fast: precision -> the instructions for it that the processor has.
        data: where the images are from; empty without.
        images: how many were told.
        calibration: images by which int8 was quantised; 0 without.
        parameters, macs: of the network.
        rounds: of calls in turns.
        versions: of the packages.
        rows: ours first.
    """

    model: str
    threads: int
    cpu: str
    fast: dict[str, list[str]]
    data: str
    images: int
    calibration: int
    parameters: int
    macs: int
    rounds: int
    versions: dict[str, str]
    rows: tuple[PrecisionRow, ...] = field(default=())

    def to_json(self) -> str:
        """All of it."""
        return json.dumps(asdict(self), indent=1) + "\n"


def bench_precisions(
    model: str,
    precisions: Sequence[str] = PRECISIONS,
    *,
    data: Path | None = None,
    weights: Path | None = None,
    threads: int = 1,
    rounds: int = 10,
    images: int = 1000,
    calibration: int = 300,
    seed: int = 0,
    trust: bool = False,
    progress: Progress = silent,
) -> PrecisionResult:
    """Times OpenVINO in some precisions and our float32 in turns, and says how many images each tells right.

    int8 is NNCF's post-training quantisation with its own settings, from images of the training part; bf16 is
    OpenVINO's inference precision, which it only takes where the processor has instructions for it; what it took is
    told.
    Accuracies are of the same test images, one at a time, as the code is timed.

    Args:
        model: a classifier of images (see `resolve_model`).
        precisions: some of `PRECISIONS`.
        data: labelled images (see `load_labelled_sets`); None for times alone, without int8.
        weights: trained weights (see `load_state`).
        threads: of each engine.
        rounds: of eight calls of each.
        images: how many test images are told; the first ones of the test part.
        calibration: how many images int8 is quantised by.
        seed: of the weights where there are none, and of what is held out of data without a test part.
        trust: whether code that the model's file names may run.
        progress: called with what is being done, how much is done, and of how much.

    Raises:
        ArgumentError: an argument out of range; int8 without data; OpenVINO or NNCF is not installed; the model is no
            classifier of images; an engine fails on it.
        DataError: weights or data that cannot be read.
        ImportRefused, CompilationFailed, WrongResult: see `compile`.
    """
    _check(precisions, data, threads, rounds, images, calibration)
    torch.set_num_threads(threads)
    loaded = _loaded(model, weights, seed, trust)
    (example,) = loaded.example_inputs
    train, test = _sets(loaded, data, seed, images, progress)
    with stage(progress, "compile"):
        program = program_of(loaded)
        executable = compile(program, threads=threads)
    runs: dict[tuple[str, str], Run] = {(OURS, "f32"): lambda image: executable(torch.from_numpy(image)).numpy()}
    notes: dict[tuple[str, str], str] = {}
    for precision in precisions:
        with stage(progress, f"OpenVINO {precision}"):
            key = OPENVINO, precision
            runs[key], notes[key] = _openvino(loaded.model, example, precision, threads, train, calibration)
    image = example.numpy()
    seconds = in_turns({key: partial(run, image) for key, run in runs.items()}, rounds, progress=progress)
    medians = {key: statistics.median(taken) for key, taken in seconds.items()}
    ours = medians[OURS, "f32"]
    rows = []
    for done, (key, run) in enumerate(runs.items()):
        progress("telling images", done, len(runs))
        right = None if test is None else _right(run, test)
        rows.append(PrecisionRow(*key, 1e3 * medians[key], ours / medians[key], right, notes.get(key, "")))
    progress("telling images", len(runs), len(runs))
    return PrecisionResult(
        model,
        threads,
        processor_name(),
        fast_here(),
        "" if test is None else test.source,
        0 if test is None else len(test),
        min(calibration, len(train)) if train is not None and "int8" in precisions else 0,
        sum(each.numel() for each in loaded.model.parameters()),
        program.macs,
        rounds,
        versions([OPENVINO], ["nncf"]),
        tuple(rows),
    )


def fast_here() -> dict[str, list[str]]:
    """Precision -> the instructions for it that this processor has."""
    features = set(processor_features().split())
    return {precision: [name for name in names if name in features] for precision, names in _FAST.items()}


def _loaded(model: str, weights: Path | None, seed: int, trust: bool) -> LoadedModel:
    loaded = resolve_model(model, seed=seed, trust=trust)
    if weights is not None:
        load_state(loaded.model, weights)
    inputs = loaded.example_inputs
    if len(inputs) != 1 or inputs[0].dim() != 4 or inputs[0].shape[0] != 1 or loaded.classes is None:
        raise ArgumentError("model", f"{model} is no classifier of one image (1, C, H, W) at a time")
    return loaded


def _sets(
    loaded: LoadedModel, data: Path | None, seed: int, images: int, progress: Progress
) -> tuple[LabelledImages | None, LabelledImages | None]:
    if data is None:
        return None, None
    channels, height, width = loaded.example_inputs[0].shape[1:]
    shape = channels, height, width
    sets = load_labelled_sets(data, shape=shape, classes=loaded.classes or 0, seed=seed, progress=progress)
    return sets.train, sets.test.part(torch.arange(min(images, len(sets.test))))


def _openvino(
    model: nn.Module,
    example: torch.Tensor,
    precision: str,
    threads: int,
    train: LabelledImages | None,
    calibration: int,
) -> tuple[Run, str]:
    """A call of one image by OpenVINO, and what became of the precision."""
    try:
        converted = converted_by_openvino(model, (example,))
        if precision == "int8":
            converted = _quantised(converted, train, calibration)
        compiled = compiled_by_openvino(converted, threads, "bf16" if precision == "bf16" else "f32")
    except Exception as error:  # foreign code
        raise ArgumentError("precision", f"OpenVINO cannot run the model in {precision}: {describe(error)}") from error
    request = compiled.create_infer_request()

    def run(image: np.ndarray) -> np.ndarray:
        request.infer([image])
        return request.get_output_tensor(0).data

    taken = _name_of(compiled.get_property("INFERENCE_PRECISION_HINT"))
    note = f"OpenVINO ran it in {taken}" if precision == "bf16" and taken not in ("bf16", "bfloat16") else ""
    if precision in _FAST and not fast_here()[precision]:
        note = "; ".join(filter(None, [note, f"the processor has none of {', '.join(_FAST[precision])}"]))
    return run, note


def _name_of(precision: Any) -> str:
    """`bf16` of OpenVINO's `<Type: 'bfloat16'>`."""
    name = getattr(precision, "get_type_name", None)
    return str(name() if name is not None else precision)


def _quantised(converted: Any, train: LabelledImages | None, calibration: int) -> Any:
    import nncf

    assert train is not None  # int8 without data was refused
    chosen = train.images[: min(calibration, len(train))]
    batches = [train.normalised(image[None]).numpy() for image in chosen]
    return nncf.quantize(converted, nncf.Dataset(batches), subset_size=len(batches))


def _right(run: Run, test: LabelledImages) -> int:
    """How many images a contender tells right, one at a time."""
    found = 0
    for image, label in zip(test.images, test.labels.tolist(), strict=True):
        found += int(run(test.normalised(image[None]).numpy()).argmax() == label)
    return found


def _check(
    precisions: Sequence[str], data: Path | None, threads: int, rounds: int, images: int, calibration: int
) -> None:
    for each in precisions:
        if each not in PRECISIONS:
            raise ArgumentError("precision", f"'{each}' is not known; accepted are {', '.join(PRECISIONS)}")
    if not precisions:
        raise ArgumentError("precision", f"expected some of {', '.join(PRECISIONS)}")
    check_threads(threads)
    for name, value in (("rounds", rounds), ("images", images), ("calibration", calibration)):
        check_count(name, value)
    reason = missing(OPENVINO)
    if reason is not None:
        raise ArgumentError("precision", reason)
    if "int8" in precisions:
        require_extra("precision", "nncf", "peers", "int8 takes NNCF")
        if data is None:
            raise ArgumentError("data", "int8 is quantised by images; name some (--data), or leave int8 out")
