"""repair.lua, and the Repairer that goes through a shard with it: what should not be possible is found and mended."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from broker.audit import audit
from broker.moves import (
    BOOM,
    LEASE_OVER,
    WORKER,
    age,
    assert_stopped_by,
    claim,
    corrupt,
    deliver,
    fingerprint,
    finish,
    ids,
    start,
    stop,
)
from broker.state import A, B, C, ident, new
from broker.sweep import sweep
from harness.waiting import Eventually
from headrace_broker import (
    Broker,
    Failed,
    Finished,
    Held,
    Maintenance,
    Priority,
    Released,
    Retried,
    State,
    Subscription,
    Succeeded,
)
from headrace_broker._repair import LOOK, Repaired, RepairStep, Walk
from headrace_broker._repairer import Repairer
from headrace_broker.job import HOUR
from headrace_broker.keys import GROUP


def ready(broker: Broker, priority: Priority = Priority.NORMAL) -> str:
    """Returns the key of a stream of the default queue."""
    return broker.shard(0).ready("default", priority)


async def every_state(broker: Broker) -> None:
    """Puts jobs into every state, and into what they are in between a delivery and its claim."""
    await start(broker, *(new(name) for name in ("done", "retries", "dead", "released", "runs")))
    assert await finish(broker, ident("done"), Succeeded()) is Finished.WRITTEN
    await finish(broker, ident("retries"), Retried(delay_ms=HOUR, failure=BOOM))
    await finish(broker, ident("dead"), Failed(failure=BOOM))
    await finish(broker, ident("released"), Released())
    await broker.enqueue([new("later", delay_ms=HOUR), new("low", priority=Priority.LOW), new("delivered")])
    assert (await deliver(broker, worker="w2")).job_id == ident("delivered")
    await broker.enqueue([new("queued")])


# --- what is whole stays as it is


async def test_what_is_whole_is_left_alone(store_broker: Broker) -> None:
    """Jobs in every state, and one that is delivered and not claimed yet: nothing is repaired, nothing changes."""
    await every_state(store_broker)
    await store_broker.repair(RepairStep(shard=0, who="r1"))
    before = await fingerprint(store_broker)

    assert await sweep(store_broker, recount=True) == {}

    repairs = store_broker.shard(0).repairs()
    assert {k: v for k, v in (await fingerprint(store_broker)).items() if k != repairs} == {
        k: v for k, v in before.items() if k != repairs
    }
    assert await store_broker.repairs() == {}


async def test_a_tombstone_is_no_damage(store_broker: Broker) -> None:
    """The entry of a job that has ended while it was queued waits for its claim, as ever."""
    await store_broker.enqueue([new("a", expire_time_ms=1)])
    await store_broker.expire(shard=0, queues=["default"])

    assert await sweep(store_broker, recount=True) == {}

    assert await store_broker.redis.xlen(ready(store_broker)) == 1


# --- what is broken is mended


async def _trim(broker: Broker) -> None:
    assert await broker.redis.xtrim(ready(broker), maxlen=0, approximate=False) == 3


async def _delete(broker: Broker) -> None:
    assert await broker.redis.delete(ready(broker)) == 1


@pytest.mark.parametrize("lose", [_trim, _delete])
async def test_jobs_whose_stream_was_lost_run_all_the_same(
    store_broker: Broker, lose: Callable[[Broker], Awaitable[None]]
) -> None:
    """Regression, F40: XTRIM MAXLEN 0 or DEL of a stream: queued jobs are queued again; one that runs ends well, and
    nobody else runs it; one whose worker is dead comes back when its lease is over.
    """
    await store_broker.enqueue([new("a"), new("b"), new("c")])
    await claim(store_broker, 1)
    await claim(store_broker, 1, worker="w2", token="t2")
    await lose(store_broker)

    assert await sweep(store_broker) == {"queued without an entry": 1, "running without a lease": 2}

    await audit(store_broker)
    assert await sweep(store_broker, recount=True) == {}
    assert ids(await claim(store_broker, 9, worker="w3", token="t3")) == [C]
    assert await store_broker.renew(worker=WORKER, held=[Held(job_id=A, token="t1")]) == [True]
    await age(store_broker, B, LEASE_OVER)
    assert (await store_broker.reclaim(shard=0, queues=["default"])).requeued == 1
    assert await finish(store_broker, A, Succeeded()) is Finished.WRITTEN
    assert ids(await claim(store_broker, 9, worker="w3", token="t4")) == [B]
    assert (await store_broker.get(A)).state is State.SUCCEEDED


async def test_a_deleted_entry_is_made_again(store_broker: Broker) -> None:
    """Regression, F40: XDEL of one waiting job's entry: it is queued again in the stream of its priority."""
    await store_broker.enqueue([new("a", priority=Priority.LOW), new("b", priority=Priority.LOW)])
    [[entry, _], _] = await store_broker.redis.xrange(ready(store_broker, Priority.LOW))
    await store_broker.redis.xdel(ready(store_broker, Priority.LOW), entry)

    assert await sweep(store_broker) == {"queued without an entry": 1}

    await audit(store_broker)
    assert ids(await claim(store_broker, 9)) == [B, A]


