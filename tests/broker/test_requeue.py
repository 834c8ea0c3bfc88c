"""requeue.lua and Broker.requeue; _sweep.py and Broker.requeue_dead_letters."""

import asyncio
from collections import Counter

import pytest

from broker.audit import audit
from broker.hearing import Hearing
from broker.moves import (
    BOOM,
    QUEUE_KEYS,
    assert_stopped_by,
    claim,
    corrupt,
    finish,
    ids,
    lose,
    make_expired,
    now_ms,
    start,
)
from broker.outcomes import ERROR
from broker.state import HERE, TIME, A, B, C, Dump, counted, ident, known, new, record, streams, wipe
from headrace_broker import (
    BadPageToken,
    Broker,
    DeadLetterFilter,
    Failed,
    Failure,
    Finish,
    Finished,
    Letter,
    Outcome,
    Priority,
    Released,
    State,
    Succeeded,
)
from headrace_broker._sweep import CHUNK, LOOKS
from headrace_broker.job import HOUR, MAX_CRASHES
from headrace_broker.keys import shard_of

ALL = DeadLetterFilter()
DEAD = 3
"""Version of a job that failed at its first attempt."""


async def fail(broker: Broker, *names: str, reason: str = "HANDLER_ERROR", **spec: object) -> None:
    """Makes dead letters of new jobs."""
    failure = Failure(reason=reason, error_type="ValueError", message="boom", stack_trace="Traceback", attempt=1)
    queue = str(spec.get("queue", "default"))
    await broker.enqueue([new(name, **spec) for name in names])
    for shard in range(broker.shards):
        while True:
            jobs = (await broker.claim(shard=shard, worker="w1", queues=[queue], count=200, token="t1")).jobs
            if not jobs:
                break
            await broker.finish(
                [Finish(job_id=job.job_id, token="t1", outcome=Failed(failure=failure)) for job in jobs]
            )


async def test_a_dead_letter_is_put_back_to_work(store_broker: Broker, dump: Dump, heard: Hearing) -> None:
    """FAILED → QUEUED, at the end of the line of its priority, under the same id: the history goes on, attempts and
    crashes begin anew, the latest failure stays. The same again changes nothing.
    """
    await start(store_broker, new("a", priority=Priority.LOW))
    await lose(store_broker, A)
    await claim(store_broker, token="t2")
    await finish(store_broker, A, Failed(failure=BOOM), token="t2")
    await store_broker.enqueue([new("b", priority=Priority.LOW)])
    await heard.of(A)
    letter = Letter(job_id=A, version=5)

    assert await store_broker.requeue([letter]) == [True]

    state = await dump()
    history = ["q", "p 1 - w1", "q 0 LEASE_LOST w1", "p 1 - w1", "- 1 HANDLER_ERROR ValueError: boom", "q 0 REQUEUED"]
    assert state == {
        **known(),
        **counted(QUEUED=2, PROCESSING=0, FAILED=0),
        **streams(low=[B, A]),
        "pulse": {"seen": TIME, "hold": "0"},
        f"job:{A}": record(
            "QUEUED", *history, priority="low", attempt="0", entry=f"low {HERE}", error=ERROR, errored=TIME,
            started=TIME, worker="w1", lease="30000",
        ),
        f"job:{B}": record("QUEUED", "q", priority="low"),
    }  # fmt: skip
    assert await store_broker.requeue([letter, letter]) == [False, False]
    assert await dump() == state
    assert await heard.events(A) == ["6 QUEUED 0 REQUEUED -"]
    assert await finish(store_broker, A, Succeeded(), token="t2") is Finished.STALE
    assert ids(await claim(store_broker, 5)) == [B, A]


