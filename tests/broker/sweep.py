"""A whole pass of the reconciler at once. After every test of this room one must find nothing: what is merely in motion
between two calls is not broken.
"""

from collections import Counter

from headrace_broker import Broker
from headrace_broker._repair import RepairStep, Walk


async def sweep(broker: Broker, *, recount: bool = False) -> dict[str, int]:
    """Looks at everything; returns what was repaired."""
    found: Counter[str] = Counter()
    for shard in range(broker.shards):
        await broker.redis.hdel(broker.shard(shard).repairs(), "owner", "until", "began")
        for walk, queues in ((Walk.RECORDS, []), (Walk.PLACES, await broker.queue_names(shard))):
            cursor, more = "", True
            while more:
                step = RepairStep(shard=shard, who="s", walk=walk, cursor=cursor, queues=queues, recount=recount)
                done = await broker.repair(step)
                assert (done.wait_ms, done.misfits) == (0, ())
                found.update(done.kinds)
                cursor, more = done.cursor, bool(done.cursor)
    return dict(found)
