"""Notes, beside a run, how slow the machine was, and when the store itself says that no lease was taken away.

What the checker allows is derived from these notes: a loaded machine widens it by what was measured, and by no more.
"""

from __future__ import annotations

import asyncio
import json
import time

from redis.asyncio import Redis
from redis.exceptions import RedisError

from chaos.checker.history import STALL
from chaos.stage import Stage

STEP = 0.02
MARGIN = 0.1
"""Seconds without a turn, or without an answer of the store, that are worth a line."""
SILENCE = 1.0
"""Seconds after which an answer is not waited for any longer."""


class Witness:
    """Looks at this process's clock and at the store, until it is cancelled."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._faults = (stage.directory / "faults.jsonl").open("a", buffering=1)
        self._holds = (stage.directory / "holds.jsonl").open("a", buffering=1)

    async def watch_the_clock(self) -> None:
        """Notes when this process, through which all connections pass, got no turn for a while."""
        while True:
            before = time.time()
            await asyncio.sleep(STEP)
            if time.time() - before > STEP + MARGIN:
                self._note("proxy", before)

    async def watch_the_store(self, shard: int = 0) -> None:
        """Notes when the store took long to answer though the nemesis let it, and each hold of reclaiming."""
        pulse = self._stage.broker.shard(shard).pulse()
        seen = hold = 0
        while True:
            before, hurt, faults = time.time(), self._stage.store_is_in_hand, self._stage.times_in_hand
            try:
                async with asyncio.timeout(SILENCE):
                    latest = await _pulse(self._stage.broker.redis, pulse)
            except (RedisError, OSError, TimeoutError):
                latest = None
            if time.time() - before > MARGIN and not hurt and self._stage.times_in_hand == faults:
                self._note("store", before)
            if latest is not None:
                if latest[1] > hold:
                    self._holds.write(json.dumps({"start_ms": seen or latest[1], "end_ms": latest[1]}) + "\n")
                seen, hold = latest
            await asyncio.sleep(STEP)

    def _note(self, target: str, since: float) -> None:
        row = {"kind": STALL, "target": target, "pid": 0, "start_ms": since * 1_000, "end_ms": time.time() * 1_000}
        self._faults.write(json.dumps(row) + "\n")


async def _pulse(redis: Redis, key: str) -> tuple[int, int]:
    """Returns when somebody last looked for lost leases, and until when they are left alone."""
    seen, hold = await redis.hmget(key, ["seen", "hold"])
    return int(seen or 0), int(hold or 0)
