"""What the scripts of all contenders have in common: their three ways to enqueue, and how they say what they did.

Each script is run by the Python of its own environment, as `python peer_x.py ROLE [COUNT [AT]]`:

enqueue COUNT      enqueue jobs 0 … COUNT-1 in the fastest way there is; tell when that began and ended
ping COUNT         enqueue jobs one by one, COUNT in all, with a pause between them; tell when each was called
schedule COUNT AT  enqueue jobs that are all due AT (seconds since 1970)
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable

_PAUSE = 0.015  # seconds between two pings, on average: longer than a job takes anywhere


def run(
    *,
    enqueue: Callable[[int], Awaitable[object]],
    ping: Callable[[int], Awaitable[object]],
    schedule: Callable[[int, float], Awaitable[object]],
) -> None:
    """Play the role that the command line names. `ping` enqueues the one job that it is given."""
    role, count = sys.argv[1], int(sys.argv[2])
    if role == "enqueue":
        asyncio.run(_timed(enqueue(count)))
    elif role == "ping":
        asyncio.run(_pings(ping, count))
    else:
        asyncio.run(_timed(schedule(count, float(sys.argv[3]))))


async def _timed(work: Awaitable[object]) -> None:
    begun = time.monotonic()
    await work
    print(json.dumps({"begun": begun, "ended": time.monotonic()}), flush=True)


async def _pings(ping: Callable[[int], Awaitable[object]], count: int) -> None:
    called = []
    for number in range(count):
        await asyncio.sleep(_PAUSE * (0.5 + random.random()))
        called.append(time.monotonic())
        await ping(number)
    print(json.dumps({"called": called}), flush=True)
