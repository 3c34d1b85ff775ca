"""From the MODEL of the command line to a network: a zoo name, a factory, an exported `.pt2`, or a `model.pt`."""

from __future__ import annotations

import difflib
import importlib
import operator
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.pipelines.ingress.exported import load_exported
from loopmorph.pipelines.ingress.exported_graph import Untrusted
from loopmorph.pipelines.ingress.restored import describe_restored, restore
from loopmorph.pipelines.rewritten.model_file import read_model
from loopmorph.pipelines.support.archives import TooLarge
from loopmorph.pipelines.support.foreign import describe
from loopmorph.pipelines.support.inference import switch_to_inference
from loopmorph.pipelines.support.numbers import check_seed, check_size
from loopmorph.pipelines.zoo import NAMES, ZOO, ZooEntry, is_in_zoo, zoo_entry

FORMS = "a zoo name, package.module:factory, or a path that ends in .pt2 (exported) or .pt (of loopmorph)"


@dataclass(frozen=True)
class LoadedModel:
    """A network that is ready to be imported.

    Attributes:
        name: the text that it was asked for by.
        model: the network in eval mode, on the CPU.
        example_inputs: positional inputs; batch 1, except where a `.pt2` or a factory brings its own.
        classes: number of logits, None when the output is not one (N, classes) tensor.
        note: what became of a file, in one line for a report; empty for what is none.
        original: the network that a `model.pt` was made from, with other weights; None for what is no such file.
    """

    name: str
    model: nn.Module
    example_inputs: tuple[torch.Tensor, ...]
    classes: int | None
    note: str = ""
    original: nn.Module | None = None


