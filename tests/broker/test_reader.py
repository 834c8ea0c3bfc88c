"""_reader.py, Broker.wait and Broker.wake: the blocking read of an idle worker."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

import pytest

from broker.audit import audit
from broker.moves import claim, give_way, ids, stop
from broker.state import A, B, C, D, new, wipe
from harness.waiting import Eventually
from headrace_broker import Broker, Delivery, Priority, StoreUnavailable
from headrace_broker.job import MINUTE


async def wait(broker: Broker, *, worker: str = "w1", timeout_ms: int = 5_000) -> tuple[Delivery, ...]:
    """Waits in the name of worker w1."""
    return await broker.wait(shard=0, worker=worker, queues=["default"], timeout_ms=timeout_ms)


async def blocked(broker: Broker) -> bool:
    """Whether some client of this store is in a blocking read."""
    clients = await broker.redis.client_list()
    return any("b" in client["flags"] for client in clients)


async def test_an_idle_worker_gets_the_next_job_at_once(spare_broker: Broker, eventually: Eventually) -> None:
    """A waiting worker is handed the entry as soon as it is there, and claims it."""
    await claim(spare_broker)
    waiting = asyncio.create_task(wait(spare_broker, timeout_ms=MINUTE))
    await eventually(lambda: blocked(spare_broker))
    began = time.monotonic()
    await spare_broker.enqueue([new("a", priority=Priority.LOW), new("b", priority=Priority.LOW)])

    delivered = await waiting

    assert time.monotonic() - began < 1
    assert [(d.queue, d.priority, d.job_id) for d in delivered] == [("default", Priority.LOW, A)]
    assert ids(await claim(spare_broker, 2, delivered=delivered)) == [A, B]


async def test_what_is_there_already_is_delivered(store_broker: Broker) -> None:
    """A wait begun after the jobs came returns at once: one entry of each stream at the most."""
    await store_broker.enqueue(
        [new(name, priority=Priority(p)) for name, p in zip("abcd", ["low", "low", "high", "high"], strict=True)]
    )

    delivered = await wait(store_broker, timeout_ms=MINUTE)

    assert {d.job_id for d in delivered} == {C, A}
    assert ids(await claim(store_broker, 5, delivered=delivered)) == [C, A, D, B]


async def test_a_wait_ends_after_its_time(store_broker: Broker) -> None:
    """Where nothing comes, wait returns () after timeout_ms, and can be called again."""
    await claim(store_broker)
    for _ in range(2):
        began = time.monotonic()
        assert await wait(store_broker, timeout_ms=60) == ()
        assert 0.05 < time.monotonic() - began < 3


async def test_a_wait_without_groups_returns_at_once(store_broker: Broker) -> None:
    """Where a group is missing, wait returns (), and the claim that follows makes it."""
    began = time.monotonic()
    assert await wait(store_broker, timeout_ms=MINUTE) == ()
    assert time.monotonic() - began < 5

    await claim(store_broker)

    assert await wait(store_broker, timeout_ms=60) == ()


async def test_a_group_that_vanishes_ends_a_wait(spare_broker: Broker, eventually: Eventually) -> None:
    """FLUSHALL under a waiting worker ends its wait: with (), or on Redis 7 as if the store had failed. The next claim
    makes everything usable again.
    """
    await claim(spare_broker)
    waiting = asyncio.create_task(wait(spare_broker, timeout_ms=MINUTE))
    await eventually(lambda: blocked(spare_broker))
    await spare_broker.redis.flushall()

    [ended] = await asyncio.gather(waiting, return_exceptions=True)
    assert ended == () or isinstance(ended, StoreUnavailable)

    assert ids(await claim(spare_broker)) == []
    await spare_broker.enqueue([new("a")])
    assert [d.job_id for d in await wait(spare_broker)] == [A]
    assert ids(await claim(spare_broker, token="t2", resume=True)) == [A]


async def test_wake_ends_a_wait_at_once(spare_broker: Broker, eventually: Eventually) -> None:
    """A drain ends the wait early with (); later waits return at once, too."""
    await claim(spare_broker)
    waiting = asyncio.create_task(wait(spare_broker, timeout_ms=MINUTE))
    await eventually(lambda: blocked(spare_broker))
    began = time.monotonic()

    await spare_broker.wake()

    assert await waiting == ()
    assert await wait(spare_broker, timeout_ms=MINUTE) == ()
    assert time.monotonic() - began < 2
    await spare_broker.wake()


async def test_an_entry_that_comes_with_the_wake_is_never_lost(store: str, namespace: str) -> None:
    """200 times: a job that arrives while the worker is woken is either returned by wait, or not delivered at all."""

    async def one_round(n: int) -> str:
        dice = random.Random(n)
        async with Broker(url=store, namespace=f"{namespace}-{n}") as broker:
            await claim(broker)
            waiting = asyncio.create_task(wait(broker, timeout_ms=MINUTE))
            await give_way(dice.randrange(60))
            await asyncio.gather(
                after_a_pause(dice, broker.wake), after_a_pause(dice, lambda: broker.enqueue([new("a")]))
            )
            delivered = await waiting
            key = broker.shard(0).ready("default", Priority.NORMAL)
            pending = (await broker.redis.xpending(key, "workers"))["pending"]
            assert pending == len(delivered), "delivered, but not returned"
            assert ids(await claim(broker, delivered=delivered, token="t2")) == [A]
            await audit(broker)
            await wipe(broker)
        return "delivered" if delivered else "left"

    ends = [
        end
        for start_at in range(0, 200, 20)
        for end in await asyncio.gather(*map(one_round, range(start_at, start_at + 20)))
    ]

    assert len(ends) == 200
    assert set(ends) == {"delivered", "left"}, "the rounds never met the moment that matters"


async def after_a_pause(dice: random.Random, call: Callable[[], Awaitable[object]]) -> None:
    """Makes a call after a random moment."""
    await give_way(dice.randrange(60))
    await call()


async def test_a_cancelled_wait_is_really_cancelled(spare_broker: Broker, eventually: Eventually) -> None:
    """Cancelling a wait ends it, and what was delivered to its connection meanwhile comes back by resume."""
    await claim(spare_broker)
    waiting = asyncio.create_task(wait(spare_broker, timeout_ms=MINUTE))
    await eventually(lambda: blocked(spare_broker))

    await stop(waiting)

    await spare_broker.enqueue([new("a")])
    delivered = await wait(spare_broker)
    assert ids(await claim(spare_broker, token="t2", delivered=delivered, resume=True)) == [A]


async def test_a_broken_connection_is_reported(spare_broker: Broker, eventually: Eventually) -> None:
    """A wait whose connection breaks raises StoreUnavailable; the next one has a new connection."""
    await claim(spare_broker)
    waiting = asyncio.create_task(wait(spare_broker, timeout_ms=MINUTE))
    await eventually(lambda: blocked(spare_broker))
    [client] = [c for c in await spare_broker.redis.client_list() if "b" in c["flags"]]
    await spare_broker.redis.client_kill_filter(_id=client["id"])

    with pytest.raises(StoreUnavailable):
        await waiting

    await spare_broker.enqueue([new("a")])
    assert [d.job_id for d in await wait(spare_broker)] == [A]
    assert ids(await claim(spare_broker, token="t2", resume=True)) == [A]


async def test_a_wait_uses_one_connection(spare_broker: Broker) -> None:
    """Waiting again and again opens no further connections (F34)."""
    await claim(spare_broker)
    await wait(spare_broker, timeout_ms=1)
    before = (await spare_broker.redis.info("stats"))["total_connections_received"]
    for _ in range(5):
        await wait(spare_broker, timeout_ms=1)

    assert (await spare_broker.redis.info("stats"))["total_connections_received"] == before


async def test_a_nudge_ends_one_wait(spare_broker: Broker, eventually: Eventually) -> None:
    """The wait under way returns (), the next one waits again."""
    await claim(spare_broker)
    waiting = asyncio.create_task(wait(spare_broker, timeout_ms=MINUTE))
    await eventually(lambda: blocked(spare_broker))

    await spare_broker.nudge(0)

    assert await waiting == ()
    again = asyncio.create_task(wait(spare_broker, timeout_ms=MINUTE))
    await eventually(lambda: blocked(spare_broker))
    await spare_broker.enqueue([new("a")])
    assert [d.job_id for d in await again] == [A]


async def test_a_nudge_before_a_wait_is_not_lost(store_broker: Broker) -> None:
    """A nudge that comes between a claim and its wait ends that wait before it begins, and no other."""
    await claim(store_broker)
    began = time.monotonic()
    await store_broker.nudge(0)

    assert await wait(store_broker, timeout_ms=MINUTE) == ()
    assert time.monotonic() - began < 5
    assert await wait(store_broker, timeout_ms=60) == ()
    assert time.monotonic() - began > 0.05


async def test_where_there_is_no_queue_to_wait_for(store_broker: Broker) -> None:
    """It waits without the store, and ends at its time, at a nudge, and at a wake."""

    async def rest(timeout_ms: int) -> float:
        began = time.monotonic()
        assert await store_broker.wait(shard=0, worker="w1", queues=[], timeout_ms=timeout_ms) == ()
        return time.monotonic() - began

    assert 0.05 < await rest(60) < 3
    for end in (lambda: store_broker.nudge(0), store_broker.wake):
        resting = asyncio.create_task(rest(MINUTE))
        await give_way(5)
        assert not resting.done()
        await end()
        assert await resting < 5
    assert await rest(MINUTE) < 1, "woken for good"
