"""The duties that keep jobs moving when nobody calls: promote, reclaim, expire, trim, forget, repair.

Leaderless: each is one atomic script, so they run in every server and every worker, and any one process is enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog
from redis.exceptions import ResponseError

from headrace_broker._repairer import Repairer
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

    def __init__(
        self,
        broker: Broker,
        *,
        subscription: Subscription,
        dlq_retention_ms: int = 30 * DAY,
        repair_every: float = 0.0,
    ) -> None:
        """`dlq_retention_ms`: age at which dead letters are deleted. `repair_every`: seconds in which everything is
        looked at once for what should not be possible; 0: as long as a lease.
        """
        self._broker = broker
        self._subscription = subscription
        self._dlq_retention_ms = dlq_retention_ms
        every = repair_every or broker.lease_ms / 1_000
        self._repairers = [Repairer(broker=broker, shard=shard, every=every) for shard in range(broker.shards)]
        self._left_out: dict[tuple[str, int], set[str]] = {}

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
                    "repair": self._keep_repairing(shard),
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

        async def promote(queues: Sequence[str]) -> None:
            nonlocal pause
            more = True
            while more:
                promoted = await self._broker.promote(shard=shard, queues=queues)
                more = promoted.more
            if promoted.next_due_in_ms is not None:
                pause = min(pause, promoted.next_due_in_ms / 1_000 + 0.001)

        await self._for_all_queues("promote", shard, promote)
        return pause

    async def _reclaim(self, shard: int) -> None:
        async def reclaim(queues: Sequence[str]) -> None:
            done = await self._broker.reclaim(shard=shard, queues=queues)
            if done.requeued or done.dead or done.returned:
                log.warning(
                    "leases ran out", shard=shard, requeued=done.requeued, dead=done.dead, returned=done.returned
                )

        await self._for_all_queues("reclaim", shard, reclaim)

    async def _expire(self, shard: int) -> None:
        async def expire(queues: Sequence[str]) -> None:
            while await self._broker.expire(shard=shard, queues=queues) >= DUTY_BATCH:
                continue

        await self._for_all_queues("expire", shard, expire)

    async def _trim(self, shard: int) -> None:
        age = self._dlq_retention_ms

        async def trim(queues: Sequence[str]) -> None:
            while await self._broker.trim(shard=shard, queues=queues, retention_ms=age) >= DUTY_BATCH:
                continue

        await self._for_all_queues("trim", shard, trim)

    async def _forget(self, shard: int) -> None:
        async def forget(queues: Sequence[str]) -> None:
            await self._broker.forget(shard=shard, queues=queues)

        await self._for_all_queues("forget", shard, forget)

    async def _keep_repairing(self, shard: int) -> None:
        while True:
            pause = await self._guarded(self._repair, shard)
            await asyncio.sleep(pause)

    async def _repair(self, shard: int) -> float:
        return await self._repairers[shard].step()

    async def _for_all_queues(self, duty: str, shard: int, do: Callable[[Sequence[str]], Awaitable[None]]) -> None:
        """Does a duty for all queues of a shard, many in one call. A queue with a key of a wrong type, which stops the
        script before its first write, is told of and left out: it holds up no other.
        """
        names = await self._broker.queue_names(shard)
        wrong: set[str] = set()
        for start in range(0, len(names), _QUEUES_A_CALL):
            queues = names[start : start + _QUEUES_A_CALL]
            try:
                await do(queues)
            except ResponseError as error:
                if not _is_wrong_type(error):
                    raise
                for queue in queues:
                    wrong |= await self._alone(queue, do)
        before = self._left_out.get((duty, shard), set())
        for error_text in wrong - before:
            log.error("duty left a queue out", duty=duty, shard=shard, error=error_text)
        if before and not wrong:
            log.info("duty resumed", duty=duty, shard=shard)
        self._left_out[duty, shard] = wrong

    async def _alone(self, queue: str, do: Callable[[Sequence[str]], Awaitable[None]]) -> set[str]:
        try:
            await do([queue])
        except ResponseError as error:
            if not _is_wrong_type(error):
                raise
            return {f"{queue}: {str(error).partition(' script:')[0]}"}
        return set()

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


def _is_wrong_type(error: ResponseError) -> bool:
    return "WRONGTYPE" in str(error)
