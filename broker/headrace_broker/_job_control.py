"""What operators do to jobs: the part of the Broker that neither producers nor workers need."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from headrace_broker import keys, record
from headrace_broker.errors import JobNotFound, WrongState
from headrace_broker.job import Job, State

DETAIL = 200
"""Characters of an error, or of a reason, that the history keeps."""


class JobControl(ABC):
    """The verbs on jobs. Each is one script."""

    @abstractmethod
    async def _run(self, script: str, shard: int, *arguments: Any) -> Any:
        """Runs a script on a shard."""

    async def cancel(self, job_id: str, *, reason: str = "") -> Job:
        """Cancels a job that waits; of one that runs, has its worker stop the handler. Safe to repeat.

        `reason` says who asks, and why; the history keeps its first 200 characters. Returns the job, without content
        and result: CANCELLED, or PROCESSING with the time of the request.

        Raises:
            JobNotFound: there is no record of it.
            WrongState: it has ended otherwise.
        """
        job = await self._control("cancel", job_id, reason[:DETAIL])
        if job.state.is_terminal and job.state is not State.CANCELLED:
            raise WrongState(job_id, job.state, "cancelled")
        return job

    async def _control(self, script: str, job_id: str, *arguments: Any) -> Job:
        """Runs a script that returns the basic fields of the record, and makes a job of them."""
        if not keys.is_job_id(job_id):
            raise JobNotFound(job_id)
        values = await self._run(script, keys.shard_of(job_id), job_id, *arguments, *record.BASIC_FIELDS)
        fields = dict(zip(record.BASIC_FIELDS, values, strict=True))
        if fields["state"] is None:
            raise JobNotFound(job_id)
        return record.decode_job(job_id, fields)
