"""claim.lua and Broker.claim."""

import pytest

from broker.hearing import Hearing
from broker.moves import (
    LEASE_OVER,
    QUEUE_KEYS,
    age,
    assert_stopped_by,
    claim,
    corrupt,
    deliver,
    ids,
    make_expired,
    now_ms,
)
from broker.state import HERE, A, B, C, D, Dump, claimed, counted, ident, known, new, record, streams, wipe
from headrace_broker import (
    Broker,
    ClaimedJob,
    Claims,
    Failure,
    Finish,
    JobSpec,
    Priority,
    Released,
    Retried,
    State,
    new_token,
)
from headrace_broker.job import HOUR
from headrace_broker.keys import GROUP


async def test_a_claim_starts_a_job(store_broker: Broker, dump: Dump) -> None:
    """A claimed job is PROCESSING: attempt counted, token, worker and lease written, its entry pending."""
    await store_broker.enqueue([new("a"), new("b")])
    assert await dump() == {
        **known(),
        **counted(QUEUED=2),
        **streams(normal=[A, B]),
        f"job:{A}": record("QUEUED", "q"),
        f"job:{B}": record("QUEUED", "q"),
    }

    claims = await claim(store_broker)

    assert await dump() == {
        **known(),
        **counted(QUEUED=1, PROCESSING=1),
        **streams(normal=[A, B], pending={"normal": {"w1": [A]}}),
        f"job:{A}": record("PROCESSING", "q", "p 1 - w1", **claimed()),
        f"job:{B}": record("QUEUED", "q"),
    }
    job = await store_broker.get(A)
    assert claims == Claims(
        jobs=(
            ClaimedJob(
                job_id=A,
                token="t1",
                spec=JobSpec(type="t", payload=b"p"),
                attempt=1,
                crashes=0,
                version=2,
                create_time_ms=job.create_time_ms,
                start_time_ms=job.start_time_ms or 0,
            ),
        ),
        more=False,
    )


async def test_an_empty_queue_gives_nothing(store_broker: Broker, dump: Dump) -> None:
    """Where there is nothing, a claim returns nothing, and makes the groups that a blocking read needs."""
    assert await claim(store_broker, 5) == Claims(jobs=())
    assert await dump() == streams()


async def test_higher_priorities_go_first_then_the_order_of_the_queues(store_broker: Broker) -> None:
    """Priority goes before queue, queue before age."""
    await store_broker.enqueue(
        [
            new(f"{queue}{priority}{n}", queue=queue, priority=priority)
            for n in range(2)
            for priority in (Priority.LOW, Priority.HIGH, Priority.NORMAL)
            for queue in ("y", "x")
        ]
    )

    claims = await claim(store_broker, 20, queues=("x", "y"))

    assert ids(claims) == [
        ident(f"{queue}{priority}{n}")
        for priority in ("high", "normal", "low")
        for queue in ("x", "y")
        for n in range(2)
    ]


@pytest.mark.parametrize("count", [0, 1, 3, 7])
async def test_never_more_than_it_asks_for(store_broker: Broker, count: int) -> None:
    """A claim returns at most `count` jobs, over all streams together."""
    await store_broker.enqueue([new(f"{p}{n}", priority=p) for p in Priority for n in range(4)])

    claims = await claim(store_broker, count)

    assert len(claims.jobs) == count
    assert await store_broker.redis.hget(store_broker.shard(0).queue("default"), "QUEUED") == b"%d" % (12 - count)


async def test_two_workers_never_get_the_same_job(store_broker: Broker) -> None:
    """Claims of several workers share the jobs out."""
    await store_broker.enqueue([new(f"n{n}") for n in range(10)])

    got = [job for n in range(6) for job in ids(await claim(store_broker, 2, worker=f"w{n}", token=new_token()))]

    assert got == [ident(f"n{n}") for n in range(10)]


async def test_a_claim_looks_at_no_more_than_its_bound(store_broker: Broker) -> None:
    """A call looks at 500 entries, says that there are more, and goes on from there when it is called again."""
    await store_broker.enqueue([new(f"n{n}") for n in range(700)])

    first = await claim(store_broker, 1_000, token=new_token())
    second = await claim(store_broker, 1_000, token=new_token())

    assert (len(first.jobs), first.more) == (500, True)
    assert (len(second.jobs), second.more) == (200, False)
    assert ids(first) + ids(second) == [ident(f"n{n}") for n in range(700)]


