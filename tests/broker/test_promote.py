"""promote.lua and Broker.promote."""

import asyncio

import pytest

from broker.hearing import Hearing
from broker.moves import (
    BOOM,
    QUEUE_KEYS,
    assert_stopped_by,
    claim,
    corrupt,
    finish,
    ids,
    make_due,
    make_expired,
    now_ms,
    start,
)
from broker.state import TIME, A, B, C, Dump, claimed, counted, ident, known, new, record, streams, wipe
from headrace_broker import Broker, Failed, Priority, Promoted, Retried, State, Succeeded
from headrace_broker.broker import DUTY_BATCH
from headrace_broker.job import HOUR, MINUTE

ALL = ("default",)


async def promote(broker: Broker, *queues: str) -> Promoted:
    """Promotes what is due in the default queue, or in those named."""
    return await broker.promote(shard=0, queues=queues or ALL)


async def due_soon(broker: Broker, *names: str, **spec: object) -> None:
    """Schedules jobs, and makes them due."""
    await broker.enqueue([new(name, **({"delay_ms": HOUR} | spec)) for name in names])
    await make_due(broker, *(ident(name) for name in names), ago_ms=0)


async def test_a_scheduled_job_is_queued_when_it_is_due(store_broker: Broker, dump: Dump, heard: Hearing) -> None:
    """A due job moves from the schedule to its stream, QUEUED; one that is not due stays. Again: nothing changes."""
    await store_broker.enqueue([new("b", delay_ms=MINUTE)])
    await due_soon(store_broker, "a", priority=Priority.LOW)
    await heard.of(A, B)

    promoted = await promote(store_broker)

    expected = {
        **known(),
        **counted(SCHEDULED=1, QUEUED=1),
        **streams(low=[A]),
        "due:default": [B],
        f"job:{A}": record("QUEUED", "s", "q", priority="low", due=TIME, attempt="0"),
        f"job:{B}": record("SCHEDULED", "s", due=TIME),
    }
    assert await dump() == expected
    assert (promoted.moved, promoted.more) == (1, False)
    assert MINUTE - 10_000 < (promoted.next_due_in_ms or 0) <= MINUTE
    assert (await promote(store_broker)).moved == 0
    assert await dump() == expected
    assert await heard.events(A) == ["2 QUEUED 0 - -"]
    assert await heard.events(B) == []
    assert ids(await claim(store_broker, 5)) == [A]


async def test_a_retry_is_queued_when_it_is_due(store_broker: Broker, dump: Dump) -> None:
    """A RETRYING job goes back to its own stream, with its attempts and its latest error."""
    await start(store_broker, new("a"))
    await finish(store_broker, A, Retried(delay_ms=HOUR, failure=BOOM))
    await make_due(store_broker, A, ago_ms=0)

    await promote(store_broker)

    state = await dump()
    assert state.pop(f"job:{A}") == record(
        "QUEUED",
        "q",
        "p 1 - w1",
        "r 1 HANDLER_ERROR ValueError: boom",
        "q 1",
        **claimed(),
        due=TIME,
        errored=TIME,
        error={
            "reason": "HANDLER_ERROR",
            "type": "ValueError",
            "message": "boom",
            "trace": "Traceback",
            "attempt": 1,
        },
    )
    assert state == {**known(), **counted(QUEUED=1, PROCESSING=0, RETRYING=0), **streams(normal=[A])}


async def test_nothing_waits(store_broker: Broker, dump: Dump) -> None:
    """Where nothing is scheduled, a promotion says so and leaves nothing behind."""
    assert await promote(store_broker, "x", "y") == Promoted(moved=0, more=False, next_due_in_ms=None)
    assert await dump() == {}


async def test_the_next_due_time_is_the_earliest_of_all_queues(store_broker: Broker) -> None:
    """A promoter that looks at several queues is told when the first of them needs it again."""
    await store_broker.enqueue(
        [new("a", queue="x", delay_ms=HOUR), new("b", queue="y", delay_ms=MINUTE), new("c", queue="z", delay_ms=HOUR)]
    )

    promoted = await promote(store_broker, "x", "y", "z")

    assert MINUTE - 10_000 < (promoted.next_due_in_ms or 0) <= MINUTE


