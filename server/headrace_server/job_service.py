"""JobService: each method parses, makes one call to the broker, and replies."""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
from google.rpc import status_pb2

from headrace.v1 import job_service_pb2, job_service_pb2_grpc
from headrace_broker import Durability, GroupCommit
from headrace_server import _parse, _parse_verbs, _render
from headrace_server._page import fitting_page
from headrace_server._watch import Pace, Watch
from headrace_server.errors import InvalidRequest
from headrace_server.status import status_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from headrace_broker import Broker, Enqueued, NewJob, Subscription
    from headrace_server._watchers import Watchers

    Context = grpc.aio.ServicerContext[Any, Any]

SERVICE = "headrace.v1.JobService"
ENQUEUE_GROUP = 200
"""Jobs that concurrent Enqueue calls share one broker call for."""
CONFIRMED_GROUP = 1_000
"""The same where the call also waits for a confirmation, which takes longer: more calls gather."""
LARGE = 64 * 1024
"""Bytes of content from which a job is stored by a call of its own, so that a group stays below 13 MB."""


class JobService(job_service_pb2_grpc.JobServiceServicer):
    """The servicer. `max_payload` in bytes; `now_ms` is the store's clock, by which requests are judged."""

    def __init__(
        self,
        *,
        broker: Broker,
        subscription: Subscription,
        watchers: Watchers,
        max_payload: int,
        durability: Durability,
        pace: Pace,
        now_ms: Callable[[], int],
    ) -> None:
        self._broker = broker
        self._subscription = subscription
        self._watchers = watchers
        self._max_payload = max_payload
        self._pace = pace
        self._now_ms = now_ms
        self._durability = durability
        # A group for each level: no job waits for a disk or a replica that its producer did not ask for.
        self._groups: dict[Durability, GroupCommit[NewJob, Enqueued]] = {
            level: GroupCommit(
                write=partial(broker.enqueue, durability=level),
                limit=ENQUEUE_GROUP if level is Durability.ACCEPTED else CONFIRMED_GROUP,
                name=f"enqueue-group-{level}",
            )
            for level in Durability
        }

    async def Enqueue(  # noqa: N802  the contract's name
        self, request: job_service_pb2.EnqueueRequest, _context: Context
    ) -> job_service_pb2.EnqueueResponse:
        """Store one job, together with those of concurrent calls."""
        job = _parse.parse_enqueue(request, max_payload=self._max_payload, now_ms=self._now_ms())
        durability = _parse.parse_durability(request.durability, default=self._durability)
        return _render.enqueued_message(await self._store(job, durability))

    async def BatchEnqueue(  # noqa: N802  the contract's name
        self, request: job_service_pb2.BatchEnqueueRequest, _context: Context
    ) -> job_service_pb2.BatchEnqueueResponse:
        """Store many jobs; each is answered by itself."""
        _parse.parse_batch(request)
        durability = _parse.parse_durability(request.durability, default=self._durability)
        parsed = [self._parsed(item, request.durability, index) for index, item in enumerate(request.requests)]
        jobs = [one for one in parsed if not isinstance(one, status_pb2.Status)]
        answers = iter(await self._broker.enqueue(jobs, durability=durability) if jobs else ())
        return job_service_pb2.BatchEnqueueResponse(
            results=[
                _result(one if isinstance(one, status_pb2.Status) else next(answers), index)
                for index, one in enumerate(parsed)
            ]
        )

    async def GetJob(  # noqa: N802  the contract's name
        self, request: job_service_pb2.GetJobRequest, _context: Context
    ) -> job_service_pb2.GetJobResponse:
        """Return one job."""
        job = await self._broker.get(_parse.parse_job_id(request.job_id))
        return job_service_pb2.GetJobResponse(job=_render.job_message(job, raw=request.raw))

    async def StreamStatus(  # noqa: N802  the contract's name
        self, request: job_service_pb2.StreamStatusRequest, _context: Context
    ) -> AsyncIterator[job_service_pb2.StreamStatusResponse]:
        """Tell every step of one job."""
        job_id, after_version = _parse.parse_watch(request)
        with self._watchers.seat():
            async with self._subscription.listen(job_id) as bell:
                watch = Watch(
                    job_id=job_id,
                    raw=request.raw,
                    broker=self._broker,
                    bell=bell,
                    drain=self._watchers.drain,
                    pace=self._pace,
                )
                async with aclosing(watch.messages(after_version)) as messages:
                    async for message in messages:
                        yield message

    async def ListDLQ(  # noqa: N802  the contract's name
        self, request: job_service_pb2.ListDLQRequest, _context: Context
    ) -> job_service_pb2.ListDLQResponse:
        """Return one page of dead letters."""
        page_size = _parse.parse_list(request)
        return await fitting_page(self._broker, queue=request.queue, page_size=page_size, page_token=request.page_token)

    async def CancelJob(  # noqa: N802  the contract's name
        self, request: job_service_pb2.CancelJobRequest, _context: Context
    ) -> job_service_pb2.CancelJobResponse:
        """Cancel one job."""
        job_id, reason = _parse_verbs.parse_cancel(request)
        job = await self._broker.cancel(job_id, reason=reason)
        return job_service_pb2.CancelJobResponse(job=_render.listed_message(job))

    async def RequeueDLQ(  # noqa: N802  the contract's name
        self, request: job_service_pb2.RequeueDLQRequest, _context: Context
    ) -> job_service_pb2.RequeueDLQResponse:
        """Put dead letters back to work."""
        letters = _parse_verbs.parse_letters(request)
        swept = await self._broker.requeue_dead_letters(
            job_ids=letters.job_ids,
            where=letters.where,
            validate_only=request.validate_only,
            page_token=request.page_token,
        )
        return job_service_pb2.RequeueDLQResponse(
            requeued=swept.done,
            scanned=swept.scanned,
            skipped_job_ids=swept.skipped,
            next_page_token=swept.next_page_token,
        )

    async def PurgeDLQ(  # noqa: N802  the contract's name
        self, request: job_service_pb2.PurgeDLQRequest, _context: Context
    ) -> job_service_pb2.PurgeDLQResponse:
        """Delete dead letters."""
        letters = _parse_verbs.parse_letters(request)
        swept = await self._broker.purge_dead_letters(
            job_ids=letters.job_ids, where=letters.where, force=request.force, page_token=request.page_token
        )
        return job_service_pb2.PurgeDLQResponse(
            purged=swept.done,
            scanned=swept.scanned,
            skipped_job_ids=swept.skipped,
            next_page_token=swept.next_page_token,
        )

    async def aclose(self) -> None:
        """Return when every job that was accepted is stored, or its caller told that it is not."""
        for group in self._groups.values():
            await group.aclose()

    async def _store(self, job: NewJob, durability: Durability) -> Enqueued:
        if len(job.spec.payload) < LARGE:
            return await self._groups[durability].submit(job)
        (answer,) = await self._broker.enqueue([job], durability=durability)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _parsed(
        self,
        item: job_service_pb2.EnqueueRequest,
        batch: job_service_pb2.EnqueueRequest.Durability,
        index: int,
    ) -> NewJob | status_pb2.Status:
        try:
            return _parse.parse_item(
                item, batch, max_payload=self._max_payload, now_ms=self._now_ms(), prefix=_prefix(index)
            )
        except InvalidRequest as error:  # this one is refused; the other jobs of the batch are stored
            return status_for(error)


def _result(
    answer: Enqueued | Exception | status_pb2.Status, index: int
) -> job_service_pb2.BatchEnqueueResponse.Result:
    if isinstance(answer, status_pb2.Status):
        return job_service_pb2.BatchEnqueueResponse.Result(error=answer)
    if isinstance(answer, Exception):
        return job_service_pb2.BatchEnqueueResponse.Result(error=status_for(answer, prefix=_prefix(index)))
    return job_service_pb2.BatchEnqueueResponse.Result(job=_render.enqueued_message(answer))


def _prefix(index: int) -> str:
    return f"requests[{index}]."
