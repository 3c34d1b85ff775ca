"""The layers of `torch.nn`, the functions of `torch.nn.functional` and those of `torch`, with arguments.

A case is a text, "suite:name:k": the k-th argument set of one operator. The arguments are those of PyTorch's own tests,
`module_db` and `op_db`, spread evenly over what they have, and those of `operator_arguments` where they have none.
"""

from __future__ import annotations

import copy
import functools
import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from operator_arguments import FUNCTIONS, INTERNAL, LAYERS
from torch import nn
from torch.nn import functional
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.common_modules import module_db
from torch.utils import _pytree as pytree

from loopmorph.pipelines.support.probes import Probe

SUITES = ("nn", "functional", "torch")
SETS = 3
_DTYPES = (torch.float32, torch.int64, torch.bool)  # the first that an operator takes
_MOST_ELEMENTS = 20_000


@dataclass(frozen=True)
class Case:
    """One operator with arguments, as a network.

    Attributes:
        name: of the operator, as PyTorch has it.
        model: in eval mode; takes the tensors as positional arguments.
        probes: the arguments, others of the same shapes, and edge values.
    """

    name: str
    model: nn.Module
    probes: list[Probe]


class Call(nn.Module):
    """A layer or function called with arguments of any structure, whose tensors are inputs of the network.

    Args:
        target: what is called.
        args: positional arguments, `kwargs`: keyword arguments; what is no tensor in there stays as it is.
        inputs: how many of the tensors are inputs; the others are buffers.
    """

    def __init__(self, target: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], inputs: int) -> None:
        super().__init__()
        self.target = target
        self._leaves, self._structure = pytree.tree_flatten((tuple(args), kwargs))
        places = [k for k, leaf in enumerate(self._leaves) if isinstance(leaf, torch.Tensor)]
        self._places, self._fixed = places[:inputs], places[inputs:]
        for k in self._fixed:
            self.register_buffer(f"argument{k}", self._leaves[k])
        self._leaves = [None if isinstance(leaf, torch.Tensor) else leaf for leaf in self._leaves]

    def forward(self, *tensors: torch.Tensor) -> Any:
        leaves = list(self._leaves)
        for k, tensor in zip(self._places, tensors, strict=True):
            leaves[k] = tensor
        for k in self._fixed:
            leaves[k] = getattr(self, f"argument{k}")
        args, kwargs = pytree.tree_unflatten(leaves, self._structure)
        return self.target(*args, **kwargs)


def names(suite: str) -> list[str]:
    """The operators of a suite that are for inference on the CPU, in order."""
    if suite == "nn":
        found = [n for n in dir(nn) if inspect.isclass(getattr(nn, n)) and issubclass(getattr(nn, n), nn.Module)]
    elif suite == "functional":
        found = [n for n in dir(functional) if n[0] != "_" and inspect.isroutine(getattr(functional, n))]
    else:
        found = [n for n in _operators() if n.isidentifier() and not n.startswith("_") and not _undefined(n)]
    return [n for n in sorted(found) if n not in INTERNAL[suite]]


def cases(suite: str) -> list[str]:
    """The cases of a suite, whether PyTorch runs them or not."""
    return [f"{suite}:{name}:{k}" for name in names(suite) for k in range(SETS)]


def load(case: str) -> Case:
    """The network of a case.

    Raises:
        LookupError: there is no such argument set.
    """
    suite, name, number = case.split(":")
    torch.manual_seed(0)
    k = int(number)
    target, args, kwargs = _layer(name, k) if suite == "nn" else _function(suite, name, k)
    tensors = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    # The second argument set has its weights, indices and the like compiled in.
    inputs = 1 if k == 1 and suite != "nn" else len(tensors)
    model = Call(target, args, kwargs, inputs).eval()
    first = tuple(t.detach().clone() for t in tensors[:inputs])
    return Case(name, model, _probes(first))


# ---- arguments


def _layer(name: str, k: int) -> tuple[nn.Module, Sequence[Any], dict[str, Any]]:
    if name in LAYERS:
        make, args = _nth(LAYERS[name], k)
        return _settled(make()), args, {}
    inputs = _spread(_module_inputs(name))
    chosen = _nth(inputs, k)
    constructor, forward = chosen.constructor_input, chosen.forward_input
    layer = getattr(nn, name)(*constructor.args, **constructor.kwargs)
    if isinstance(layer, nn.modules.lazy.LazyModuleMixin):
        layer(*copy.deepcopy(forward.args), **forward.kwargs)
    return _settled(layer), forward.args, forward.kwargs


