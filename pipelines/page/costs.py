"""Where a network's time goes: each layer's time within it, what it computes and touches, and what bounds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loopmorph.passes.analysis.layer_graph import LayerGraph, LayerNode, TensorEdge
from loopmorph.passes.lowering.to_llvm import schedule_nests
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.codegen.jit import compile_lowered
from loopmorph.pipelines.codegen.lowered import lower_scheduled
from loopmorph.pipelines.codegen.threads import check_threads
from loopmorph.pipelines.layer_graph.stages import graph_of_code
from loopmorph.pipelines.measure.peak import Peak
from loopmorph.pipelines.measure.profile import profile_code
from loopmorph.pipelines.network import Network, copy_module
from loopmorph.pipelines.support.collection import paused_collection

ARITHMETIC, MEMORY = "arithmetic", "memory"


@dataclass(frozen=True)
class LayerCost:
    """One layer of the compiled network.

    Attributes:
        name: its qualified name.
        macs: multiply-accumulates of one call.
        parameter_bytes: distinct bytes that it reads of parameters.
        bytes: distinct bytes that it touches, these among them.
        ms: median milliseconds of its nests within the network; None where it is computed in those of other layers.
    """

    name: str
    macs: int
    parameter_bytes: int
    bytes: int
    ms: float | None

    @property
    def intensity(self) -> float:
        """Operations, two for each multiply-accumulate, for each byte that it touches."""
        return 2 * self.macs / self.bytes if self.bytes else 0.0

    @property
    def gflops(self) -> float | None:
        """1e9 operations a second; None without a time or without multiply-accumulates."""
        return 2 * self.macs / self.ms / 1e6 if self.ms and self.macs else None

    def bound(self, peak: Peak) -> str:
        """The roof that it meets first: `ARITHMETIC`, or `MEMORY` if every byte came from beyond the caches."""
        return ARITHMETIC if self.intensity * peak.bandwidth >= peak.gflops else MEMORY

    def share_of_roof(self, peak: Peak) -> float | None:
        """How much of that roof it reaches: the least time that it admits over the time that was measured.

        More than 1 says that its bytes come from caches.
        """
        least = max(2 * self.macs / peak.gflops, self.bytes / peak.bandwidth) / 1e6  # milliseconds
        return least / self.ms if self.ms else None


@dataclass(frozen=True)
class NetworkCosts:
    """A compiled network's layers and what goes from one to another.

    Attributes:
        layers: in program order.
        edges: the tensors between them (see `TensorEdge`).
        ms: median milliseconds of one call.
    """

    layers: tuple[LayerCost, ...]
    edges: tuple[TensorEdge, ...]
    ms: float

    @property
    def timed(self) -> tuple[LayerCost, ...]:
        """The layers that have a time of their own."""
        return tuple(layer for layer in self.layers if layer.ms is not None)


def network_costs(network: Network, threads: int, target: Target) -> NetworkCosts:
    """Compiles a network, times its layers within it, and reads the rest off its nests.

    Raises:
        ArgumentError: a number of threads that this computer does not admit.
        IllegalTransform: a pass towards the code refuses the program.
        CompilationFailed: an operation that cannot be lowered.
    """
    check_threads(threads)
    with paused_collection():
        module = copy_module(network.module)
        schedule_nests(module, target, threads)
        graph = graph_of_code(network, module, tied=False)  # of the very nests that are timed, scheduled once
        code = compile_lowered(lower_scheduled(module, target, threads, timed=True))
    times = profile_code(code, network)
    return NetworkCosts(_layers(graph, times.seconds), graph.edges, times.total * 1e3)


def _layers(graph: LayerGraph, seconds: Mapping[str, float]) -> tuple[LayerCost, ...]:
    return tuple(_layer(node, seconds.get(node.name)) for node in graph.nodes if node.kind == "layer")


def _layer(node: LayerNode, seconds: float | None) -> LayerCost:
    ms = None if seconds is None else seconds * 1e3
    return LayerCost(node.name, node.macs, node.parameter_bytes, node.bytes_touched, ms)


def held_by(distance: int, target: Target) -> str:
    """The nearest memory that still holds what was used before so many other bytes: "L1", "L2", "L3" or "memory"."""
    caches = {"L1": target.l1_bytes, "L2": target.l2_bytes, "L3": target.l3_bytes}
    return next((name for name, size in caches.items() if distance <= size), "memory")
