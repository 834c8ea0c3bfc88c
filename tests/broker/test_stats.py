"""stats.lua and Queues.get, get_many and page: what a queue looks like."""

import pytest

from broker.moves import BOOM, assert_stopped_by, claim, deliver, finish, make_due, now_ms, start
from broker.state import A, B, C, D, Dump, ident, new
from headrace_broker import (
    BadPageToken,
    Broker,
    Discarded,
    Failed,
    Finish,
    QueueNotFound,
    Rates,
    Retried,
    State,
    Succeeded,
)
from headrace_broker.job import HOUR, MINUTE
from headrace_broker.queues import SPELL_MS, STATS_BATCH


async def test_every_job_is_counted_where_it_is(store_broker: Broker, dump: Dump) -> None:
    """The counts are those of the records: live states now, ended ones ever, dead letters as they are kept."""
    outcomes = [Succeeded(), Failed(failure=BOOM), Discarded(reason="no"), Retried(delay_ms=HOUR, failure=BOOM)]
    await start(store_broker, *(new(f"n{n}") for n in range(5)))
    for n, outcome in enumerate(outcomes):
        await finish(store_broker, ident(f"n{n}"), outcome)
    await store_broker.enqueue([new("q1"), new("q2"), new("s", delay_ms=HOUR)])
    before = await dump()

    queue = await store_broker.queues.get("default")

    assert queue.jobs == {
        State.SCHEDULED: 1,
        State.QUEUED: 2,
        State.PROCESSING: 1,
        State.RETRYING: 1,
        State.SUCCEEDED: 1,
        State.FAILED: 1,
        State.CANCELLED: 1,
        State.EXPIRED: 0,
    }
    assert (queue.name, queue.dead, queue.paused_at_ms) == ("default", 1, None)
    assert await dump() == before, "looking changes nothing"


async def test_an_unknown_queue(store_broker: Broker, dump: Dump) -> None:
    """A queue that never had a job is not there, and looking does not make it."""
    with pytest.raises(QueueNotFound):
        await store_broker.queues.get("default")
    assert await store_broker.queues.get_many(["a", "b"]) == [None, None]
    assert await dump() == {}


async def test_the_oldest_ready_job(store_broker: Broker) -> None:
    """The age counts from when a job became ready, over all priorities; only jobs that can be had count."""
    assert (await _with(store_broker, "a", "b", "c")).oldest_ready_ms is not None
    ready = {job: await _ready_at(store_broker, job) for job in (A, B, C)}

    async def oldest_since() -> int | None:
        queue = await store_broker.queues.get("default")
        return None if queue.oldest_ready_ms is None else await now_ms(store_broker) - queue.oldest_ready_ms

    assert abs((await oldest_since() or 0) - ready[A]) < 1_000
    await claim(store_broker, 1)
    assert abs((await oldest_since() or 0) - ready[B]) < 1_000
    await store_broker.redis.hset(store_broker.shard(0).job(B), "state", "CANCELLED")  # a tombstone
    await deliver(store_broker)
    await deliver(store_broker)
    assert await oldest_since() is None
    await store_broker.redis.hset(store_broker.shard(0).job(B), "state", "QUEUED")


async def _with(broker: Broker, *names: str):
    await broker.enqueue([new(name) for name in names])
    return await broker.queues.get("default")


async def _ready_at(broker: Broker, job: str) -> int:
    for entry, fields in await broker.redis.xrange(f"{broker.shard(0).tag}ready:default:normal"):
        if fields[b"j"].decode() == job:
            return int(entry.split(b"-")[0])
    raise AssertionError(job)


async def test_a_scheduled_job_is_not_ready(store_broker: Broker) -> None:
    """A job on the schedule has no age until it is due."""
    await store_broker.enqueue([new("a", delay_ms=HOUR)])
    assert (await store_broker.queues.get("default")).oldest_ready_ms is None
    await make_due(store_broker, A)
    await store_broker.promote(shard=0, queues=["default"])
    assert (await store_broker.queues.get("default")).oldest_ready_ms is not None


