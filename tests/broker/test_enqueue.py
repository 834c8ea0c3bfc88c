"""enqueue.lua and Broker.enqueue."""

import asyncio

import pytest

from broker.hearing import Hearing
from broker.moves import QUEUE_KEYS, assert_stopped_by, now_ms
from broker.state import TIME, A, B, C, D, Dump, counted, ident, known, new, record, streams
from headrace_broker import Broker, Enqueued, Priority, RequestIdReused, RetryPolicy, State, is_job_id, new_token
from headrace_broker._producer import ENQUEUE_BATCH
from headrace_broker.job import DAY, HOUR, MINUTE


async def test_a_job_without_a_delay_is_queued(store_broker: Broker, dump: Dump) -> None:
    """A job that may run at once is QUEUED, version 1, and stands in the stream of its queue and priority."""
    assert await dump() == {}

    [answer] = await store_broker.enqueue([new("a")])

    assert await dump() == {
        **known(),
        **counted(QUEUED=1),
        **streams(normal=[A]),
        f"job:{A}": record("QUEUED", "q"),
    }
    assert isinstance(answer, Enqueued)
    job = await store_broker.get(A)
    assert answer == Enqueued(job_id=A, state=State.QUEUED, version=1, create_time_ms=job.create_time_ms)


@pytest.mark.parametrize("how", ["delay", "absolute"])
async def test_a_job_with_a_due_time_ahead_is_scheduled(store_broker: Broker, dump: Dump, how: str) -> None:
    """A delay, or a schedule_time ahead, makes a job SCHEDULED: on the schedule of its queue, in no stream."""
    now = await now_ms(store_broker)
    spec = {"delay_ms": HOUR} if how == "delay" else {"schedule_time_ms": now + HOUR, "delay_ms": 5}

    [answer] = await store_broker.enqueue([new("a", **spec)])

    assert await dump() == {
        **known(),
        **counted(SCHEDULED=1),
        **streams(),
        "due:default": [A],
        f"job:{A}": record("SCHEDULED", "s", due=TIME),
    }
    assert isinstance(answer, Enqueued)
    assert answer.state is State.SCHEDULED
    job = await store_broker.get(A)
    assert job.due_time_ms == (job.create_time_ms + HOUR if how == "delay" else now + HOUR)


@pytest.mark.parametrize("ago", [0, 1, DAY])
async def test_a_schedule_time_that_has_passed_means_now(store_broker: Broker, dump: Dump, ago: int) -> None:
    """A schedule_time of now or earlier makes a job QUEUED."""
    await store_broker.enqueue([new("a", schedule_time_ms=await now_ms(store_broker) - ago)])

    assert await dump() == {
        **known(),
        **counted(QUEUED=1),
        **streams(normal=[A]),
        f"job:{A}": record("QUEUED", "q"),
    }


async def test_what_a_job_asks_for_is_kept(store_broker: Broker, dump: Dump) -> None:
    """Everything in a spec that is not a default is written down, and read back unchanged by get."""
    job = new(
        "a",
        queue="mail.out",
        type="send",
        payload=b"<p>",
        content_type="text/html",
        priority=Priority.LOW,
        attempt_timeout_ms=MINUTE,
        expire_time_ms=await now_ms(store_broker) + DAY,
        retry=RetryPolicy(max_attempts=2, initial_backoff_ms=1, max_backoff_ms=2, multiplier=1.5, jitter=0.0),
        labels={"team": "b", "env": "a"},
        headers={"traceparent": "00-1"},
        retention_ms=MINUTE,
    )

    await store_broker.enqueue([job])

    spec = {
        "type": "send",
        "content_type": "text/html",
        "timeout": MINUTE,
        "retry": [2, 1, 2, 1.5, 0.0],
        "labels": {"env": "a", "team": "b"},
        "headers": {"traceparent": "00-1"},
    }
    assert await dump() == {
        **known("mail.out"),
        **counted("mail.out", QUEUED=1),
        **streams("mail.out", low=[A]),
        "expiring:mail.out": [A],
        f"job:{A}": record(
            "QUEUED",
            "q",
            queue="mail.out",
            priority="low",
            payload="<p>",
            spec=spec,
            expires=TIME,
            retention=str(MINUTE),
        ),
    }
    assert (await store_broker.get(A)).spec == job.spec


