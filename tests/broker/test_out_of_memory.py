"""When the store is out of memory, new work is refused and running work completes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count

import pytest

from broker.audit import audit
from broker.moves import (
    BOOM,
    LEASE_OVER,
    WORKER,
    age,
    claim,
    fingerprint,
    finish,
    ids,
    make_due,
    make_expired,
    now_ms,
    start,
)
from broker.outcomes import OUTCOMES
from broker.state import A, B, C, D, Dump, ident, known, new
from harness.stores import Store
from harness.waiting import Eventually
from headrace_broker import Broker, Enqueued, Failed, Finish, Finished, Held, Reclaimed, StoreFull, Succeeded
from headrace_broker.job import DAY, HOUR

Starve = Callable[[], Awaitable[None]]


async def test_new_work_is_refused_and_leaves_nothing_behind(spare_broker: Broker, starve: Starve) -> None:
    """Enqueue raises StoreFull, and stores nothing: no record, no entry, no count."""
    await spare_broker.enqueue([new("a")])
    before = await fingerprint(spare_broker)
    await starve()

    for _ in range(2):
        with pytest.raises(StoreFull, match="maxmemory"):
            await spare_broker.enqueue([new("b"), new("c", queue="other", delay_ms=HOUR)])
        assert await fingerprint(spare_broker) == before


async def test_new_work_is_refused_by_a_store_that_has_forgotten_its_scripts(
    spare_broker: Broker, starve: Starve
) -> None:
    """Also where the script must be sent again."""
    await starve()
    await spare_broker.redis.script_flush()

    with pytest.raises(StoreFull):
        await spare_broker.enqueue([new("a")])


@pytest.mark.parametrize("name", OUTCOMES)
async def test_running_work_completes(spare_broker: Broker, starve: Starve, name: str) -> None:
    """A queued job is claimed, renewed, reports progress and ends, whatever its outcome."""
    dump = Dump(spare_broker, since_ms=await now_ms(spare_broker))
    await spare_broker.enqueue([new("a")])
    await starve()
    outcome, expected = OUTCOMES[name]

    assert ids(await claim(spare_broker)) == [A]
    assert await spare_broker.renew(worker=WORKER, held=[Held(job_id=A, token="t1")]) == [True]
    assert await finish(spare_broker, A, outcome) is Finished.WRITTEN
    assert await spare_broker.depart(worker="w1", queues=["default"]) == 0

    assert await dump() == {**known(), **expected}


async def test_progress_is_recorded(spare_broker: Broker, starve: Starve) -> None:
    """Progress is recorded."""
    await start(spare_broker, new("a"))
    await starve()

    assert await spare_broker.report_progress(A, "t1", fraction=0.5, message="half")


async def test_the_duties_go_on(spare_broker: Broker, starve: Starve) -> None:
    """Due jobs are promoted, lost ones reclaimed, expired ones ended, old dead letters deleted."""
    await start(spare_broker, new("a"), new("d"))
    await finish(spare_broker, D, Failed(failure=BOOM))
    await spare_broker.enqueue([new("b", delay_ms=HOUR)])
    await spare_broker.enqueue([new("c", expire_time_ms=await now_ms(spare_broker) + HOUR)])
    await age(spare_broker, A, LEASE_OVER)
    await make_due(spare_broker, B)
    await make_expired(spare_broker, C)
    await spare_broker.redis.zadd(spare_broker.shard(0).dead("default"), {D: 1})
    await starve()

    assert (await spare_broker.promote(shard=0, queues=["default"])).moved == 1
    assert await spare_broker.reclaim(shard=0, queues=["default"]) == Reclaimed(requeued=1)
    assert await spare_broker.expire(shard=0, queues=["default"]) == 1
    assert await spare_broker.trim(shard=0, queues=["default"], retention_ms=DAY) == 1
    await spare_broker.forget(shard=0, queues=["default"])
    assert ids(await claim(spare_broker, 5, token="t2")) == [A, B]


async def test_dead_letters_can_be_read(spare_broker: Broker, starve: Starve) -> None:
    """Whoever looks for the reason can read the dead letters, page by page, also for the first time."""
    await start(spare_broker, new("a"), new("b"))
    for job in (A, B):
        await finish(spare_broker, job, Failed(failure=BOOM))
    await starve()

    first = await spare_broker.dead_letters(page_size=1)
    second = await spare_broker.dead_letters(page_size=1, page_token=first.next_page_token)

    assert {job.job_id for page in (first, second) for job in page.jobs} == {A, B}


async def test_a_store_full_of_jobs_drains(
    own_valkey: Callable[..., Store], namespace: str, eventually: Eventually
) -> None:
    """A store that was really filled up, most of it with jobs for later, refuses the next job; when they are due all
    are promoted, run and end; and new work is taken again, without a restart.
    """
    store = own_valkey("--maxmemory", "12mb")
    async with Broker(url=store.url, namespace=namespace) as broker:
        names = [f"n{n}" async for n in _fill(broker)]
        assert len(names) > 50
        await audit(broker)

        await broker.redis.config_set("maxmemory", 0)
        await make_due(broker, *(ident(name) for name in names))
        await broker.redis.config_set("maxmemory", "12mb")
        while (await broker.promote(shard=0, queues=["default"])).more:
            continue
        done = 0
        while jobs := (await claim(broker, 10, token=f"t{done}")).jobs:
            finishes = [Finish(job_id=job.job_id, token=job.token, outcome=Succeeded()) for job in jobs]
            assert await broker.finish(finishes) == [Finished.WRITTEN] * len(jobs)
            done += len(jobs)

        assert done == len(names)
        await eventually(lambda: _is_taken(broker))
        await audit(broker)


async def _fill(broker: Broker) -> AsyncIterator[int]:
    """Stores jobs for later, n0, n1, …, until the store is full; yields the number of each that was stored."""
    for n in count():
        try:
            await broker.enqueue([new(f"n{n}", payload=b"x" * 100_000, retention_ms=0, delay_ms=HOUR)])
        except StoreFull:
            return
        yield n


async def _is_taken(broker: Broker) -> bool:
    """Tries to store one more job: the records that ended go when the store gets round to it."""
    try:
        [answer] = await broker.enqueue([new("again", payload=b"x" * 100_000)])
    except StoreFull:
        return False
    return isinstance(answer, Enqueued)
