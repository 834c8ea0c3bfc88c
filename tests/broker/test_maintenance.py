"""maintenance.py: the duties that keep jobs moving, with no worker up."""

import asyncio
import statistics
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from structlog.testing import capture_logs

from broker.audit import audit
from broker.moves import BOOM, corrupt, finish, now_ms, start, stop
from broker.state import A, B, C, D, ident, new
from harness.stores import Store
from harness.waiting import Eventually
from headrace_broker import Broker, Failed, Maintenance, State, StoreUnavailable, Subscription
from headrace_broker.job import DAY, HOUR

ON_TIME_MS = 50


@asynccontextmanager
async def maintained(broker: Broker, *, dlq_retention_ms: int = 30 * DAY) -> AsyncIterator[None]:
    """Runs the duties, as every server and worker does."""
    subscription = Subscription(broker)
    maintenance = Maintenance(broker, subscription=subscription, dlq_retention_ms=dlq_retention_ms)
    tasks = [asyncio.create_task(subscription.run()), asyncio.create_task(maintenance.run())]
    async with asyncio.timeout(5):
        await subscription.wake(0).wait()  # it is connected
    yield
    await stop(*tasks)


async def lateness(broker: Broker, *names: str) -> list[int]:
    """Reads how many ms after its due time each job was queued; [] while one of them is not, or the store is down."""
    late = []
    for name in names:
        try:
            job = await broker.get(ident(name))
        except StoreUnavailable:
            return []
        if job.state is not State.QUEUED:
            return []
        late.append(job.history[-1].time_ms - (job.due_time_ms or 0))
    return late


async def test_a_scheduled_job_comes_due_with_no_worker_up(spare_broker: Broker, eventually: Eventually) -> None:
    """Jobs are promoted within 50 ms of their due times (the median of 11), and never before."""
    names = [f"n{n}" for n in range(11)]
    async with maintained(spare_broker):
        await spare_broker.enqueue([new(name, delay_ms=300 + 70 * n) for n, name in enumerate(names)])

        late = await eventually(lambda: lateness(spare_broker, *names))

    assert min(late) >= 0
    assert statistics.median(late) <= ON_TIME_MS


async def test_a_job_that_is_due_before_the_next_look_is_on_time(spare_broker: Broker, eventually: Eventually) -> None:
    """A job scheduled for a time before the sleeping promoter's next look is promoted on time all the same."""
    late = []
    async with maintained(spare_broker):
        await spare_broker.enqueue([new("far", delay_ms=HOUR)])
        for n in range(7):
            await spare_broker.enqueue([new(f"n{n}", delay_ms=40 + 10 * n)])
            late += await eventually(lambda n=n: lateness(spare_broker, f"n{n}"))

    assert statistics.median(late) <= ON_TIME_MS


async def test_a_burst_is_promoted_without_a_pause(spare_broker: Broker, eventually: Eventually) -> None:
    """2,000 jobs that come due at one instant are all queued well within a second."""
    due = await now_ms(spare_broker) + 1_500
    names = [f"n{n}" for n in range(2_000)]
    async with maintained(spare_broker):
        await spare_broker.enqueue([new(name, schedule_time_ms=due) for name in names])
        counters = spare_broker.shard(0).queue("default")

        async def all_queued() -> bool:
            return await spare_broker.redis.hget(counters, "QUEUED") == b"2000"

        await eventually(all_queued)
        late = await lateness(spare_broker, *names)

    assert 0 <= min(late) <= max(late) <= 900


async def test_every_duty_is_done(spare: str, namespace: str, eventually: Eventually) -> None:
    """A lost lease, an expired job, an old dead letter and a silent worker are dealt with, each within its time."""
    async with Broker(url=spare, namespace=namespace, lease_ms=500) as broker:
        await start(broker, new("a"), new("d"))
        await finish(broker, D, Failed(failure=BOOM))
        await broker.enqueue([new("b", expire_time_ms=await now_ms(broker) + 300), new("c", delay_ms=200)])
        await broker.redis.zadd(broker.shard(0).dead("default"), {D: 1})
        await broker.redis.zadd(broker.shard(0).workers(), {"silent": 1})
        async with maintained(broker, dlq_retention_ms=DAY):
            await eventually(lambda: _is(broker, A, State.QUEUED))
            await eventually(lambda: _is(broker, B, State.EXPIRED))
            await eventually(lambda: _is(broker, C, State.QUEUED))

            async def tidy() -> bool:
                shard = broker.shard(0)
                return not await broker.redis.exists(shard.job(D), shard.dead("default"), shard.workers())

            await eventually(tidy)
        assert (await broker.get(A)).history[-1].reason == "LEASE_LOST"
        await audit(broker)


