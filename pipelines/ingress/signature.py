"""What an exported network takes and returns: its structure for callers, and its graph reduced to tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind, TensorArgument
from torch.utils import _pytree as pytree

from loopmorph.passes.errors import ImportRefused
from loopmorph.pipelines.ingress.place import operator_at, operator_name
from loopmorph.pipelines.support.structure import CONSTANTS, ConstantLeaf, Leaf, Structure, TensorLeaf, Tree

_MUTATIONS = {
    OutputKind.BUFFER_MUTATION: "the buffer",
    OutputKind.PARAMETER_MUTATION: "the parameter",
    OutputKind.USER_INPUT_MUTATION: "the input",
}
_CHECKS = ("linalg_", "inverse", "assert")  # parts of the names of operators that raise for some values
_BATCH_NORMS = ("batch_norm", "instance_norm")


def distinct_tensors(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """The arguments, with a copy of each tensor that occurs a second time or is the model's own.

    `torch.export` would take two inputs for one and the same, in all later calls.
    """
    seen = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}

    def once(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor) and id(leaf) in seen:
            return leaf.detach().clone()
        seen.add(id(leaf))
        return leaf

    return pytree.tree_map(once, (args, kwargs))


def structure_of(exported: ExportedProgram) -> Structure:
    """The pytrees of a network's arguments and results.

    Args:
        exported: the network as `torch.export` gives it, before decompositions.

    Raises:
        ImportRefused: an output that is neither a tensor nor known beforehand; says which.
    """
    signature, spec = exported.graph_signature, exported.call_spec
    values = {node.name: node.meta.get("val") for node in exported.graph.nodes}
    taken: list[Leaf] = []
    position = 0
    for each in signature.input_specs:
        if each.kind != InputKind.USER_INPUT:
            continue
        if isinstance(each.arg, ConstantArgument):
            taken.append(ConstantLeaf(each.arg.value))
        else:
            taken.append(TensorLeaf(position, values[each.arg.name].dtype))
            position += 1
    numbers: dict[str, int] = {}
    given: list[Leaf] = []
    for index, out in enumerate(s for s in signature.output_specs if s.kind == OutputKind.USER_OUTPUT):
        if isinstance(out.arg, ConstantArgument) and isinstance(out.arg.value, CONSTANTS):
            given.append(ConstantLeaf(out.arg.value))
        elif isinstance(out.arg, TensorArgument):
            number = numbers.setdefault(out.arg.name, len(numbers))
            given.append(TensorLeaf(number, values[out.arg.name].dtype))
        else:
            reason = f"output {index} is a number that depends on the inputs' values (a {type(out.arg).__name__})"
            raise ImportRefused(f"{reason}; return it as a tensor")
    return Structure(Tree(spec.in_spec, tuple(taken)), Tree(spec.out_spec, tuple(given)))


def refuse_effects(exported: ExportedProgram, core: ExportedProgram) -> None:
    """Refuses networks that change anything but their results.

    Args:
        exported: the network as `torch.export` gives it.
        core: after decompositions, where the signature tells what is changed in place.

    Raises:
        ImportRefused: a buffer, a parameter or an input is changed in place; names the operator and its place.
    """
    if any(spec.kind == InputKind.TOKEN for spec in core.graph_signature.input_specs):
        checks = (n for n in exported.graph.nodes if any(part in operator_name(n) for part in _CHECKS))
        what = next(map(operator_at, checks), "an operator")
        raise ImportRefused(f"{what} checks values while it runs and may raise, which is not compiled")
    results = next(node for node in core.graph.nodes if node.op == "output").args[0]
    for spec, result in zip(core.graph_signature.output_specs, results, strict=True):
        if spec.kind in _MUTATIONS:
            origin = _writing_node(exported.graph, result)
            raise ImportRefused(_effect(origin or result, f"{_MUTATIONS[spec.kind]} '{spec.target}'"))


def _effect(node: fx.Node, what: str) -> str:
    name, operator = operator_name(node), operator_at(node)
    if any(part in name for part in _BATCH_NORMS) or "num_batches_tracked" in what:
        return f"{operator} is in training mode and changes {what}; only inference is compiled: call eval() on it"
    advice = "compute a new tensor instead, or clone() first"
    return f"{operator} changes {what} in place; only networks without such effects are compiled: {advice}"


def _writing_node(graph: fx.Graph, result: fx.Node) -> fx.Node | None:
    """The operation before decomposition that changes its operand, and stands where the result was computed."""
    trace = result.meta.get("stack_trace")
    return next((n for n in graph.nodes if _writes(n) and n.meta.get("stack_trace") == trace), None)


def _writes(node: fx.Node) -> bool:
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    return node.target._schema.is_mutable or any(part in operator_name(node) for part in _BATCH_NORMS)


def only_tensors(graph: fx.Graph, exported: ExportedProgram) -> None:
    """Drops constants from a graph's arguments and results, and results that occur a second time, in place.

    Args:
        graph: the graph in core operations, which changes nothing in place.
        exported: the network as `torch.export` gives it.
    """
    constants = {s.arg.name: s.arg.value for s in exported.graph_signature.input_specs if _is_constant(s.arg)}
    for node in [n for n in graph.nodes if n.op == "placeholder" and n.name in constants]:
        for user in list(node.users):
            user.args, user.kwargs = fx.map_arg((user.args, user.kwargs), _replacing(node, constants[node.name]))
        graph.erase_node(node)
    (output,) = (node for node in graph.nodes if node.op == "output")
    results = output.args[0]
    specs = exported.graph_signature.output_specs[-len(results) :] if results else []
    names = [spec.arg.name if isinstance(spec.arg, TensorArgument) else None for spec in specs]
    kept = tuple(r for k, r in enumerate(results) if names[k] is not None and names[k] not in names[:k])
    if len(kept) != len(results):
        output.args = (kept,)


def _is_constant(argument: Any) -> bool:
    return isinstance(argument, ConstantArgument)


def _replacing(node: fx.Node, value: Any) -> Any:
    return lambda each: value if each is node else each