# --- deliveries of a blocking read


async def test_a_delivered_entry_is_claimed_first(store_broker: Broker, dump: Dump) -> None:
    """An entry that a blocking read has delivered is claimed without being read again."""
    await store_broker.enqueue([new("a"), new("b", priority=Priority.HIGH)])
    delivered = await deliver(store_broker)

    assert ids(await claim(store_broker, 1, delivered=(delivered,))) == [A]

    assert await dump() == {
        **known(),
        **counted(QUEUED=1, PROCESSING=1),
        **streams(normal=[A], high=[B], pending={"normal": {"w1": [A]}}),
        f"job:{A}": record("PROCESSING", "q", "p 1 - w1", **claimed()),
        f"job:{B}": record("QUEUED", "q", priority="high"),
    }


@pytest.mark.parametrize("resume", [False, True])
async def test_the_lease_of_a_late_claim_is_a_whole_one(store_broker: Broker, resume: bool) -> None:  # noqa: FBT001
    """Regression: a lease was counted from the delivery, so a job whose claim came late was taken away too early."""
    await store_broker.enqueue([new("a")])
    delivered = () if resume else (await deliver(store_broker),)
    if resume:
        await deliver(store_broker)
    await age(store_broker, A, 29_000)

    assert ids(await claim(store_broker, 1, delivered=delivered, resume=resume)) == [A]

    key = store_broker.shard(0).ready("default", Priority.NORMAL)
    [pending] = await store_broker.redis.xpending_range(key, GROUP, "-", "+", 1)
    assert pending["time_since_delivered"] < 15_000


async def test_over_delivery_goes_back_to_the_front(store_broker: Broker, dump: Dump) -> None:
    """Entries delivered beyond the free slots go back, still QUEUED and without a new version, to the front."""
    await store_broker.enqueue([new("a"), new("b", priority=Priority.LOW), new("c")])
    delivered = (await deliver(store_broker), await deliver(store_broker, priority=Priority.LOW))

    assert ids(await claim(store_broker, 1, delivered=delivered)) == [A]

    assert await dump() == {
        **known(),
        **counted(QUEUED=2, PROCESSING=1),
        **streams(high=[B], normal=[A, C], pending={"normal": {"w1": [A]}}),
        f"job:{A}": record("PROCESSING", "q", "p 1 - w1", **claimed()),
        f"job:{B}": record("QUEUED", "q", priority="low", entry=f"high {HERE}"),
        f"job:{C}": record("QUEUED", "q"),
    }
    assert ids(await claim(store_broker, 2, token="t2")) == [B, C]


async def test_a_delivery_that_was_taken_away_is_not_claimed(store_broker: Broker, dump: Dump) -> None:
    """A delivery that has since been reclaimed, and claimed by another worker, is not ours to run."""
    await store_broker.enqueue([new("a")])
    delivered = await deliver(store_broker)
    await age(store_broker, A, 31_000)
    await store_broker.reclaim(shard=0, queues=["default"])
    await claim(store_broker, 1, worker="w2", token="t2")
    state = await dump()

    for resume in (False, True):
        assert ids(await claim(store_broker, 5, delivered=(delivered,), resume=resume)) == []
        assert await dump() == state


async def test_a_delivery_that_was_given_back_is_claimed_where_it_stands_now(store_broker: Broker, dump: Dump) -> None:
    """A delivery that has since gone back to the front is claimed by its new entry, never by the one that is gone."""
    await store_broker.enqueue([new("a")])
    delivered = await deliver(store_broker)
    await age(store_broker, A, LEASE_OVER)
    await store_broker.reclaim(shard=0, queues=["default"])

    assert ids(await claim(store_broker, 5, delivered=(delivered,))) == [A]

    state = await dump()
    assert state[f"job:{A}"] == record("PROCESSING", "q", "p 1 - w1", **claimed(f"high {HERE}"))
    assert streams(high=[A], pending={"high": {"w1": [A]}}).items() <= state.items()