async def test_a_running_job_without_a_lease_gets_one_again(store_broker: Broker) -> None:
    """F46: XACK of a running job by hand: its worker goes on; were it dead, the lease would run out."""
    await start(store_broker, new("a"), new("b"))
    for entry, _ in await store_broker.redis.xrange(ready(store_broker)):
        assert await store_broker.redis.xack(ready(store_broker), GROUP, entry) == 1

    assert await sweep(store_broker) == {"running without a lease": 2}

    await audit(store_broker)
    assert await store_broker.renew(worker=WORKER, held=[Held(job_id=A, token="t1")]) == [True]
    assert ids(await claim(store_broker, 9, worker="w2", token="t2")) == []
    await age(store_broker, B, LEASE_OVER)
    assert (await store_broker.reclaim(shard=0, queues=["default"])).requeued == 1
    assert await finish(store_broker, A, Succeeded()) is Finished.WRITTEN


@pytest.mark.parametrize("state", [State.SCHEDULED, State.RETRYING])
async def test_a_waiting_job_off_the_schedule_comes_back_to_it(store_broker: Broker, state: State) -> None:
    """ZREM, or DEL of the schedule: the job is due when it was before."""
    if state is State.SCHEDULED:
        await store_broker.enqueue([new("a", delay_ms=HOUR)])
    else:
        await start(store_broker, new("a"))
        await finish(store_broker, A, Retried(delay_ms=HOUR, failure=BOOM))
    due = await store_broker.redis.zscore(store_broker.shard(0).due("default"), A)
    await store_broker.redis.delete(store_broker.shard(0).due("default"))

    assert await sweep(store_broker) == {"waiting off the schedule": 1}

    assert await store_broker.redis.zscore(store_broker.shard(0).due("default"), A) == due
    await audit(store_broker)


async def test_lost_lists_are_made_again(store_broker: Broker) -> None:
    """DEL of the dead letters, of the expiries and of the set of queues: all are what they were before."""
    shard = store_broker.shard(0)
    await start(store_broker, new("a"))
    await finish(store_broker, A, Failed(failure=BOOM))
    await store_broker.enqueue([new("b", expire_time_ms=2**41)])
    lists = [shard.dead("default"), shard.expiring("default"), shard.queues()]
    before = [await store_broker.redis.dump(key) for key in lists]
    await store_broker.redis.delete(*lists)

    assert await sweep(store_broker) == {
        "unknown queue": 1, "dead letter off the list": 1, "expiry off the list": 1,
    }  # fmt: skip

    assert [await store_broker.redis.dump(key) for key in lists] == before


async def test_stale_entries_are_cleared(store_broker: Broker) -> None:
    """Schedules, dead letters, expiries and deliveries that name a job which is gone, or in another state."""
    shard, redis = store_broker.shard(0), store_broker.redis
    await start(store_broker, new("a"))
    await store_broker.enqueue([new("b")])
    gone = ident("gone")
    for key in (shard.due("default"), shard.dead("default"), shard.expiring("default")):
        await redis.zadd(key, {gone: 2**41, A: 2**41} if "expiring" not in key else {gone: 2**41})
    ghost = await redis.xadd(ready(store_broker, Priority.HIGH), {"j": gone})
    await redis.xreadgroup(GROUP, "w9", {ready(store_broker, Priority.HIGH): ">"})

    assert await sweep(store_broker, recount=True) == {"stale entry": 5, "stale delivery": 1}

    assert await redis.exists(shard.due("default"), shard.dead("default"), shard.expiring("default")) == 0
    assert await redis.xrange(ready(store_broker, Priority.HIGH), ghost, ghost) == []


