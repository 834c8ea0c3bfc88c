"""Several shards: every call finds its jobs, wherever they live."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from broker.audit import audit
from broker.moves import BOOM, WORKER, give_way, ids, stop
from broker.state import A, ident, new, wipe
from harness.waiting import Eventually
from headrace_broker import (
    Broker,
    Enqueued,
    Failed,
    Finish,
    Finished,
    Held,
    Maintenance,
    RequestIdReused,
    State,
    Subscription,
    Succeeded,
    Transition,
)
from headrace_broker.job import HOUR
from headrace_broker.keys import shard_of

SHARDS = 4
NAMES = [f"n{n}" for n in range(200)]
IDS = [ident(name, shards=SHARDS) for name in NAMES]


@pytest.fixture
async def sharded(store: str, namespace: str) -> AsyncIterator[Broker]:
    """A Broker of four shards; audited and emptied afterwards."""
    async with Broker(url=store, namespace=namespace, shards=SHARDS) as one:
        yield one
        await audit(one)
        await wipe(one)


async def claim_all(broker: Broker, *, token: str = "t1") -> dict[int, list[str]]:
    """Claims everything, shard by shard."""
    return {
        shard: ids(await broker.claim(shard=shard, worker="w1", queues=["default"], count=500, token=token))
        for shard in range(SHARDS)
    }


async def test_jobs_spread_over_all_shards_and_are_found_again(sharded: Broker) -> None:
    """Answers of enqueue, get, version and finish keep their order, though each shard is called apart."""
    answers = await sharded.enqueue([new(name) for name in NAMES])

    assert [answer.job_id for answer in answers if isinstance(answer, Enqueued)] == IDS
    assert set(Counter(map(shard_of, IDS))) == set(range(SHARDS))
    claimed = await claim_all(sharded)
    assert all(shard_of(job) == shard for shard, jobs in claimed.items() for job in jobs)
    assert sorted(job for jobs in claimed.values() for job in jobs) == sorted(IDS)
    written = await sharded.finish(
        [Finish(job_id=job, token="t1" if n % 5 else "t0", outcome=Succeeded()) for n, job in enumerate(IDS)]
    )
    assert written == [Finished.WRITTEN if n % 5 else Finished.STALE for n in range(len(IDS))]
    for n in range(0, len(IDS), 20):
        job = await sharded.get(IDS[n])
        assert job.job_id == IDS[n]
        assert await sharded.version(IDS[n]) == job.version


async def test_a_repeated_request_looks_where_the_first_one_is(sharded: Broker) -> None:
    """Deduplication works on every shard, also for mixed batches."""
    await sharded.enqueue([new(name) for name in NAMES[::2]])

    answers = await sharded.enqueue([new(name) for name in NAMES] + [new(NAMES[0], payload=b"other")])

    assert [a.deduplicated for a in answers if isinstance(a, Enqueued)] == [n % 2 == 0 for n in range(len(NAMES))]
    assert isinstance(answers[-1], RequestIdReused)


async def test_leases_are_renewed_on_every_shard(sharded: Broker) -> None:
    """One renewal call serves jobs of all shards, in order; the heartbeat is kept once."""
    await sharded.enqueue([new(name) for name in NAMES])
    await claim_all(sharded)

    kept = await sharded.renew(
        worker=WORKER, held=[Held(job_id=job, token="t1" if n % 7 else "t0") for n, job in enumerate(IDS)]
    )

    assert kept == [bool(n % 7) for n in range(len(IDS))]
    assert [await sharded.redis.zcard(sharded.shard(n).workers()) for n in range(SHARDS)] == [1, 0, 0, 0]
    assert await sharded.report_progress(IDS[3], "t1", fraction=1, message="")


async def test_a_worker_departs_from_every_shard(sharded: Broker) -> None:
    """What was delivered and never claimed goes back on all shards."""
    await sharded.enqueue([new(name) for name in NAMES])
    for shard in range(SHARDS):
        assert len(await sharded.wait(shard=shard, worker="w1", queues=["default"], timeout_ms=1_000)) == 1

    assert await sharded.depart(worker="w1", queues=["default"]) == SHARDS

    assert sum(len(jobs) for jobs in (await claim_all(sharded)).values()) == len(NAMES)


async def test_wake_ends_the_waits_of_all_shards(sharded: Broker) -> None:
    """A drain ends all waits."""
    await claim_all(sharded)
    waits = [
        asyncio.create_task(sharded.wait(shard=shard, worker="w1", queues=["default"], timeout_ms=50_000))
        for shard in range(SHARDS)
    ]
    await give_way()

    await sharded.wake()

    assert await asyncio.gather(*waits) == [()] * SHARDS


async def test_dead_letters_of_all_shards_are_listed(sharded: Broker) -> None:
    """The list counts and pages over all shards."""
    await sharded.enqueue([new(name) for name in NAMES])
    await claim_all(sharded)
    await sharded.finish([Finish(job_id=job, token="t1", outcome=Failed(failure=BOOM)) for job in IDS])

    page = await sharded.dead_letters(page_size=150)
    rest = await sharded.dead_letters(page_size=150, page_token=page.next_page_token)

    assert page.total == rest.total == len(IDS)
    assert sorted(job.job_id for job in page.jobs + rest.jobs) == sorted(IDS)


async def test_each_shard_is_maintained_and_heard(sharded: Broker, eventually: Eventually) -> None:
    """Jobs come due on every shard, and listeners hear of jobs on every shard."""
    subscription = Subscription(sharded)
    maintenance = Maintenance(sharded, subscription=subscription)
    tasks = [asyncio.create_task(subscription.run()), asyncio.create_task(maintenance.run())]
    job_of = {shard_of(job): job for job in IDS}
    async with AsyncExitStack() as stack:
        bells = [await stack.enter_async_context(subscription.listen(job)) for job in job_of.values()]
        await sharded.enqueue([new(name, delay_ms=150) for name in NAMES])
        for bell in bells:
            states = [await bell.ring(5) for _ in range(2)]
            assert [event.state for event in states if isinstance(event, Transition)] == [State.SCHEDULED, State.QUEUED]
    await stop(*tasks)


async def test_more_shards_find_the_jobs_of_fewer(store: str, namespace: str) -> None:
    """The number of shards may grow: jobs stored before are found from their ids alone."""
    async with Broker(url=store, namespace=namespace) as one:
        await one.enqueue([new("a", delay_ms=HOUR)])
    async with Broker(url=store, namespace=namespace, shards=SHARDS) as many:
        assert (await many.get(A)).state is State.SCHEDULED
        await audit(many)
        await wipe(many)
