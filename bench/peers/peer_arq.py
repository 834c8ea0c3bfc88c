"""arq: an asyncio worker that takes jobs from a sorted set, in transactions.

Results are not kept. Without its polling made this quick a job waits for up to half a second.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime

from arq import create_pool
from arq.connections import RedisSettings
from bench.tally import Tally

REDIS = RedisSettings.from_dsn(os.environ["BENCH_URL"])
AT_ONCE = 50  # calls under way at a time


async def startup(ctx: dict) -> None:
    """Open the tally."""
    ctx["tally"] = Tally()
    print("peer ready", flush=True)


async def noop(ctx: dict, n: int) -> None:
    """Record that it ran."""
    ctx["tally"].ran(n)


class WorkerSettings:
    """What the `arq` command runs."""

    functions = (noop,)
    redis_settings = REDIS
    on_startup = startup
    max_jobs = 200
    poll_delay = 0.01
    keep_result = 0
    log_results = False


async def enqueue(count: int, at: float | None = None) -> None:
    """Enqueue job by job, many at a time; arq has no bulk call."""
    redis = await create_pool(REDIS)
    due = None if at is None else datetime.fromtimestamp(at, UTC)
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(n: int) -> None:
        async with slots:
            await redis.enqueue_job("noop", n, _defer_until=due)

    await asyncio.gather(*(one(n) for n in range(count)))


pools = []


async def ping(number: int) -> None:
    """Enqueue one job."""
    if not pools:
        pools.append(await create_pool(REDIS))
    await pools[0].enqueue_job("noop", number)


if __name__ == "__main__":
    from script import run

    run(enqueue=enqueue, ping=ping, schedule=enqueue)