async def test_a_repeated_request_finds_the_first_job(store_broker: Broker, dump: Dump) -> None:
    """Enqueue with the same request_id returns the first job and changes nothing, however often it is repeated."""
    jobs = [new("a"), new("b", delay_ms=HOUR)]
    first = await store_broker.enqueue(jobs)
    once = await dump()

    for _ in range(3):
        again = await store_broker.enqueue(jobs)
        assert again == [
            Enqueued(
                job_id=answer.job_id,
                state=answer.state,
                version=answer.version,
                create_time_ms=answer.create_time_ms,
                deduplicated=True,
            )
            for answer in first
            if isinstance(answer, Enqueued)
        ]
        assert await dump() == once


async def test_concurrent_repeats_make_one_job(store_broker: Broker, dump: Dump) -> None:
    """50 concurrent calls with one request_id make one job, and exactly one of them is told that it is new."""
    answers = await asyncio.gather(*(store_broker.enqueue([new("a")]) for _ in range(50)))

    assert sorted(answer.deduplicated for [answer] in answers if isinstance(answer, Enqueued)) == [False] + [True] * 49
    assert await dump() == {
        **known(),
        **counted(QUEUED=1),
        **streams(normal=[A]),
        f"job:{A}": record("QUEUED", "q"),
    }


async def test_a_repeat_within_one_call_is_found_as_well(store_broker: Broker, dump: Dump) -> None:
    """The same request twice in one call is one job; another request under its request_id is refused."""
    answers = await store_broker.enqueue([new("a"), new("a"), new("a", payload=b"other"), new("b")])

    assert [type(answer) for answer in answers] == [Enqueued, Enqueued, RequestIdReused, Enqueued]
    assert [getattr(answer, "deduplicated", None) for answer in answers] == [False, True, None, False]
    assert await dump() == {
        **known(),
        **counted(QUEUED=2),
        **streams(normal=[A, B]),
        f"job:{A}": record("QUEUED", "q"),
        f"job:{B}": record("QUEUED", "q"),
    }


async def test_a_repeat_reports_where_the_job_is_by_now(store_broker: Broker) -> None:
    """A repeated request is answered with the job's present state and version, and its first create time."""
    [first] = await store_broker.enqueue([new("a")])
    await store_broker.claim(shard=0, worker="w1", queues=["default"], count=1, token=new_token())

    [again] = await store_broker.enqueue([new("a")])

    assert isinstance(first, Enqueued)
    assert again == Enqueued(
        job_id=A, state=State.PROCESSING, version=2, create_time_ms=first.create_time_ms, deduplicated=True
    )


@pytest.mark.parametrize(
    "difference",
    [
        {"type": "u"},
        {"queue": "other"},
        {"payload": b"q"},
        {"content_type": "text/plain"},
        {"priority": Priority.HIGH},
        {"delay_ms": 1},
        {"schedule_time_ms": 1},
        {"attempt_timeout_ms": 1},
        {"expire_time_ms": 1},
        {"retry": RetryPolicy(jitter=0.5)},
        {"labels": {"a": "b"}},
        {"headers": {"a": "b"}},
        {"retention_ms": 1},
    ],
    ids=lambda difference: next(iter(difference)),
)
async def test_a_request_id_stands_for_one_request(
    store_broker: Broker, dump: Dump, difference: dict[str, object]
) -> None:
    """The same request_id with a spec that differs in any field is refused, and harms neither job nor neighbours."""
    await store_broker.enqueue([new("a")])

    answers = await store_broker.enqueue([new("b"), new("a", **difference), new("c")])

    assert [type(answer) for answer in answers] == [Enqueued, RequestIdReused, Enqueued]
    refused = answers[1]
    assert isinstance(refused, RequestIdReused)
    assert (refused.request_id, refused.job_id) == ("a", A)
    assert await dump() == {
        **known(),
        **counted(QUEUED=3),
        **streams(normal=[A, B, C]),
        f"job:{A}": record("QUEUED", "q"),
        f"job:{B}": record("QUEUED", "q"),
        f"job:{C}": record("QUEUED", "q"),
    }


async def test_a_job_without_a_request_id_is_always_new(store_broker: Broker) -> None:
    """Jobs without a request_id have random ids, and no digest is kept of them."""
    answers = await store_broker.enqueue([new(), new()])

    ids = {answer.job_id for answer in answers if isinstance(answer, Enqueued)}
    assert len(ids) == 2
    assert all(is_job_id(job_id) for job_id in ids)
    for job_id in ids:
        assert not await store_broker.redis.hexists(store_broker.shard(0).job(job_id), "digest")


