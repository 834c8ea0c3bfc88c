"""cancel.lua and Broker.cancel; what a request to cancel makes of the end of a running job."""

import asyncio

import pytest

from broker.hearing import Hearing
from broker.moves import BOOM, QUEUE_KEYS, WORKER, assert_stopped_by, claim, finish, ids, lose, now_ms, start
from broker.outcomes import DONE, ERROR, OUTCOMES
from broker.state import GONE, HERE, TIME, A, B, Dump, counted, ident, known, new, record, streams
from headrace_broker import (
    Broker,
    Discarded,
    Failed,
    Finished,
    Held,
    JobNotFound,
    Priority,
    Reclaimed,
    Renewed,
    Retried,
    State,
    Succeeded,
    WrongState,
)
from headrace_broker.job import HOUR, MINUTE

ENDED = {"finished": TIME, "ttl": True}


async def wait_as(broker: Broker, state: str) -> None:
    """Stores job A so that it waits in this state."""
    await broker.enqueue([new("a", delay_ms=HOUR if state == "SCHEDULED" else 0)])
    if state == "RETRYING":
        await claim(broker)
        await finish(broker, A, Retried(delay_ms=HOUR, failure=BOOM))


WAITING = {
    "SCHEDULED": (streams(), counted(SCHEDULED=0, CANCELLED=1), record("CANCELLED", "s", "c 0 REQUESTED no need"), "2"),
    "QUEUED": (
        streams(normal=[A]), counted(QUEUED=0, CANCELLED=1), record("CANCELLED", "q", "c 0 REQUESTED no need"), "2",
    ),
    "RETRYING": (
        streams(),
        counted(QUEUED=0, PROCESSING=0, RETRYING=0, CANCELLED=1),
        record(
            "CANCELLED", "q", "p 1 - w1", "r 1 HANDLER_ERROR ValueError: boom", "c 1 REQUESTED no need",
            **DONE, error=ERROR, errored=TIME,
        ),
        "4",
    ),
}  # fmt: skip


@pytest.mark.parametrize("state", WAITING)
async def test_a_job_that_waits_is_cancelled_at_once(
    store_broker: Broker, dump: Dump, heard: Hearing, state: str
) -> None:
    """SCHEDULED, QUEUED and RETRYING jobs end CANCELLED, with who asked and why. The same again changes nothing, and a
    claim clears away what a queued one leaves in its stream.
    """
    await wait_as(store_broker, state)
    await heard.of(A)

    job = await store_broker.cancel(A, reason="no\nneed")

    stream, counters, expected, version = WAITING[state]
    attempt = "1" if state == "RETRYING" else "0"
    left = {"entry": f"normal {HERE}"} if state == "QUEUED" else {"due": TIME}
    after = {**known(), **counters, **stream, f"job:{A}": expected | ENDED | {"attempt": attempt} | left}
    assert await dump() == after
    assert (job.state, job.history) == (State.CANCELLED, (await store_broker.get(A)).history)
    assert await store_broker.cancel(A, reason="again") == job
    assert await dump() == after
    assert await heard.events(A) == [f"{version} CANCELLED {attempt} REQUESTED no need"]
    assert ids(await claim(store_broker, 5)) == []
    assert {key: value for key, value in (await dump()).items() if key.startswith("ready:")} == streams()


async def test_a_queued_job_that_is_cancelled_is_passed_over(store_broker: Broker) -> None:
    """The jobs before and behind it are claimed in their order; 600 cancelled ones in a row take two calls."""
    names = [f"n{n}" for n in range(600)]
    await store_broker.enqueue([new("a"), *(new(name) for name in names), new("b")])
    for name in names:
        await store_broker.cancel(ident(name))

    claims = [await claim(store_broker, 5, token=f"t{n}") for n in range(2)]

    assert [ids(one) for one in claims] == [[A], [B]]
    assert [one.more for one in claims] == [True, False]
    key = store_broker.shard(0).ready("default", Priority.NORMAL)
    assert await store_broker.redis.xlen(key) == 2


async def test_of_a_job_that_runs_the_request_is_noted(store_broker: Broker, dump: Dump, heard: Hearing) -> None:
    """A running job goes on: its record says when, by whom and why its end was asked for. Only the first request
    counts. Its worker is told at once, at each request, and at each renewal of the lease.
    """
    await start(store_broker, new("a"), new("b"))
    before = await dump()
    await heard.of(A)
    listener = store_broker.redis.pubsub()
    await listener.ssubscribe(store_broker.shard(0).orders("w1"))
    assert (await listener.get_message(timeout=5) or {})["type"] == "ssubscribe"

    job = await store_broker.cancel(A, reason="too, late")

    assert (job.state, job.version) == (State.PROCESSING, 2)
    assert job.cancel_time_ms is not None
    assert abs(job.cancel_time_ms - await now_ms(store_broker)) < MINUTE
    after = await dump()
    noted = after[f"job:{A}"].pop("cancel")
    assert noted == f"{job.cancel_time_ms}|too, late"
    assert after == before
    assert await store_broker.cancel(A, reason="other") == job
    assert await heard.events(A) == []
    for _ in range(2):
        message = await listener.get_message(timeout=5)
        assert message is not None
        assert message["data"] == f"cancel {A}".encode()
    held = [Held(job_id=A, token="t1"), Held(job_id=B, token="t1")]
    assert await store_broker.renew(worker=WORKER, held=held) == [Renewed.CANCELLED, Renewed.KEPT]
    await listener.aclose()