def resolve_model(text: str, *, seed: int = 0, trust: bool = False) -> LoadedModel:
    """Finds or builds the network that `text` names.

    A zoo network or a factory's is built with the CPU's random generator seeded by `seed` (the caller's state is
    restored), so its weights are a function of the seed. BatchNorm's running statistics keep their defaults.

    A factory takes no arguments and returns an `nn.Module` or `(nn.Module, example_inputs)`. For the first kind the
    factory's attribute `input_shape`, (C, H, W), says what the network takes. The working directory is on the import
    path while the factory is imported and run: a factory is code. A `.pt2` can hold code, too; one that does, or that
    cannot be looked through, is refused unless it is trusted. Its layers become modules again where that is possible
    (see `restored.py`), so that they have a train mode and names. A `model.pt` (see `load_model`) is a network of the
    zoo, rewritten, with the weights that it holds; where it names anything else, that is built if it is trusted.

    Args:
        text: a zoo name, `package.module:factory`, or a path that ends in `.pt2` or `.pt`.
        seed: seeds the weights and the example input; a `model.pt` has its own.
        trust: whether code that a `.pt2` holds, or that a `model.pt` names, may run.

    Returns:
        The network with its example inputs.

    Raises:
        ArgumentError: the name is not known, the module, attribute or file is missing, or what they hold cannot be
            used; the message says which. A seed of more than 64 bits.
        DataError: a `.pt` that is no `model.pt`, damaged, or of an earlier format.
    """
    check_seed(seed)
    entry = zoo_entry(text)
    if entry is not None:
        return _from_zoo(text, entry, seed)
    if text.endswith(".pt"):
        return _from_saved(text, trust)
    if text.endswith(".pt2"):
        return _from_export(text, trust)
    if ":" in text:
        return _from_factory(text, seed)
    near = difflib.get_close_matches(text, ZOO, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise ArgumentError("model", f"'{text}' is not known{hint}; accepted are {FORMS} (zoo: {', '.join(NAMES)})")


def _from_zoo(name: str, entry: ZooEntry, seed: int) -> LoadedModel:
    with _seeded(seed):
        model = entry.factory().eval()
    return LoadedModel(name, model, entry.example(seed), entry.classes or None)


def _from_factory(text: str, seed: int) -> LoadedModel:
    with _working_directory_importable():
        factory = _find_callable("model", text, "factory")
        with _seeded(seed):
            built = _guarded(f"the factory '{text}' failed", factory)
    given = getattr(factory, "input_shape", None)
    if isinstance(built, tuple) and len(built) == 2:
        model, inputs = built[0], _as_inputs(text, built[1])
    else:
        model, inputs = built, None
    if not isinstance(model, nn.Module):
        raise ArgumentError(
            "model",
            f"the factory '{text}' returned a {type(built).__name__}; "
            "an nn.Module or (nn.Module, example_inputs) is expected",
        )
    if inputs is None:
        inputs = (_example(_checked_shape(text, given), seed),)
    model.eval()
    return LoadedModel(text, model, inputs, _count_classes(text, model, inputs))


def resolve_function(argument: str, text: str) -> Callable[..., Any]:
    """A function that `package.module:function` names; the working directory is on the import path meanwhile.

    Args:
        argument: what messages call the argument.
        text: the name.

    Raises:
        ArgumentError: the module or attribute is missing, or cannot be called.
    """
    with _working_directory_importable():
        return _find_callable(argument, text, "function")


def _find_callable(argument: str, text: str, what: str) -> Callable[..., Any]:
    module_name, _, attribute = text.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), *attribute.split("."))):
        raise ArgumentError(argument, f"'{text}' is not of the form package.module:{what}")
    try:
        importing = f"importing '{module_name}' failed"
        module = _guarded(importing, lambda: importlib.import_module(module_name), argument)
    except ArgumentError as error:
        cause = error.__cause__
        # A missing module inside the user's module is a failure of that module, and keeps its own message.
        if isinstance(cause, ModuleNotFoundError) and f"{module_name}.".startswith(f"{cause.name}."):
            raise ArgumentError(argument, f"'{text}': there is no module '{cause.name}' on the import path") from cause
        raise
    try:
        factory = operator.attrgetter(attribute)(module)
    except AttributeError:
        names = [name for name in vars(module) if callable(getattr(module, name)) and not name.startswith("_")]
        near = difflib.get_close_matches(attribute, names, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ArgumentError(argument, f"module '{module_name}' has no attribute '{attribute}'{hint}") from None
    if not callable(factory):
        raise ArgumentError(argument, f"'{text}' is a {type(factory).__name__}, not a {what} that can be called")
    return factory


def _from_saved(text: str, trust: bool) -> LoadedModel:
    file = read_model(text)
    origin = file.origin
    if file.former:
        again = f"import loopmorph as lm; lm.save_model('new.pt', lm.load_model({text!r}))"
        raise DataError(f'{text}: has the format of an earlier version; python -c "{again}" makes a new one')
    if origin.model.endswith(".pt"):
        raise DataError(f"{text}: a damaged model file: it says that it was made from another, '{origin.model}'")
    if not is_in_zoo(origin.model) and not trust:
        reason = f"{text} was made from '{origin.model}', which is code of its own"
        raise ArgumentError("model", f"{reason}; if you trust it, pass --trust (trust=True)")
    original = resolve_model(origin.model, seed=origin.seed, trust=trust)
    model = switch_to_inference(file.rebuilt(original.model))
    count = len(origin.changes)
    note = f"{origin.model} with other weights" + (f", rewritten in {count} module{'s'[: count > 1]}" if count else "")
    return LoadedModel(text, model, original.example_inputs, original.classes, note, original.model)


def _from_export(text: str, trust: bool) -> LoadedModel:
    if not Path(text).is_file():
        raise ArgumentError("model", f"{text}: there is no such file")
    if not zipfile.is_zipfile(text):
        raise ArgumentError("model", f"{text}: is truncated or was not written by torch.export.save")
    exported = _read_export(text, trust)
    example = exported.example_inputs
    if example is None:
        raise ArgumentError("model", f"{text}: holds no example inputs; export it from example inputs again")
    positional, named = example
    if named:
        raise ArgumentError("model", f"{text}: takes keyword inputs ({', '.join(named)}); only positional ones can be")
    inputs = _as_inputs(text, positional)
    model = restore(exported)
    note = "an exported graph, in the mode of the export" if model is None else describe_restored(model)
    if model is None:
        model = switch_to_inference(exported.module())
    return LoadedModel(text, model, inputs, _count_classes(text, model, inputs), note)


def _read_export(text: str, trust: bool) -> torch.export.ExportedProgram:
    try:
        return load_exported(text, trust=trust)
    except (Untrusted, TooLarge) as error:
        advice = "if you trust it, pass --trust (trust=True)"
        raise ArgumentError("model", f"{text}: refused: {error}; {advice}") from error
    except Exception as error:  # a damaged file makes PyTorch raise anything
        raise ArgumentError("model", f"{text}: cannot be read as an exported program: {describe(error)}") from error


def _as_inputs(text: str, inputs: Any) -> tuple[torch.Tensor, ...]:
    inputs = (inputs,) if isinstance(inputs, torch.Tensor) else inputs
    if not isinstance(inputs, tuple | list) or not inputs or not all(isinstance(x, torch.Tensor) for x in inputs):
        raise ArgumentError("model", f"'{text}': the example inputs are not a tuple of tensors")
    return tuple(inputs)


def _checked_shape(text: str, shape: Any) -> tuple[int, ...]:
    if shape is None:
        raise ArgumentError(
            "model",
            f"'{text}': the input's shape is not known; return (model, example_inputs) from the factory, "
            "or give the factory an attribute input_shape = (C, H, W)",
        )
    if not isinstance(shape, tuple | list) or not shape or not all(isinstance(n, int) and n > 0 for n in shape):
        raise ArgumentError("model", f"'{text}': input_shape is {shape!r}; (C, H, W) of positive numbers is expected")
    check_size("model", (1, *shape), f"'{text}': an input")
    return tuple(shape)


def _example(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed))


def _count_classes(text: str, model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> int | None:
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        output = _guarded(f"'{text}': the model does not accept its example inputs", lambda: model(*inputs))
    return output.shape[1] if isinstance(output, torch.Tensor) and output.ndim == 2 else None


def _guarded(what: str, call: Callable[[], Any], argument: str = "model") -> Any:
    """Runs a user's code: a process boundary in all but name, since it may raise anything."""
    try:
        return call()
    except Exception as error:
        raise ArgumentError(argument, f"{what}: {describe(error)}") from error


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def _working_directory_importable() -> Iterator[None]:
    """A console script, other than `python -m`, does not look for modules where it is started."""
    here = str(Path.cwd())
    if here in sys.path or "" in sys.path:
        yield
        return
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)