async def test_jobs_are_queued_in_the_order_they_were_due(store_broker: Broker) -> None:
    """Of several due jobs the one that was due first comes first."""
    await store_broker.enqueue([new(name, delay_ms=HOUR) for name in "abc"])
    for ago_ms, job in ((1, A), (30, B), (20, C)):
        await make_due(store_broker, job, ago_ms=ago_ms)

    await promote(store_broker)

    assert ids(await claim(store_broker, 5)) == [B, C, A]


async def test_two_thousand_jobs_due_at_once_are_promoted_in_one_go(store_broker: Broker) -> None:
    """Regression: 2,000 jobs due at one instant are promoted call after call without a pause, 200 in each."""
    names = [f"n{n}" for n in range(2_000)]
    await store_broker.enqueue([new(name, delay_ms=HOUR) for name in names])
    await make_due(store_broker, *(ident(name) for name in names))

    answers = [await promote(store_broker)]
    while answers[-1].more:
        answers.append(await promote(store_broker))

    assert [answer.moved for answer in answers] == [DUTY_BATCH] * (2_000 // DUTY_BATCH)
    assert answers[-1].next_due_in_ms is None
    assert await store_broker.redis.xlen(store_broker.shard(0).ready("default", Priority.NORMAL)) == 2_000


async def test_two_promoters_never_promote_twice(store_broker: Broker) -> None:
    """Regression: 8 concurrent promoters move 2,000 due jobs, each exactly once."""
    names = [f"n{n}" for n in range(2_000)]
    await store_broker.enqueue([new(name, delay_ms=HOUR) for name in names])
    await make_due(store_broker, *(ident(name) for name in names))

    async def promoter() -> int:
        async with Broker(url=store_broker.url, namespace=store_broker.namespace) as own:
            moved = 0
            while (promoted := await promote(own)).more or promoted.moved:
                moved += promoted.moved
            return moved

    moved = await asyncio.gather(*(promoter() for _ in range(8)))

    assert sum(moved) == 2_000
    assert sum(share > 0 for share in moved) > 1, "only one promoter had anything to do"
    entries = await store_broker.redis.xrange(store_broker.shard(0).ready("default", Priority.NORMAL))
    assert sorted(fields[b"j"].decode() for _, fields in entries) == sorted(ident(name) for name in names)
    assert {(await store_broker.version(ident(name))) for name in names[::50]} == {2}


async def test_the_bound_holds_over_all_queues_together(store_broker: Broker) -> None:
    """One call moves 200 jobs at the most, however many queues it looks at, and says that more are due."""
    for queue in ("x", "y"):
        names = [f"{queue}{n}" for n in range(150)]
        await store_broker.enqueue([new(name, queue=queue, delay_ms=HOUR) for name in names])
        await make_due(store_broker, *(ident(name) for name in names), queue=queue)

    first = await promote(store_broker, "x", "y")
    second = await promote(store_broker, "x", "y")

    assert (first.moved, first.more) == (200, True)
    assert (second.moved, second.more) == (100, False)


async def test_jobs_left_in_a_queue_that_was_not_looked_at_are_not_forgotten(store_broker: Broker) -> None:
    """A call whose bound is used up exactly by the first queue does not say that nothing waits in the second."""
    names = [f"x{n}" for n in range(DUTY_BATCH)]
    await store_broker.enqueue([new(name, queue="x", delay_ms=HOUR) for name in names])
    await make_due(store_broker, *(ident(name) for name in names), queue="x")
    await store_broker.enqueue([new("a", queue="y", delay_ms=HOUR)])
    await make_due(store_broker, A, queue="y")

    first = await promote(store_broker, "x", "y")

    assert first.moved == DUTY_BATCH
    assert first.more or first.next_due_in_ms == 0
    assert (await promote(store_broker, "x", "y")).moved == 1


async def test_an_expired_job_ends_instead(store_broker: Broker, dump: Dump, heard: Hearing) -> None:
    """A due job whose expire_time has passed is EXPIRED where it never started, else a dead letter."""
    expire_time_ms = await now_ms(store_broker) + HOUR
    await start(store_broker, new("b", expire_time_ms=expire_time_ms))
    await finish(store_broker, B, Retried(delay_ms=HOUR, failure=BOOM))
    await store_broker.enqueue([new("a", delay_ms=HOUR, expire_time_ms=expire_time_ms)])
    await make_due(store_broker, A, B)
    await make_expired(store_broker, A, B)
    await heard.of(A, B)

    assert (await promote(store_broker)).moved == 2

    state = await dump()
    assert state[f"job:{A}"]["history"] == ["s", "x"]
    assert state[f"job:{B}"]["history"][-1] == "- 1 EXPIRED"
    assert {k: v for k, v in state.items() if not k.startswith("job:")} == {
        **known(),
        **counted(QUEUED=0, PROCESSING=0, RETRYING=0, SCHEDULED=0, EXPIRED=1, FAILED=1),
        **streams(),
        "dead:default": [B],
    }
    assert await heard.events(A) == ["2 EXPIRED 0 - -"]
    assert await heard.events(B) == ["4 FAILED 1 EXPIRED -"]
    assert [(await store_broker.get(job)).state for job in (A, B)] == [State.EXPIRED, State.FAILED]


@pytest.mark.parametrize("tombstone", ["deleted", "overwritten"])
async def test_tombstones_are_cleared(store_broker: Broker, dump: Dump, tombstone: str) -> None:
    """A scheduled job whose record is gone, or is no record, leaves the schedule and keeps nobody from moving."""
    await due_soon(store_broker, "a", "b")
    if tombstone == "deleted":
        await store_broker.redis.delete(store_broker.shard(0).job(A))
    else:
        await corrupt(store_broker, f"job:{A}")
    await store_broker.redis.hincrby(store_broker.shard(0).queue("default"), "SCHEDULED", -1)

    await promote(store_broker)

    state = await dump()
    assert state["ready:default:normal"]["entries"] == [B]
    assert "due:default" not in state
    assert state["queue:default"] == {"SCHEDULED": "0", "QUEUED": "1"}
    if tombstone == "overwritten":
        await wipe(store_broker)


@pytest.mark.parametrize("state", [State.QUEUED, State.PROCESSING, State.SUCCEEDED, State.FAILED])
async def test_a_job_that_does_not_wait_for_its_time_is_not_moved(
    store_broker: Broker, dump: Dump, state: State
) -> None:
    """A stray place on the schedule, of a job in another state, is cleared; the job stays as it is."""
    await store_broker.enqueue([new("a")])
    if state is not State.QUEUED:
        await claim(store_broker)
    if state.is_terminal:
        await finish(store_broker, A, Succeeded() if state is State.SUCCEEDED else Failed(failure=BOOM))
    before = await dump()
    await store_broker.redis.zadd(store_broker.shard(0).due("default"), {A: 1})

    assert (await promote(store_broker)).moved == 1

    assert await dump() == before


@pytest.mark.parametrize("key", QUEUE_KEYS)
async def test_a_key_of_the_wrong_type_stops_it_before_its_first_write(store_broker: Broker, key: str) -> None:
    """Law 1: a wrong key of the last queue stops the call before it has promoted anything of the first."""
    await store_broker.enqueue([new("a", queue="other", delay_ms=HOUR), new("b", delay_ms=HOUR)])
    await make_due(store_broker, A, queue="other")
    await make_due(store_broker, B)

    await assert_stopped_by(store_broker, key, lambda: promote(store_broker, "other", "default"))


async def test_a_queue_whose_streams_are_gone_gets_new_ones(store_broker: Broker) -> None:
    """A promotion into a stream that was deleted makes it anew, group and all."""
    await due_soon(store_broker, "a")
    await store_broker.redis.delete(store_broker.shard(0).ready("default", Priority.NORMAL))

    await promote(store_broker)

    assert ids(await claim(store_broker, 5)) == [A]
