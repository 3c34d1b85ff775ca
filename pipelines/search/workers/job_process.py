"""A process of a judge that does jobs, each a text, as its reply is. Imports no torch."""

from __future__ import annotations

from loopmorph.passes.errors import CompilationFailed
from loopmorph.pipelines.search.judge_process import JudgeProcess
from loopmorph.pipelines.search.workers.job import failed_reply


class JobProcess:
    """The process, set up with the first job; a job that crashes it has failed, and the next one finds another one."""

    def __init__(self, content: bytes) -> None:
        """Args:
        content: a pickled `JudgeSetup`.
        """
        self._content: bytes | None = content
        self._process = JudgeProcess()

    def reply(self, job: str) -> str:
        """The reply to a job, both as texts (see `job_text` and `parse_reply`).

        Raises:
            ServiceEnded, ServiceTimedOut, LoopmorphError: the process cannot be set up.
        """
        if self._content is not None:
            self._process.set_up(self._content)
            self._content = None
        try:
            return self._process.ask("reply", job)
        except CompilationFailed as error:
            return failed_reply(job, str(error))

    def close(self) -> None:
        """Ends the process."""
        self._process.close()
