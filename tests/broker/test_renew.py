"""renew.lua and Broker.renew."""

import json
from dataclasses import asdict, replace

import pytest

from broker.hearing import Hearing
from broker.moves import LEASE_OVER, WORKER, age, assert_stopped_by, claim, corrupt, finish, ids, lose, start
from broker.state import TIME, A, B, Dump, ident, new, wipe
from headrace_broker import Broker, Finished, Held, Priority, State, Succeeded
from headrace_broker.job import MINUTE

QUIET = 20_000
"""ms since the latest renewal: long, but within the lease."""


async def renew(broker: Broker, *held: tuple[str, str]) -> list[bool]:
    """Renews in the name of worker w1."""
    return await broker.renew(worker=WORKER, held=[Held(job_id=job, token=token) for job, token in held])


async def idle_ms(broker: Broker, job: str) -> int:
    """Reads how long ago the lease of a job was renewed."""
    key = broker.shard(0).ready("default", Priority.NORMAL)
    for entry, fields in await broker.redis.xrange(key):
        if fields[b"j"].decode() == job:
            [pending] = await broker.redis.xpending_range(key, "workers", entry, entry, 1)
            return int(pending["time_since_delivered"])
    raise AssertionError(f"no entry of {job}")


INFO = {"worker_id": "w1", "queues": ["default"], "concurrency": 2, "host": "h", "pid": 7, "version": "1"}


async def test_a_renewal_renews_leases_and_is_a_heartbeat(store_broker: Broker, dump: Dump, heard: Hearing) -> None:
    """The leases named begin anew, the worker is known to live, and nothing else changes; the same again."""
    await start(store_broker, new("a"), new("b"))
    for job in (A, B):
        await age(store_broker, job, QUIET)
    before = await dump()
    await heard.of(A, B)

    for _ in range(2):
        assert await renew(store_broker, (A, "t1")) == [True]

        assert await idle_ms(store_broker, A) < QUIET <= await idle_ms(store_broker, B)
        assert await dump() == before | {
            "workers": ["w1"],
            "worker:w1": {"info": INFO, "seen": TIME, "ttl": True},
        }
    assert await heard.events(A) == []


async def test_a_heartbeat_needs_no_job(store_broker: Broker, dump: Dump) -> None:
    """A renewal of nothing still says that the worker lives; it is forgotten after ten silent minutes."""
    assert await renew(store_broker) == []

    assert await dump() == {"workers": ["w1"], "worker:w1": {"info": INFO, "seen": TIME, "ttl": True}}
    key = store_broker.shard(0).worker("w1")
    assert 9 * MINUTE < await store_broker.redis.pttl(key) <= 10 * MINUTE
    assert json.loads(await store_broker.redis.hget(key, "info")) == json.loads(json.dumps(asdict(WORKER)))


async def test_a_heartbeat_is_written_over(store_broker: Broker, dump: Dump) -> None:
    """What a worker says of itself is what it said last."""
    await renew(store_broker)
    await store_broker.renew(worker=replace(WORKER, concurrency=9), held=[])

    assert (await dump())["worker:w1"]["info"] == INFO | {"concurrency": 9}


@pytest.mark.parametrize("why", ["stale token", "unknown", "waits", "finished", "reclaimed"])
async def test_a_lost_lease_is_not_renewed(store_broker: Broker, dump: Dump, why: str) -> None:
    """Law 4: where the lease is not the caller's, the answer is False, and nothing is renewed."""
    if why == "waits":
        await store_broker.enqueue([new("a")])
    elif why != "unknown":
        await start(store_broker, new("a"))
    if why == "finished":
        await finish(store_broker, A, Succeeded())
    elif why == "reclaimed":
        await lose(store_broker, A)
        await claim(store_broker, worker="w2", token="t2")
    await renew(store_broker)
    state = await dump()

    assert await renew(store_broker, (A, "t0" if why == "stale token" else "t1")) == [False]

    assert await dump() == state
    if why == "stale token":
        await age(store_broker, A, QUIET)
        assert await renew(store_broker, (A, "t0"), (A, "")) == [False, False]
        assert await idle_ms(store_broker, A) >= QUIET


async def test_answers_stand_in_their_places(store_broker: Broker) -> None:
    """1,200 leases, every third of them lost, are answered in order."""
    names = [f"n{n}" for n in range(1_200)]
    await store_broker.enqueue([new(name) for name in names])
    while (await claim(store_broker, len(names))).more:
        continue

    answers = await renew(store_broker, *((ident(name), "t1" if n % 3 else "t0") for n, name in enumerate(names)))

    assert answers == [bool(n % 3) for n in range(len(names))]


async def test_a_renewed_job_is_not_reclaimed(store_broker: Broker) -> None:
    """A job that runs far longer than its lease keeps it as long as it is renewed."""
    await start(store_broker, new("a"), new("b"))
    await age(store_broker, B, LEASE_OVER)
    for _ in range(3):
        await age(store_broker, A, LEASE_OVER)
        await renew(store_broker, (A, "t1"))
        await store_broker.reclaim(shard=0, queues=["default"])

    assert [(await store_broker.get(job)).state for job in (A, B)] == [State.PROCESSING, State.QUEUED]


async def test_a_zombie_does_not_steal_a_job_back(store_broker: Broker, dump: Dump) -> None:
    """A worker that was stopped past its lease and wakes up renews nothing: the entry stays its new owner's."""
    await start(store_broker, new("a"))
    await lose(store_broker, A)
    await claim(store_broker, worker="w2", token="t2")

    assert await renew(store_broker, (A, "t1")) == [False]

    assert (await dump())["ready:default:high"] == {"entries": [A], "pending": {"w2": [A]}, "groups": ["workers"]}


async def test_a_group_that_was_destroyed_is_made_again(store_broker: Broker) -> None:
    """NOGROUP is repaired: all renewals of the call succeed, and the job is not started a second time."""
    await start(store_broker, new("a"), new("b", priority=Priority.HIGH))
    await store_broker.redis.xgroup_destroy(store_broker.shard(0).ready("default", Priority.NORMAL), "workers")

    assert await renew(store_broker, (A, "t1"), (B, "t1")) == [True, True]

    assert ids(await claim(store_broker, 5, worker="w2", token="t2")) == []
    assert await renew(store_broker, (A, "t1")) == [True]
    assert await finish(store_broker, A, Succeeded()) is Finished.WRITTEN


@pytest.mark.parametrize("key", ["ready:default:normal", "workers", "worker:w1"])
async def test_a_key_of_the_wrong_type_stops_it_before_its_first_write(store_broker: Broker, key: str) -> None:
    """Law 1: a wrong key stops the call before any lease is renewed."""
    await start(store_broker, new("a", queue="other"), new("b"))

    await assert_stopped_by(store_broker, key, lambda: renew(store_broker, (A, "t1"), (B, "t1")))


async def test_a_broken_record_harms_no_other(store_broker: Broker) -> None:
    """The lease of a job whose record was overwritten is lost; the others of the call are renewed."""
    await start(store_broker, new("a"), new("b"))
    await corrupt(store_broker, f"job:{A}")

    assert await renew(store_broker, (A, "t1"), (B, "t1")) == [False, True]
    await wipe(store_broker)
