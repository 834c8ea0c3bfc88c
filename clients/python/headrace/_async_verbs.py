"""What AsyncClient can do to jobs that are there already."""
# ruff: noqa: ASYNC109 - a timeout here is the deadline of a call, which gRPC takes as a number

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from headrace import _convert
from headrace.models import Duration, Job
from headrace.v1.job_service_pb2 import CancelJobRequest

if TYPE_CHECKING:
    from headrace._channel import Connection


class AsyncVerbs(ABC):
    """The verbs, each one call."""

    _connection: Connection

    @abstractmethod
    def _seconds(self, timeout: Duration | None) -> float:
        """The deadline of a call in seconds."""

    async def cancel(self, job_id: str, *, reason: str = "", timeout: Duration | None = None) -> Job:
        """Cancel a job: one that waits at once; of one that runs, the handler is stopped within a second.

        Args:
            job_id: The job.
            reason: Who asks, and why, at most 200 characters; kept in its history.
            timeout: Longest wait for the answer. Default: that of the client.

        Returns:
            The job, without payload and result: CANCELLED, or PROCESSING with a `cancel_request_time`. That one is
            CANCELLED once its handler has ended, or a second has passed, unless it succeeded before. Safe to repeat.

        Raises:
            JobNotFound: It was never stored, or its retention has passed.
            PreconditionFailed: It has ended otherwise.
        """
        request = CancelJobRequest(job_id=job_id, reason=reason)
        reply = await self._connection.unary(self._connection.stub.CancelJob, request, within=self._seconds(timeout))
        return _convert.job_from(reply.job)
