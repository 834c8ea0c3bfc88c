"""What operators see of workers. All of it is kept in the first shard, whatever shards a worker takes jobs from."""

from __future__ import annotations

import json
from collections import Counter

from headrace_broker import store
from headrace_broker._primaries import Primaries
from headrace_broker.keys import Shard

MOST = 10_000
"""Workers that are looked at, at the most."""


class Workers:
    """Reached as `broker.workers`. Methods raise what those of Broker raise."""

    def __init__(self, *, primaries: Primaries, shard: Shard, lease_ms: int) -> None:
        self._primaries = primaries
        self._shard = shard
        self._lease_ms = lease_ms

    async def listening(self) -> Counter[str]:
        """Counts for each queue the workers that take jobs from it, and have given a sign of life within a lease."""
        found: Counter[str] = Counter()
        async with self._primaries.calling(self._shard.number) as redis:
            since = await store.clock_ms(redis) - self._lease_ms
            names = await redis.zrangebyscore(self._shard.workers(), since, "+inf", start=0, num=MOST)
            async with redis.pipeline(transaction=False) as pipeline:
                for name in names:
                    pipeline.hget(self._shard.worker(name.decode()), "info")
                for info in await pipeline.execute() if names else ():
                    found.update(json.loads(info)["queues"] if info else ())
        return found
