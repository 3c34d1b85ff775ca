"""Which modules of a network transformations have changed, and in which text that can be seen."""

from __future__ import annotations

from loopmorph.pipelines.network import Network, owning_module


def module_texts(network: Network) -> dict[str, str]:
    """Qualified name of each module -> its nests and what its parameters inherit; equal texts compute the same.

    Nests of operations in a module's own code, and of repeated calls, are that module's (see `Network.layer_texts`).
    """
    found: dict[str, list[str]] = {}
    for layer, text in network.layer_texts.items():
        found.setdefault(owning_module(layer), []).append(text)
    for name, text in network.inherit_texts.items():
        given = network.repaired.get(name)
        values = "" if given is None else f" {id(given.value)}"
        found.setdefault(name.rpartition(".")[0], []).append(f"{name}: {text}{values}")
    return {name: "\n".join(texts) for name, texts in found.items()}


def changed_modules(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """The modules whose texts differ (see `module_texts`), in program order."""
    return [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]
