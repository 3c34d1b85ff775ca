"""Who takes part in `loopmorph bench`: the compiled network, and what a user would pick instead."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from loopmorph.passes.target.detect import native_target
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.bench.direct_code import with_algorithm
from loopmorph.pipelines.codegen.executable import Executable
from loopmorph.pipelines.compile import compile
from loopmorph.pipelines.saved_program import saved_program

Run = Callable[[], tuple[np.ndarray, ...]]


@dataclass(frozen=True)
class Subject:
    """What is run.

    Attributes:
        model: a network in eval mode.
        inputs: its inputs.
        threads: number of threads that each contender may use.
        tune: seconds in which loopmorph may tune; None for not at all.
        algorithm: "auto", or "direct" for no Winograd in loopmorph's code.
        target: the processor that loopmorph's code is for; None for this computer.
        original: what the network was made from, if it is from a file of loopmorph.
    """

    model: nn.Module
    inputs: tuple[torch.Tensor, ...]
    threads: int
    tune: float | None = None
    algorithm: str = "auto"
    target: str | None = None
    original: nn.Module | None = None

    @property
    def arrays(self) -> list[np.ndarray]:
        """The inputs as numpy arrays on the same memory."""
        return [x.detach().numpy() for x in self.inputs]


def eager(subject: Subject) -> Run:
    """PyTorch without compilation."""

    def run() -> tuple[np.ndarray, ...]:
        with torch.no_grad():
            return _arrays(subject.model(*subject.inputs))

    return run


def inductor(subject: Subject) -> Run:
    """`torch.compile` with frozen weights, its best setting for inference."""
    import torch._inductor.config

    torch._inductor.config.freezing = True
    compiled = torch.compile(subject.model)

    def run() -> tuple[np.ndarray, ...]:
        with torch.no_grad():
            return _arrays(compiled(*subject.inputs))

    return run


def onnxruntime(subject: Subject) -> Run:
    """ONNX Runtime's CPU provider on the model exported by `torch.onnx`."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = subject.threads
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        torch.onnx.export(subject.model, subject.inputs, path, dynamo=True, verbose=False)
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    feed = dict(zip(names, subject.arrays, strict=True))
    return lambda: tuple(session.run(None, feed))


def openvino(subject: Subject) -> Run:
    """OpenVINO's CPU plugin, for latency, in float32."""
    converted = converted_by_openvino(subject.model, subject.inputs)
    request = compiled_by_openvino(converted, subject.threads).create_infer_request()
    arrays, n_outputs = subject.arrays, len(converted.outputs)

    def run() -> tuple[np.ndarray, ...]:
        request.infer(arrays)
        return tuple(request.get_output_tensor(k).data for k in range(n_outputs))

    return run


def converted_by_openvino(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    """OpenVINO's `Model` of a network, for inputs of these shapes."""
    import openvino as ov

    converted = ov.convert_model(model, example_input=inputs if len(inputs) > 1 else inputs[0])
    converted.reshape({k: list(x.shape) for k, x in enumerate(inputs)})
    return converted


def compiled_by_openvino(converted: Any, threads: int, precision: str = "f32") -> Any:
    """OpenVINO's `CompiledModel` for the CPU and for latency.

    Args:
        converted: its `Model`.
        threads: that a call uses.
        precision: in which it computes where the processor can: "f32" or "bf16".
    """
    import openvino as ov

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
    }
    return ov.Core().compile_model(converted, "CPU", settings)


def compiled_network(subject: Subject) -> tuple[Run, Executable]:
    """The network compiled by loopmorph, as a contender and as what it is."""
    program = with_algorithm(saved_program("model", subject.model, subject.original, subject.inputs), subject.algorithm)
    executable = compile(program, threads=subject.threads, tune=subject.tune, target=subject.target, check=False)
    return lambda: _arrays(executable(*subject.inputs)), executable


PEERS: dict[str, Callable[[Subject], Run]] = {
    "eager": eager,
    "inductor": inductor,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
}
# f32 lanes of a target -> what keeps oneDNN (in OpenVINO and PyTorch) and PyTorch's own kernels to such vectors.
_LIMITS = {
    4: {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"},
    8: {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
}
_MODULES = {"onnxruntime": ("onnxruntime", "onnx", "onnxscript"), "openvino": ("openvino",)}


def missing(peer: str) -> str | None:
    """Why a peer cannot run here, and what would install it; None where it can."""
    absent = [name for name in _MODULES.get(peer, ()) if importlib.util.find_spec(name) is None]
    if not absent:
        return None
    return f"{' and '.join(absent)} not installed: pip install 'loopmorph[peers]'"


def peers_limits(target: Target) -> dict[str, str]:
    """Environment variables that keep the peers to a target's vectors; ONNX Runtime has no such switch.

    Args:
        target: a processor; one with the vectors of this computer limits nobody.
    """
    return {} if target.lanes >= native_target().lanes else dict(_LIMITS.get(target.lanes, {}))


def versions(peers: Sequence[str], others: Sequence[str] = ()) -> dict[str, str]:
    """The versions of the packages that these peers consist of, and of others; empty for what is not installed."""
    names = ["torch", *(name for peer in peers for name in _MODULES.get(peer, ())), *others]
    return {name: _version(name) for name in names}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _arrays(result: Any) -> tuple[np.ndarray, ...]:
    """The tensors in whatever a model returns."""
    return tuple(leaf.numpy() for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor))
