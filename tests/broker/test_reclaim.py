"""reclaim.lua and Broker.reclaim."""

import asyncio
from collections.abc import Callable

import pytest

from broker.audit import audit
from broker.hearing import Hearing
from broker.moves import (
    LEASE_OVER,
    QUEUE_KEYS,
    WORKER,
    age,
    assert_stopped_by,
    claim,
    corrupt,
    deliver,
    ids,
    lose,
    make_due,
    make_expired,
    now_ms,
    start,
)
from broker.state import GONE, HERE, TIME, A, B, Dump, claimed, counted, ident, known, new, record, streams, wipe
from harness.stores import Store
from harness.waiting import Eventually
from headrace_broker import Broker, Finish, Finished, Held, Priority, Reclaimed, State, StoreUnavailable, Succeeded
from headrace_broker.broker import DUTY_BATCH
from headrace_broker.job import MAX_CRASHES, MINUTE


async def reclaim(broker: Broker, *queues: str) -> Reclaimed:
    """Reclaims in the default queue, or in those named."""
    return await broker.reclaim(shard=0, queues=queues or ("default",))


PULSE = {"pulse": {"seen": TIME, "hold": "0"}}


async def test_the_job_of_a_dead_worker_is_queued_again(store_broker: Broker, dump: Dump, heard: Hearing) -> None:
    """A job whose lease ran out goes back to the front, attempt given back, crash counted, token gone; others stay.
    The same call again changes nothing.
    """
    await start(store_broker, new("a"), new("b"))
    await age(store_broker, A, LEASE_OVER)
    await heard.of(A, B)

    assert await reclaim(store_broker) == Reclaimed(requeued=1)

    expected = {
        **known(),
        **counted(QUEUED=1, PROCESSING=1),
        **streams(high=[A], normal=[B], pending={"normal": {"w1": [B]}}),
        **PULSE,
        f"job:{A}": record(
            "QUEUED",
            "q",
            "p 1 - w1",
            "q 0 LEASE_LOST w1",
            **(claimed(f"high {HERE}") | {"attempt": "0", "token": None}),
            crashes="1",
        ),
        f"job:{B}": record("PROCESSING", "q", "p 1 - w1", **claimed()),
    }
    assert await dump() == expected
    assert await reclaim(store_broker) == Reclaimed()
    assert await dump() == expected
    assert await heard.events(A) == ["3 QUEUED 0 LEASE_LOST w1"]
    assert await heard.events(B) == []


async def test_worker_death_does_not_strand_jobs(store_broker: Broker) -> None:
    """Regression: all 300 jobs of a dead worker are claimed and finished by another one."""
    names = [f"n{n}" for n in range(300)]
    await start(store_broker, *(new(name) for name in names))
    for name in names:
        await age(store_broker, ident(name), LEASE_OVER)

    done = [await reclaim(store_broker) for _ in range(2)]

    assert [answer.requeued for answer in done] == [DUTY_BATCH, 300 - DUTY_BATCH]
    taken = ids(await claim(store_broker, 500, worker="w2", token="t2"))
    assert sorted(taken) == sorted(ident(name) for name in names)
    assert await store_broker.finish([Finish(job_id=job, token="t2", outcome=Succeeded()) for job in taken]) == [
        Finished.WRITTEN
    ] * len(taken)


async def test_a_crash_loop_ends_in_the_dead_letters(store_broker: Broker, dump: Dump, heard: Hearing) -> None:
    """A job that loses more leases than MAX_CRASHES is FAILED with CRASH_LOOP, none of its attempts counted."""
    await store_broker.enqueue([new("a")])
    await heard.of(A)
    for number in range(1, MAX_CRASHES + 2):
        [job] = (await claim(store_broker, token=f"t{number}", worker=f"w{number}")).jobs
        assert (job.attempt, job.crashes) == (1, number - 1)
        await age(store_broker, A, LEASE_OVER)
        done = await reclaim(store_broker)
        assert done == (Reclaimed(dead=1) if number > MAX_CRASHES else Reclaimed(requeued=1))
        if 1 < number <= MAX_CRASHES:
            await make_due(store_broker, A)
            await store_broker.promote(shard=0, queues=["default"])

    state = await dump()
    record_of_a = state.pop(f"job:{A}")
    assert record_of_a["history"][-3:] == ["q", "p 1 - w4", "- 0 CRASH_LOOP w4"]
    assert record_of_a["crashes"] == str(MAX_CRASHES + 1)
    assert record_of_a["error"]["reason"] == "CRASH_LOOP"
    assert record_of_a["errored"] == record_of_a["finished"] == TIME
    assert "token" not in record_of_a
    assert "ttl" not in record_of_a
    assert state == {
        **known(),
        **counted(SCHEDULED=0, QUEUED=0, PROCESSING=0, FAILED=1),
        **streams(),
        **PULSE,
        "dead:default": [A],
    }
    assert (await heard.events(A))[-1] == "11 FAILED 0 CRASH_LOOP w4"
    failure = (await store_broker.get(A)).failure
    assert failure is not None
    assert str(MAX_CRASHES + 1) in failure.message


