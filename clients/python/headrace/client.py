"""The client for code without an event loop: the async client, driven on a thread of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self, TypeVar

from headrace._background import BackgroundLoop
from headrace._sync_queues import Queues
from headrace._sync_verbs import SyncVerbs
from headrace.aio import AsyncClient, AsyncJobHandle
from headrace.errors import ClientClosed, EnqueueError
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

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobHandle:
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
    client: Client = field(repr=False, compare=False)

    def get(self) -> Job:
        """The job as it is now; see `Client.get`."""
        return self.client.get(self.job_id)

    def watch(self, *, after_version: int | None = None) -> Generator[StatusEvent, None, None]:
        """Every step of the job, live; see `Client.watch`."""
        return self.client.watch(self.job_id, after_version=after_version)

    def result(self, timeout: Duration | None = None) -> Any:
        """What the handler returned, once it has; see `Client.result`."""
        return self.client.result(self.job_id, timeout=timeout)

    def cancel(self, *, reason: str = "") -> Job:
        """Cancel the job; see `Client.cancel`."""
        return self.client.cancel(self.job_id, reason=reason)


class Client(SyncVerbs):
    """Enqueues jobs and tells what becomes of them. Safe to use from many threads.

    Connects on first use. Use it as a context manager, or call `close` in the end; a script that forgets both still
    ends. Make it after a fork, not before. In a process that runs an event loop anyway, prefer AsyncClient.
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
        self._async = AsyncClient(target, timeout=timeout, reconnect_timeout=reconnect_timeout)
        self.queues = Queues(queues=self._async.queues, run=self._run)
        self._pid = os.getpid()
        self._closed = False

    @property
    def target(self) -> str:
        """Address of the server."""
        return self._async.target

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for enqueue calls under way, then close the connection; watches end with ClientClosed. Safe twice."""
        if not self._closed and self._pid == os.getpid():
            self._closed = True
            BackgroundLoop.shared().run(self._async.close())

    def ping(self, timeout: Duration = 5.0) -> None:
        """Return when the server serves. Does not wait for it to come up.

        Raises:
            Unavailable: Nobody answers, or the server says that it cannot serve.
        """
        self._run(lambda: self._async.ping(timeout))

    def enqueue(
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
    ) -> JobHandle:
        """Store one job. Calls that threads make at the same time share one request to the server.

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
        handle = self._run(
            lambda: self._async.enqueue(
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
                timeout=timeout,
            )
        )
        return self._handle(handle)

    def enqueue_many(
        self, jobs: Iterable[NewJob], *, timeout: Duration | None = None
    ) -> list[JobHandle | EnqueueError]:
        """Store many jobs, in requests of up to 1,000. One bad job harms no other.

        Args:
            jobs: The jobs; consumed before the first is stored.
            timeout: Longest wait for the answer to each request. Default: that of the client.

        Returns:
            For each job, in order, its handle, or the EnqueueError that says why it was not stored. Once the server
            cannot be reached, the jobs that are left get that error without another try.
        """
        held = list(jobs)  # The caller's iterator must run in the caller's thread.
        outcomes = self._run(lambda: self._async.enqueue_many(held, timeout=timeout))
        return [item if isinstance(item, EnqueueError) else self._handle(item) for item in outcomes]

    def get(self, job_id: str, *, timeout: Duration | None = None) -> Job:
        """The job as it is now, with its history.

        Raises:
            JobNotFound: It was never stored, or its retention has passed.
        """
        return self._run(lambda: self._async.get(job_id, timeout=timeout))

    def watch(self, job_id: str, *, after_version: int | None = None) -> Generator[StatusEvent, None, None]:
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
        self._check_open()
        return self._pull(job_id, after_version)

    def result(self, job_id: str, timeout: Duration | None = None) -> Any:
        """Wait until the job has ended, and return what its handler returned, decoded.

        Args:
            job_id: The job.
            timeout: Longest wait. None: as long as it takes.

        Raises:
            JobFailed, JobCancelled, JobExpired: It ended otherwise; they hold the job and its failure.
            DeadlineExceeded: (a TimeoutError) It has not ended in time. It goes on regardless.
        """
        return self._run(lambda: self._async.result(job_id, timeout=timeout))

    def dlq(self, queue: str = "", *, page_size: int = 100) -> Generator[Job, None, None]:
        """The dead letters, those that failed last first, without payload and result, fetched page by page.

        Args:
            queue: Only those of this queue. Empty: of all queues.
            page_size: Jobs to fetch at once, at most 1,000.
        """
        token = ""
        while True:
            page = self.dlq_page(queue, page_size=page_size, page_token=token)
            yield from page.jobs
            token = page.next_page_token
            if not token:
                return

    def dlq_page(
        self, queue: str = "", *, page_size: int = 50, page_token: str = "", timeout: Duration | None = None
    ) -> DeadLetterPage:
        """One page of the dead letters; `page_token` is the `next_page_token` of the page before.

        Raises:
            InvalidRequest: The token belongs to another query.
        """
        return self._run(
            lambda: self._async.dlq_page(queue, page_size=page_size, page_token=page_token, timeout=timeout)
        )

    def _pull(self, job_id: str, after_version: int | None) -> Generator[StatusEvent, None, None]:
        events = self._async.watch(job_id, after_version=after_version)

        async def step() -> StatusEvent | None:
            return await anext(events, None)

        try:
            while (event := self._run(step)) is not None:
                yield event
        finally:
            BackgroundLoop.shared().spawn(_finish(events))

    def _run(self, call: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        self._check_open()
        return BackgroundLoop.shared().run(call())

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosed("this client was closed; make a new one")
        if self._pid != os.getpid():
            raise ClientClosed("this client was made before a fork; make a new one in each process")

    def _handle(self, handle: AsyncJobHandle) -> JobHandle:
        return JobHandle(
            job_id=handle.job_id,
            state=handle.state,
            version=handle.version,
            create_time=handle.create_time,
            deduplicated=handle.deduplicated,
            durability=handle.durability,
            client=self,
        )


async def _finish(events: AsyncGenerator[StatusEvent, None]) -> None:
    # Refused while a step of it still runs: that one was cancelled, and ends the generator by itself.
    with contextlib.suppress(RuntimeError):
        await events.aclose()