async def test_a_missing_group_is_made_again(store_broker: Broker) -> None:
    """Regression, F22: XGROUP DESTROY: what waits is delivered, what runs runs on, once."""
    await store_broker.enqueue([new("a"), new("b")])
    await claim(store_broker, 1)
    await store_broker.redis.xgroup_destroy(ready(store_broker), GROUP)

    assert await sweep(store_broker) == {"missing group": 1, "running without a lease": 1}

    await audit(store_broker)
    assert ids(await claim(store_broker, 9, worker="w2", token="t2")) == [B]
    assert await finish(store_broker, A, Succeeded()) is Finished.WRITTEN


async def test_a_record_lives_as_long_as_its_state_says(store_broker: Broker) -> None:
    """EXPIRE of a job that has not ended would lose it; PERSIST of one that has would keep it for ever."""
    shard = store_broker.shard(0)
    await start(store_broker, new("a"))
    await finish(store_broker, A, Succeeded())
    await store_broker.enqueue([new("b")])
    await store_broker.redis.persist(shard.job(A))
    await store_broker.redis.expire(shard.job(B), 1_000)

    assert await sweep(store_broker) == {"record about to expire": 1, "record without an end": 1}

    await audit(store_broker)


async def test_wrong_counters_are_counted_again(store_broker: Broker) -> None:
    """HSET or DEL of the counters: those of states that jobs are in now are what they were; others are left alone."""
    await every_state(store_broker)
    counters = store_broker.shard(0).queue("default")
    right = await store_broker.redis.hgetall(counters)
    await store_broker.redis.hset(counters, mapping={"QUEUED": 7, "PROCESSING": -1, "RETRYING": "x"})
    await store_broker.redis.hdel(counters, "SCHEDULED")

    assert await sweep(store_broker) == {}
    assert await sweep(store_broker, recount=True) == {}, "it might be the places that are wrong, until a pass is clean"
    assert await sweep(store_broker, recount=True) == {"wrong counter": 4}

    assert await store_broker.redis.hgetall(counters) == right


async def test_a_counter_is_not_made_wrong_by_a_loss_that_comes_before_it(store_broker: Broker) -> None:
    """Regression: a stream lost between the walk over the records and the recount made right counters wrong."""
    await store_broker.enqueue([new("a"), new("b", delay_ms=HOUR)])
    counters = store_broker.shard(0).queue("default")
    right = await store_broker.redis.hgetall(counters)
    assert await sweep(store_broker, recount=True) == {}
    await store_broker.redis.delete(ready(store_broker))
    places = RepairStep(shard=0, who="s", walk=Walk.PLACES, queues=["default"], recount=True)

    assert (await store_broker.repair(places)).kinds == {}

    assert await sweep(store_broker) == {"queued without an entry": 1}
    for _ in range(2):
        assert await sweep(store_broker, recount=True) == {}
    assert await store_broker.redis.hgetall(counters) == right


async def test_repairs_are_counted(store_broker: Broker) -> None:
    """What was repaired is added up in the store, by kind."""
    for name in ("a", "b"):
        await store_broker.enqueue([new(name)])
        await store_broker.redis.delete(ready(store_broker))
        await sweep(store_broker)

    assert await store_broker.repairs() == {"queued without an entry": 3}


# --- its bounds


async def test_a_step_looks_at_a_bounded_part(store_broker: Broker) -> None:
    """2,000 jobs without their stream are mended in several steps, some hundred in each at the most."""
    names = [f"n{n}" for n in range(2_000)]
    await store_broker.enqueue([new(name) for name in names])
    await store_broker.redis.delete(ready(store_broker))

    cursor, mended, most = "", 0, 0
    while True:
        done = await store_broker.repair(RepairStep(shard=0, who="r1", cursor=cursor))
        mended += done.kinds.get("queued without an entry", 0)
        most = max(most, done.kinds.get("queued without an entry", 0))
        cursor = done.cursor
        if not cursor:
            break

    assert (mended, 0 < most <= 2 * LOOK) == (2_000, True)


