"""expire.lua and Broker.expire."""

import pytest

from broker.hearing import Hearing
from broker.moves import BOOM, QUEUE_KEYS, assert_stopped_by, claim, corrupt, finish, ids, make_expired, now_ms, start
from broker.state import HERE, TIME, A, B, C, Dump, counted, ident, known, new, record, streams, wipe
from headrace_broker import Broker, Finished, NewJob, Outcome, Released, Retried, Snoozed, State, Succeeded
from headrace_broker.broker import DUTY_BATCH
from headrace_broker.job import HOUR


async def expire(broker: Broker, *queues: str) -> int:
    """Expires in the default queue, or in those named."""
    return await broker.expire(shard=0, queues=queues or ("default",))


async def short_lived(broker: Broker, name: str, **spec: object) -> NewJob:
    """Returns a request for a job that will expire."""
    return new(name, **({"expire_time_ms": await now_ms(broker) + HOUR} | spec))


async def test_waiting_jobs_that_never_started_expire(store_broker: Broker, dump: Dump, heard: Hearing) -> None:
    """SCHEDULED and QUEUED jobs whose expire_time has passed end EXPIRED; the entry of a queued one stays for the
    next claim to clear. Jobs whose time has not come are left alone. The same call again changes nothing.
    """
    await store_broker.enqueue([await short_lived(store_broker, name) for name in "ac"])
    await store_broker.enqueue([await short_lived(store_broker, "b", delay_ms=2 * HOUR)])
    await make_expired(store_broker, A, B)
    await heard.of(A, B, C)

    assert await expire(store_broker) == 2

    state = await dump()
    gone = {"finished": TIME, "attempt": "0", "ttl": True}
    for job, expected in (
        (A, record("EXPIRED", "q", "x", entry=f"normal {HERE}", **gone)),
        (B, record("EXPIRED", "s", "x", due=TIME, **gone)),
        (C, record("QUEUED", "q", expires=TIME)),
    ):
        found = state[f"job:{job}"]
        assert found == expected | {"expires": found["expires"]}
    assert {key: value for key, value in state.items() if not key.startswith("job:")} == {
        **known(),
        **counted(QUEUED=1, SCHEDULED=0, EXPIRED=2),
        **streams(normal=[A, C]),
        "expiring:default": [C],
    }
    assert await expire(store_broker) == 0
    assert await dump() == state
    assert await heard.events(A) == ["2 EXPIRED 0 - -"]
    assert await heard.events(B) == ["2 EXPIRED 0 - -"]
    assert await heard.events(C) == []
    assert ids(await claim(store_broker, 5)) == [C]


async def test_waiting_jobs_that_had_started_fail(store_broker: Broker, dump: Dump, heard: Hearing) -> None:
    """RETRYING and given-back jobs whose expire_time has passed are dead letters with reason EXPIRED."""
    await start(store_broker, *[await short_lived(store_broker, name) for name in "ab"])
    await finish(store_broker, A, Retried(delay_ms=HOUR, failure=BOOM))
    await finish(store_broker, B, Released())
    await make_expired(store_broker, A, B)
    await heard.of(A, B)

    assert await expire(store_broker) == 2

    state = await dump()
    assert state["dead:default"] == sorted([A, B])
    assert state["queue:default"] == {"QUEUED": "0", "PROCESSING": "0", "RETRYING": "0", "FAILED": "2"}
    assert "due:default" not in state
    assert "expiring:default" not in state
    assert await heard.events(A) == ["4 FAILED 1 EXPIRED -"]
    assert await heard.events(B) == ["4 FAILED 0 EXPIRED -"]
    assert (await store_broker.get(A)).failure is not None, "the error of its latest attempt is kept"


@pytest.mark.parametrize("outcome", [Retried(delay_ms=HOUR, failure=BOOM), Snoozed(delay_ms=HOUR), Released()])
async def test_a_job_that_comes_back_to_wait_after_its_time_fails_soon(store_broker: Broker, outcome: Outcome) -> None:
    """A job whose expire_time passed while it ran, and that waits again, fails at the next look, not when it is due."""
    await start(store_broker, await short_lived(store_broker, "a"))
    await make_expired(store_broker, A)
    await expire(store_broker)
    await finish(store_broker, A, outcome)

    assert await expire(store_broker) == 1

    job = await store_broker.get(A)
    assert (job.state, job.history[-1].reason) == (State.FAILED, "EXPIRED")


async def test_a_running_job_is_left_alone(store_broker: Broker, dump: Dump) -> None:
    """A job that runs beyond its expire_time may finish."""
    await start(store_broker, await short_lived(store_broker, "a"))
    await make_expired(store_broker, A)

    assert await expire(store_broker) == 1

    assert (await dump())[f"job:{A}"]["state"] == "PROCESSING"
    assert await expire(store_broker) == 0
    assert await finish(store_broker, A, Succeeded()) is Finished.WRITTEN
    assert (await store_broker.get(A)).state is State.SUCCEEDED


async def test_the_bound_holds_over_all_queues_together(store_broker: Broker) -> None:
    """One call ends 200 jobs at the most; the next one goes on."""
    for queue in ("x", "y"):
        names = [f"{queue}{n}" for n in range(150)]
        await store_broker.enqueue([await short_lived(store_broker, name, queue=queue) for name in names])
        await make_expired(store_broker, *(ident(name) for name in names), queue=queue)

    assert [await expire(store_broker, "x", "y") for _ in range(3)] == [DUTY_BATCH, 300 - DUTY_BATCH, 0]


@pytest.mark.parametrize("tombstone", ["deleted", "overwritten"])
async def test_tombstones_are_cleared(store_broker: Broker, dump: Dump, tombstone: str) -> None:
    """An expiring job whose record is gone, or is no record, is forgotten and keeps nobody from expiring."""
    await store_broker.enqueue([await short_lived(store_broker, name) for name in "ab"])
    await make_expired(store_broker, A, B)
    if tombstone == "deleted":
        await store_broker.redis.delete(store_broker.shard(0).job(A))
    else:
        await corrupt(store_broker, f"job:{A}")
    await store_broker.redis.hincrby(store_broker.shard(0).queue("default"), "QUEUED", -1)

    assert await expire(store_broker) == 2

    assert "expiring:default" not in await dump()
    assert (await store_broker.get(B)).state is State.EXPIRED
    if tombstone == "overwritten":
        await wipe(store_broker)


@pytest.mark.parametrize("key", QUEUE_KEYS)
async def test_a_key_of_the_wrong_type_stops_it_before_its_first_write(store_broker: Broker, key: str) -> None:
    """Law 1: a wrong key of the last queue stops the call before it has expired anything of the first."""
    await store_broker.enqueue([await short_lived(store_broker, "a", queue="other")])
    await store_broker.enqueue([await short_lived(store_broker, "b")])
    await make_expired(store_broker, A, queue="other")
    await make_expired(store_broker, B)

    await assert_stopped_by(store_broker, key, lambda: expire(store_broker, "other", "default"))