async def test_a_second_crash_sends_the_job_to_the_schedule(store_broker: Broker, dump: Dump, heard: Hearing) -> None:
    """A job that loses its lease again waits for a time of up to one lease, where it is promoted as any other."""
    await start(store_broker, new("a"))
    await lose(store_broker, A)
    await claim(store_broker, token="t2", worker="w2")
    await age(store_broker, A, LEASE_OVER)
    await heard.of(A)

    assert await reclaim(store_broker) == Reclaimed(requeued=1)

    expected = {
        **known(),
        **counted(QUEUED=0, PROCESSING=0, SCHEDULED=1),
        **streams(),
        **PULSE,
        "due:default": [A],
        f"job:{A}": record(
            "SCHEDULED",
            "q",
            "p 1 - w1",
            "q 0 LEASE_LOST w1",
            "p 1 - w2",
            "s 0 LEASE_LOST w2",
            **(claimed(f"high {GONE}", worker="w2") | {"attempt": "0", "token": None}),
            crashes="2",
            due=TIME,
        ),
    }
    assert await dump() == expected
    assert await reclaim(store_broker) == Reclaimed()
    assert await dump() == expected
    assert await heard.events(A) == ["5 SCHEDULED 0 LEASE_LOST w2"]


async def test_jobs_that_crash_together_do_not_come_back_together(store_broker: Broker) -> None:
    """From their second crash on, jobs of one dead worker are spread over a lease for each crash after the first; a
    job that kills its workers takes no other to the dead letters.
    """
    names = [f"n{n}" for n in range(100)]
    await start(store_broker, *(new(name) for name in names))
    for crash in range(1, MAX_CRASHES + 1):
        before = await now_ms(store_broker)
        await lose(store_broker, *(ident(name) for name in names))
        jobs = [await store_broker.get(ident(name)) for name in names]
        if crash == 1:
            assert {job.state for job in jobs} == {State.QUEUED}
        else:
            most = store_broker.lease_ms * (crash - 1)
            waits = sorted((job.due_time_ms or 0) - before for job in jobs)
            assert {job.state for job in jobs} == {State.SCHEDULED}
            assert 0 <= waits[0] < most / 5
            assert most * 4 / 5 < waits[-1] <= most + 5_000
            assert len(set(waits)) > 90
            await make_due(store_broker, *(ident(name) for name in names))
            await store_broker.promote(shard=0, queues=["default"])
        await claim(store_broker, 100, token=f"t{crash + 1}", worker=f"w{crash + 1}")


async def test_a_job_is_reclaimed_when_its_lease_is_over_not_before(store_broker: Broker) -> None:
    """A job is left alone until its lease has run out to the last ms or so."""
    await start(store_broker, new("a"))
    await age(store_broker, A, store_broker.lease_ms - 2_000)
    assert await reclaim(store_broker) == Reclaimed()

    await age(store_broker, A, store_broker.lease_ms)
    assert await reclaim(store_broker) == Reclaimed(requeued=1)


async def test_a_longer_lease_is_respected(store_broker: Broker) -> None:
    """The lease that counts is the one the job was claimed with, also where the reclaimer's own is shorter."""
    async with Broker(url=store_broker.url, namespace=store_broker.namespace, lease_ms=300_000) as patient:
        await store_broker.enqueue([new("a")])
        await claim(patient)
        await age(store_broker, A, LEASE_OVER)
        assert await reclaim(store_broker) == Reclaimed()
        assert (await store_broker.get(A)).state is State.PROCESSING

        await age(store_broker, A, 301_000)
        assert await reclaim(store_broker) == Reclaimed(requeued=1)