async def test_a_ghost_delivery_is_found_by_resume(store_broker: Broker) -> None:
    """An entry delivered to a connection of this worker that broke is claimed by the next call with resume."""
    await store_broker.enqueue([new("a")])
    await deliver(store_broker)

    assert ids(await claim(store_broker, 5)) == []
    assert ids(await claim(store_broker, 5, token="t2", resume=True)) == [A]


# --- what is cleared on the way


async def test_expired_jobs_are_ended_instead(store_broker: Broker, dump: Dump, heard: Hearing) -> None:
    """A job whose expire_time has passed is not started: it ends EXPIRED, its entry leaves, the next job is claimed."""
    await store_broker.enqueue([new("a", expire_time_ms=await now_ms(store_broker) + HOUR), new("b")])
    await make_expired(store_broker, A)
    await heard.of(A)

    assert ids(await claim(store_broker)) == [B]

    state = await dump()
    assert state.pop(f"job:{A}")["history"] == ["q", "x"]
    assert state == {
        **known(),
        **counted(QUEUED=0, PROCESSING=1, EXPIRED=1),
        **streams(normal=[B], pending={"normal": {"w1": [B]}}),
        f"job:{B}": record("PROCESSING", "q", "p 1 - w1", **claimed()),
    }
    job = await store_broker.get(A)
    assert (job.state, job.version, job.attempt) == (State.EXPIRED, 2, 0)
    assert job.finish_time_ms is not None
    assert await heard.events(A) == ["2 EXPIRED 0 - -"]


async def test_a_job_that_had_started_before_it_expired_fails(store_broker: Broker, dump: Dump) -> None:
    """A job that comes back to wait and passes its expire_time is a dead letter with reason EXPIRED."""
    await store_broker.enqueue([new("a", expire_time_ms=await now_ms(store_broker) + HOUR)])
    await claim(store_broker)
    await store_broker.finish([Finish(job_id=A, token="t1", outcome=Released())])
    await make_expired(store_broker, A)

    assert ids(await claim(store_broker)) == []

    state = await dump()
    assert state["dead:default"] == [A]
    assert state["queue:default"] == {"QUEUED": "0", "PROCESSING": "0", "FAILED": "1"}
    assert state[f"job:{A}"]["history"] == ["q", "p 1 - w1", "q 0 RELEASED", "- 0 EXPIRED"]
    assert "expiring:default" not in state
    assert streams().items() <= state.items()


@pytest.mark.parametrize("tombstone", ["deleted", "cancelled", "overwritten"])
async def test_tombstones_are_cleared(store_broker: Broker, dump: Dump, tombstone: str) -> None:
    """Entries whose record is gone, is no record, or has ended are cleared, and do not use up the claim."""
    await store_broker.enqueue([new("a"), new("b")])
    shard = store_broker.shard(0)
    match tombstone:
        case "deleted":
            await store_broker.redis.delete(shard.job(A))
        case "cancelled":  # as cancel will do it: mark the record, leave the entry (law 8)
            await store_broker.redis.hset(
                shard.job(A), mapping={"state": "CANCELLED", "version": 2, "history": "q0\nc1", "finished": 1}
            )
            await store_broker.redis.expire(shard.job(A), 60)
            await store_broker.redis.hincrby(shard.queue("default"), "CANCELLED", 1)
        case "overwritten":
            await corrupt(store_broker, f"job:{A}")
    await store_broker.redis.hincrby(shard.queue("default"), "QUEUED", -1)

    assert ids(await claim(store_broker)) == [B]

    assert streams(normal=[B], pending={"normal": {"w1": [B]}}).items() <= (await dump()).items()
    assert {"QUEUED": "0", "PROCESSING": "1"}.items() <= (await dump())["queue:default"].items()
    if tombstone == "overwritten":
        await wipe(store_broker)


async def test_a_thousand_tombstones_are_cleared_in_bounded_calls(store_broker: Broker) -> None:
    """Tombstones count towards the bound: a call over many of them says that there is more."""
    await store_broker.enqueue([new(f"n{n}") for n in range(999)])
    await store_broker.redis.delete(*(store_broker.shard(0).job(ident(f"n{n}")) for n in range(999)))
    await store_broker.redis.hset(store_broker.shard(0).queue("default"), "QUEUED", 0)
    await store_broker.enqueue([new("a")])

    answers = [await claim(store_broker, token=new_token()) for _ in range(2)]
    while answers[-1].more:
        answers.append(await claim(store_broker, token=new_token()))

    assert [job for answer in answers for job in ids(answer)] == [A]
    assert len(answers) >= 2


