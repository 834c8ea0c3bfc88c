"""Claims jobs from one shard: as many as there are free slots, never more. When there are none, it waits for one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from headrace_broker import Broker, ClaimedJob, Claims, Delivery, StoreUnavailable, new_token
from headrace_worker._outage import Outage
from headrace_worker._slots import Slots

WAIT_MS = 2_000
"""Longest blocking read. Short, so that a connection that has silently died is found out."""

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("headrace_worker")


class Start(Protocol):
    """Runs a claimed job, in a slot that was taken for it."""

    def __call__(self, job: ClaimedJob, *, leased_until: float) -> None:
        """`leased_until`: end of the lease by the monotonic clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """One claim, from the first time it is sent until its reply is in: it may be sent again, never changed."""

    token: str
    count: int
    sent_at: float


class Consumer:
    """The claim loop of one shard.

    A claim whose reply was lost may have claimed jobs: so it is sent again, with the same token, until it is answered.
    """

    def __init__(
        self,
        *,
        broker: Broker,
        shard: int,
        worker_id: str,
        queues: Sequence[str],
        slots: Slots,
        batch: int,
        start: Start,
        give_back: Callable[[tuple[ClaimedJob, ...]], Awaitable[None]],
    ) -> None:
        self._broker = broker
        self._shard = shard
        self._worker_id = worker_id
        self._queues = list(queues)
        self._slots = slots
        self._batch = batch
        self._start = start
        self._give_back = give_back
        self._outage = Outage(role=f"consumer of shard {shard}")
        self._request: _Request | None = None
        self._delivered: tuple[Delivery, ...] = ()
        self._resume = False
        self._leased_until = 0.0
        self._draining = False

    async def run(self) -> None:
        """Claims and starts jobs until `drain`; then gives back what it has and did not start."""
        while not self._draining:
            try:
                await self.turn()
            except StoreUnavailable as error:
                self._resume = True
                await self._outage.pause(error)
        await self._return_unstarted()

    def drain(self) -> None:
        """Ends `run` soon; the broker's wake() ends its wait. Safe to call twice."""
        self._draining = True
        self._outage.hurry()
        self._slots.wake()

    async def look_again(self, changed: asyncio.Event) -> None:
        """Ends the wait under way whenever a queue was paused or resumed: the next claim says which. Runs for ever."""
        while True:
            await changed.wait()
            changed.clear()
            try:
                await self._broker.nudge(self._shard)
            except StoreUnavailable as error:  # the wait has failed too, or ends by its own timeout
                log.debug("could not look again at once", shard=self._shard, error=str(error))

    async def turn(self) -> None:
        """One round: claim up to the free slots and start what came; where that was not all, wait for a delivery.

        While every slot is taken nothing is read: a job delivered to this worker could not go to another one.
        """
        request = self._request or await self._new_request()
        if request is None:
            return
        claims = await self._claim(request)
        if self._draining or self._is_late():
            await self._hand_back(claims)
            return
        for job in claims.jobs:
            self._start(job, leased_until=self._leased_until)
        if len(claims.jobs) < request.count and not claims.more:
            open_queues = [queue for queue in self._queues if queue not in claims.paused]
            self._delivered = await self._broker.wait(
                shard=self._shard, worker=self._worker_id, queues=open_queues, timeout_ms=WAIT_MS
            )

    def _is_late(self) -> bool:
        """Whether the answer took so long that what it gave would have to be stopped at once: see LeaseKeeper."""
        return time.monotonic() > self._leased_until - self._broker.lease_ms / 6_000

    async def _new_request(self) -> _Request | None:
        """Waits for free slots, and takes them. None: it was woken for another reason."""
        await self._slots.available()
        count = min(self._slots.free, self._batch)
        if count <= 0 or self._draining:
            return None
        self._slots.take(count)
        self._request = _Request(token=new_token(), count=count, sent_at=time.monotonic())
        return self._request

    async def _claim(self, request: _Request) -> Claims:
        """Sends a claim, and gives back the slots that it did not fill."""
        claims = await self._broker.claim(
            shard=self._shard,
            worker=self._worker_id,
            queues=self._queues,
            count=request.count,
            token=request.token,
            delivered=self._delivered,
            resume=self._resume,
        )
        self._outage.over()
        self._leased_until = request.sent_at + self._broker.lease_ms / 1000
        self._request, self._delivered, self._resume = None, (), False
        self._queues.append(self._queues.pop(0))  # each queue is the first one in its turn
        self._slots.give_back(request.count - len(claims.jobs))
        return claims

    async def _return_unstarted(self) -> None:
        """Claims what was delivered or claimed without our knowledge, only to give it back. One try is enough:
        what stays behind is taken from us when its lease has run out.
        """
        if self._request is None and not self._delivered:
            return
        request = self._request or _Request(token=new_token(), count=0, sent_at=time.monotonic())
        try:
            claims = await self._claim(request)
        except StoreUnavailable as error:
            log.warning("could not give back what was delivered last", shard=self._shard, error=str(error))
        else:
            await self._hand_back(claims)

    async def _hand_back(self, claims: Claims) -> None:
        self._slots.give_back(len(claims.jobs))
        await self._give_back(claims.jobs)
