"""Watching one job: every version once and in order, over as many streams as it takes."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

import grpc

from headrace._convert import event_from, job_from
from headrace.errors import HistoryGap, RequestError, ResourceExhausted, Unavailable
from headrace.models import EventKind
from headrace.v1.job_service_pb2 import GetJobRequest, StreamStatusRequest, StreamStatusResponse

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from headrace._channel import Connection
    from headrace.models import Progress, StatusEvent

    Call = grpc.aio.UnaryStreamCall[StreamStatusRequest, StreamStatusResponse]

logger = logging.getLogger("headrace")

HEARTBEAT = 15.0
"""Seconds within which the server says something on every stream."""

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0


class Gap(Exception):
    """The stream went on at a later version than the next one."""


class Cursor:
    """How much of a job's story was told. Pure: turns messages into events, or into nothing."""

    def __init__(self, after_version: int | None) -> None:
        self.version = after_version
        self.ended = False
        self._progress: Progress | None = None

    def take(self, message: StreamStatusResponse) -> StatusEvent | None:
        """The event to tell, or None for what was told before and for heartbeats.

        Raises:
            Gap: A version is missing before this message.
        """
        kind = message.kind
        if kind in {StreamStatusResponse.KIND_SNAPSHOT, StreamStatusResponse.KIND_TRANSITION}:
            return self._reached(event_from(message))
        if kind == StreamStatusResponse.KIND_PROGRESS:
            return self._progressed(event_from(message))
        return None

    def _reached(self, event: StatusEvent) -> StatusEvent | None:
        if self.version is not None:
            if event.version <= self.version:
                return None
            if event.kind is EventKind.TRANSITION and event.version > self.version + 1:
                raise Gap(f"version {event.version} follows {self.version}")
        self.version = event.version
        self._progress = event.progress or self._progress
        self.ended = event.state.is_terminal
        return event

    def _progressed(self, event: StatusEvent) -> StatusEvent | None:
        if event.progress == self._progress or (self.version is not None and event.version < self.version):
            return None
        self._progress = event.progress
        return event


class Watch:
    """One watch of one job. `events` may be called once."""

    def __init__(
        self,
        *,
        connection: Connection,
        job_id: str,
        after_version: int | None,
        timeout: float,
        patience: float | None,
        silence: float = 2 * HEARTBEAT + 5,
    ) -> None:
        """`timeout`: seconds to keep trying until the server answers for the first time. `patience`: the same after an
        interruption; None is for ever. `silence`: seconds without a word after which a stream counts as broken.
        """
        self._connection = connection
        self._job_id = job_id
        self._cursor = Cursor(after_version)
        self._timeout = timeout
        self._patience = patience
        self._silence = silence
        self._heard = False
        self._fresh = True
        self._failing_since: float | None = None
        self._pause = _FIRST_PAUSE

    async def events(self) -> AsyncGenerator[StatusEvent, None]:
        """Every event, until the job has ended.

        Raises:
            JobNotFound: There is no such job, or no more.
            Unavailable: The server could not be reached for longer than the watch may wait.
        """
        while not self._cursor.ended:
            call = self._open()
            try:
                while (event := await self._next_event(call)) is not None:
                    yield event
            except RequestError as error:
                await self._rest(error)
            finally:
                call.cancel()  # A stream that is only dropped lives on in gRPC.

    def _open(self) -> Call:
        self._fresh = True
        request = StreamStatusRequest(job_id=self._job_id, after_version=self._cursor.version, raw=True)
        return self._connection.stub.StreamStatus(request)

    async def _next_event(self, call: Call) -> StatusEvent | None:
        """The next event of this stream, None once the job has ended. Raises when the stream breaks before that."""
        while not self._cursor.ended:
            message = await self._read(call)
            if message is None:
                await self._confirm_end()
            elif message.kind == StreamStatusResponse.KIND_GOING_AWAY:
                raise Unavailable("the server is going away")
            elif (event := self._take(message)) is not None:
                return event
        return None

    async def _read(self, call: Call) -> StreamStatusResponse | None:
        """The next message, None at the end of the stream."""
        with self._connection.translated():
            try:
                async with asyncio.timeout(self._silence):
                    message = await call.read()
            except TimeoutError:
                raise Unavailable(f"the stream was silent for {self._silence:g} s") from None
        return message if isinstance(message, StreamStatusResponse) else None  # else grpc.aio.EOF

    def _take(self, message: StreamStatusResponse) -> StatusEvent | None:
        try:
            event = self._cursor.take(message)
        except Gap as gap:
            raise self._broken(gap) from gap
        self._heard, self._fresh = True, False
        self._failing_since, self._pause = None, _FIRST_PAUSE
        return event

    async def _confirm_end(self) -> None:
        """The stream ended well, but without the terminal event: right only where that was told before."""
        rpc, request = self._connection.stub.GetJob, GetJobRequest(job_id=self._job_id, raw=True)
        job = job_from((await self._connection.unary(rpc, request, within=self._timeout)).job)
        if not job.state.is_terminal or self._cursor.version is None or job.version > self._cursor.version:
            raise Unavailable("the stream ended before the job did")
        self._cursor.ended = True

    def _broken(self, gap: Gap) -> RequestError:
        """The error for a gap. A stream that starts with one was asked for versions that the record has dropped."""
        if self._fresh:
            return HistoryGap(f"the record of job {self._job_id} no longer holds its whole history: {gap}")
        return Unavailable(f"the stream lost a message: {gap}")

    async def _rest(self, error: RequestError) -> None:
        """Wait until the stream may be opened again. Raises `error` where that cannot help, or has not for too long."""
        now = asyncio.get_running_loop().time()
        if self._failing_since is None:
            self._failing_since = now
        limit = self._patience if self._heard else self._timeout
        if not self._is_passing(error) or (limit is not None and now - self._failing_since >= limit):
            raise error
        pause = max(self._pause * random.uniform(0.5, 1), min(error.retry_after or 0, _LONGEST_PAUSE))  # noqa: S311 - jitter
        logger.info("watch of job %s interrupted (%s); resumes in %.1f s", self._job_id, error, pause)
        await asyncio.sleep(pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _is_passing(self, error: RequestError) -> bool:
        """True for errors that another stream may not meet."""
        if isinstance(error, Unavailable):
            return True
        if isinstance(error, ResourceExhausted):
            return (
                self._heard
            )  # Everyone comes back at once after a restart; a new watcher is told that it is one too many.
        # Reset by a proxy or a dying server: gRPC's own words, no status of a headrace server.
        return not error.reason and error.code in {
            code.value[0] for code in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)
        }
