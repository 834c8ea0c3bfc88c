"""One watcher of one job: every transition, once and in order, whatever gets lost on the way.

The bell (pub/sub) only says that something happened; the record of the job, with its history, is the truth. So: listen
first, then read the record, then merge by version. A version that is missing, a bell that overflowed and a connection
that broke all mean the same: read the record again. Since pub/sub may lose even the last word, the record's version is
also looked at before every heartbeat.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

from headrace.v1.job_service_pb2 import StreamStatusResponse
from headrace_broker import JobNotFound, Progress, State, StoreUnavailable, Transition
from headrace_server._render import STATES, job_message, progress_message
from headrace_server._spans import moment
from headrace_server.errors import GoingAway, HistoryRewound, HistoryTrimmed, VersionAhead

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from headrace_broker import Bell, Broker, Job
    from headrace_server._drain import Drain

Kind = StreamStatusResponse.Kind

REREAD_EVERY = 0.5
"""Seconds between two tries to read the record while the store does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The times of a watch, in seconds: between two heartbeats; until the client is asked to open a new stream, so that
    streams move with their connections; and how long the store may be silent before the watch gives up.
    """

    heartbeat: float = 12.0
    age: float = 30 * 60.0
    patience: float = 60.0


_NOTHING = Transition(version=0, state=State.QUEUED, time_ms=0)  # never shown: told before anything is


class Watch:
    """Tells one client what becomes of one job. `bell` must ring already, so that nothing is missed."""

    def __init__(self, *, job_id: str, raw: bool, broker: Broker, bell: Bell, drain: Drain, pace: Pace) -> None:
        self._job_id = job_id
        self._raw = raw
        self._broker = broker
        self._bell = bell
        self._drain = drain
        self._pace = pace
        self._told = _NOTHING
        self._progress: Progress | None = None
        self._behind = False
        self._silent_since: float | None = None
        self._ended = False
        self._age_ends = time.monotonic() + pace.age
        self._next_beat = time.monotonic() + pace.heartbeat

    async def messages(self, after_version: int | None) -> AsyncGenerator[StreamStatusResponse, None]:
        """Everything that the client is to be told, until the job has ended or the stream has to.

        Raises:
            JobNotFound: there is no such job, or its record has aged out meanwhile.
            VersionAhead, HistoryRewound, HistoryTrimmed: the client cannot be told every transition from there on.
            StoreUnavailable: the store did not answer for longer than the pace allows.
        """
        job = await self._broker.get(self._job_id)
        for message in self._begin(job, after_version):
            yield message
        try:
            while not self._ended:
                for message in await self._step():
                    yield message
        except GoingAway:
            yield self._message(Kind.KIND_GOING_AWAY)

    def _begin(self, job: Job, after_version: int | None) -> list[StreamStatusResponse]:
        if after_version is None:
            return [self._snapshot(job)]
        before = [one for one in job.history if one.version == after_version]
        self._told = before[0] if before else Transition(version=after_version, state=job.state, time_ms=0)
        return self._catch_up(job)

    async def _step(self) -> list[StreamStatusResponse]:
        """Wait for the next event or the next heartbeat, and return what the client is to be told of it."""
        event = await self._listen()
        told = self._hear(event)
        beat = time.monotonic() >= self._next_beat
        if beat:
            self._next_beat = time.monotonic() + self._pace.heartbeat
            await self._compare()
        if self._behind:
            told += await self._reread(event)
        if beat and not self._ended:
            told.append(self._message(Kind.KIND_HEARTBEAT))
        return told

    async def _listen(self) -> object:
        now = time.monotonic()
        if now >= self._age_ends:
            raise GoingAway
        until = min(self._next_beat, self._age_ends, now + REREAD_EVERY if self._behind else self._next_beat)
        async with self._drain.interrupts():
            return await self._bell.ring(max(until - now, 0.0))

    def _hear(self, event: object) -> list[StreamStatusResponse]:
        if event is None:
            return []
        if isinstance(event, Progress):
            return self._news(event)
        if not isinstance(event, Transition):  # the bell may have missed something
            self._behind = True
            return []
        if event.version <= self._told.version:  # the record has told it already
            return []
        if event.version > self._told.version + 1 or event.state.is_terminal:  # the last message carries the whole job
            self._behind = True
            return []
        return [self._transition(event)]

    async def _compare(self) -> None:
        try:
            self._behind |= await self._broker.version(self._job_id) != self._told.version
        except StoreUnavailable as error:
            self._bear(error)
        else:
            self._silent_since = None

    async def _reread(self, event: object) -> list[StreamStatusResponse]:
        try:
            job = await self._broker.get(self._job_id)
        except StoreUnavailable as error:
            self._bear(error)
            return []
        except JobNotFound:
            if not self._is_last_word(event):
                raise
            self._ended = True
            return [self._transition(event)]
        self._silent_since = None
        return self._catch_up(job)

    def _is_last_word(self, event: object) -> TypeGuard[Transition]:
        """Whether the event itself tells the end: with a retention of 0 the record is gone before it can be read."""
        return isinstance(event, Transition) and event.state.is_terminal and event.version == self._told.version + 1

    def _bear(self, error: StoreUnavailable) -> None:
        """Go on while the store is silent, up to the pace's patience: the client loses nothing by waiting."""
        now = time.monotonic()
        if self._silent_since is None:
            self._silent_since = now
        if now - self._silent_since > self._pace.patience:
            raise error

    def _catch_up(self, job: Job) -> list[StreamStatusResponse]:
        """What the record knows and the client does not."""
        if job.version < self._told.version:  # also when a failover has set the record back
            raise VersionAhead(after_version=self._told.version, version=job.version)
        if any(one.version == self._told.version and not _same(one, self._told) for one in job.history):
            raise HistoryRewound(after_version=self._told.version)
        missed = [one for one in job.history if one.version > self._told.version]
        if len(missed) != job.version - self._told.version:
            raise HistoryTrimmed(after_version=self._told.version, oldest=job.version - len(job.history) + 1)
        told = [self._transition(one) for one in missed]
        self._behind = False
        self._ended = job.state.is_terminal
        if self._ended and told:
            told[-1].job.CopyFrom(job_message(job, raw=self._raw))
        elif not self._ended and job.progress is not None:
            told += self._news(job.progress)
        return told

    def _snapshot(self, job: Job) -> StreamStatusResponse:
        self._told = job.history[-1]
        self._progress = job.progress
        self._ended = job.state.is_terminal
        message = self._message(Kind.KIND_SNAPSHOT)
        message.job.CopyFrom(job_message(job, raw=self._raw))
        if job.progress is not None:
            message.progress.CopyFrom(progress_message(job.progress))
        return message

    def _transition(self, transition: Transition) -> StreamStatusResponse:
        self._told = transition
        return self._message(Kind.KIND_TRANSITION)

    def _news(self, progress: Progress) -> list[StreamStatusResponse]:
        """The progress, unless the client has been told it, or a later one."""
        if self._progress is not None and (progress == self._progress or progress.time_ms < self._progress.time_ms):
            return []
        self._progress = progress
        message = self._message(Kind.KIND_PROGRESS)
        message.time.CopyFrom(moment(progress.time_ms))
        message.progress.CopyFrom(progress_message(progress))
        return [message]

    def _message(self, kind: Kind) -> StreamStatusResponse:
        told = self._told
        return StreamStatusResponse(
            kind=kind,
            job_id=self._job_id,
            version=told.version,
            state=STATES[told.state],
            time=moment(told.time_ms),
            attempt=told.attempt,
            reason=told.reason,
            detail=told.detail,
        )


def _same(one: Transition, other: Transition) -> bool:
    """Whether these are the same step of the same story; a bell and a record cut its detail differently."""
    return (one.state, one.time_ms) == (other.state, other.time_ms)
