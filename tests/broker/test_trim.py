"""trim.lua and Broker.trim."""

import pytest

from broker.hearing import Hearing
from broker.moves import BOOM, assert_stopped_by, corrupt, now_ms, start
from broker.state import A, B, Dump, all_keys, ident, new, wipe
from headrace_broker import Broker, Enqueued, Failed, Finish, JobNotFound, State
from headrace_broker.broker import DUTY_BATCH
from headrace_broker.job import DAY, MINUTE


async def trim(broker: Broker, *queues: str) -> int:
    """Trims dead letters older than a day, in the default queue or in those named."""
    return await broker.trim(shard=0, queues=queues or ("default",), retention_ms=DAY)


async def fail(broker: Broker, *names: str, queue: str = "default", age_ms: int = 0) -> None:
    """Makes dead letters of that age."""
    await start(broker, *(new(name, queue=queue) for name in names))
    await broker.finish([Finish(job_id=ident(name), token="t1", outcome=Failed(failure=BOOM)) for name in names])
    failed = await now_ms(broker) - age_ms
    await broker.redis.zadd(broker.shard(0).dead(queue), {ident(name): failed for name in names}, xx=True)


async def test_old_dead_letters_are_deleted(store_broker: Broker, dump: Dump, heard: Hearing) -> None:
    """Dead letters past the retention go, records and all; younger ones stay. The same call again: nothing."""
    await fail(store_broker, "a", age_ms=DAY + MINUTE)
    await fail(store_broker, "b", age_ms=0)
    before = await dump()
    await heard.of(A, B)

    assert await trim(store_broker) == 1

    expected = {key: value for key, value in before.items() if key != f"job:{A}"} | {"dead:default": [B]}
    assert await dump() == expected
    assert await trim(store_broker) == 0
    assert await dump() == expected
    assert await heard.events(A) == []
    assert expected["queue:default"]["FAILED"] == "2", "the counter says how many ever failed"
    with pytest.raises(JobNotFound):
        await store_broker.get(A)


async def test_a_trimmed_request_is_forgotten(store_broker: Broker) -> None:
    """The record is the deduplication: once it is trimmed, its request_id makes a new job."""
    await fail(store_broker, "a", age_ms=DAY + MINUTE)
    [before] = await store_broker.enqueue([new("a")])
    await trim(store_broker)

    [after] = await store_broker.enqueue([new("a")])

    assert isinstance(before, Enqueued)
    assert isinstance(after, Enqueued)
    assert (before.deduplicated, after.deduplicated) == (True, False)
    assert after.state is State.QUEUED


async def test_only_failed_records_are_deleted(store_broker: Broker, dump: Dump) -> None:
    """A stray dead letter of a job that is not FAILED is cleared; the job stays."""
    await store_broker.enqueue([new("a")])
    state = await dump()
    await store_broker.redis.zadd(store_broker.shard(0).dead("default"), {A: 1})

    assert await trim(store_broker) == 1

    assert await dump() == state


async def test_the_bound_holds_over_all_queues_together(store_broker: Broker) -> None:
    """One call deletes 200 dead letters at the most; the next one goes on."""
    for queue in ("x", "y"):
        await fail(store_broker, *(f"{queue}{n}" for n in range(150)), queue=queue, age_ms=2 * DAY)

    assert [await trim(store_broker, "x", "y") for _ in range(3)] == [DUTY_BATCH, 300 - DUTY_BATCH, 0]
    assert [key for key in await all_keys(store_broker) if "job:" in key or "dead:" in key] == []


@pytest.mark.parametrize("tombstone", ["deleted", "overwritten"])
async def test_tombstones_are_cleared(store_broker: Broker, dump: Dump, tombstone: str) -> None:
    """A dead letter whose record is gone, or is no record, leaves the list and keeps nobody from being trimmed."""
    await fail(store_broker, "a", "b", age_ms=2 * DAY)
    if tombstone == "deleted":
        await store_broker.redis.delete(store_broker.shard(0).job(A))
    else:
        await corrupt(store_broker, f"job:{A}")

    assert await trim(store_broker) == 2

    state = await dump()
    assert "dead:default" not in state
    assert f"job:{B}" not in state
    if tombstone == "overwritten":
        await wipe(store_broker)


async def test_a_key_of_the_wrong_type_stops_it_before_its_first_write(store_broker: Broker) -> None:
    """Law 1: a wrong key of the last queue stops the call before it has deleted anything of the first."""
    await fail(store_broker, "a", queue="other", age_ms=2 * DAY)
    await fail(store_broker, "b", age_ms=2 * DAY)

    await assert_stopped_by(store_broker, "dead:default", lambda: trim(store_broker, "other", "default"))
