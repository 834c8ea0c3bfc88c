"""delete.lua: Broker.delete, and Broker.purge_dead_letters."""

import pytest

from broker.hearing import Hearing
from broker.moves import BOOM, QUEUE_KEYS, assert_stopped_by, claim, finish, ids, now_ms, start
from broker.state import A, B, C, Dump, counted, known, new, streams
from headrace_broker import (
    Broker,
    DeadLetterFilter,
    Enqueued,
    Failed,
    JobNotFound,
    Letter,
    Outcome,
    Retried,
    State,
    Succeeded,
    WrongState,
)
from headrace_broker.job import HOUR

OUTCOMES: dict[State, Outcome] = {
    State.SUCCEEDED: Succeeded(),
    State.FAILED: Failed(failure=BOOM),
    State.RETRYING: Retried(delay_ms=HOUR, failure=BOOM),
}


@pytest.mark.parametrize("state", ["SCHEDULED", "QUEUED", "RETRYING", "SUCCEEDED", "FAILED"])
async def test_a_job_is_deleted(store_broker: Broker, dump: Dump, heard: Hearing, state: str) -> None:
    """Of a job that does not run nothing is left, but an entry in its stream that the next claim clears away, and the
    counters of how jobs ended. Watchers are told to look.
    """
    later = await now_ms(store_broker) + 2 * HOUR
    await store_broker.enqueue([new("a", delay_ms=HOUR if state == "SCHEDULED" else 0, expire_time_ms=later)])
    if State(state) in OUTCOMES:
        await claim(store_broker)
        await finish(store_broker, A, OUTCOMES[State(state)])
    counters = (await dump())["queue:default"]
    await heard.of(A)

    await store_broker.delete(A)

    left = streams(normal=[A]) if state == "QUEUED" else streams()
    live = {state: "0"} if state in {"SCHEDULED", "QUEUED", "RETRYING"} else {}
    assert await dump() == {**known(), **left, "queue:default": counters | live}
    version = {"SCHEDULED": 1, "QUEUED": 1}.get(state, 3)
    assert await heard.events(A) == [f"{version} DELETED {int(version > 1)} - -"]
    with pytest.raises(JobNotFound):
        await store_broker.delete(A)
    assert ids(await claim(store_broker)) == []
    assert (await dump())["ready:default:normal"]["entries"] == []


async def test_a_job_that_runs_is_not_deleted(store_broker: Broker, dump: Dump) -> None:
    """It has to be cancelled first."""
    await start(store_broker, new("a"))
    state = await dump()

    with pytest.raises(WrongState) as caught:
        await store_broker.delete(A)

    assert (caught.value.state, caught.value.verb) == ("PROCESSING", "deleted")
    assert await dump() == state


async def test_its_request_makes_a_new_job_then(store_broker: Broker, dump: Dump) -> None:
    """The same request_id is a new job, that runs once; what the deleted one left in its stream does not count."""
    await store_broker.enqueue([new("a"), new("b")])
    await store_broker.delete(A)

    (answer,) = await store_broker.enqueue([new("a")])

    assert isinstance(answer, Enqueued)
    assert not answer.deduplicated
    assert (await dump())["ready:default:normal"]["entries"] == [A, B, A]
    assert ids(await claim(store_broker, 5)) == [B, A]
    assert (await dump())["ready:default:normal"]["entries"] == [B, A]


async def test_what_is_not_there(store_broker: Broker, dump: Dump) -> None:
    """It is not found, and nothing is written."""
    for job in (A, "x"):
        with pytest.raises(JobNotFound):
            await store_broker.delete(job)
    assert await dump() == {}


async def test_dead_letters_are_purged(store_broker: Broker, dump: Dump) -> None:
    """Those that match are deleted with their records, or only counted without `force`; others stay."""
    await start(store_broker, new("a"), new("b", type="other"), new("c"))
    for job in (A, B, C):
        await finish(store_broker, job, Failed(failure=BOOM))
    where = DeadLetterFilter(type="t")
    state = await dump()

    assert (await store_broker.purge_dead_letters(where=where)).done == 2
    assert await dump() == state
    swept = await store_broker.purge_dead_letters(where=where, force=True)

    assert (swept.done, swept.scanned, swept.next_page_token) == (2, 3, "")
    assert await dump() == {
        **known(),
        **counted(QUEUED=0, PROCESSING=0, FAILED=3),
        **streams(),
        "dead:default": [B],
        f"job:{B}": state[f"job:{B}"],
    }
    assert (await store_broker.purge_dead_letters(where=where, force=True)).done == 0
    assert (await store_broker.purge_dead_letters(job_ids=[A, B], force=True)).skipped == (A,)


async def test_a_letter_that_is_at_work_again_is_not_purged(store_broker: Broker) -> None:
    """A letter is deleted only in the version in which it was seen."""
    await start(store_broker, new("a"), new("b"))
    for job in (A, B):
        await finish(store_broker, job, Failed(failure=BOOM))
    seen = [Letter(job_id=job, version=3) for job in (A, B)]
    await store_broker.requeue(seen[:1])

    assert await store_broker.delete_letters(seen) == [False, True]

    assert (await store_broker.get(A)).state is State.QUEUED


@pytest.mark.parametrize("key", QUEUE_KEYS)
async def test_a_key_of_the_wrong_type_stops_it_before_its_first_write(store_broker: Broker, key: str) -> None:
    """Law 1: a wrong key of the last job's queue stops the call before it has deleted the first."""
    await start(store_broker, new("a", queue="other"), new("b"))
    for job in (A, B):
        await finish(store_broker, job, Failed(failure=BOOM))
    letters = [Letter(job_id=job, version=3) for job in (A, B)]

    await assert_stopped_by(store_broker, key, lambda: store_broker.delete_letters(letters))