async def test_an_entry_of_a_job_that_stands_elsewhere_is_cleared(store_broker: Broker, dump: Dump) -> None:
    """A stray entry of a running or finished job never starts it a second time."""
    await store_broker.enqueue([new("a")])
    await claim(store_broker)
    state = await dump()
    await store_broker.redis.xadd(store_broker.shard(0).ready("default", Priority.HIGH), {"j": A})

    assert ids(await claim(store_broker, 5, worker="w2", token="t2")) == []
    assert await dump() == state


# --- attempts, events, laws


async def test_attempts_are_counted(store_broker: Broker, dump: Dump) -> None:
    """Each claim counts one attempt and writes its own token; version and history go on."""
    await store_broker.enqueue([new("a")])
    for number in (1, 2, 3):
        [job] = (await claim(store_broker, token=f"t{number}")).jobs
        assert (job.attempt, job.version) == (number, 3 * number - 1)
        retried = Retried(delay_ms=0, failure=Failure(reason="HANDLER_ERROR", message="no", attempt=number))
        await store_broker.finish([Finish(job_id=A, token=f"t{number}", outcome=retried)])
        await store_broker.promote(shard=0, queues=["default"])

    state = await dump()
    assert state[f"job:{A}"]["history"] == [
        "q",
        *(line for n in (1, 2, 3) for line in (f"p {n} - w1", f"r {n} HANDLER_ERROR no", f"q {n}")),
    ]
    assert state[f"job:{A}"]["attempt"] == "3"


async def test_what_is_published(store_broker: Broker, heard: Hearing) -> None:
    """Each claimed job is published with its attempt and its worker; a resumed claim is silent."""
    await store_broker.enqueue([new("a"), new("b")])
    await heard.of(A, B)

    await claim(store_broker, worker="host:1|x")
    await claim(store_broker, worker="host:1|x", resume=True)

    assert await heard.events(A) == ["2 PROCESSING 1 - host:1|x"]
    assert await heard.events(B) == []
    assert await heard.decoded(A) == list((await store_broker.get(A)).history)[1:]


@pytest.mark.parametrize("key", QUEUE_KEYS)
async def test_a_key_of_the_wrong_type_stops_it_before_its_first_write(store_broker: Broker, key: str) -> None:
    """Law 1: a wrong key of the last queue stops the call before it has claimed anything of the first."""
    await store_broker.enqueue([new("a", queue="other"), new("b")])

    await assert_stopped_by(store_broker, key, lambda: claim(store_broker, 5, queues=("other", "default")))


async def test_a_group_that_was_destroyed_is_made_again(store_broker: Broker, dump: Dump) -> None:
    """NOGROUP is repaired: waiting jobs are claimed, the running one goes on and is not started twice."""
    await store_broker.enqueue([new("a"), new("b")])
    await claim(store_broker)
    await store_broker.redis.xgroup_destroy(store_broker.shard(0).ready("default", Priority.NORMAL), "workers")

    assert ids(await claim(store_broker, 5, worker="w2", token="t2")) == [B]

    state = await dump()
    assert state["ready:default:normal"] == {"entries": [A, B], "pending": {"w2": [A, B]}, "groups": ["workers"]}
    assert state[f"job:{A}"] == record("PROCESSING", "q", "p 1 - w1", **claimed())


@pytest.mark.parametrize("resume", [False, True])
async def test_a_flushed_store_is_usable_at_once(spare_broker: Broker, resume: bool) -> None:  # noqa: FBT001
    """After FLUSHALL the next claim finds no job, and the one enqueued next is claimed."""
    await spare_broker.enqueue([new("a"), new("b")])
    await claim(spare_broker)
    await spare_broker.redis.flushall()

    assert ids(await claim(spare_broker, 5, resume=resume)) == []
    await spare_broker.enqueue([new("d")])
    assert ids(await claim(spare_broker, 5, resume=resume)) == [D]
