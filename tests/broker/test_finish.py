"""finish.lua and Broker.finish."""

import asyncio
from typing import Any

import pytest
from redis.exceptions import ResponseError

from broker.hearing import Hearing
from broker.moves import BOOM, QUEUE_KEYS, assert_stopped_by, claim, corrupt, finish, ids, lose, make_due, now_ms, start
from broker.outcomes import EVENTS, OUTCOMES
from broker.state import A, B, C, Dump, claimed, counted, ident, known, new, record, streams, wipe
from broker.sweep import sweep
from headrace_broker import (
    Broker,
    Failed,
    Failure,
    Finish,
    Finished,
    Priority,
    Released,
    Retried,
    Snoozed,
    State,
    Succeeded,
)
from headrace_broker._job_control import DETAIL
from headrace_broker.broker import FINISH_BATCH
from headrace_broker.job import DAY, HOUR, MINUTE
from headrace_broker.scripts import load


@pytest.mark.parametrize("name", OUTCOMES)
async def test_an_outcome_is_written(store_broker: Broker, dump: Dump, heard: Hearing, name: str) -> None:
    """Each outcome moves the job to its state, takes its entry out of the stream, and is published once. Written
    again, it is reported as written, and nothing changes (law 3).
    """
    outcome, expected = OUTCOMES[name]
    await start(store_broker, new("a"))
    assert await dump() == {
        **known(),
        **counted(QUEUED=0, PROCESSING=1),
        **streams(normal=[A], pending={"normal": {"w1": [A]}}),
        f"job:{A}": record("PROCESSING", "q", "p 1 - w1", **claimed()),
    }
    await heard.of(A)

    assert await finish(store_broker, A, outcome) is Finished.WRITTEN
    assert await dump() == {**known(), **expected}

    assert await finish(store_broker, A, outcome) is Finished.WRITTEN
    assert await dump() == {**known(), **expected}
    assert await heard.events(A) == [EVENTS[name]]
    assert await heard.decoded(A) == list((await store_broker.get(A)).history)[2:]


@pytest.mark.parametrize("name", OUTCOMES)
@pytest.mark.parametrize("token", ["", "t0", "t1x"])
async def test_a_stale_token_changes_nothing(store_broker: Broker, dump: Dump, name: str, token: str) -> None:
    """Law 4: an outcome under another token than the current claim's is STALE, and changes nothing."""
    await start(store_broker, new("a"))
    state = await dump()

    assert await finish(store_broker, A, OUTCOMES[name][0], token=token) is Finished.STALE
    assert await dump() == state


async def test_the_outcome_of_an_unknown_job_is_stale(store_broker: Broker, dump: Dump) -> None:
    """An outcome for a job that is not there, or that was never claimed, is STALE and leaves nothing behind."""
    await store_broker.enqueue([new("b")])
    state = await dump()

    assert await finish(store_broker, A, Succeeded()) is Finished.STALE
    assert await finish(store_broker, B, Succeeded(), token="") is Finished.STALE
    assert await dump() == state


async def test_a_late_outcome_never_overwrites_a_newer_one(store_broker: Broker, dump: Dump) -> None:
    """Regression: the state never goes backwards. A worker that lost its lease writes nothing, whether the job waits
    again, runs elsewhere or has ended there.
    """
    await start(store_broker, new("a"))
    await lose(store_broker, A)
    for step in ("waits", "runs", "ended"):
        if step == "runs":
            assert ids(await claim(store_broker, worker="w2", token="t2")) == [A]
        elif step == "ended":
            assert await finish(store_broker, A, Succeeded(result=b"2"), token="t2") is Finished.WRITTEN
        state = await dump()
        for outcome, _ in OUTCOMES.values():
            assert await finish(store_broker, A, outcome) is Finished.STALE
            assert await dump() == state
    job = await store_broker.get(A)
    assert (job.state, job.result) == (State.SUCCEEDED, b"2")
    assert [step.version for step in job.history] == [1, 2, 3, 4, 5]


async def test_the_first_outcome_of_a_claim_counts(store_broker: Broker, dump: Dump) -> None:
    """A second outcome under the same token, whatever it is, changes nothing; also within one call."""
    await start(store_broker, new("a"))

    answers = await store_broker.finish(
        [
            Finish(job_id=A, token="t1", outcome=Succeeded(result=b"1")),
            Finish(job_id=A, token="t1", outcome=Failed(failure=BOOM)),
        ]
    )
    state = await dump()

    assert answers == [Finished.WRITTEN, Finished.WRITTEN]
    for outcome, _ in OUTCOMES.values():
        assert await finish(store_broker, A, outcome) is Finished.WRITTEN
        assert await dump() == state
    assert (await store_broker.get(A)).result == b"1"


