"""The client for asyncio."""
# ruff: noqa: ASYNC109 - a timeout here is the deadline of a call, which gRPC takes as a number

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from headrace import _convert, errors
from headrace._async_queues import AsyncQueues
from headrace._async_verbs import AsyncVerbs
from headrace._batch import Entry, enqueue_all
from headrace._channel import Connection, resolve_target
from headrace._coalesce import Coalescer
from headrace._status import error_from_status
from headrace._watch import Watch
from headrace.models import (
    DeadLetterPage,
    Durability,
    Duration,
    Job,
    JobState,
    NewJob,
    Priority,
    RetryPolicy,
    StatusEvent,
)
from headrace.v1.job_service_pb2 import (
    EnqueueRequest,
    EnqueueResponse,
    GetJobRequest,
    ListDLQRequest,
)

_UNSUCCESSFUL: dict[JobState, type[errors.JobUnsuccessful]] = {
    JobState.FAILED: errors.JobFailed,
    JobState.CANCELLED: errors.JobCancelled,
    JobState.EXPIRED: errors.JobExpired,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncJobHandle:
    """A stored job, and the way to follow it."""

    job_id: str
    state: JobState
    """SCHEDULED or QUEUED when this call stored the job; where it is by now when an earlier call did."""
    version: int
    create_time: datetime | None
    deduplicated: bool
    """True when an earlier call with this request_id had stored the job."""
    durability: Durability | None
    """The level that the store has confirmed."""
    client: AsyncClient = field(repr=False, compare=False)

    async def get(self) -> Job:
        """The job as it is now; see `AsyncClient.get`."""
        return await self.client.get(self.job_id)

    def watch(self, *, after_version: int | None = None) -> AsyncGenerator[StatusEvent, None]:
        """Every step of the job, live; see `AsyncClient.watch`."""
        return self.client.watch(self.job_id, after_version=after_version)

    async def result(self, timeout: Duration | None = None) -> Any:
        """What the handler returned, once it has; see `AsyncClient.result`."""
        return await self.client.result(self.job_id, timeout=timeout)

    async def cancel(self, *, reason: str = "") -> Job:
        """Cancel the job; see `AsyncClient.cancel`."""
        return await self.client.cancel(self.job_id, reason=reason)


class AsyncClient(AsyncVerbs):
    """Enqueues jobs and tells what becomes of them. Safe to use from many tasks of one event loop.

    Connects on first use. Use it as an async context manager, or `await client.close()` in the end.
    """

    def __init__(
        self, target: str | None = None, *, timeout: Duration = 10.0, reconnect_timeout: Duration | None = 300.0
    ) -> None:
        """A client of the server at `target`.

        Args:
            target: HOST:PORT; else the environment's HEADRACE_ADDRESS, else localhost:50051.
            timeout: Longest wait for the answer to one call, time for the server to come up included.
            reconnect_timeout: Longest outage of the server that a watch sits out. None: any.

        Raises:
            InvalidAddress: `target` is not an address.
            InvalidRequest: A timeout is not a duration.
        """
        self._timeout = _convert.seconds("timeout", timeout)
        self._patience = None if reconnect_timeout is None else _convert.seconds("reconnect_timeout", reconnect_timeout)
        self._connection = Connection(target=resolve_target(target))
        self.queues = AsyncQueues(connection=self._connection, seconds=self._seconds)
        # One for each durability: what is confirmed by a disk or a replica must not hold up what need not be.
        self._coalescers = {level: Coalescer(send=self._send) for level in EnqueueRequest.Durability.values()}

    @property
    def target(self) -> str:
        """Address of the server."""
        return self._connection.target

    async def __aenter__(self) -> Self:
        self._connection.check_open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Wait for enqueue calls under way, then close the connection; watches end with ClientClosed. Safe twice."""
        for coalescer in self._coalescers.values():
            await coalescer.aclose()
        await self._connection.close()

    async def ping(self, timeout: Duration = 5.0) -> None:
        """Return when the server serves. Does not wait for it to come up.

        Raises:
            Unavailable: Nobody answers, or the server says that it cannot serve.
        """
        await self._connection.check_health(_convert.seconds("timeout", timeout))

    async def enqueue(
        self,
        type: str,  # noqa: A002 - the contract's word for it
        payload: Any = None,
        *,
        queue: str = "default",
        priority: Priority | str = Priority.NORMAL,
        delay: Duration | None = None,
        schedule_time: datetime | None = None,
        attempt_timeout: Duration | None = None,
        expire_time: datetime | None = None,
        retry: RetryPolicy | None = None,
        labels: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        retention: Duration | None = None,
        request_id: str | None = None,
        content_type: str | None = None,
        durability: Durability | str | None = None,
        timeout: Duration | None = None,
    ) -> AsyncJobHandle:
        """Store one job. Calls that are made at the same time share one request to the server.

        Args:
            type: Name of the handler that runs the job: [A-Za-z0-9_.-]{1,128}.
            payload: What the handler is given. Bytes go as they are; anything else as JSON: the types that `json`
                knows, dataclasses, pydantic models. None: no payload.
            queue: Queue that the job waits in: [A-Za-z0-9_.-]{1,128}.
            priority: "high", "normal" or "low".
            delay: Wait until the job may run, counted by the store's clock: 0 to 1 year.
            schedule_time: Moment from which the job may run; in place of `delay`.
            attempt_timeout: Longest run of one attempt: 1 ms to 7 days. None: no limit.
            expire_time: A job that has not started by then ends as EXPIRED.
            retry: When and how often a failed attempt is tried again.
            labels: Short facts to find the job by: at most 64.
            headers: Context that travels with the job to its handler, such as traceparent.
            retention: How long the record is kept after the job has ended well. Default 24 hours.
            request_id: Names this request: the same again returns the first job. Default: a new UUID.
            content_type: Media type of the payload. Default: JSON, or application/octet-stream for bytes.
            durability: How safely it must be stored before this returns: "accepted", "fsynced" (on the store's disk) or
                "replicated". Default: that of the server.
            timeout: Longest wait for the answer. Default: that of the client.

        Raises:
            InvalidRequest: The job is wrong; `violations` name the fields.
            Unavailable, DeadlineExceeded: No answer; the job may be stored or not. Repeat with the same `request_id`.
                With reason DURABILITY_NOT_REACHED it is stored and may run, but is not confirmed as `durability` asks;
                a repetition confirms it again.
            PreconditionFailed: The store does not offer this durability; nothing was stored.
            ResourceExhausted: The store is full.
        """
        job = NewJob(
            type,
            payload,
            queue=queue,
            priority=priority,
            delay=delay,
            schedule_time=schedule_time,
            attempt_timeout=attempt_timeout,
            expire_time=expire_time,
            retry=retry,
            labels=labels,
            headers=headers,
            retention=retention,
            request_id=request_id,
            content_type=content_type,
            durability=durability,
        )
        self._connection.check_open()
        request = _convert.request_from(job)
        answer = await self._coalescers[request.durability].submit(request, self._seconds(timeout))
        return self._handle(answer)

    async def enqueue_many(
        self, jobs: Iterable[NewJob], *, timeout: Duration | None = None
    ) -> list[AsyncJobHandle | errors.EnqueueError]:
        """Store many jobs, in requests of up to 1,000. One bad job harms no other.

        Args:
            jobs: The jobs; consumed request by request.
            timeout: Longest wait for the answer to each request. Default: that of the client.

        Returns:
            For each job, in order, its handle, or the EnqueueError that says why it was not stored. Once the server
            cannot be reached, the jobs that are left get that error without another try.
        """
        self._connection.check_open()
        entries = await enqueue_all(jobs, send=self._send, within=self._seconds(timeout))
        return [self._outcome(index, entry) for index, entry in enumerate(entries)]

    async def get(self, job_id: str, *, timeout: Duration | None = None) -> Job:
        """The job as it is now, with its history.

        Raises:
            JobNotFound: It was never stored, or its retention has passed.
        """
        request = GetJobRequest(job_id=job_id, raw=True)
        reply = await self._connection.unary(self._connection.stub.GetJob, request, within=self._seconds(timeout))
        return _convert.job_from(reply.job)

    def watch(self, job_id: str, *, after_version: int | None = None) -> AsyncGenerator[StatusEvent, None]:
        """Every step of the job, live, until it has ended: first a snapshot, then each transition and progress.

        Interruptions are sat out: after a restart of the server the watch goes on where it was, without a version
        missing or told twice.

        Args:
            job_id: The job.
            after_version: Resume after this version, without a snapshot. 0 tells the whole story from the first
                transition on.

        Raises:
            JobNotFound: It was never stored, or its retention has passed.
            Unavailable: The server was not there for `timeout` at first, or for `reconnect_timeout` later on.
        """
        self._connection.check_open()
        return Watch(
            connection=self._connection,
            job_id=job_id,
            after_version=after_version,
            timeout=self._timeout,
            patience=self._patience,
        ).events()

    async def result(self, job_id: str, timeout: Duration | None = None) -> Any:
        """Wait until the job has ended, and return what its handler returned, decoded.

        Args:
            job_id: The job.
            timeout: Longest wait. None: as long as it takes.

        Raises:
            JobFailed, JobCancelled, JobExpired: It ended otherwise; they hold the job and its failure.
            DeadlineExceeded: (a TimeoutError) It has not ended in time. It goes on regardless.
        """
        job = await self._ended(job_id, None if timeout is None else _convert.seconds("timeout", timeout))
        if (error := _UNSUCCESSFUL.get(job.state)) is not None:
            raise error(job)
        return job.result

    async def dlq(self, queue: str = "", *, page_size: int = 100) -> AsyncGenerator[Job, None]:
        """The dead letters, those that failed last first, without payload and result, fetched page by page.

        Args:
            queue: Only those of this queue. Empty: of all queues.
            page_size: Jobs to fetch at once, at most 1,000.
        """
        token = ""
        while True:
            page = await self.dlq_page(queue, page_size=page_size, page_token=token)
            for job in page.jobs:
                yield job
            token = page.next_page_token
            if not token:
                return

    async def dlq_page(
        self, queue: str = "", *, page_size: int = 50, page_token: str = "", timeout: Duration | None = None
    ) -> DeadLetterPage:
        """One page of the dead letters; `page_token` is the `next_page_token` of the page before.

        Raises:
            InvalidRequest: The token belongs to another query.
        """
        request = ListDLQRequest(queue=queue, page_size=page_size, page_token=page_token)
        reply = await self._connection.unary(self._connection.stub.ListDLQ, request, within=self._seconds(timeout))
        return _convert.page_from(reply)

    def _seconds(self, timeout: Duration | None) -> float:
        return self._timeout if timeout is None else _convert.seconds("timeout", timeout)

    def _handle(self, answer: EnqueueResponse) -> AsyncJobHandle:
        return AsyncJobHandle(
            job_id=answer.job_id,
            state=_convert.state_from(answer.state),
            version=answer.version,
            create_time=_convert.time_from(answer, "create_time"),
            deduplicated=answer.deduplicated,
            durability=_convert.durability_from(answer.durability),
            client=self,
        )

    def _outcome(self, index: int, entry: Entry) -> AsyncJobHandle | errors.EnqueueError:
        assert entry.answer is not None
        if isinstance(entry.answer, errors.HeadraceError):
            return errors.EnqueueError(index, entry.job, entry.answer)
        return self._handle(entry.answer)

    async def _send(
        self, requests: Sequence[EnqueueRequest], timeout: float
    ) -> Sequence[EnqueueResponse | errors.HeadraceError]:
        """One call for all `requests`; one answer each, in order."""
        if len(requests) == 1:
            return [await self._connection.unary(self._connection.stub.Enqueue, requests[0], within=timeout)]
        batch = _convert.batch_from(requests)
        reply = await self._connection.unary(self._connection.stub.BatchEnqueue, batch, within=timeout)
        return [
            error_from_status(result.error, prefix=f"requests[{index}].") if result.HasField("error") else result.job
            for index, result in enumerate(reply.results)
        ]

    async def _ended(self, job_id: str, timeout: float | None) -> Job:
        """The job once it has ended."""
        told: list[JobState] = []
        try:
            async with asyncio.timeout(timeout) as scope:
                while True:
                    # Steps that the record has dropped do not matter here: the watch starts afresh.
                    with contextlib.suppress(errors.HistoryGap):
                        return await self._watch_end(job_id, told)
        except TimeoutError as error:
            if not scope.expired():
                raise  # The deadline of a call, not ours.
            state = f"; it is {told[-1]}" if told else ""
            raise errors.DeadlineExceeded(f"job {job_id} has not ended within {timeout:g} s{state}") from error

    async def _watch_end(self, job_id: str, told: list[JobState]) -> Job:
        """The job once it has ended; notes its states in `told`."""
        async with contextlib.aclosing(self.watch(job_id)) as events:
            async for event in events:
                told[:] = [event.state]
                if event.job is not None and event.job.state.is_terminal:
                    return event.job
        return await self.get(job_id)
