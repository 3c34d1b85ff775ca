"""What a study is of: all that the records of a search depend on, by name, so that a refusal can say what differs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

import loopmorph
from loopmorph.passes.target.detect import processor_name
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.store.cache_file import computer, hash_of, sources
from loopmorph.pipelines.support.digests import digest_of

_DIGITS = 8  # of the key in the name of a study
_SHOWN = 12  # digits of what stands beside words


@dataclass(frozen=True)
class Identity:
    """What a study is of: records of another one say nothing here.

    Attributes:
        name: what its user calls it.
        about: all that its records depend on, as texts by name (see `identify`).
        named: whether the user chose the name, for a further study in a file.
    """

    name: str
    about: Mapping[str, str]
    named: bool = False

    @property
    def key(self) -> str:
        """One text for all that its records depend on."""
        return hash_of(json.dumps(sorted(self.about.items())))

    def optuna_name(self, kind: str) -> str:
        """What Optuna calls the study of the records of a kind. The key in it makes "it is there" and "it is of this
        search" one question, which no process that is killed in between can leave half answered."""
        return f"{self.name} {kind} {self.key[:_DIGITS]}"


def identify(
    network: Network, inputs: Iterable[torch.Tensor], targets: Any, *, source: str = "", **more: object
) -> dict[str, str]:
    """All that the records of a search depend on: on this computer and with these sources of loopmorph.

    Args:
        network: as imported.
        inputs, targets: the minibatch.
        source: what the minibatch is called.
        more: seed, gate and the like, as JSON can hold them.
    """
    minibatch = digest_of((*inputs, *filter(torch.is_tensor, tree_leaves(targets))))
    return {
        "network": hash_of(str(network.module)),
        "weights": digest_of(network.imported.values()),
        "data": f"{source} {minibatch[:_SHOWN]}".strip(),
        **{name: value if isinstance(value, str) else json.dumps(value) for name, value in more.items()},
        "processor": processor_name(),
        "code": hash_of(computer()),
        "loopmorph": f"{loopmorph.__version__} {sources()[:_SHOWN]}",
    }
