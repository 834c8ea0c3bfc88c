"""The broker room's fixtures: the whole state in one dict, the events that scripts publish, stores of its own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from broker.audit import audit
from broker.hearing import Hearing
from broker.moves import now_ms, stop
from broker.state import Dump, wipe
from broker.sweep import sweep
from harness.stores import STORES, Store
from harness.topologies import Cluster
from headrace_broker import Broker, Subscription


@pytest.fixture
async def store_broker(store_broker: Broker) -> AsyncIterator[Broker]:
    """As everywhere; and afterwards its namespace is audited (see audit.py, sweep.py), then emptied."""
    yield store_broker
    await audit(store_broker)
    assert await sweep(store_broker, recount=True) == {}
    await wipe(store_broker)


@pytest.fixture
async def broker(broker: Broker) -> AsyncIterator[Broker]:
    """As everywhere; audited and emptied afterwards."""
    yield broker
    await audit(broker)
    assert await sweep(broker, recount=True) == {}
    await wipe(broker)


@pytest.fixture
async def dump(store_broker: Broker) -> Dump:
    """See Dump: the whole state of `store_broker`'s namespace."""
    return Dump(store_broker, since_ms=await now_ms(store_broker))


@pytest.fixture
async def heard(store_broker: Broker) -> AsyncIterator[Hearing]:
    """`await heard.of(A, B)` at first; then `await heard.events(A)`: what was published of a job, as lines."""
    hearing = Hearing(store_broker)
    yield hearing
    await hearing.aclose()


@pytest.fixture(scope="session")
def _spare_valkey9(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store(data=tmp_path_factory.mktemp("spare-valkey9"), options=("--appendonly", "no"))
    yield store
    store.close()


@pytest.fixture(scope="session")
def _spare_redis7(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store(data=tmp_path_factory.mktemp("spare-redis7"), options=("--appendonly", "no"), server="redis-server")
    yield store
    store.close()


@pytest.fixture(scope="session")
def _spare_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    store = Cluster(directory=tmp_path_factory.mktemp("spare-cluster"), primaries=1, options=("--appendonly", "no"))
    yield store
    store.close()


@pytest.fixture(params=STORES)
def spare(request: pytest.FixtureRequest) -> str:
    """The URL of a store that only this room uses, so that its tests may flush, starve and disconnect it."""
    store: Store | Cluster = request.getfixturevalue(f"_spare_{request.param}")
    return store.url


@pytest.fixture
async def spare_broker(spare: str, namespace: str) -> AsyncIterator[Broker]:
    """A Broker on a store that may be flushed, starved and disconnected; audited afterwards."""
    async with Broker(url=spare, namespace=namespace) as one:
        await one.ping()
        yield one
        await one.redis.config_set("maxmemory", 0)
        await audit(one)
        assert await sweep(one, recount=True) == {}
        await one.redis.flushall()
        await one.redis.script_flush()


@pytest.fixture
def starve(spare_broker: Broker) -> Callable[[], object]:
    """Returns what takes all memory from the spare store."""

    async def starve_now() -> None:
        await spare_broker.redis.config_set("maxmemory", 1)

    return starve_now


@pytest.fixture
async def subscription(spare_broker: Broker) -> AsyncIterator[Subscription]:
    """A running Subscription of `spare_broker`."""
    one = Subscription(spare_broker)
    task = asyncio.create_task(one.run(), name="subscription")
    yield one
    await stop(task)