async def test_an_old_outcome_does_not_end_the_next_attempt(store_broker: Broker, dump: Dump) -> None:
    """A finish that is repeated late, when its job already runs again, is STALE."""
    await start(store_broker, new("a"))
    await finish(store_broker, A, Retried(delay_ms=HOUR, failure=BOOM))
    await make_due(store_broker, A)
    await store_broker.promote(shard=0, queues=["default"])
    assert await finish(store_broker, A, Succeeded()) is Finished.WRITTEN  # the retry was written, as asked
    assert (await store_broker.get(A)).state is State.QUEUED
    await claim(store_broker, token="t2")
    state = await dump()

    assert await finish(store_broker, A, Succeeded()) is Finished.STALE
    assert await dump() == state


async def test_every_answer_stands_in_its_place(store_broker: Broker) -> None:
    """A call with outcomes of all kinds, good and stale, answers each in order, over several batches."""
    count = 2 * FINISH_BATCH + 50
    await store_broker.enqueue([new(f"n{n}") for n in range(count)])
    while (await claim(store_broker, count)).more:
        continue
    kinds = [outcome for outcome, _ in OUTCOMES.values()]

    answers = await store_broker.finish(
        [
            Finish(job_id=ident(f"n{n}"), token="t1" if n % 3 else "stale", outcome=kinds[n % len(kinds)])
            for n in range(count)
        ]
    )

    assert answers == [Finished.WRITTEN if n % 3 else Finished.STALE for n in range(count)]


async def test_finished_entries_leave_the_stream(store_broker: Broker) -> None:
    """Regression: after 500 jobs have ended, every stream is empty: no entry, nothing pending."""
    names = [f"n{n}" for n in range(500)]
    await store_broker.enqueue([new(name, priority=list(Priority)[n % 3]) for n, name in enumerate(names)])
    await claim(store_broker, 500)

    await store_broker.finish([Finish(job_id=ident(name), token="t1", outcome=Succeeded()) for name in names])

    for priority in Priority:
        key = store_broker.shard(0).ready("default", priority)
        assert await store_broker.redis.xlen(key) == 0
        assert (await store_broker.redis.xpending(key, "workers"))["pending"] == 0


async def test_a_released_job_is_next(store_broker: Broker) -> None:
    """A job that is given back goes to the front, its attempt not counted."""
    await store_broker.enqueue([new("a"), new("b"), new("c")])
    await claim(store_broker, 2)
    await finish(store_broker, B, Released())

    [job] = (await claim(store_broker, token="t2")).jobs

    assert (job.job_id, job.attempt) == (B, 1)


async def test_times_come_from_the_store(store_broker: Broker) -> None:
    """A retry is due, and a record expires, after its delay by the clock of the store."""
    await start(store_broker, new("a"), new("b", retention_ms=HOUR))
    before = await now_ms(store_broker)
    await finish(store_broker, A, Retried(delay_ms=HOUR, failure=BOOM))
    await finish(store_broker, B, Succeeded())
    after = await now_ms(store_broker)

    assert before + HOUR <= ((await store_broker.get(A)).due_time_ms or 0) <= after + HOUR
    assert HOUR - MINUTE < await store_broker.redis.pttl(store_broker.shard(0).job(B)) <= HOUR


@pytest.mark.parametrize("retention_ms", [0, 1])
async def test_a_record_without_retention_goes_at_once(
    store_broker: Broker, dump: Dump, eventually: Any, retention_ms: int
) -> None:
    """A job that asks for no retention leaves nothing behind but its count."""
    await start(store_broker, new("a", retention_ms=retention_ms))
    await finish(store_broker, A, Succeeded())

    async def gone() -> bool:
        return not await store_broker.redis.exists(store_broker.shard(0).job(A))

    await eventually(gone)
    assert await dump() == {**known(), **counted(QUEUED=0, PROCESSING=0, SUCCEEDED=1), **streams()}


async def test_an_ended_job_no_longer_expires(store_broker: Broker, dump: Dump) -> None:
    """The expire_time of a job that has ended is forgotten; one of a job that will run again is kept."""
    expire_time_ms = await now_ms(store_broker) + DAY
    await start(store_broker, *(new(name, expire_time_ms=expire_time_ms) for name in "abc"))

    await finish(store_broker, A, Succeeded())
    await finish(store_broker, B, Failed(failure=BOOM))
    await finish(store_broker, C, Retried(delay_ms=HOUR, failure=BOOM))

    assert (await dump())["expiring:default"] == [C]


async def test_the_detail_in_the_history_is_bounded(store_broker: Broker) -> None:
    """The history keeps the first 200 characters of an error; the record's error is whole."""
    await start(store_broker, new("a"))
    await finish(store_broker, A, Failed(failure=Failure(reason="HANDLER_ERROR", message="é" * 5_000)))

    job = await store_broker.get(A)
    assert job.history[-1].detail == "é" * DETAIL
    assert job.failure is not None
    assert job.failure.message == "é" * 5_000


