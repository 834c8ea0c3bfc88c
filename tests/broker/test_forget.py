"""forget.lua and Broker.forget."""

import pytest

from broker.hearing import Hearing
from broker.moves import WORKER, assert_stopped_by, claim, lose, now_ms, start
from broker.state import A, Dump, new
from headrace_broker import Broker, Priority, State
from headrace_broker.job import MINUTE


async def forget(broker: Broker, *queues: str, idle_ms: int = -1) -> int:
    """Forgets whoever holds nothing now, however short ago it has read."""
    return await broker.forget(shard=0, queues=queues or ("default",), idle_ms=idle_ms)


async def consumers(broker: Broker) -> list[str]:
    """Reads the consumers of the stream of normal priority."""
    infos = await broker.redis.xinfo_consumers(broker.shard(0).ready("default", Priority.NORMAL), "workers")
    return sorted(info["name"].decode() for info in infos)


async def come(broker: Broker, *workers: str) -> None:
    """Makes consumers of the stream of normal priority, as a read that found nothing does on some stores."""
    key = broker.shard(0).ready("default", Priority.NORMAL)
    if not await broker.redis.exists(key):
        await broker.redis.xgroup_create(key, "workers", id="0", mkstream=True)
    async with broker.redis.pipeline(transaction=False) as pipeline:
        for worker in workers:
            pipeline.xgroup_createconsumer(key, "workers", worker)
        await pipeline.execute()


async def test_consumers_that_are_gone_are_forgotten(store_broker: Broker, dump: Dump, heard: Hearing) -> None:
    """A consumer that holds nothing goes; one that holds an entry stays, for its entry must be found by reclaim."""
    await start(store_broker, new("a"), worker="w1")
    await come(store_broker, "w2")
    assert await consumers(store_broker) == ["w1", "w2"]
    state = await dump()
    await heard.of(A)

    assert await forget(store_broker) > 0

    assert await consumers(store_broker) == ["w1"]
    assert await dump() == state
    assert await forget(store_broker) == 0
    assert await dump() == state
    assert await heard.events(A) == []
    await lose(store_broker, A)
    assert (await store_broker.get(A)).state is State.QUEUED


async def test_a_consumer_that_has_read_lately_stays(store_broker: Broker) -> None:
    """Only a consumer that has not read for a while counts as gone."""
    await come(store_broker, "w1")

    assert await forget(store_broker, idle_ms=MINUTE) == 0
    assert await forget(store_broker) == 1


async def test_stale_workers_are_forgotten(store_broker: Broker, dump: Dump) -> None:
    """Workers whose latest heartbeat is too long ago leave the list of live ones."""
    await store_broker.renew(worker=WORKER, held=[])
    workers = store_broker.shard(0).workers()
    await store_broker.redis.zadd(workers, {"old": await now_ms(store_broker) - 2 * MINUTE})

    await forget(store_broker, idle_ms=MINUTE)

    assert (await dump())["workers"] == ["w1"]


async def test_a_thousand_restarts_leave_no_consumers(store_broker: Broker) -> None:
    """1,000 workers that came and went are forgotten in one call."""
    await come(store_broker, *(f"w{n}" for n in range(1_000)))

    assert await forget(store_broker) == 1_000
    assert await consumers(store_broker) == []


async def test_a_queue_without_streams_is_left_alone(store_broker: Broker, dump: Dump) -> None:
    """Forgetting makes no keys."""
    assert await forget(store_broker) == 0
    assert await dump() == {}


async def test_a_group_that_was_destroyed_is_made_again(store_broker: Broker, dump: Dump) -> None:
    """NOGROUP is repaired."""
    await store_broker.enqueue([new("a")])
    state = await dump()
    await store_broker.redis.xgroup_destroy(store_broker.shard(0).ready("default", Priority.LOW), "workers")

    assert await forget(store_broker) == 0
    assert await dump() == state


@pytest.mark.parametrize("key", ["workers", "ready:default:high", "ready:default:normal", "ready:default:low"])
async def test_a_key_of_the_wrong_type_stops_it_before_its_first_write(store_broker: Broker, key: str) -> None:
    """Law 1: a wrong key of the last queue stops the call before it has forgotten anyone of the first."""
    await claim(store_broker, queues=["other", "default"])

    await assert_stopped_by(store_broker, key, lambda: forget(store_broker, "other", "default"))
