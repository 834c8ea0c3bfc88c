"""What AsyncClient can do to jobs that are there already."""
# ruff: noqa: ASYNC109 - a timeout here is the deadline of a call, which gRPC takes as a number

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from headrace import _convert
from headrace.errors import InvalidRequest
from headrace.models import DeadLetterFilter, DeadLetterSweep, Duration, Job
from headrace.v1.job_service_pb2 import CancelJobRequest, PurgeDLQRequest, RequeueDLQRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from headrace._channel import Connection


MAX_IDS = 1_000
"""Ids that one call may name."""


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

    async def requeue_dlq(
        self,
        job_ids: Iterable[str] | None = None,
        *,
        where: DeadLetterFilter | None = None,
        validate_only: bool = False,
        timeout: Duration | None = None,
    ) -> DeadLetterSweep:
        """Put dead letters back to work, oldest first, in as many calls as it takes.

        They keep their `job_id` and history; attempts and crashes are counted anew.

        Args:
            job_ids: These jobs.
            where: All dead letters that match; `DeadLetterFilter()` means all there are. In place of `job_ids`.
            validate_only: Only count; change nothing.
            timeout: Longest wait for the answer to each call. Default: that of the client.

        Returns:
            How many there were, and which of `job_ids` are no dead letters. A walk that was interrupted may be begun
            again: what was requeued is not met again.

        Raises:
            InvalidRequest: Neither or both of `job_ids` and `where` are given, or the filter is wrong.
        """

        async def step(some: Sequence[str] | None, token: str) -> DeadLetterSweep:
            return await self.requeue_dlq_page(
                some, where=where, validate_only=validate_only, page_token=token, timeout=timeout
            )

        return await _sweep(job_ids, where, step)

    async def requeue_dlq_page(
        self,
        job_ids: Sequence[str] | None = None,
        *,
        where: DeadLetterFilter | None = None,
        validate_only: bool = False,
        page_token: str = "",
        timeout: Duration | None = None,
    ) -> DeadLetterSweep:
        """One call of `requeue_dlq`, for those who show how far it is.

        `page_token` is the `next_page_token` of the call before.

        Raises:
            InvalidRequest: The token belongs to another filter.
        """
        request = RequeueDLQRequest(
            job_ids=job_ids or (),
            filter=None if where is None else _convert.filter_from(where),
            validate_only=validate_only,
            page_token=page_token,
        )
        rpc = self._connection.stub.RequeueDLQ
        reply = await self._connection.unary(rpc, request, within=self._seconds(timeout))
        return _convert.sweep_from(reply)

    async def purge_dlq(
        self,
        job_ids: Iterable[str] | None = None,
        *,
        where: DeadLetterFilter | None = None,
        force: bool = False,
        timeout: Duration | None = None,
    ) -> DeadLetterSweep:
        """Delete dead letters, oldest first, in as many calls as it takes. Without `force` it only counts them.

        Args:
            job_ids: These jobs.
            where: All dead letters that match; `DeadLetterFilter()` means all there are. In place of `job_ids`.
            force: Really delete.
            timeout: Longest wait for the answer to each call. Default: that of the client.

        Returns:
            How many there were, and which of `job_ids` are no dead letters. A walk that was interrupted may be begun
            again: what was deleted is not met again.

        Raises:
            InvalidRequest: Neither or both of `job_ids` and `where` are given, or the filter is wrong.
        """

        async def step(some: Sequence[str] | None, token: str) -> DeadLetterSweep:
            return await self.purge_dlq_page(some, where=where, force=force, page_token=token, timeout=timeout)

        return await _sweep(job_ids, where, step)

    async def purge_dlq_page(
        self,
        job_ids: Sequence[str] | None = None,
        *,
        where: DeadLetterFilter | None = None,
        force: bool = False,
        page_token: str = "",
        timeout: Duration | None = None,
    ) -> DeadLetterSweep:
        """One call of `purge_dlq`, for those who show how far it is.

        `page_token` is the `next_page_token` of the call before.

        Raises:
            InvalidRequest: The token belongs to another filter.
        """
        request = PurgeDLQRequest(
            job_ids=job_ids or (),
            filter=None if where is None else _convert.filter_from(where),
            force=force,
            page_token=page_token,
        )
        rpc = self._connection.stub.PurgeDLQ
        reply = await self._connection.unary(rpc, request, within=self._seconds(timeout))
        return _convert.sweep_from(reply)


async def _sweep(
    job_ids: Iterable[str] | None,
    where: DeadLetterFilter | None,
    step: Callable[[Sequence[str] | None, str], Awaitable[DeadLetterSweep]],
) -> DeadLetterSweep:
    """All the steps of a walk, as one."""
    if (job_ids is None) == (where is None):
        raise InvalidRequest.of("job_ids", "give either job_ids or where")
    steps: list[DeadLetterSweep] = []
    if job_ids is not None:
        ids = list(job_ids)
        steps = [await step(ids[start : start + MAX_IDS], "") for start in range(0, len(ids), MAX_IDS)]
    else:
        steps.append(await step(None, ""))
        while steps[-1].next_page_token:
            steps.append(await step(None, steps[-1].next_page_token))
    return DeadLetterSweep(
        count=sum(one.count for one in steps),
        scanned=sum(one.scanned for one in steps),
        skipped_job_ids=tuple(job_id for one in steps for job_id in one.skipped_job_ids),
        next_page_token="",
    )
