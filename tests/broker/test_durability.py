"""confirm.py: what each level of durability promises, on a real primary with a real replica, and on stores without."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from broker.state import new
from broker.test_store import configured
from harness.disk import Disk
from harness.pairs import Pair
from harness.stores import STORES, Store
from harness.waiting import Eventually
from headrace_broker import (
    Broker,
    Confirmation,
    Durability,
    DurabilityNotReached,
    DurabilityUnsupported,
    Enqueued,
    JobNotFound,
    JobSpec,
    NewJob,
    RequestIdReused,
    StoreUnfit,
)
from headrace_broker.keys import job_id

ACCEPTED, FSYNCED, REPLICATED = Durability
SHORT = Confirmation(timeout_ms=150)

Open = Callable[..., Broker]


@pytest.fixture
async def open_broker(namespace: str) -> AsyncIterator[Open]:
    """`open_broker(url, Confirmation(…))`: a broker that the test's end closes."""
    async with AsyncExitStack() as stack:

        def open_one(url: str, confirmation: Confirmation = SHORT) -> Broker:
            one = Broker(url=url, namespace=namespace, confirmation=confirmation)
            stack.push_async_callback(one.aclose)
            return one

        yield open_one


@pytest.fixture(params=STORES)
def own_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Store]]:
    """`own_store("--appendonly", "no")`: a store of the test's own, once a Valkey 9, once a Redis 7."""
    stores: list[Store] = []

    def start(*options: str) -> Store:
        server = "redis-server" if request.param == "redis7" else ""
        stores.append(Store(data=tmp_path / "store", options=options, server=server))
        return stores[-1]

    yield start
    for one in stores:
        one.close()


async def put(broker: Broker, *names: str, durability: Durability) -> list[object]:
    """Enqueues jobs under these request_ids."""
    return list(await broker.enqueue([new(name) for name in names], durability=durability))


async def kept(broker: Broker, *names: str) -> list[bool]:
    """Whether each of these jobs is there."""

    async def there(name: str) -> bool:
        try:
            await broker.get(job_id(name, shards=1))
        except JobNotFound:
            return False
        return True

    return [await there(name) for name in names]


def levels(answers: list[object]) -> list[object]:
    """The level of each answer, or the error's type."""
    return [one.durability if isinstance(one, Enqueued) else type(one) for one in answers]


# --- on disk


async def test_f06_fsynced_is_refused_where_there_is_no_append_only_file(spare_broker: Broker) -> None:
    """F06: a store without an append-only file refuses FSYNCED before it has stored anything, and takes the rest."""
    with pytest.raises(DurabilityUnsupported, match="appendonly is no, not yes"):
        await put(spare_broker, "a", durability=FSYNCED)

    assert await kept(spare_broker, "a") == [False]
    assert levels(await put(spare_broker, "a", durability=ACCEPTED)) == [ACCEPTED]


async def test_fsynced_with_always(own_store: Callable[..., Store], open_broker: Open) -> None:
    """With appendfsync always both stores offer FSYNCED, and a kill right after the answer takes nothing away."""
    store = own_store("--appendfsync", "always")
    broker = open_broker(store.url)
    names = [f"job-{n}" for n in range(450)]

    assert levels(await put(broker, *names, durability=FSYNCED)) == [FSYNCED] * 450
    store.kill()
    store.start_again()
    assert all(await kept(open_broker(store.url), *names))


async def test_f05_fsynced_is_refused_with_everysec(spare_broker: Broker) -> None:
    """F05: everysec answers before its fsync, so FSYNCED is refused with it, and with fsyncs that pause for a rewrite.
    Once `always` has ended under us, what was written then is not confirmed, and later jobs are refused.
    """
    async with configured(spare_broker, no_appendfsync_on_rewrite="no", appendfsync="everysec", appendonly="yes"):
        with pytest.raises(DurabilityUnsupported, match="appendfsync is everysec, not always"):
            await put(spare_broker, "a", durability=FSYNCED)

        await spare_broker.redis.config_set("appendfsync", "always")
        assert levels(await put(spare_broker, "a", durability=FSYNCED)) == [FSYNCED]

        await spare_broker.redis.config_set("no-appendfsync-on-rewrite", "yes")
        assert levels(await put(spare_broker, "b", durability=FSYNCED)) == [DurabilityNotReached]
        with pytest.raises(DurabilityUnsupported, match="no-appendfsync-on-rewrite is yes, not no"):
            await put(spare_broker, "c", durability=FSYNCED)
        assert await kept(spare_broker, "a", "b", "c") == [True, True, False]


async def test_a_user_that_may_not_read_settings(spare_broker: Broker, spare: str, open_broker: Open) -> None:
    """Where CONFIG is forbidden, whether writes are synced cannot be told, and so it is not promised."""
    commands = ["+@all", "-config"]
    await spare_broker.redis.acl_setuser("timid", enabled=True, nopass=True, keys="*", channels="*", commands=commands)
    try:
        broker = open_broker(spare.replace("://", "://timid:any@"))
        with pytest.raises(DurabilityUnsupported, match="does not let this user read its settings"):
            await put(broker, "a", durability=FSYNCED)
        assert levels(await put(broker, "a", durability=ACCEPTED)) == [ACCEPTED]
    finally:
        await spare_broker.redis.acl_deluser("timid")