async def test_rates_are_those_of_the_last_minute(store_broker: Broker) -> None:
    """Jobs that came, ended and failed, by the second, over 50 to 60 s; a repeated request is no job that came."""
    await start(store_broker, *(new(f"n{n}") for n in range(12)))
    await store_broker.enqueue([new("n0")])
    finishes = [Finish(job_id=ident(f"n{n}"), token="t1", outcome=Succeeded()) for n in range(6)]
    finishes += [Finish(job_id=ident(f"n{n}"), token="t1", outcome=Failed(failure=BOOM)) for n in range(6, 9)]
    await store_broker.finish(finishes)
    await store_broker.finish(finishes)

    rates = (await store_broker.queues.get("default")).rates

    assert 12 / 60 <= rates.enqueued <= 12 / 50
    assert 9 / 60 <= rates.finished <= 9 / 50
    assert 3 / 60 <= rates.failed <= 3 / 50


async def test_rates_forget(store_broker: Broker) -> None:
    """What is older than a minute does not count, and its fields go: at the next job of a later spell, or by expiry."""
    await store_broker.enqueue([new("a")])
    key = store_broker.shard(0).rates("default")
    spell = await now_ms(store_broker) // SPELL_MS
    old = {f"{letter}{spell - ago}": 7 for letter in "efd" for ago in range(7, 15)}
    await store_broker.redis.hset(key, mapping=old)
    assert MINUTE < await store_broker.redis.pttl(key) <= 8 * SPELL_MS
    assert (await store_broker.queues.get("default")).rates.finished == 0

    await claim(store_broker)
    await finish(store_broker, A, Failed(failure=BOOM))

    left = {name.decode() for name in await store_broker.redis.hkeys(key)}
    assert left & set(old) == set()
    assert {name[0] for name in left} == {"e", "f", "d"}


async def test_a_quiet_queue_has_no_rates(store_broker: Broker) -> None:
    """Where nothing happens, rates are 0, and cost no key."""
    await store_broker.enqueue([new("a")])
    await store_broker.redis.delete(store_broker.shard(0).rates("default"))
    assert (await store_broker.queues.get("default")).rates == Rates()


async def test_pages_go_by_name(store_broker: Broker) -> None:
    """Pages hold every queue once, in order, also when some are made and others asked for meanwhile."""
    names = [f"q{n:03}" for n in range(STATS_BATCH + 20)]
    await store_broker.enqueue([new(name, queue=name) for name in names])

    first = await store_broker.queues.page(page_size=STATS_BATCH + 5)
    await store_broker.enqueue([new("x", queue="q000a"), new("y", queue="q060a")])
    second = await store_broker.queues.page(page_size=100, page_token=first.next_page_token)

    assert [queue.name for queue in first.queues] == names[: STATS_BATCH + 5]
    assert [queue.name for queue in second.queues] == sorted([*names[STATS_BATCH + 5 :], "q060a"])
    assert (first.total, second.total, second.next_page_token) == (len(names), len(names) + 2, "")


async def test_tokens_are_bound_to_the_list(store_broker: Broker) -> None:
    """A token that was made up, or belongs to another list, is refused."""
    await start(store_broker, *(new(name, queue=name) for name in "abcd"))
    await store_broker.finish([Finish(job_id=job, token="t1", outcome=Failed(failure=BOOM)) for job in (A, B, C, D)])
    strange = (await store_broker.dead_letters(page_size=1)).next_page_token
    for token in (strange, "made-up", "é"):
        with pytest.raises(BadPageToken):
            await store_broker.queues.page(page_token=token)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        await store_broker.queues.page(page_size=0)


async def test_shards_are_summed_up(store: str, namespace: str) -> None:
    """With several shards a queue is one: its counts are sums, its age is that of the oldest."""
    async with Broker(url=store, namespace=namespace, shards=3) as broker:
        await broker.enqueue([new(f"n{n}") for n in range(30)])
        await broker.queues.pause("default", reason="r")
        for shard in range(3):
            claims = await broker.claim(shard=shard, worker="w", queues=["default"], count=9, token="t")
            assert claims.jobs == ()

        queue = await broker.queues.get("default")

        assert (queue.jobs[State.QUEUED], queue.pause_reason) == (30, "r")
        assert 30 / 60 <= queue.rates.enqueued <= 30 / 50
        assert [one.name for one in (await broker.queues.page()).queues] == ["default"]
        assert (await broker.queues.resume("default")).paused_at_ms is None


@pytest.mark.parametrize("key", ["queue:default", "rates:default", "dead:default", "ready:default:low"])
async def test_a_key_of_the_wrong_type_is_reported(store_broker: Broker, key: str) -> None:
    """A key of the wrong type is no reason to tell half of the truth."""
    await assert_stopped_by(store_broker, key, lambda: store_broker.queues.get("default"))
