"""Watching: how long a transition takes to reach its watcher, and what thousands of watchers cost."""

from __future__ import annotations

import asyncio
import contextlib
import time

from bench.contenders import HEADRACE
from bench.numbers import percentile
from bench.rows.race import Result
from bench.stage import Program, fresh_stage
from headrace import AsyncClient, EventKind, NewJob

_JOBS = 600
_AT_ONCE = 10
_DELAY = 0.1  # seconds, in which the watch opens: all three transitions are live
_WARM_UP = 50
_OPENED_AT_ONCE = 100
_SETTLED = 20  # jobs that are watched while all the others are


def status() -> Result:
    """From a transition, by the store's clock, to the client that watches its job, in ms."""
    with fresh_stage() as stage:
        _, address = stage.serve()
        HEADRACE.start(stage)
        late = asyncio.run(_follow(address, jobs=_JOBS))
    return Result(numbers={"status p50": percentile(late, 0.5), "status p99": percentile(late, 0.99)}, counts={})


def watchers(count: int = 5_000) -> Result:
    """Bytes of the server's memory for each of many watchers, and the status latency of others meanwhile."""
    with fresh_stage() as stage:
        server, address = stage.serve()
        HEADRACE.start(stage)
        rss, late = asyncio.run(_crowd(address, server, count))
    return Result(
        numbers={"KB per watcher": rss / count / 1e3, "status p99 meanwhile": percentile(late, 0.99)}, counts={}
    )


async def _follow(address: str, *, jobs: int) -> list[float]:
    """Enqueue jobs, a few at a time, and watch each. Returns by how many ms each transition came late."""
    late: list[float] = []
    left = iter(range(jobs))

    async def follow(client: AsyncClient) -> None:
        for n in left:
            handle = await client.enqueue("noop", {"n": n}, delay=_DELAY)
            events = [(time.time(), event) async for event in handle.watch()]
            moves = [(at, event.time) for at, event in events if event.kind is EventKind.TRANSITION and event.time]
            if n >= _WARM_UP:
                late.extend((at - moved.timestamp()) * 1e3 for at, moved in moves)

    async with AsyncClient(address) as client:
        await asyncio.gather(*(follow(client) for _ in range(_AT_ONCE)))
    return late


async def _crowd(address: str, server: Program, count: int) -> tuple[float, list[float]]:
    async with AsyncClient(address) as client, contextlib.AsyncExitStack() as stack:
        handles = await client.enqueue_many(NewJob("noop", {"n": 0}, delay=3_600) for _ in range(count))
        before = server.rss()
        slots = asyncio.Semaphore(_OPENED_AT_ONCE)

        async def open_one(number: int) -> None:
            async with slots:
                handle = handles[number]
                assert not isinstance(handle, Exception)
                stream = handle.watch()
                stack.push_async_callback(stream.aclose)
                await anext(stream)

        await asyncio.gather(*(open_one(number) for number in range(count)))
        late = await _follow(address, jobs=_WARM_UP + _SETTLED)
        return server.rss() - before, late