async def test_it_has_all_its_attempts_and_crashes_again(store_broker: Broker) -> None:
    """A job that was taken for poison survives as many crashes as before."""
    await start(store_broker, new("a"))
    for n in range(MAX_CRASHES + 1):
        await lose(store_broker, A)
        await store_broker.redis.zadd(store_broker.shard(0).due("default"), {A: 1}, xx=True)
        await store_broker.redis.hset(store_broker.shard(0).job(A), mapping={"due": 1} if n else {"spare": 1})
        await store_broker.promote(shard=0, queues=["default"])
        await claim(store_broker)
    job = await store_broker.get(A)
    assert (job.state, job.history[-1].reason) == (State.FAILED, "CRASH_LOOP")

    await store_broker.requeue([Letter(job_id=A, version=job.version)])
    await claim(store_broker)
    await lose(store_broker, A)

    job = await store_broker.get(A)
    assert (job.state, job.crashes, job.attempt) == (State.QUEUED, 1, 0)


async def test_one_that_had_expired_expires_no_more(store_broker: Broker, dump: Dump) -> None:
    """An expire_time that has passed is forgotten; one ahead still counts."""
    later = await now_ms(store_broker) + HOUR
    await start(store_broker, *(new(name, expire_time_ms=later) for name in "ab"))
    await finish(store_broker, A, Released())
    await make_expired(store_broker, A)
    await store_broker.expire(shard=0, queues=["default"])
    await finish(store_broker, B, Failed(failure=BOOM))

    swept = await store_broker.requeue_dead_letters(where=ALL)

    assert swept.done == 2
    state = await dump()
    assert "expires" not in state[f"job:{A}"]
    assert state["expiring:default"] == [B]
    assert set(ids(await claim(store_broker, 5))) == {A, B}
    assert len((await dump())["ready:default:high"]["entries"]) == 0, "what it had left in its stream is cleared away"


@pytest.mark.parametrize("what", ["other version", "not dead", "not there", "overwritten"])
async def test_what_is_no_dead_letter_is_left_alone(store_broker: Broker, dump: Dump, what: str) -> None:
    """A job that was requeued and failed again since, that runs, or that is not there is not touched; others are."""
    await fail(store_broker, "a", "b")
    if what == "not there":
        await wipe(store_broker)
        await fail(store_broker, "b")
    elif what == "overwritten":
        await corrupt(store_broker, f"job:{A}")
    elif what == "not dead":
        await store_broker.requeue([Letter(job_id=A, version=DEAD)])
        await claim(store_broker)
    before = (await dump()).get(f"job:{A}")

    version = {"other version": DEAD - 1, "not dead": DEAD + 2}.get(what, DEAD)
    letters = [Letter(job_id=A, version=version), Letter(job_id=B, version=DEAD)]
    assert await store_broker.requeue(letters) == [False, True]

    assert (await dump()).get(f"job:{A}") == before
    if what == "overwritten":
        await wipe(store_broker)


async def test_the_ones_that_are_named(store_broker: Broker) -> None:
    """Of the ids that are given, dead letters are requeued, once though named twice; the others are told."""
    await fail(store_broker, "a", "b")
    await store_broker.enqueue([new("c")])
    wanted = [B, C, "0" * 26, "no id", B]

    counted_only = await store_broker.requeue_dead_letters(job_ids=wanted, validate_only=True)
    swept = await store_broker.requeue_dead_letters(job_ids=wanted)

    assert counted_only == swept
    assert (swept.done, swept.scanned, swept.skipped) == (1, 4, (C, "0" * 26, "no id"))
    assert [(await store_broker.get(job)).state for job in (A, B)] == [State.FAILED, State.QUEUED]
    assert (await store_broker.requeue_dead_letters(job_ids=[B])).skipped == (B,)


