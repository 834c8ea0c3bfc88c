"""A watch while the store is away: it waits, says that it is alive, and gives up only when its patience ends."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from harness.stores import Store
from headrace.v1.job_service_pb2 import StreamStatusResponse
from headrace_broker import RESYNC, Bell, Broker, JobSpec, NewJob, StoreUnavailable
from headrace_server._drain import Drain
from headrace_server._watch import Pace, Watch

from .conftest import Hands

Kind = StreamStatusResponse.Kind


class Scene:
    """One job in a store that the test may kill, and a watch of it whose bell the test rings."""

    def __init__(self, *, store: Store, broker: Broker, job_id: str) -> None:
        self.store = store
        self.broker = broker
        self.job_id = job_id
        self.bell = Bell()

    def messages(self, pace: Pace) -> AsyncIterator[StreamStatusResponse]:
        """What the watch tells its client."""
        watch = Watch(job_id=self.job_id, raw=False, broker=self.broker, bell=self.bell, drain=Drain(), pace=pace)
        return watch.messages(None)


@pytest.fixture
async def scene(own_valkey: Callable[..., Store], namespace: str) -> AsyncIterator[Scene]:
    """See Scene."""
    store = own_valkey()
    async with Broker(url=store.url, namespace=namespace) as broker:
        (stored,) = await broker.enqueue([NewJob(spec=JobSpec(type="t"))])
        yield Scene(store=store, broker=broker, job_id=stored.job_id)


async def test_it_reads_again_until_the_store_is_back(scene: Scene):
    """A watch that could not read the record tries again by itself, between two heartbeats, and loses nothing."""
    messages = scene.messages(Pace(heartbeat=60.0))
    assert (await anext(messages)).version == 1
    await Hands(scene.broker).claim()
    await asyncio.to_thread(scene.store.kill)
    scene.bell.put(RESYNC)
    telling = asyncio.ensure_future(anext(messages))
    assert await asyncio.wait({telling}, timeout=0.2) == (set(), {telling})
    await asyncio.to_thread(scene.store.start_again)
    async with asyncio.timeout(5):
        assert (await telling).version == 2
    await messages.aclose()


@pytest.mark.parametrize("rings", [True, False])
async def test_its_patience_ends(scene: Scene, *, rings: bool):
    """A store that stays away for too long ends the watch as unavailable; until then there are heartbeats."""
    messages = scene.messages(Pace(heartbeat=0.05, patience=0.3))
    await anext(messages)
    await asyncio.to_thread(scene.store.kill)
    if rings:
        scene.bell.put(RESYNC)
    beats: list[StreamStatusResponse] = []
    with pytest.raises(StoreUnavailable):
        await _gather(messages, beats)
    assert {message.kind for message in beats} == {Kind.KIND_HEARTBEAT}
    assert len(beats) >= 3


async def _gather(messages: AsyncIterator[StreamStatusResponse], into: list[StreamStatusResponse]) -> None:
    async for message in messages:
        into.append(message)  # noqa: PERF401  what was told before it fails must be kept