async def test_many_reclaimers_take_each_job_once(store_broker: Broker) -> None:
    """8 concurrent reclaimers queue 400 jobs again, each exactly once, one crash each."""
    names = [f"n{n}" for n in range(400)]
    await start(store_broker, *(new(name) for name in names))
    for name in names:
        await age(store_broker, ident(name), LEASE_OVER)

    async def reclaimer() -> int:
        done = [await reclaim(store_broker) for _ in range(4)]
        return sum(answer.requeued for answer in done)

    assert sum(await asyncio.gather(*(reclaimer() for _ in range(8)))) == 400
    jobs = [await store_broker.get(ident(name)) for name in names[::20]]
    assert {(job.crashes, job.version, job.attempt) for job in jobs} == {(1, 3, 0)}


async def test_a_ghost_delivery_comes_back(store_broker: Broker, dump: Dump, heard: Hearing) -> None:
    """An entry delivered to a consumer that died before its claim goes back to the front: no crash, no new version."""
    await store_broker.enqueue([new("a"), new("b")])
    await deliver(store_broker, worker="ghost")
    await age(store_broker, A, LEASE_OVER)
    await heard.of(A)

    assert await reclaim(store_broker) == Reclaimed(returned=1)

    assert await dump() == {
        **known(),
        **counted(QUEUED=2),
        **streams(high=[A], normal=[B]),
        **PULSE,
        f"job:{A}": record("QUEUED", "q", entry=f"high {HERE}"),
        f"job:{B}": record("QUEUED", "q"),
    }
    assert await heard.events(A) == []
    assert ids(await claim(store_broker, 5)) == [A, B]


@pytest.mark.parametrize("tombstone", ["deleted", "ended", "overwritten", "elsewhere"])
async def test_tombstones_are_cleared(store_broker: Broker, dump: Dump, tombstone: str) -> None:
    """A pending entry without a record, of a job that has ended, or that runs from another entry, is cleared."""
    await start(store_broker, new("a"), new("b"))
    shard = store_broker.shard(0)
    match tombstone:
        case "deleted":
            await store_broker.redis.delete(shard.job(A))
        case "overwritten":
            await corrupt(store_broker, f"job:{A}")
        case "ended":
            await store_broker.redis.hset(
                shard.job(A), mapping={"state": "CANCELLED", "version": 3, "history": "q0\np1,1,,w1\nc2,1"}
            )
            await store_broker.redis.expire(shard.job(A), 60)
            await store_broker.redis.hincrby(shard.queue("default"), "CANCELLED", 1)
        case "elsewhere":
            entry = await store_broker.redis.xadd(shard.ready("default", Priority.HIGH), {"j": A})
            await store_broker.redis.xreadgroup("workers", "w1", {shard.ready("default", Priority.HIGH): ">"})
            await store_broker.redis.hset(shard.job(A), "entry", f"high {entry.decode()}")
    if tombstone != "elsewhere":
        await store_broker.redis.hincrby(shard.queue("default"), "PROCESSING", -1)
    [[stray, _], *_] = await store_broker.redis.xrange(shard.ready("default", Priority.NORMAL))
    await store_broker.redis.xclaim(
        shard.ready("default", Priority.NORMAL), "workers", "w1", 0, [stray], idle=LEASE_OVER, justid=True
    )

    assert await reclaim(store_broker) == Reclaimed()

    state = await dump()
    assert state["ready:default:normal"] == {"entries": [B], "pending": {"w1": [B]}, "groups": ["workers"]}
    if tombstone == "elsewhere":
        assert state["ready:default:high"]["pending"] == {"w1": [A]}
    if tombstone == "overwritten":
        await wipe(store_broker)