async def _is(broker: Broker, job: str, state: State) -> bool:
    return (await broker.get(job)).state is state


async def test_the_duties_survive_a_restart_of_the_store(
    own_valkey: Callable[..., Store], namespace: str, eventually: Eventually
) -> None:
    """The store dies twice; jobs that came due meanwhile are promoted when it is back, later ones on time, and the
    job of a worker that never came back is reclaimed.
    """
    store = own_valkey("--appendfsync", "always")
    async with Broker(url=store.url, namespace=namespace, lease_ms=600) as broker:
        await start(broker, new("a"))
        async with maintained(broker):
            for n in range(2):
                await broker.enqueue([new(f"during{n}", delay_ms=100), new(f"after{n}", delay_ms=2_000)])
                store.kill()
                store.start_again()
                late = await eventually(lambda n=n: lateness(broker, f"during{n}"))
                assert late[0] >= 0
                [late_after] = await eventually(lambda n=n: lateness(broker, f"after{n}"))
                assert 0 <= late_after <= 1_000
            await eventually(lambda: _is(broker, A, State.QUEUED), within=10)
        await audit(broker)


async def test_many_processes_may_maintain_one_namespace(spare: str, namespace: str, eventually: Eventually) -> None:
    """Four maintainers at once promote 400 jobs, each once."""
    names = [f"n{n}" for n in range(400)]
    async with AsyncExitStack() as stack:
        brokers = [await stack.enter_async_context(Broker(url=spare, namespace=namespace)) for _ in range(4)]
        for broker in brokers:
            await stack.enter_async_context(maintained(broker))
        await brokers[0].enqueue([new(name, delay_ms=100 + n % 50) for n, name in enumerate(names)])

        await eventually(lambda: lateness(brokers[0], *names))

        assert {await brokers[0].version(ident(name)) for name in names[::10]} == {2}
        await audit(brokers[0])


async def test_a_duty_that_fails_does_not_stop_the_others(spare: str, namespace: str, eventually: Eventually) -> None:
    """Where one key is broken, the duties that need it say so and try again; the others go on; and once it is
    repaired all goes on.
    """
    async with Broker(url=spare, namespace=namespace) as broker:
        await start(broker, new("d"))
        await finish(broker, D, Failed(failure=BOOM))
        await broker.redis.zadd(broker.shard(0).dead("default"), {D: 1})
        broken = await corrupt(broker, "pulse")
        async with maintained(broker, dlq_retention_ms=DAY):
            await broker.enqueue([new("a", delay_ms=50)])
            await eventually(lambda: lateness(broker, "a"))
            await broker.redis.delete(broken)

            async def reclaiming() -> bool:
                return bool(await broker.redis.exists(broken))

            await eventually(reclaiming)
        await audit(broker)


async def test_a_broken_queue_holds_up_no_other(spare: str, namespace: str, eventually: Eventually) -> None:
    """Regression: a key of the wrong type in one queue stopped the duties for the hundred queues of its call. It is
    told of, once for each duty, and the others go on; when it is repaired, so does that queue.
    """
    async with Broker(url=spare, namespace=namespace) as broker:
        await broker.enqueue([new(f"q{n}", queue=f"q{n}", delay_ms=300) for n in range(7)])
        broken = await corrupt(broker, "expiring:q3")
        with capture_logs() as lines:
            async with maintained(broker):
                others = [f"q{n}" for n in range(7) if n != 3]
                late = await eventually(lambda: lateness(broker, *others))
                await broker.enqueue([new("last", queue="q0", delay_ms=50)])
                await eventually(lambda: lateness(broker, "last"))
                await broker.redis.delete(broken)
                await eventually(lambda: lateness(broker, "q3"))
                await eventually(lambda: [line for line in lines if line["event"] == "duty resumed"])
        await audit(broker)
    assert max(late) < 1_000
    left_out = [line for line in lines if line["event"] == "duty left a queue out" and line["duty"] == "promote"]
    assert [line["error"] for line in left_out] == [f"q3: WRONGTYPE {broken} is a list, not a zset"]