async def test_f05_a_stalled_disk(disk: Disk, tmp_path: Path, open_broker: Open, eventually: Eventually) -> None:
    """F05: while the disk stalls, a store with everysec accepts jobs that a power loss takes away; with `always` no job
    is answered that is not on disk.
    """
    kept_of = {}
    for policy in ("everysec", "always"):
        store = Store(data=tmp_path / policy, options=("--appendfsync", policy), environment=disk.environment)
        try:
            broker = open_broker(store.url)
            await put(broker, "a", durability=FSYNCED if policy == "always" else ACCEPTED)
            await eventually(lambda store=store: disk.holds_all(store))
            disk.stall()
            late = asyncio.create_task(put(broker, "b", durability=ACCEPTED))
            answered, _ = await asyncio.wait([late], timeout=0.3)
            disk.lose_power(store)
            store.start_again()
            kept_of[policy] = (bool(answered), *await kept(open_broker(store.url), "a", "b"))
            await asyncio.wait([late])
        finally:
            store.close()
    assert kept_of == {"everysec": (True, True, False), "always": (False, True, False)}


# --- on replicas


async def test_f08_a_failover_keeps_what_was_replicated(pair: Pair, open_broker: Open) -> None:
    """F08: behind a dead link, jobs are accepted, and a failover loses them; those that were REPLICATED it keeps. The
    store is asked once, however many jobs a call has, and not at all by default.
    """
    broker = open_broker(pair.primary.url, Confirmation(timeout_ms=5_000))
    names = [f"job-{n}" for n in range(1_000)]
    assert levels(await put(broker, *names, durability=REPLICATED)) == [REPLICATED] * 1_000

    pair.link.mode.swallow = True
    assert levels(await put(broker, "c", durability=ACCEPTED)) == [ACCEPTED]
    assert await calls(broker, "wait") == 1
    hurried = open_broker(pair.primary.url, SHORT)
    assert levels(await put(hurried, "d", durability=REPLICATED)) == [DurabilityNotReached]

    promoted = open_broker(await pair.fail_over())
    assert await kept(promoted, *names, "c", "d") == [True] * 1_000 + [False, False]


async def test_f09_a_write_that_is_not_confirmed_is_not_taken_back(
    pair: Pair, open_broker: Open, eventually: Eventually
) -> None:
    """F09: the job is there and its producer knows that it is not confirmed. The same request again, from anyone, finds
    the first job; it is confirmed by replicas that have that job, and by no others.
    """
    pair.link.mode.swallow = True
    first = open_broker(pair.primary.url)
    [answer] = await put(first, "a", durability=REPLICATED)
    assert isinstance(answer, DurabilityNotReached)
    assert (answer.durability, answer.why) == (REPLICATED, "0 of 1 replicas confirmed it within 150 ms")
    assert (await first.get(answer.job_id)).version == 1

    other = open_broker(pair.primary.url)  # its connections have written nothing, so WAIT would ask for nothing
    assert levels(await put(other, "a", durability=REPLICATED)) == [DurabilityNotReached]

    pair.link.pass_on()
    pair.link.reset()
    await eventually(lambda: pair.link.connections)
    await pair.in_step()
    third = open_broker(pair.primary.url, Confirmation(timeout_ms=5_000))
    [again] = await put(third, "a", durability=REPLICATED)
    assert isinstance(again, Enqueued)
    assert (again.job_id, again.deduplicated, again.durability) == (answer.job_id, True, REPLICATED)


async def test_replicas_that_are_missing(own_valkey: Callable[..., Store], open_broker: Open) -> None:
    """A store with fewer replicas than asked for confirms nothing; a reused request_id is told all the same."""
    broker = open_broker(own_valkey().url, Confirmation(replicas=3, timeout_ms=20))
    await put(broker, "a", durability=ACCEPTED)

    other = NewJob(spec=JobSpec(type="another"), request_id="a")
    answers = await broker.enqueue([other, new("b")], durability=REPLICATED)

    assert levels(list(answers)) == [RequestIdReused, DurabilityNotReached]
    assert "0 of 3 replicas" in str(answers[1])


async def test_waiting_for_replicas_holds_up_nobody_else(own_valkey: Callable[..., Store], open_broker: Open) -> None:
    """While more calls than there are connections wait for replicas that do not come, other calls go through."""
    broker = open_broker(own_valkey().url, Confirmation(timeout_ms=400))
    waiting = [asyncio.create_task(put(broker, f"w{n}", durability=REPLICATED)) for n in range(24)]

    async with asyncio.timeout(0.4):
        assert levels(await put(broker, "a", durability=ACCEPTED)) == [ACCEPTED]
        assert not any(task.done() for task in waiting)
    assert {level for task in waiting for level in levels(await task)} == {DurabilityNotReached}


# --- the default, at the start


async def test_a_default_that_cannot_be_had_refuses_the_store(
    own_valkey: Callable[..., Store], open_broker: Open
) -> None:
    """Where the default is FSYNCED, a store without an append-only file is unfit; missing replicas are warned of."""
    url = own_valkey("--appendonly", "no").url
    with pytest.raises(StoreUnfit, match="HEADRACE_DURABILITY is fsynced, but the store does not sync every write"):
        await open_broker(url, Confirmation(default=FSYNCED)).check()
    info = await open_broker(url, Confirmation(default=REPLICATED, replicas=2)).check()
    assert [one for one in info.warnings if "on 2, but 0 replicas are connected" in one]
    assert len((await open_broker(url).check()).warnings) == 1


async def calls(broker: Broker, command: str) -> int:
    """How often the store has run a command."""
    stats = await broker.redis.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])
