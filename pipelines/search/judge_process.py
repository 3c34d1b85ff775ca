"""The process of a judge, from outside: started, set up, started again after what has ended it. Imports no torch."""

from __future__ import annotations

import warnings
from typing import Any

from loopmorph.passes.errors import CompilationFailed, LoopmorphError
from loopmorph.pipelines.support.service import Service, ServiceEnded, ServiceTimedOut

_MAIN = "loopmorph.pipelines.search.judge_main"
# PyTorch maps each activation of a large network anew; by small pages that is a fifth of the time of running one.
_ENVIRONMENT = {"THP_MEM_ALLOC_ENABLE": "1"}
LIMIT = 1800.0  # seconds of wall time for one request; the largest networks take minutes to score


class JudgeProcess:
    """A process that starts, and loads what it needs, as soon as this object is made."""

    def __init__(self) -> None:
        self._service: Service | None = _started()
        self._content = b""

    def set_up(self, content: bytes) -> None:
        """Tells the process what to judge; comes before all else.

        Args:
            content: a pickled `JudgeSetup`.

        Raises:
            ServiceEnded, ServiceTimedOut: the process ends over it, or does not reply.
            LoopmorphError: the network cannot be imported there.
        """
        self._content = content
        self._exchange("set_up", content)

    def ask(self, *request: Any) -> Any:
        """The reply to a request, the name of a method of `Judge` with its arguments.

        Raises:
            LoopmorphError: what the judge raised.
            CompilationFailed: the process ended, or did not reply in time.
        """
        try:
            if self._service is None:
                self._service = _started()
                self._exchange("set_up", self._content)
            return self._exchange(*request)
        except ServiceTimedOut:
            self.close()
            raise CompilationFailed(f"the process that judges was killed after {LIMIT:g} s") from None
        except ServiceEnded as error:
            self.close()
            raise CompilationFailed(f"the process that judges {error}") from error
        except LoopmorphError:
            raise
        except BaseException:  # an interrupted exchange would leave half a message in the pipe
            self.close()
            raise

    def close(self) -> None:
        """Ends the process; a later request starts another."""
        service, self._service = self._service, None
        if service is not None:
            service.stop()

    def _exchange(self, *request: Any) -> Any:
        assert self._service is not None
        reply = self._service.ask(request, LIMIT, _warn)
        if isinstance(reply, LoopmorphError):
            raise reply
        return reply


def _started() -> Service:
    return Service(_MAIN, environment=_ENVIRONMENT, whole_path=True, forked=True)


def _warn(told: tuple[type[Warning], str]) -> None:
    category, text = told
    warnings.warn(text, category, stacklevel=2)
