"""taskiq on Redis Streams, acknowledged when the task has run. Results are not kept."""

from __future__ import annotations

import asyncio
import os

from bench.tally import Tally
from taskiq import TaskiqEvents
from taskiq_redis import RedisStreamBroker

broker = RedisStreamBroker(os.environ["BENCH_URL"], xread_count=200)
AT_ONCE = 50  # calls under way at a time
tallies: list[Tally] = []


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def startup(_state: object) -> None:
    """Open the tally."""
    tallies.append(Tally())
    print("peer ready", flush=True)


@broker.task("noop")
async def noop(n: int) -> None:
    """Record that it ran."""
    tallies[0].ran(n)


async def enqueue(count: int) -> None:
    """Enqueue task by task, many at a time; taskiq has no bulk call."""
    await broker.startup()
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(n: int) -> None:
        async with slots:
            await noop.kiq(n)

    await asyncio.gather(*(one(n) for n in range(count)))
    await broker.shutdown()


started: list[bool] = []


async def ping(number: int) -> None:
    """Enqueue one task."""
    if not started:
        await broker.startup()
        started.append(True)
    await noop.kiq(number)


async def schedule(_count: int, _at: float) -> None:
    """Not measured: taskiq needs another process for it."""
    raise NotImplementedError


if __name__ == "__main__":
    from script import run

    run(enqueue=enqueue, ping=ping, schedule=schedule)