@pytest.mark.parametrize("name", OUTCOMES)
async def test_whatever_ends_a_cancelled_run_but_success_is_cancelled(
    store_broker: Broker, dump: Dump, heard: Hearing, name: str
) -> None:
    """One winner: a job that succeeded first is SUCCEEDED; one that its handler discarded says so; any other end makes
    it CANCELLED, with who asked, and keeps the failure. It waits for nothing, and is no dead letter.
    """
    outcome, expected = OUTCOMES[name]
    await start(store_broker, new("a"))
    await store_broker.cancel(A, reason="no need")
    await heard.of(A)

    assert await finish(store_broker, A, outcome) is Finished.WRITTEN
    assert await finish(store_broker, A, outcome) is Finished.WRITTEN

    state = await dump()
    cancel = state[f"job:{A}"].pop("cancel")
    assert cancel.endswith("|no need")
    if isinstance(outcome, Succeeded | Discarded):
        assert state == {**known(), **expected}
        return
    failed = isinstance(outcome, Failed | Retried)
    assert state == {
        **known(),
        **counted(QUEUED=0, PROCESSING=0, CANCELLED=1),
        **streams(),
        f"job:{A}": record(
            "CANCELLED", "q", "p 1 - w1", "c 1 REQUESTED no need", **DONE, **ENDED,
            **({"error": ERROR, "errored": TIME} if failed else {}),
        ),
    }  # fmt: skip
    assert await heard.events(A) == ["3 CANCELLED 1 REQUESTED no need"]


async def test_a_cancelled_job_whose_worker_dies_does_not_run_again(store_broker: Broker, dump: Dump) -> None:
    """Reclaim makes it CANCELLED, however often it had crashed; its worker, should it wake up, changes nothing."""
    await start(store_broker, new("a"))
    await store_broker.cancel(A)
    await lose(store_broker, A)

    state = await dump()

    assert state[f"job:{A}"]["history"] == ["q", "p 1 - w1", "c 1 REQUESTED"]
    assert state[f"job:{A}"]["entry"] == f"normal {GONE}"
    assert await finish(store_broker, A, Succeeded()) is Finished.STALE
    assert await store_broker.reclaim(shard=0, queues=["default"]) == Reclaimed()
    assert ids(await claim(store_broker)) == []
    assert (await store_broker.get(A)).state is State.CANCELLED


@pytest.mark.parametrize("outcome", [Succeeded(), Failed(failure=BOOM)])
async def test_a_job_that_has_ended_otherwise_stays_as_it_is(
    store_broker: Broker, dump: Dump, outcome: Succeeded | Failed
) -> None:
    """It cannot be cancelled any more, and nothing is changed."""
    await start(store_broker, new("a"))
    await finish(store_broker, A, outcome)
    state = await dump()

    with pytest.raises(WrongState) as caught:
        await store_broker.cancel(A)

    assert (caught.value.job_id, caught.value.state) == (A, (await store_broker.get(A)).state)
    assert await dump() == state


async def test_a_job_that_is_not_there(store_broker: Broker, dump: Dump) -> None:
    """It is not found, and nothing is written; the same for what is no id."""
    for job in (A, "x", ""):
        with pytest.raises(JobNotFound):
            await store_broker.cancel(job)
    assert await dump() == {}


async def test_a_job_that_is_kept_for_no_time_is_told_of_all_the_same(store_broker: Broker) -> None:
    """With a retention of 0 the answer still shows the job."""
    await store_broker.enqueue([new("a", retention_ms=0)])

    assert (await store_broker.cancel(A)).state is State.CANCELLED


async def test_a_job_to_expire_expires_no_more(store_broker: Broker, dump: Dump) -> None:
    """It leaves the list of those that will expire."""
    await store_broker.enqueue([new("a", expire_time_ms=await now_ms(store_broker) + HOUR)])
    await store_broker.cancel(A)

    assert "expiring:default" not in await dump()


async def test_a_long_reason_is_cut(store_broker: Broker) -> None:
    """The history keeps 200 characters of it."""
    await store_broker.enqueue([new("a")])

    job = await store_broker.cancel(A, reason="ü" * 500)

    assert job.history[-1].detail == "ü" * 200


async def test_of_many_requests_at_once_one_counts(store_broker: Broker) -> None:
    """20 cancels of one job at once make one transition."""
    await store_broker.enqueue([new("a")])

    jobs = await asyncio.gather(*(store_broker.cancel(A, reason=f"r{n}") for n in range(20)))

    assert len({job.history for job in jobs}) == 1
    assert jobs[0].version == 2


@pytest.mark.parametrize("key", QUEUE_KEYS)
async def test_a_key_of_the_wrong_type_stops_it_before_its_first_write(store_broker: Broker, key: str) -> None:
    """Law 1: a wrong key of its queue stops the call before it has changed anything."""
    await store_broker.enqueue([new("a", delay_ms=HOUR)])

    await assert_stopped_by(store_broker, key, lambda: store_broker.cancel(A))
