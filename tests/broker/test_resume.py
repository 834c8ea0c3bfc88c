"""resume.lua and Queues.resume: a paused queue hands out jobs again."""

import pytest

from broker.moves import QUEUE_KEYS, assert_stopped_by, claim, ids
from broker.state import A, B, Dump, new
from headrace_broker import Broker, Priority, QueueNotFound


async def test_a_resumed_queue_goes_on_where_it_was(store_broker: Broker, dump: Dump) -> None:
    """Its jobs come in the order that they had before the pause, and nothing of the pause is left."""
    await store_broker.enqueue([new("a", priority=Priority.LOW), new("b")])
    before = await dump()
    await store_broker.queues.pause("default", reason="r")

    resumed = await store_broker.queues.resume("default")

    assert (resumed.paused_at_ms, resumed.pause_reason) == (None, "")
    assert await dump() == before
    claims = await claim(store_broker, 5)
    assert (ids(claims), claims.paused) == ([B, A], frozenset())


async def test_a_queue_that_is_not_paused_is_left_alone(store_broker: Broker, dump: Dump) -> None:
    """Resuming twice, or what was never paused, changes nothing."""
    await store_broker.enqueue([new("a")])
    state = await dump()

    await store_broker.queues.resume("default")
    await store_broker.queues.resume("default")

    assert await dump() == state


async def test_an_unknown_queue(store_broker: Broker, dump: Dump) -> None:
    """A queue that nobody knows is refused, and not made."""
    with pytest.raises(QueueNotFound):
        await store_broker.queues.resume("nobody")
    assert await dump() == {}


@pytest.mark.parametrize("key", QUEUE_KEYS)
async def test_a_key_of_the_wrong_type_stops_it_before_its_first_write(store_broker: Broker, key: str) -> None:
    """Law 1: a wrong key of the queue stops the call before it has changed anything."""
    await store_broker.redis.sadd(store_broker.shard(0).queues(), "default")

    await assert_stopped_by(store_broker, key, lambda: store_broker.queues.resume("default"))
