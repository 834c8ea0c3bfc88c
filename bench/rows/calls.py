"""How fast the server takes jobs from one client process: in batches, from many callers at once, from one caller."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from bench.rows.race import Result
from bench.stage import fresh_stage
from headrace import AsyncClient, NewJob

BATCH = 100
_IN_FLIGHT = 4
_CALLERS = 64
_BATCHES = 400
_COALESCED = 20_000
_SINGLES = 3_000


def batches() -> Result:
    """BatchEnqueue with 100 jobs a call, 4 calls under way."""

    async def work(client: AsyncClient) -> int:
        left = iter(range(_BATCHES))

        async def caller() -> None:
            for _ in left:
                await client.enqueue_many([NewJob("noop", {"n": n}) for n in range(BATCH)])

        await asyncio.gather(*(caller() for _ in range(_IN_FLIGHT)))
        return _BATCHES * BATCH

    return _rate("enqueue, batches of 100", work)


def coalesced() -> Result:
    """64 callers of one client, each of which enqueues one job after the other."""

    async def work(client: AsyncClient) -> int:
        left = iter(range(_COALESCED))

        async def caller() -> None:
            for n in left:
                await client.enqueue("noop", {"n": n})

        await asyncio.gather(*(caller() for _ in range(_CALLERS)))
        return _COALESCED

    return _rate("enqueue, 64 callers", work)


def one_by_one() -> Result:
    """One caller that waits for each answer."""

    async def work(client: AsyncClient) -> int:
        for n in range(_SINGLES):
            await client.enqueue("noop", {"n": n})
        return _SINGLES

    return _rate("enqueue, one by one", work)


def _rate(name: str, work: Callable[[AsyncClient], Awaitable[int]]) -> Result:
    async def measure(address: str) -> float:
        async with AsyncClient(address) as client:
            for _ in range(20):
                await client.enqueue("noop")
            begun = time.monotonic()
            count = await work(client)
            return count / (time.monotonic() - begun)

    with fresh_stage() as stage:
        _, address = stage.serve()
        return Result(numbers={name: asyncio.run(measure(address))}, counts={})