def _module_inputs(name: str) -> list[Any]:
    found = []
    for info in module_db:
        if info.module_cls.__name__ == name:
            options = {"device": "cpu", "dtype": torch.float32, "requires_grad": False, "training": False}
            found += [i for i in info.module_inputs_func(info, **options) if i.forward_input is not None]
    return found


def _settled(layer: nn.Module) -> nn.Module:
    """In eval mode, with statistics that change what it computes."""
    for name, buffer in layer.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.5)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return layer.eval()


def _function(suite: str, name: str, k: int) -> tuple[Callable[..., Any], Sequence[Any], dict[str, Any]]:
    if suite == "functional" and name in FUNCTIONS:
        args, kwargs = _nth(FUNCTIONS[name], k)
        return getattr(functional, name), args, kwargs
    samples = _spread([(i, s) for i in _operators_named(suite, name) for s in _samples(i)])
    info, sample = _nth(samples, k)
    called = getattr(functional, name) if info.name == f"nn.functional.{name}" else info.op
    return called, (sample.input, *sample.args), dict(sample.kwargs)


@functools.cache
def _operators() -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for info in op_db:
        if any(dtype in info.dtypes for dtype in _DTYPES):
            found.setdefault(info.name, []).append(info)
    return found


def _samples(info: Any) -> Iterator[Any]:
    dtype = next(dtype for dtype in _DTYPES if dtype in info.dtypes)
    for sample in itertools.islice(info.sample_inputs("cpu", dtype, requires_grad=False), 64):
        tensors = [t for t in pytree.tree_leaves((sample.input, sample.args, sample.kwargs)) if torch.is_tensor(t)]
        if tensors and sum(t.numel() for t in tensors) <= _MOST_ELEMENTS:
            yield sample


def _undefined(name: str) -> bool:
    """Whether it gives memory that nobody has written, random numbers alone, or is for other devices."""
    return "empty" in name or name.startswith("jiterator") or name in ("rand_like", "randn_like", "randint_like")


def has_arguments(suite: str, name: str) -> bool:
    """Whether there are argument sets for an operator."""
    if suite == "nn":
        return bool(name in LAYERS or _module_inputs(name))
    return bool(name in FUNCTIONS or _operators_named(suite, name))


def _operators_named(suite: str, name: str) -> Sequence[Any]:
    key = f"nn.functional.{name}"
    return _operators().get(key if suite == "functional" and key in _operators() else name, ())


def _spread(found: Sequence[Any]) -> list[Any]:
    """`SETS` of them, from the first to the last."""
    if len(found) <= SETS:
        return list(found)
    return [found[k * (len(found) - 1) // (SETS - 1)] for k in range(SETS)]


def _nth(found: Sequence[Any], k: int) -> Any:
    if k >= len(found):
        raise LookupError("PyTorch's lists have no such argument set")
    return found[k]


# ---- values


def _probes(batch: tuple[torch.Tensor, ...]) -> list[Probe]:
    """The arguments; other numbers, while indices and masks stay; edge values in places of the first floats."""
    generator = torch.Generator().manual_seed(7)
    others = tuple(
        torch.randn(t.shape, generator=generator, dtype=t.dtype) if t.is_floating_point() else t.clone() for t in batch
    )
    nan, infinity = float("nan"), float("inf")
    return [
        Probe("example", batch),
        Probe("random", others),
        Probe("NaN", _with(batch, (0.0, nan, -0.0, 1e4, -1e4, 0.5, -3.0))),
        Probe("infinite", _with(batch, (0.0, infinity, -infinity, 1e4, -1e4, -0.0, 7.0))),
    ]


def _with(batch: tuple[torch.Tensor, ...], values: Sequence[float]) -> tuple[torch.Tensor, ...]:
    """The tensors with values put into places of the first one of floats, far apart."""
    found = [t.clone() for t in batch]
    first = next((k for k, t in enumerate(found) if t.is_floating_point() and t.numel()), None)
    if first is not None:
        flat = found[first].reshape(-1)
        places = torch.arange(0, flat.numel(), max(1, flat.numel() // len(values)))[: len(values)]
        flat[places] = torch.tensor(values[: len(places)], dtype=flat.dtype)
        found[first] = flat.view(batch[first].shape)
    return tuple(found)
