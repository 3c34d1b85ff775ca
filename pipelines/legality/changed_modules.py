"""Which modules of a network transformations have changed, and in which text that can be seen."""

from __future__ import annotations

import itertools
import re

from loopmorph.passes import marks
from loopmorph.passes.nest import functions, nest_roots
from loopmorph.pipelines.network import Network, owning_module

# In the text of a function: a nest, from its first line to the brace below that; and a constant.
_NEST = re.compile(r"^  (?:%\S+ = )?affine\.for .*?^  \}.*?$", re.MULTILINE | re.DOTALL)
_CONSTANT = re.compile(r"^  (%\S+) = arith\.constant (.*)$", re.MULTILINE)
_VALUE = re.compile(r"%[\w$.-]+")


def module_texts(network: Network) -> dict[str, str]:
    """Qualified name of each module -> its nests and what its parameters inherit; equal texts compute the same.

    Nests of operations in a module's own code, and of repeated calls, are that module's. Values have numbers in the
    order in which a nest names them, so that it does not matter what stands before; parameters have their names, and
    constants what they are.
    """
    found: dict[str, list[str]] = {}
    for layer, text in _nest_texts(network):
        found.setdefault(owning_module(layer), []).append(text)
    for name, text in network.inherit_texts.items():
        given = network.repaired.get(name)
        values = "" if given is None else f" {id(given.value)}"
        found.setdefault(name.rpartition(".")[0], []).append(f"{name}: {text}{values}")
    return {name: "\n".join(texts) for name, texts in found.items()}


def changed_modules(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """The modules whose texts differ (see `module_texts`), in program order."""
    return [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]


def _nest_texts(network: Network) -> list[tuple[str, str]]:
    """The layer and the text of each nest, in program order; out of one text of all, which takes little to make."""
    operation = network.module.operation
    layers = [marks.get_text(root, marks.LAYER) for root in nest_roots(operation)]
    texts = []
    for function in functions(operation):
        names = {
            f"%arg{k}": name
            for k, argument in enumerate(function.entry_block.arguments)
            if (name := marks.parameter_name(argument)) is not None
        }
        whole = function.operation.get_asm(use_local_scope=True, assume_verified=True)  # passes verify
        names |= dict(_CONSTANT.findall(whole))
        texts += [_renamed(nest, names) for nest in _NEST.findall(whole)]
    return list(zip(layers, texts, strict=True))


def _renamed(text: str, parameters: dict[str, str]) -> str:
    numbers, known = itertools.count(), dict(parameters)

    def name(match: re.Match[str]) -> str:
        value = match.group()
        if value not in known:
            known[value] = f"%{next(numbers)}"
        return known[value]

    return _VALUE.sub(name, text)
