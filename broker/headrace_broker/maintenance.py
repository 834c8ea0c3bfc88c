"""The duties that keep jobs moving when nobody calls: promote, reclaim, expire, trim, forget.

Leaderless: each is one atomic script, so they run in every server and every worker, and any one process is enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from headrace_broker.broker import DUTY_BATCH, Broker
from headrace_broker.errors import BrokerError
from headrace_broker.job import DAY
from headrace_broker.subscription import Subscription

LONGEST_SLEEP = 1.0
"""Seconds that a promoter sleeps at most: what a lost wake-up could cost."""
EXPIRE_EVERY = 1.0
TIDY_EVERY = 60.0
_QUEUES_A_CALL = 100
_BACKOFF = (0.1, 2.0)

Result = TypeVar("Result")

log = structlog.get_logger("headrace.maintenance")


class Maintenance:
    """All duties of all shards."""

    def __init__(self, broker: Broker, *, subscription: Subscription, dlq_retention_ms: int = 30 * DAY) -> None:
        """`dlq_retention_ms`: age at which dead letters are deleted."""
        self._broker = broker
        self._subscription = subscription
        self._dlq_retention_ms = dlq_retention_ms

    async def run(self) -> None:
        """Works for ever, through every outage of the store. Cancel it to stop."""
        reclaim_every = min(LONGEST_SLEEP, self._broker.lease_ms / 10_000)
        async with asyncio.TaskGroup() as group:
            for shard in range(self._broker.shards):
                duties = {
                    "promote": self._promote_due(shard),
                    "reclaim": self._every(reclaim_every, self._reclaim, shard),
                    "expire": self._every(EXPIRE_EVERY, self._expire, shard),
                    "trim": self._every(TIDY_EVERY, self._trim, shard),
                    "forget": self._every(TIDY_EVERY, self._forget, shard),
                }
                for name, duty in duties.items():
                    group.create_task(duty, name=f"{name}-{shard}")

    async def _promote_due(self, shard: int) -> None:
        wake = self._subscription.wake(shard)
        pause = 0.0
        while True:
            try:
                async with asyncio.timeout(pause):
                    await wake.wait()
            except TimeoutError:  # the next job is due, or it is time to look again
                pass
            wake.clear()
            pause = await self._guarded(self._promote, shard) or LONGEST_SLEEP

    async def _promote(self, shard: int) -> float:
        """Promotes all that is due; returns the seconds until the next look."""
        pause = LONGEST_SLEEP
        for queues in await self._queues(shard):
            more = True
            while more:
                promoted = await self._broker.promote(shard=shard, queues=queues)
                more = promoted.more
            if promoted.next_due_in_ms is not None:
                pause = min(pause, promoted.next_due_in_ms / 1_000 + 0.001)
        return pause

    async def _reclaim(self, shard: int) -> None:
        for queues in await self._queues(shard):
            done = await self._broker.reclaim(shard=shard, queues=queues)
            if done.requeued or done.dead or done.returned:
                log.warning(
                    "leases ran out", shard=shard, requeued=done.requeued, dead=done.dead, returned=done.returned
                )

    async def _expire(self, shard: int) -> None:
        for queues in await self._queues(shard):
            while await self._broker.expire(shard=shard, queues=queues) >= DUTY_BATCH:
                continue

    async def _trim(self, shard: int) -> None:
        for queues in await self._queues(shard):
            while (
                await self._broker.trim(shard=shard, queues=queues, retention_ms=self._dlq_retention_ms) >= DUTY_BATCH
            ):
                continue

    async def _forget(self, shard: int) -> None:
        for queues in await self._queues(shard):
            await self._broker.forget(shard=shard, queues=queues)

    async def _queues(self, shard: int) -> list[Sequence[str]]:
        names = await self._broker.queue_names(shard)
        return [names[start : start + _QUEUES_A_CALL] for start in range(0, len(names), _QUEUES_A_CALL)]

    async def _every(self, seconds: float, duty: Callable[[int], Awaitable[None]], shard: int) -> None:
        while True:
            await self._guarded(duty, shard)
            await asyncio.sleep(seconds)

    async def _guarded(self, duty: Callable[[int], Awaitable[Result]], shard: int) -> Result:
        """Runs a duty until it succeeds: one that fails is logged once, and tried again with backoff."""
        pause, failed = _BACKOFF[0], False
        name = duty.__name__.lstrip("_")
        while True:
            try:
                result = await duty(shard)
            except BrokerError as error:
                if not failed:
                    log.warning("duty interrupted", duty=name, shard=shard, error=str(error))
            except Exception:  # a fault of ours: no job is touched, the next try may do better, the other duties go on
                log.exception("duty failed", duty=name, shard=shard)
            else:
                if failed:
                    log.info("duty resumed", duty=name, shard=shard)
                return result
            failed = True
            await asyncio.sleep(pause)
            pause = min(2 * pause, _BACKOFF[1])