async def test_a_filter(store_broker: Broker) -> None:
    """Queue, type, labels, reason and time of failure: each alone chooses, and all together."""
    await fail(store_broker, "a", queue="mail", type="send", labels={"team": "x", "n": "1"})
    await fail(store_broker, "b", queue="mail", type="read", labels={"team": "x"}, reason="TIMEOUT")
    between = (await store_broker.get(B)).finish_time_ms or 0
    while await now_ms(store_broker) <= between:
        continue
    await fail(store_broker, "c", type="send", reason="TIMEOUT")
    labels = {"team": "x"}
    for where, expected in (
        (ALL, {A, B, C}),
        (DeadLetterFilter(queue="mail"), {A, B}),
        (DeadLetterFilter(queue="nothing"), set()),
        (DeadLetterFilter(type="send"), {A, C}),
        (DeadLetterFilter(labels=labels), {A, B}),
        (DeadLetterFilter(labels=labels | {"n": "1"}), {A}),
        (DeadLetterFilter(labels={"n": "2"}), set()),
        (DeadLetterFilter(reason="TIMEOUT"), {B, C}),
        (DeadLetterFilter(since_ms=between + 1), {C}),
        (DeadLetterFilter(before_ms=between + 1), {A, B}),
        (DeadLetterFilter(queue="mail", type="read", labels=labels, reason="TIMEOUT", since_ms=between), {B}),
    ):
        swept = await store_broker.requeue_dead_letters(where=where, validate_only=True)
        assert (swept.done, swept.next_page_token) == (len(expected), ""), where
    where = DeadLetterFilter(type="send", labels=labels)
    assert (await store_broker.requeue_dead_letters(where=where)).done == 1
    assert (await store_broker.get(A)).state is State.QUEUED


async def walk(broker: Broker, where: DeadLetterFilter, *, page_token: str = "") -> tuple[int, int, int]:
    """Requeues to the end; returns how many, how many were looked at, and in how many steps."""
    done = scanned = steps = 0
    while steps == 0 or page_token:
        swept = await broker.requeue_dead_letters(where=where, page_token=page_token)
        assert swept.scanned <= LOOKS + CHUNK
        done, scanned, steps = done + swept.done, scanned + swept.scanned, steps + 1
        page_token = swept.next_page_token
    return done, scanned, steps


