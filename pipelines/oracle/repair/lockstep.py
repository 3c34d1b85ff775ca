"""A network that is run one layer at a time, so that another one can be compared with it without all in memory."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from loopmorph.pipelines.support.hooks import hooked


@dataclass(frozen=True)
class LayerCall:
    """One run of a module: its name, its tensor inputs, and what it gave."""

    name: str
    inputs: tuple[torch.Tensor, ...]
    output: Any


class Lockstep:
    """The calls of some modules of a network, in order, each made when it is asked for.

    The network runs in a thread of its own, in eval mode as it is given and without gradients, and stands still after
    each of the calls until the next one is wanted. Use it as a context: leaving it ends the thread.

    Args:
        model: the network.
        names: the modules whose calls are wanted.
        inputs: the network's positional inputs.
    """

    def __init__(self, model: nn.Module, names: Iterable[str], inputs: Sequence[torch.Tensor]) -> None:
        self._model, self._names, self._inputs = model, frozenset(names), tuple(inputs)
        self._calls: queue.Queue[LayerCall | BaseException | None] = queue.Queue(1)
        self._wanted = threading.Semaphore(0)
        self._stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Lockstep:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stopped = True
        self._wanted.release()
        self._thread.join()

    def until(self, name: str) -> LayerCall | None:
        """The next call of a module; those before it are passed over. None where the network ends without one.

        Raises:
            Exception: what the network itself raised.
        """
        while True:
            self._wanted.release()
            call = self._calls.get()
            if isinstance(call, BaseException):
                raise call
            if call is None or call.name == name:
                return call

    def _run(self) -> None:
        hooks = (
            module.register_forward_hook(self._hook(name))
            for name, module in self._model.named_modules()
            if name in self._names
        )
        try:
            self._wanted.acquire()
            if not self._stopped:
                with hooked(hooks), torch.no_grad():
                    self._model(*self._inputs)
            while not self._stopped:  # whoever asks once more learns that it has ended
                self._calls.put(None)
                self._wanted.acquire()
        except _Stopped:
            pass
        except BaseException as error:  # the user's own forward may raise anything
            self._calls.put(error)

    def _hook(self, name: str) -> Any:
        def report(_module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self._calls.put(LayerCall(name, tuple(x for x in args if isinstance(x, torch.Tensor)), output))
            self._wanted.acquire()
            if self._stopped:
                raise _Stopped

        return report


class _Stopped(BaseException):
    """Nobody wants further calls."""
