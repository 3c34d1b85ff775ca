"""How jobs are done: the side of the judge."""

from __future__ import annotations

import json
import warnings

from loopmorph.passes.errors import LoopmorphWarning
from loopmorph.passes.history import layer_of, parse_steps
from loopmorph.pipelines.search.judge import Judge
from loopmorph.pipelines.search.search_space import Candidate
from loopmorph.pipelines.search.study import Record
from loopmorph.pipelines.search.workers.job import Job


def perform(judge: Judge, job: Job) -> Record:
    """Does a job."""
    candidate = _candidate(job)
    if not job.timed:
        return Record.of(judge.admit(candidate))
    if job.admitted is None:
        return Record.of(judge.judge(candidate))
    return Record.of(judge.measure(candidate, job.admitted.verdict))


def reply(judge: Judge, job: str) -> str:
    """Does a job that comes as JSON; the reply is JSON (see `parse_reply`), with the warnings that came up."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", LoopmorphWarning)
        record = perform(judge, Job.from_json(job))
    texts = [str(each.message) for each in told if issubclass(each.category, LoopmorphWarning)]
    return json.dumps({"record": record.as_json(), "warnings": texts})


def _candidate(job: Job) -> Candidate:
    steps = parse_steps(",".join(job.steps))
    neural = steps[0] if steps[0].kind == "neural" else None
    return Candidate(layer_of(steps[0]) or "", neural, steps[1:] if neural else steps)
