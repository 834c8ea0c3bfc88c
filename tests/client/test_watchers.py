"""Watching at scale and under bad luck: quick jobs, broken connections, slow readers, many readers."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import pytest

from client.rig import Hand, Server
from client.test_restart import Mover
from harness.processes import Spawn
from harness.proxy import Proxy
from harness.waiting import Eventually
from headrace import AsyncClient, AsyncJobHandle, EventKind, JobNotFound, JobState, NewJob, StatusEvent
from headrace.v1.job_service_pb2 import StreamStatusRequest, StreamStatusResponse
from headrace.v1.job_service_pb2_grpc import JobServiceStub
from headrace_broker import Broker, Finish, Finished, Succeeded
from headrace_broker.store import POOL

KIB = 1024


@pytest.fixture
async def own_broker(valkey: str, namespace: str) -> AsyncIterator[Broker]:
    """The store of the test's own server."""
    async with Broker(url=valkey, namespace=namespace) as broker:
        yield broker


async def test_jobs_that_end_at_once_are_seen_to_end(
    own_server: Callable[..., Server], spawn: Spawn, valkey: str, namespace: str
) -> None:
    """F60: a real worker does 300 jobs of nothing, each watched right after it was stored: every watch tells every
    version from its first to the last, and ends.
    """
    server = own_server()
    settings = {"HEADRACE_REDIS_URL": valkey, "HEADRACE_NAMESPACE": namespace, "HEADRACE_CONCURRENCY": "20"}
    worker = spawn("python", "-m", "headrace_worker", "headrace_worker.echo:worker", environment=settings)
    worker.wait_for_line("worker ready")
    async with AsyncClient(server.target, timeout=20) as client:

        async def story() -> list[StatusEvent]:
            handle = await client.enqueue("echo.process", "x")
            return [event async for event in handle.watch()]

        async def stories() -> list[list[StatusEvent]]:
            return [await story() for _ in range(15)]

        told = itertools.chain(*await asyncio.gather(*(stories() for _ in range(20))))
    for events in told:
        versions = [event.version for event in events if event.kind is not EventKind.PROGRESS]
        assert versions == list(range(versions[0], 4))
        assert events[-1].state is JobState.SUCCEEDED


async def test_a_watch_over_twenty_broken_connections_tells_each_version_once(
    valkey: str, namespace: str, own_broker: Broker, queue: str, eventually: Eventually
) -> None:
    """F61: the connections between client and server, and between server and store, are reset in turn, twenty times
    while the job moves on.
    """
    events: list[StatusEvent] = []
    async with Proxy(valkey.replace("unix://", "unix:")) as store_link:
        server = await asyncio.to_thread(Server, url=f"redis://127.0.0.1:{store_link.port}/0", namespace=namespace)
        async with Proxy(server.target) as link, AsyncClient(f"127.0.0.1:{link.port}", timeout=20) as client:
            handle = await client.enqueue("t", queue=queue)
            mover = Mover(Hand(own_broker), queue)

            async def follow() -> None:
                async for event in handle.watch():
                    events.append(event)
                    mover.told(event)

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(follow())
                moving = tasks.create_task(mover.run())
                for proxy in [link, store_link] * 10:
                    seen = len(events)
                    await eventually(lambda seen=seen: len(events) > seen)
                    proxy.reset()
                mover.finish()
                await moving
        await asyncio.to_thread(server.close)
    versions = [event.version for event in events]
    assert versions == list(range(versions[0], versions[0] + len(versions)))
    assert events[-1].state is JobState.SUCCEEDED
    assert len(events) > 40