async def test_a_walk_takes_bounded_steps_and_meets_each_once(valkey: str, namespace: str) -> None:
    """1,600 dead letters on several shards and queues, hundreds in one millisecond, every second one wanted: a walk
    that is interrupted after its first step, and then goes on twice at once, requeues each exactly once; one that
    fails again meanwhile is not met a second time.
    """
    shards = 3
    async with Broker(url=valkey, namespace=namespace, shards=shards) as broker:
        for queue in ("x", "y"):
            for n in range(4):
                names = [f"{queue}{n}-{i}" for i in range(200)]
                await fail(broker, *names, queue=queue, type=("even", "odd")[n % 2])
        for shard in range(shards):
            for queue in ("x", "y"):
                key = broker.shard(shard).dead(queue)
                members = await broker.redis.zrange(key, 0, -1)
                at = await now_ms(broker) - HOUR
                await broker.redis.zadd(key, {member: at + n // 300 for n, member in enumerate(members)})
        where = DeadLetterFilter(type="even")

        first = await broker.requeue_dead_letters(where=where)
        assert 0 < first.done < 800
        assert first.scanned >= LOOKS
        for shard in range(shards):
            jobs = (await broker.claim(shard=shard, worker="w1", queues=["x"], count=1, token="again")).jobs
            await broker.finish(
                [Finish(job_id=job.job_id, token="again", outcome=Failed(failure=BOOM)) for job in jobs]
            )
        failed_again = sum(
            1 for page in [await broker.dead_letters(page_size=1_000)] for job in page.jobs if job.version > DEAD
        )
        steps = await asyncio.gather(
            walk(broker, where, page_token=first.next_page_token),
            walk(broker, where, page_token=first.next_page_token),
        )

        assert first.done + sum(done for done, _, _ in steps) == 800
        assert all(count >= 1 for _, _, count in steps)
        again = await walk(broker, where)
        assert again[0] == failed_again > 0, "those that failed again are new dead letters to a new walk"
        assert (await broker.dead_letters()).total == 800
        await audit(broker)
        await wipe(broker)


async def test_a_token_belongs_to_its_walk(store_broker: Broker) -> None:
    """It is refused for another filter, another verb, or where it was tampered with."""
    await fail(store_broker, *(f"n{n}" for n in range(LOOKS + 1)))
    token = (await store_broker.requeue_dead_letters(where=ALL, validate_only=True)).next_page_token
    assert token
    for bad in (token[:-1], token[:-1] + ("A" if token[-1] != "A" else "B"), "x"):
        with pytest.raises(BadPageToken):
            await store_broker.requeue_dead_letters(where=ALL, validate_only=True, page_token=bad)
    with pytest.raises(BadPageToken):
        await store_broker.requeue_dead_letters(where=ALL, page_token=token)
    with pytest.raises(BadPageToken):
        await store_broker.requeue_dead_letters(where=DeadLetterFilter(type="t"), validate_only=True, page_token=token)
    with pytest.raises(BadPageToken):
        await store_broker.purge_dead_letters(where=ALL, page_token=token)
    rest = await store_broker.requeue_dead_letters(where=ALL, validate_only=True, page_token=token)
    assert (rest.done, rest.next_page_token) == (1, "")


async def test_many_queues_take_several_steps(store_broker: Broker) -> None:
    """A step looks into 100 queues at the most, empty ones included."""
    names = [f"q{n:03}" for n in range(250)]
    await store_broker.enqueue([new(name, queue=name, delay_ms=HOUR) for name in names])
    await fail(store_broker, "a", queue="q999")

    assert await walk(store_broker, ALL) == (1, 1, 3)


@pytest.mark.parametrize("key", QUEUE_KEYS)
async def test_a_key_of_the_wrong_type_stops_it_before_its_first_write(store_broker: Broker, key: str) -> None:
    """Law 1: a wrong key of the last job's queue stops the call before it has changed the first."""
    await fail(store_broker, "a", queue="other")
    await fail(store_broker, "b")
    letters = [Letter(job_id=job, version=DEAD) for job in (A, B)]

    await assert_stopped_by(store_broker, key, lambda: store_broker.requeue(letters))


async def test_races_have_one_winner(broker: Broker) -> None:
    """1,000 jobs, finished, cancelled and requeued by several at once, over and over: each ends in one state, every
    history is legal, and each job is in one place (audit).
    """
    names = [f"n{n}" for n in range(1_000)]
    jobs = [ident(name) for name in names]
    await broker.enqueue([new(name) for name in names])
    running: dict[str, str] = {}

    async def claim_some(token: str) -> bool:
        claims = await claim(broker, 100, token=token)
        running.update((job.job_id, token) for job in claims.jobs)
        return bool(claims.jobs)

    async def finish_all(*outcomes: Outcome) -> None:
        """Finishes all that ever ran, each job with all of these outcomes."""
        given = [(job, token, outcome) for job, token in running.items() for outcome in outcomes]
        await broker.finish([Finish(job_id=job, token=token, outcome=outcome) for job, token, outcome in given])

    async def work(worker: int) -> None:
        for turn in range(10):
            await claim_some(f"t{worker}-{turn}")
            await finish_all(Failed(failure=BOOM) if turn % 3 else Succeeded(), Released())

    async def cancel(some: list[str]) -> None:
        for job in some:
            await asyncio.gather(broker.cancel(job), broker.cancel(job), return_exceptions=True)

    async def requeue() -> None:
        for _ in range(10):
            await broker.requeue_dead_letters(where=ALL)

    cancels = (cancel(jobs[n::20]) for n in range(5))
    await asyncio.gather(work(1), work(2), *cancels, requeue(), requeue())
    await finish_all(Succeeded())
    while await claim_some("last"):
        await finish_all(Succeeded())

    ended = [await broker.get(job) for job in jobs]
    states = Counter(job.state for job in ended)
    assert sum(states[state] for state in State if state.is_terminal) == 1_000
    assert states[State.CANCELLED] > 0
    assert states[State.SUCCEEDED] > 0
    assert any(step.reason == "REQUEUED" for job in ended for step in job.history)


async def test_ids_of_other_shards_are_skipped(store_broker: Broker) -> None:
    """An id that names a shard which is not ours is no dead letter."""
    stranger = "0" * 24 + "ZZ"
    assert shard_of(stranger) > store_broker.shards
    assert (await store_broker.requeue_dead_letters(job_ids=[stranger])).skipped == (stranger,)
