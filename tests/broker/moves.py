"""What workers, time and bad luck do to jobs: the moves that tests are written in."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from redis.exceptions import ResponseError

from broker.state import all_keys, wipe
from headrace_broker import (
    Broker,
    ClaimedJob,
    Claims,
    Delivery,
    Enqueued,
    Failure,
    Finish,
    Finished,
    NewJob,
    Outcome,
    Priority,
    WorkerInfo,
)
from headrace_broker.job import HOUR
from headrace_broker.keys import GROUP

LEASE_OVER = 31_000
"""ms after which a lease of the default length has run out."""

BOOM = Failure(reason="HANDLER_ERROR", error_type="ValueError", message="boom", stack_trace="Traceback", attempt=1)

WORKER = WorkerInfo(worker_id="w1", queues=("default",), concurrency=2, host="h", pid=7, version="1")

# --- what workers do


async def claim(
    broker: Broker,
    count: int = 1,
    *,
    token: str = "t1",
    worker: str = "w1",
    queues: Sequence[str] = ("default",),
    delivered: Sequence[Delivery] = (),
    resume: bool = False,
) -> Claims:
    """Claims in the name of worker w1 under token t1."""
    return await broker.claim(
        shard=0, worker=worker, queues=queues, count=count, token=token, delivered=delivered, resume=resume
    )


async def start(broker: Broker, *jobs: NewJob, token: str = "t1", worker: str = "w1") -> list[ClaimedJob]:
    """Enqueues jobs, and claims them all."""
    answers = await broker.enqueue(jobs)
    queues = sorted({job.spec.queue for job in jobs})
    claims = await claim(broker, len(jobs), token=token, worker=worker, queues=queues)
    assert {job.job_id for job in claims.jobs} == {a.job_id for a in answers if isinstance(a, Enqueued)}
    return list(claims.jobs)


async def deliver(broker: Broker, *, worker: str = "w1", priority: Priority = Priority.NORMAL) -> Delivery:
    """Has the store hand one entry to a worker, as its blocking read would."""
    key = broker.shard(0).ready("default", priority)
    [[_, [[entry, fields]]]] = await broker.redis.xreadgroup("workers", worker, {key: ">"}, count=1)
    return Delivery(queue="default", priority=priority, entry=entry.decode(), job_id=fields[b"j"].decode())


async def finish(broker: Broker, job: str, outcome: Outcome, *, token: str = "t1") -> Finished:
    """Finishes one job."""
    [answer] = await broker.finish([Finish(job_id=job, token=token, outcome=outcome)])
    return answer


def ids(claims: Claims) -> list[str]:
    """Returns the jobs of an answer."""
    return [job.job_id for job in claims.jobs]


# --- the hand of time


async def age(broker: Broker, job: str, by_ms: int, *, queue: str = "default") -> None:
    """Makes the delivery of a job look as if it had happened, or been renewed, `by_ms` ago."""
    shard = broker.shard(0)
    for priority in ("high", "normal", "low"):
        key = f"{shard.tag}ready:{queue}:{priority}"
        for entry, fields in await broker.redis.xrange(key):
            if fields[b"j"].decode() == job:
                [found] = await broker.redis.xpending_range(key, GROUP, entry, entry, 1)
                await broker.redis.xclaim(
                    key, GROUP, found["consumer"], min_idle_time=0, message_ids=[entry], idle=by_ms, justid=True
                )
                return
    raise AssertionError(f"no stream of {queue} holds {job}")


async def make_due(broker: Broker, *jobs: str, queue: str = "default", ago_ms: int = 1) -> None:
    """Moves jobs on the schedule to a due time that has passed."""
    shard = broker.shard(0)
    past = await now_ms(broker) - ago_ms
    async with broker.redis.pipeline(transaction=False) as pipeline:
        for job in jobs:
            pipeline.zadd(shard.due(queue), {job: past}, xx=True, ch=True)
            pipeline.hset(shard.job(job), "due", past)
        changed = await pipeline.execute()
    assert all(changed[::2]), "not on the schedule"


async def make_expired(broker: Broker, *jobs: str, queue: str = "default") -> None:
    """Moves the expire_time of jobs an hour into the past."""
    shard = broker.shard(0)
    past = await now_ms(broker) - HOUR
    for job in jobs:
        assert await broker.redis.hexists(shard.job(job), "expires")
        await broker.redis.zadd(shard.expiring(queue), {job: past}, xx=True)
        await broker.redis.hset(shard.job(job), "expires", past)


async def now_ms(broker: Broker) -> int:
    """Reads the clock of the store."""
    seconds, microseconds = await broker.redis.time()
    return int(seconds) * 1_000 + int(microseconds) // 1_000


async def lose(broker: Broker, *jobs: str, queue: str = "default") -> None:
    """Makes the leases of jobs run out, as if their worker had died, and reclaims them."""
    for job in jobs:
        await age(broker, job, LEASE_OVER, queue=queue)
    await broker.reclaim(shard=0, queues=[queue])


# --- law 1


async def fingerprint(broker: Broker) -> dict[str, bytes]:
    """Reads every key exactly as the store would save it, pending entries and their idle times included."""
    return {key: await broker.redis.dump(key) for key in await all_keys(broker)}


async def corrupt(broker: Broker, key: str) -> str:
    """Puts a list where the key (without its tag) belongs; returns the full name."""
    full = broker.shard(0).tag + key
    await broker.redis.delete(full)
    await broker.redis.rpush(full, "not what you expect")
    return full


QUEUE_KEYS = [
    "queue:default",
    "rates:default",
    "ready:default:high",
    "ready:default:normal",
    "ready:default:low",
    "due:default",
    "expiring:default",
    "dead:default",
]
"""The keys of one queue, as `assert_stopped_by` takes them."""


async def assert_stopped_by(broker: Broker, key: str, call: Callable[[], Awaitable[object]]) -> None:
    """Makes `key` a key of the wrong type, and asserts that the call fails and changes nothing, nothing at all."""
    name = await corrupt(broker, key)
    before = await fingerprint(broker)
    with pytest.raises(ResponseError, match=f"WRONGTYPE.*{re.escape(name)}|WRONGTYPE Operation"):
        await call()
    assert await fingerprint(broker) == before
    await wipe(broker)


async def give_way(turns: int = 1) -> None:
    """Lets all tasks that are ready run, that many times; no time is waited for."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def stop(*tasks: asyncio.Task[Any]) -> None:
    """Cancels tasks, and waits until they have ended; each must end by its cancellation."""
    for task in tasks:
        task.cancel()
    done, pending = await asyncio.wait(tasks, timeout=5)
    assert not pending, "a task swallowed its cancellation"
    assert all(task.cancelled() for task in done)