async def test_a_thousand_jobs_keep_their_order(spare_broker: Broker) -> None:
    """1,000 jobs in one call are answered, and later claimed, in their order; no script stores more than its batch."""
    names = [f"n{number}" for number in range(1_000)]
    await spare_broker.redis.config_resetstat()

    answers = await spare_broker.enqueue([new(name) for name in names])

    assert [answer.job_id for answer in answers if isinstance(answer, Enqueued)] == [ident(name) for name in names]
    stats = await spare_broker.redis.info("commandstats")
    scripts = stats["cmdstat_evalsha"]["calls"]
    assert scripts == 1_000 // ENQUEUE_BATCH
    entries = await spare_broker.redis.xrange(spare_broker.shard(0).ready("default", Priority.NORMAL))
    assert [fields[b"j"].decode() for _, fields in entries] == [ident(name) for name in names]


async def test_nothing_to_store_is_no_call(store_broker: Broker, dump: Dump) -> None:
    """An empty list is answered with an empty list."""
    assert await store_broker.enqueue([]) == []
    assert await dump() == {}


async def test_each_queue_has_its_own_keys(store_broker: Broker, dump: Dump) -> None:
    """Jobs of several queues in one call go to the streams of their queues."""
    await store_broker.enqueue([new("a", queue="x"), new("b", queue="y"), new("c", queue="x", priority=Priority.HIGH)])

    assert await dump() == {
        **known("x", "y"),
        **counted("x", QUEUED=2),
        **counted("y", QUEUED=1),
        **streams("x", normal=[A], high=[C]),
        **streams("y", normal=[B]),
        f"job:{A}": record("QUEUED", "q", queue="x"),
        f"job:{B}": record("QUEUED", "q", queue="y"),
        f"job:{C}": record("QUEUED", "q", queue="x", priority="high"),
    }


async def test_what_is_published(store_broker: Broker, heard: Hearing) -> None:
    """Each new job is published once, with its state; repeated and refused requests are silent."""
    await heard.of(A, B)

    await store_broker.enqueue([new("a"), new("b", delay_ms=HOUR)])
    await store_broker.enqueue([new("a"), new("b")])

    assert await heard.events(A) == ["1 QUEUED 0 - -"]
    assert await heard.events(B) == ["1 SCHEDULED 0 - -"]
    assert await heard.decoded(A) == list((await store_broker.get(A)).history)


async def test_promoters_are_rung_for_a_job_that_comes_first(store_broker: Broker) -> None:
    """The wake channel rings for a job that is due before all others of its queue, and only then."""
    pubsub = store_broker.redis.pubsub()
    await pubsub.ssubscribe(store_broker.shard(0).wake())
    assert (await pubsub.get_message(timeout=5))["type"] == "ssubscribe"

    await store_broker.enqueue([new("a", delay_ms=HOUR)])
    await store_broker.enqueue([new("b", delay_ms=2 * HOUR)])
    await store_broker.enqueue([new("c", delay_ms=MINUTE), new("d", delay_ms=3 * MINUTE)])
    await store_broker.redis.execute_command("SPUBLISH", store_broker.shard(0).wake(), "end")

    rung = []
    while (message := await pubsub.get_message(timeout=5))["data"] != b"end":
        rung.append(int(message["data"]))
    await pubsub.aclose()
    assert rung == [(await store_broker.get(job)).due_time_ms for job in (A, C)]


@pytest.mark.parametrize("key", ["queues", *QUEUE_KEYS, f"job:{D}"])
async def test_a_key_of_the_wrong_type_stops_it_before_its_first_write(store_broker: Broker, key: str) -> None:
    """Law 1: whatever key is of the wrong type, the call fails and nothing at all has changed."""
    jobs = [
        new("a", queue="other"),
        new("b", expire_time_ms=await now_ms(store_broker) + HOUR),
        new("c", delay_ms=HOUR),
    ]

    await assert_stopped_by(store_broker, key, lambda: store_broker.enqueue([*jobs, new("d")]))


async def test_groups_are_made_at_the_beginning(store_broker: Broker) -> None:
    """Regression: jobs enqueued before the first worker ever ran are claimed, all of them."""
    await store_broker.enqueue([new("a"), new("b", priority=Priority.LOW), new("c", priority=Priority.HIGH)])

    claims = await store_broker.claim(shard=0, worker="w1", queues=["default"], count=10, token=new_token())

    assert [job.job_id for job in claims.jobs] == [C, A, B]


async def test_jobs_of_a_stream_without_a_group_are_claimed(store_broker: Broker) -> None:
    """Regression: where the group was destroyed before the first claim, it is made again at the beginning."""
    await store_broker.enqueue([new("a")])
    await store_broker.redis.xgroup_destroy(store_broker.shard(0).ready("default", Priority.NORMAL), "workers")
    await store_broker.enqueue([new("b")])

    claims = await store_broker.claim(shard=0, worker="w1", queues=["default"], count=10, token=new_token())

    assert [job.job_id for job in claims.jobs] == [A, B]