async def test_the_history_is_bounded(store_broker: Broker) -> None:
    """A record remembers its last 500 transitions, and numbers them right."""
    await start(store_broker, new("a"))
    for number in range(1, 260):
        await finish(store_broker, A, Released(), token=f"t{number}")
        await claim(store_broker, token=f"t{number + 1}")

    job = await store_broker.get(A)
    assert job.version == 520
    assert [step.version for step in job.history] == list(range(21, 521))
    assert [step.state for step in job.history[-2:]] == [State.QUEUED, State.PROCESSING]


@pytest.mark.parametrize("key", QUEUE_KEYS)
async def test_no_ack_when_the_write_fails(store_broker: Broker, key: str) -> None:
    """Law 1, regression: where the schedule, the dead letters or any other key of the last queue is broken, the whole
    call fails and nothing at all has changed: no job of it is acknowledged, all are still PROCESSING.
    """
    await start(store_broker, new("a", queue="other"), new("b"), new("c"))
    finishes = [
        Finish(job_id=A, token="t1", outcome=Succeeded()),
        Finish(job_id=B, token="t1", outcome=Retried(delay_ms=1, failure=BOOM)),
        Finish(job_id=C, token="t1", outcome=Failed(failure=BOOM)),
    ]

    await assert_stopped_by(store_broker, key, lambda: store_broker.finish(finishes))


@pytest.mark.parametrize("kind", ["retried", "snoozed", "unheard of"])
async def test_no_ack_of_what_cannot_be_written(store_broker: Broker, dump: Dump, kind: str) -> None:
    """The write comes before the acknowledgement: where it cannot be made, the job is still PROCESSING, its entry is
    still pending, and the same claim may finish it.
    """
    await start(store_broker, new("a"))
    state = await dump()
    script, key = load("finish"), store_broker.shard(0).queues()

    with pytest.raises(ResponseError):
        await script(store_broker.redis, key, A, "t1", kind, "", "", "no number", "{}")

    assert await dump() == state
    assert await finish(store_broker, A, Succeeded()) is Finished.WRITTEN


async def test_a_broken_record_harms_no_other(store_broker: Broker) -> None:
    """The outcome of a job whose record was overwritten is STALE; the others of the call are written."""
    await start(store_broker, new("a"), new("b"))
    await corrupt(store_broker, f"job:{A}")

    answers = await store_broker.finish([Finish(job_id=job, token="t1", outcome=Succeeded()) for job in (A, B)])

    assert answers == [Finished.STALE, Finished.WRITTEN]
    await wipe(store_broker)


async def test_one_of_many_racing_outcomes_is_written(store_broker: Broker, heard: Hearing) -> None:
    """Of 30 outcomes of as many would-be owners at once, the current owner's counts, and one event is published."""
    await start(store_broker, new("a"))
    await heard.of(A)

    answers = await asyncio.gather(*(finish(store_broker, A, Succeeded(), token=f"t{n}") for n in range(30)))

    assert [n for n, answer in enumerate(answers) if answer is Finished.WRITTEN] == [1]
    assert await heard.events(A) == ["3 SUCCEEDED 1 - -"]


async def test_a_group_that_was_destroyed_does_not_matter(store_broker: Broker, dump: Dump) -> None:
    """An outcome is written, and its entry leaves the stream, even where the group is gone meanwhile."""
    await start(store_broker, new("a"))
    await store_broker.redis.xgroup_destroy(store_broker.shard(0).ready("default", Priority.NORMAL), "workers")

    assert await finish(store_broker, A, Succeeded()) is Finished.WRITTEN

    assert (await dump())["ready:default:normal"] == {"entries": [], "pending": {}, "groups": []}
    assert await sweep(store_broker) == {"missing group": 1}


async def test_promoters_are_rung_for_a_retry_that_comes_first(store_broker: Broker) -> None:
    """A retry that is due before everything else on the schedule rings the wake channel."""
    await start(store_broker, new("a"), new("b"))
    pubsub = store_broker.redis.pubsub()
    await pubsub.ssubscribe(store_broker.shard(0).wake())
    assert (await pubsub.get_message(timeout=5))["type"] == "ssubscribe"

    await finish(store_broker, A, Retried(delay_ms=HOUR, failure=BOOM))
    await finish(store_broker, B, Snoozed(delay_ms=2 * HOUR))
    await store_broker.redis.execute_command("SPUBLISH", store_broker.shard(0).wake(), "end")

    assert int((await pubsub.get_message(timeout=5))["data"]) == (await store_broker.get(A)).due_time_ms
    assert (await pubsub.get_message(timeout=5))["data"] == b"end"
    await pubsub.aclose()