async def test_a_watched_job_that_ages_out_is_told_to_its_end(
    client: AsyncClient, hand: Hand, queue: str, eventually: Eventually
) -> None:
    """F62: a record that is kept for a second. A watcher of the job hears its end; one who comes later is told that
    there is no such job, at once, whatever it has seen before.
    """
    handle = await client.enqueue("t", queue=queue, retention=1)
    events = [await anext(watch := handle.watch())]
    await hand.succeed(queue)
    events += [event async for event in watch]
    assert [event.state for event in events] == [JobState.QUEUED, JobState.PROCESSING, JobState.SUCCEEDED]

    async def gone() -> bool:
        try:
            await handle.get()
        except JobNotFound:
            return True
        return False

    await eventually(gone)
    for after_version in (None, 0, 2, 3):
        async with asyncio.timeout(5):
            with pytest.raises(JobNotFound):
                await anext(handle.watch(after_version=after_version))


async def test_a_watcher_that_reads_slowly_costs_the_server_no_memory(
    own_server: Callable[..., Server], own_broker: Broker, queue: str
) -> None:
    """F63: of 2,000 reports of 20 KiB a watcher reads three. Once the connection is full, the server's memory
    stays where it is; the end is told when the watcher gets there.
    """
    server, hand = own_server(), Hand(own_broker)
    async with grpc.aio.insecure_channel(server.target) as channel, AsyncClient(server.target) as client:
        handle = await client.enqueue("t", queue=queue)
        watch = JobServiceStub(channel).StreamStatus(StreamStatusRequest(job_id=handle.job_id))
        await watch.read()
        job = await hand.claim(queue)

        async def report(count: int) -> None:
            for n in range(count // 20):
                await asyncio.gather(*(hand.progress(job, n * 20 / count, f"{i}" + "x" * 20 * KIB) for i in range(20)))

        await report(500)
        await watch.read()
        full = _memory(server)
        await report(1_500)
        await watch.read()
        assert _memory(server) < full + 5 * KIB * KIB
        await hand.finish(job, Succeeded())
        messages = []
        while (message := await watch.read()) is not grpc.aio.EOF:
            messages.append(message)
    news = [message for message in messages if message.kind == StreamStatusResponse.KIND_PROGRESS]
    assert len(news) < 1_000, "everything was kept for it"
    assert [message.version for message in messages if message.kind == StreamStatusResponse.KIND_TRANSITION][-1] == 3
    assert messages[-1].job.job_id == handle.job_id


async def test_a_thousand_watchers_share_the_servers_connections(
    own_server: Callable[..., Server], own_broker: Broker, queue: str
) -> None:
    """F64: 1,000 watchers of as many jobs open no connections of their own to the store; other calls are answered as
    before, and each watcher hears the end of its job.
    """
    server = own_server()
    async with AsyncClient(server.target, timeout=20) as client:
        stored = await client.enqueue_many([NewJob("t", n, queue=queue) for n in range(1_000)])
        handles = [one for one in stored if isinstance(one, AsyncJobHandle)]
        before = await _connections(own_broker)
        watches = [handle.watch() for handle in handles]
        first = await asyncio.gather(*(anext(watch) for watch in watches))
        assert {event.kind for event in first} == {EventKind.SNAPSHOT}
        assert await _connections(own_broker) <= before + POOL

        waits = []
        for handle in handles[:100]:
            began = time.monotonic()
            await handle.get()
            waits.append(time.monotonic() - began)
        assert sorted(waits)[95] < 0.1

        while (await own_broker.claim(shard=0, worker="w", queues=[queue], count=1_000, token="t")).more:
            continue
        finishes = [Finish(job_id=handle.job_id, token="t", outcome=Succeeded()) for handle in handles]
        assert set(await own_broker.finish(finishes)) == {Finished.WRITTEN}
        ends = await asyncio.gather(*(_last(watch) for watch in watches))
    assert {end.state for end in ends} == {JobState.SUCCEEDED}


async def _last(watch: AsyncIterator[StatusEvent]) -> StatusEvent:
    return [event async for event in watch][-1]


async def _connections(broker: Broker) -> int:
    return int((await broker.redis.info("clients"))["connected_clients"])


def _memory(server: Server) -> int:
    """Bytes that the server's process has in memory."""
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * 4 * KIB
