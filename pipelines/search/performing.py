"""How jobs are done: the side of the judge."""

from __future__ import annotations

import json
import warnings
from typing import Any

from loopmorph.passes.errors import LoopmorphWarning
from loopmorph.pipelines.search.joint.joint_loss import CompareJob
from loopmorph.pipelines.search.judge import Judge
from loopmorph.pipelines.search.variants.harm_job import HarmJob
from loopmorph.pipelines.search.variants.time_job import VariantTimeJob
from loopmorph.pipelines.search.workers.candidate_job import CandidateJob
from loopmorph.pipelines.search.workers.job import Job, reply_text

KINDS = {each.kind: each for each in (CandidateJob, VariantTimeJob, HarmJob, CompareJob)}


def reply(judge: Judge, job: str) -> str:
    """Does a job that comes as a text (see `job_text`); the reply is a text, too (see `parse_reply`)."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", LoopmorphWarning)
        result = parse_job(job).perform(judge)
    texts = [str(each.message) for each in told if issubclass(each.category, LoopmorphWarning)]
    return reply_text(job, result, texts)


def parse_job(text: str) -> Job[Any]:
    """The job that `job_text` gave."""
    content = json.loads(text)
    return KINDS[content["kind"]].from_json(content)