async def test_one_process_at_a_time_makes_a_pass(store_broker: Broker) -> None:
    """Another one is told when to ask again; it takes over when the first has gone silent, and not before its time."""
    mine = RepairStep(shard=0, who="r1", turn_ms=50, pass_ms=60_000)
    theirs = RepairStep(shard=0, who="r2", turn_ms=50, pass_ms=60_000)
    assert (await store_broker.repair(mine)).wait_ms == 0

    assert 0 < (await store_broker.repair(theirs)).wait_ms <= 60_000
    assert 0 < (await store_broker.repair(mine)).wait_ms <= 60_000, "the next pass is not due yet"
    assert await store_broker.repair(RepairStep(shard=0, who="r1", walk=Walk.PLACES)) == Repaired()


@pytest.mark.parametrize("key", ["repairs", "queues"])
async def test_a_key_of_the_wrong_type_stops_it_before_its_first_write(store_broker: Broker, key: str) -> None:
    """Law 1: a key of its own that is broken stops a step, and nothing is written."""
    await store_broker.enqueue([new("a")])

    await assert_stopped_by(store_broker, key, lambda: store_broker.repair(RepairStep(shard=0, who="r1")))


async def test_a_broken_queue_keeps_no_other_from_being_repaired(store_broker: Broker) -> None:
    """A queue with a key of the wrong type is named and left alone; the others are repaired."""
    await store_broker.enqueue([new("a", queue="bad"), new("b", queue="good")])
    broken = await corrupt(store_broker, "due:bad")
    for queue in ("bad", "good"):
        await store_broker.redis.delete(store_broker.shard(0).ready(queue, Priority.NORMAL))

    done = await store_broker.repair(RepairStep(shard=0, who="r1"))

    assert done.kinds == {"queued without an entry": 1}
    assert done.misfits == (f"{broken} is a list, not a zset",)
    places = RepairStep(shard=0, who="r1", walk=Walk.PLACES, queues=["bad", "good"], recount=True)
    assert (await store_broker.repair(places)).misfits == done.misfits
    await store_broker.redis.delete(broken)
    assert await sweep(store_broker, recount=True) == {"queued without an entry": 1}


# --- the one who goes through


@asynccontextmanager
async def maintained(broker: Broker) -> AsyncIterator[None]:
    """Runs the duties, with a pass a second at the least."""
    subscription = Subscription(broker)
    maintenance = Maintenance(broker, subscription=subscription, repair_every=0.3)
    tasks = [asyncio.create_task(subscription.run()), asyncio.create_task(maintenance.run())]
    yield
    await stop(*tasks)


async def test_lost_jobs_come_back_by_themselves(spare_broker: Broker, eventually: Eventually) -> None:
    """1,000 jobs whose stream was deleted, and a wrong counter, are repaired while nobody looks; it is logged."""
    with capture_logs() as lines:
        async with maintained(spare_broker):
            await spare_broker.enqueue([new(f"n{n}") for n in range(1_000)] + [new("d", queue="x", delay_ms=HOUR)])
            await spare_broker.redis.delete(ready(spare_broker))
            await spare_broker.redis.hset(spare_broker.shard(0).queue("x"), "SCHEDULED", 5)

            async def repaired() -> bool:
                found = await spare_broker.repairs()
                told = sum(line.get("repaired", {}).get("queued without an entry", 0) for line in lines)
                return (found, told) == ({"queued without an entry": 1_000, "wrong counter": 1}, 1_000)

            await eventually(repaired)


async def test_another_process_goes_on_where_one_has_died(spare_broker: Broker, eventually: Eventually) -> None:
    """Of two repairers one makes the pass; when it is gone, the other makes the next one."""
    first, second = (Repairer(broker=spare_broker, shard=0, every=0.1) for _ in range(2))
    await spare_broker.enqueue([new("a")])
    await first.step()
    assert await second.step() > 0
    await spare_broker.redis.hset(spare_broker.shard(0).repairs(), "until", 0)
    await spare_broker.redis.delete(ready(spare_broker))

    async def mended() -> bool:
        await second.step()
        return bool(await spare_broker.repairs())

    await eventually(mended)
    assert ids(await claim(spare_broker, 2)) == [A]
    assert await first.step() > 0
