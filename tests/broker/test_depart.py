"""depart.lua and Broker.depart."""

import pytest

from broker.hearing import Hearing
from broker.moves import QUEUE_KEYS, WORKER, assert_stopped_by, claim, corrupt, deliver, ids, lose, now_ms, start
from broker.state import HERE, A, B, Dump, counted, known, new, record, streams, wipe
from headrace_broker import Broker, Priority, State


async def depart(broker: Broker, *queues: str) -> int:
    """Worker w1 takes leave of the default queue, or of those named."""
    return await broker.depart(worker="w1", queues=queues or ("default",))


async def consumers(broker: Broker) -> list[str]:
    """Reads the consumers of the stream of normal priority."""
    infos = await broker.redis.xinfo_consumers(broker.shard(0).ready("default", Priority.NORMAL), "workers")
    return sorted(info["name"].decode() for info in infos)


async def test_a_worker_that_has_drained_leaves_nothing_behind(
    store_broker: Broker, dump: Dump, heard: Hearing
) -> None:
    """What was delivered to it and never claimed goes back to the front; its consumers and its entry go."""
    await store_broker.enqueue([new("a"), new("b")])
    await store_broker.renew(worker=WORKER, held=[])
    await deliver(store_broker)
    assert await consumers(store_broker) == ["w1"]
    await heard.of(A)

    assert await depart(store_broker) == 1

    expected = {
        **known(),
        **counted(QUEUED=2),
        **streams(high=[A], normal=[B]),
        f"job:{A}": record("QUEUED", "q", entry=f"high {HERE}"),
        f"job:{B}": record("QUEUED", "q"),
    }
    assert await dump() == expected
    assert await consumers(store_broker) == []
    assert await depart(store_broker) == 0
    assert await dump() == expected
    assert await heard.events(A) == []
    assert ids(await claim(store_broker, 5, worker="w2", token="t2")) == [A, B]


async def test_jobs_that_still_run_are_not_lost(store_broker: Broker, dump: Dump) -> None:
    """A worker that departs with a running job keeps its consumer, so that the job is found by reclaim."""
    await start(store_broker, new("a"))
    await store_broker.renew(worker=WORKER, held=[])
    state = await dump()

    assert await depart(store_broker) == 0

    del state["workers"], state["worker:w1"]
    assert await dump() == state
    assert await consumers(store_broker) == ["w1"]
    await lose(store_broker, A)
    assert (await store_broker.get(A)).state is State.QUEUED


async def test_other_workers_are_left_alone(store_broker: Broker, dump: Dump) -> None:
    """Deliveries and heartbeats of others stay as they are."""
    await store_broker.enqueue([new("a"), new("b")])
    await deliver(store_broker, worker="w2")
    await store_broker.redis.zadd(store_broker.shard(0).workers(), {"w2": await now_ms(store_broker)})
    state = await dump()

    assert await depart(store_broker) == 0

    assert await dump() == state


@pytest.mark.parametrize("tombstone", ["deleted", "overwritten"])
async def test_tombstones_are_cleared(store_broker: Broker, dump: Dump, tombstone: str) -> None:
    """A delivery whose record is gone, or is no record, is cleared."""
    await store_broker.enqueue([new("a")])
    await deliver(store_broker)
    if tombstone == "deleted":
        await store_broker.redis.delete(store_broker.shard(0).job(A))
    else:
        await corrupt(store_broker, f"job:{A}")
    await store_broker.redis.hincrby(store_broker.shard(0).queue("default"), "QUEUED", -1)

    assert await depart(store_broker) == 0

    assert streams().items() <= (await dump()).items()
    assert await consumers(store_broker) == []
    if tombstone == "overwritten":
        await wipe(store_broker)


async def test_a_queue_without_streams_is_left_alone(store_broker: Broker, dump: Dump) -> None:
    """A worker that never saw a job departs without a trace."""
    assert await depart(store_broker) == 0
    assert await dump() == {}


async def test_a_group_that_was_destroyed_is_made_again(store_broker: Broker, dump: Dump) -> None:
    """NOGROUP is repaired: nothing is lost, the next claim gets the job."""
    await store_broker.enqueue([new("a")])
    await deliver(store_broker)
    await store_broker.redis.xgroup_destroy(store_broker.shard(0).ready("default", Priority.NORMAL), "workers")

    assert await depart(store_broker) == 0

    assert (await dump())["ready:default:normal"] == {"entries": [A], "pending": {}, "groups": ["workers"]}
    assert ids(await claim(store_broker, worker="w2", token="t2")) == [A]


@pytest.mark.parametrize("key", ["workers", *QUEUE_KEYS])
async def test_a_key_of_the_wrong_type_stops_it_before_its_first_write(store_broker: Broker, key: str) -> None:
    """Law 1: a wrong key of the last queue stops the call before it has given anything of the first back."""
    await store_broker.enqueue([new("a", queue="other"), new("b")])
    await store_broker.redis.xreadgroup(
        "workers", "w1", {store_broker.shard(0).ready("other", Priority.NORMAL): ">"}, count=1
    )
    await deliver(store_broker)

    await assert_stopped_by(store_broker, key, lambda: depart(store_broker, "other", "default"))
