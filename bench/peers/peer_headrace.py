"""headrace itself: through its server over gRPC, as a producer would."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from typing import Any

from bench.tally import Tally

from headrace import AsyncClient, NewJob
from headrace_worker import Context, Worker

BATCH = 100
IN_FLIGHT = 4  # batches under way at a time

worker = Worker(queues=["default"], concurrency=200)
tally = Tally()


@worker.handler("noop")
async def noop(_: Context, payload: Any) -> None:
    """Record that it ran."""
    tally.ran(payload["n"])


async def enqueue(count: int) -> None:
    """Enqueue in batches, a few of them at a time."""
    await _many([NewJob("noop", {"n": n}) for n in range(count)])


async def schedule(count: int, at: float) -> None:
    """Enqueue jobs that are due at one instant."""
    due = datetime.fromtimestamp(at, UTC)
    await _many([NewJob("noop", {"n": n}, schedule_time=due) for n in range(count)])


class Pinger:
    """One caller with one client."""

    def __init__(self) -> None:
        self._client: AsyncClient | None = None

    async def ping(self, number: int) -> None:
        """Enqueue one job."""
        self._client = self._client or AsyncClient(os.environ["BENCH_SERVER"])
        await self._client.enqueue("noop", {"n": number})


async def _many(jobs: list[NewJob]) -> None:
    async with AsyncClient(os.environ["BENCH_SERVER"]) as client:
        slots = asyncio.Semaphore(IN_FLIGHT)

        async def send(batch: list[NewJob]) -> None:
            async with slots:
                await client.enqueue_many(batch)

        await asyncio.gather(*(send(jobs[at : at + BATCH]) for at in range(0, len(jobs), BATCH)))


if __name__ == "__main__":
    from bench.peers.script import run

    run(enqueue=enqueue, ping=Pinger().ping, schedule=schedule)