async def test_a_gap_between_two_calls_holds_reclaiming_for_a_lease(store_broker: Broker, dump: Dump) -> None:
    """An outage must not look like a hundred dead workers: after a gap of over a third of a lease nothing is
    reclaimed for one lease; then it is.
    """
    await start(store_broker, new("a"))
    await age(store_broker, A, LEASE_OVER)
    await reclaim(store_broker, "empty")
    now = await now_ms(store_broker)
    pulse = store_broker.shard(0).pulse()
    await store_broker.redis.hset(pulse, "seen", now - store_broker.lease_ms // 3 - 1_000)
    state = await dump()

    held = await reclaim(store_broker)

    assert store_broker.lease_ms - 5_000 < held.held_ms <= store_broker.lease_ms
    assert held == Reclaimed(held_ms=held.held_ms)
    assert await dump() == state | {"pulse": {"seen": TIME, "hold": TIME}}
    again = await reclaim(store_broker)
    assert 0 < again.held_ms <= held.held_ms, "a second call must not prolong the hold"
    await store_broker.redis.hset(pulse, "hold", await now_ms(store_broker) - 1)
    assert await reclaim(store_broker) == Reclaimed(requeued=1)


async def test_calls_at_their_pace_hold_nothing(store_broker: Broker) -> None:
    """A gap of less than a third of a lease is no outage."""
    await start(store_broker, new("a"))
    await age(store_broker, A, LEASE_OVER)
    seen = await now_ms(store_broker) - store_broker.lease_ms // 3 + 2_000
    await store_broker.redis.hset(store_broker.shard(0).pulse(), "seen", seen)

    assert await reclaim(store_broker) == Reclaimed(requeued=1)


async def test_a_real_outage_reclaims_nothing(
    own_valkey: Callable[..., Store], namespace: str, eventually: Eventually
) -> None:
    """20 jobs run, the store dies and comes back after more than a lease: all leases are over, none is reclaimed, and
    every worker that renews in time keeps its job. Afterwards a job that nobody renews is reclaimed.
    """
    store = own_valkey("--appendfsync", "always")
    async with Broker(url=store.url, namespace=namespace, lease_ms=900) as broker:
        names = [f"n{n}" for n in range(20)]
        await start(broker, *(new(name) for name in names))
        assert (await reclaim(broker)).held_ms == 0
        died = asyncio.get_running_loop().time()
        store.kill()
        await eventually(lambda: asyncio.get_running_loop().time() - died > 1.0)
        store.start_again()

        first = await eventually(lambda: _answered(broker))
        assert first.held_ms > 0
        held = [Held(job_id=ident(name), token="t1") for name in names[1:]]
        assert await broker.renew(worker=WORKER, held=held) == [True] * 19

        async def reclaimed() -> bool:
            await broker.renew(worker=WORKER, held=held)
            done = await reclaim(broker)
            assert done.held_ms == 0
            assert done == Reclaimed(requeued=1)
            return True

        await eventually(reclaimed, within=10)
        states = [(await broker.get(ident(name))).state for name in names]
        assert states == [State.QUEUED] + [State.PROCESSING] * 19
        await audit(broker)


async def _answered(broker: Broker) -> Reclaimed | None:
    try:
        return await reclaim(broker)
    except StoreUnavailable:
        return None


@pytest.mark.parametrize("key", ["pulse", *QUEUE_KEYS])
async def test_a_key_of_the_wrong_type_stops_it_before_its_first_write(store_broker: Broker, key: str) -> None:
    """Law 1: a wrong key of the last queue stops the call before it has reclaimed anything of the first."""
    await start(store_broker, new("a", queue="other"), new("b"))
    await age(store_broker, A, LEASE_OVER, queue="other")
    await age(store_broker, B, LEASE_OVER)

    await assert_stopped_by(store_broker, key, lambda: reclaim(store_broker, "other", "default"))


async def test_a_group_that_was_destroyed_is_made_again(store_broker: Broker, dump: Dump) -> None:
    """NOGROUP is repaired: a job whose worker died before the group did comes back, by a claim and a lease."""
    await start(store_broker, new("a"))
    await store_broker.redis.xgroup_destroy(store_broker.shard(0).ready("default", Priority.NORMAL), "workers")

    assert await reclaim(store_broker) == Reclaimed()

    assert ids(await claim(store_broker, worker="w2", token="t2")) == []
    await age(store_broker, A, LEASE_OVER)
    assert await reclaim(store_broker) == Reclaimed(requeued=1)
    assert (await dump())["ready:default:high"]["entries"] == [A]


async def test_a_reclaimed_job_that_has_expired_is_not_started_again(store_broker: Broker) -> None:
    """A job that comes back after its expire_time is a dead letter, at the next claim."""
    await start(store_broker, new("a", expire_time_ms=await now_ms(store_broker) + MINUTE))
    await make_expired(store_broker, A)
    await lose(store_broker, A)

    assert ids(await claim(store_broker)) == []
    job = await store_broker.get(A)
    assert (job.state, job.history[-1].reason) == (State.FAILED, "EXPIRED")
