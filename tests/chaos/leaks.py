"""What a headrace holds when it is idle: to be the same after some thousand jobs as before them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from chaos.stage import Stage
from headrace_broker.job import Priority
from headrace_broker.keys import GROUP

BURST = 1_500
FORGOTTEN_WITHIN = 25.0
"""Seconds until the records of ended jobs, whose retention is a second, must be gone."""

Holdings = dict[str, int]


async def measure(stage: Stage) -> dict[str, Holdings]:
    """Runs a burst of short-lived jobs to warm up, and another one; returns what is held after each."""
    await _burst(stage, "warm-up")
    before = await holdings(stage)
    await _burst(stage, "burst")
    await _forgotten(stage, before["keys"])
    return {"before": before, "after": await holdings(stage)}


async def holdings(stage: Stage) -> Holdings:
    """Counts keys, bytes, connections and consumers of the store, and open files and threads of each process."""
    redis = stage.broker.redis
    info = await redis.info()
    held = {
        "keys": await redis.dbsize(),
        "bytes": info["used_memory"],
        "connections": info["connected_clients"],
        "consumers": await _consumers(stage),
    }
    for name, life in stage.lives.items():
        if life.process is not None:
            proc = Path(f"/proc/{life.process.pid}")
            held[f"files of {name}"] = len(list((proc / "fd").iterdir()))
            held[f"threads of {name}"] = len(list((proc / "task").iterdir()))
    return held


async def _consumers(stage: Stage) -> int:
    shard, count = stage.broker.shard(0), 0
    for queue in await stage.broker.queue_names(0):
        for priority in Priority:
            key = shard.ready(queue, priority)
            if await stage.broker.redis.exists(key):
                count += len(await stage.broker.redis.xinfo_consumers(key, GROUP))
    return count


async def _burst(stage: Stage, name: str) -> None:
    before = await stage.broker.redis.dbsize()
    await stage.run_burst(name, jobs=BURST)
    await _forgotten(stage, before)


async def _forgotten(stage: Stage, keys: int) -> None:
    """Waits until there are no more keys than before; if there still are after a while, the checker says so."""
    deadline = time.monotonic() + FORGOTTEN_WITHIN
    while await stage.broker.redis.dbsize() > keys and time.monotonic() < deadline:  # noqa: ASYNC110  nobody tells us
        await asyncio.sleep(0.2)
    await asyncio.sleep(1)  # connections and threads that are idle now are closed
