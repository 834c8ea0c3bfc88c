"""The client over restarts of the server: no job is lost or made twice, no version left out or told twice."""

import asyncio
import random
import signal
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from client.rig import Hand, Server
from harness.waiting import Eventually, EventuallySync
from headrace import AsyncClient, AsyncJobHandle, Client, EventKind, JobState, NewJob, StatusEvent
from headrace_broker import Broker, Priority, Released, Succeeded


class Mover:
    """Moves one job to and fro, PROCESSING and QUEUED, until `finish`; needs no server for it.

    It is never more than 50 moves ahead of the watcher, plus what it is allowed: the record holds 500 transitions.
    """

    def __init__(self, hand: Hand, queue: str) -> None:
        self.moves = 0
        self._hand = hand
        self._queue = queue
        self._permits = asyncio.Semaphore(50)
        self._stopping = False

    async def run(self) -> None:
        """Move until stopped, then to SUCCEEDED."""
        while await self._permits.acquire() and not self._stopping:
            await self._hand.finish(await self._hand.claim(self._queue), Released())
            self.moves += 1
        await self._hand.finish(await self._hand.claim(self._queue), Succeeded(result=b'"done"'))

    def told(self, event: StatusEvent) -> None:
        """The watcher has been told `event`."""
        if event.state is JobState.QUEUED:
            self._permits.release()

    def allow(self, moves: int) -> None:
        """Go further ahead of the watcher."""
        for _ in range(moves):
            self._permits.release()

    def finish(self) -> None:
        """Let the job end."""
        self._stopping = True
        self._permits.release()


@pytest.fixture
async def own_hand(valkey: str, namespace: str) -> AsyncIterator[Hand]:
    """A worker by hand on the store of the test's own server."""
    async with Broker(url=valkey, namespace=namespace) as broker:
        yield Hand(broker)


def _assert_gapless(events: list[StatusEvent]) -> None:
    versions = [event.version for event in events if event.kind is not EventKind.PROGRESS]
    assert versions == list(range(versions[0], versions[0] + len(versions)))
    assert events[-1].state is JobState.SUCCEEDED
    assert events[-1].job is not None
    assert events[-1].job.result == "done"
    assert events[-1].job.version == versions[-1]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_watch_goes_on_over_restarts_of_the_server(
    own_server: Callable[..., Server], own_hand: Hand, queue: str, eventually: Eventually, how: signal.Signals
) -> None:
    """A server killed, or stopped, three times while the job moves on: every version is told once, in order."""
    server = own_server()
    events: list[StatusEvent] = []
    async with AsyncClient(server.target, timeout=20) as client:
        handle = await client.enqueue("t", queue=queue)
        mover = Mover(own_hand, queue)

        async def follow() -> None:
            async for event in handle.watch():
                events.append(event)
                mover.told(event)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(follow())
            moving = tasks.create_task(mover.run())
            for _ in range(3):
                seen = len(events)
                await eventually(lambda seen=seen: len(events) > seen + 5, within=20)
                server.process.signal(how)
                await asyncio.to_thread(server.process.wait)
                goal = mover.moves + 20
                mover.allow(20)
                await eventually(lambda goal=goal: mover.moves >= goal)
                await asyncio.to_thread(server.start_again)
            mover.finish()
            await moving
    _assert_gapless(events)
    assert len(events) > 120


def test_sync_watch_goes_on_over_a_restart(
    own_server: Callable[..., Server], valkey: str, namespace: str, queue: str, eventually_sync: EventuallySync
) -> None:
    """The same for the sync client: a watch in one thread sees no gap while the server is killed and started again."""
    server = own_server()
    events: list[StatusEvent] = []

    async def move(times: int, *, end: bool) -> None:
        async with Broker(url=valkey, namespace=namespace) as broker:
            hand = Hand(broker)
            for _ in range(times):
                await hand.finish(await hand.claim(queue), Released())
            if end:
                await hand.finish(await hand.claim(queue), Succeeded(result=b'"done"'))

    with Client(server.target, timeout=20) as client:
        handle = client.enqueue("t", queue=queue)
        watcher = threading.Thread(target=lambda: events.extend(handle.watch()))
        watcher.start()
        asyncio.run(move(3, end=False))
        server.kill()
        asyncio.run(move(3, end=False))
        server.start_again()
        asyncio.run(move(3, end=True))
        eventually_sync(lambda: not watcher.is_alive(), within=20)
    _assert_gapless(events)


async def test_result_outlives_a_restart(own_server: Callable[..., Server], own_hand: Hand, queue: str) -> None:
    """A caller that waits for a result gets it, though the server was away when the job ended."""
    server = own_server()
    async with AsyncClient(server.target, timeout=20) as client:
        handle = await client.enqueue("t", queue=queue)
        waiting = asyncio.create_task(handle.result(timeout=30))
        await anext(handle.watch())
        server.kill()
        await own_hand.succeed(queue, 42)
        await asyncio.to_thread(server.start_again)
        assert await waiting == 42


async def test_a_server_killed_between_acknowledgements_stores_each_job_once(
    own_server: Callable[..., Server], valkey: str, namespace: str, queue: str, eventually: Eventually
) -> None:
    """F01: SIGKILL, twice, at moments that a seed chooses, while 3,000 jobs stream in; the client sends again what was
    not answered, under the same request_ids: every job is answered, and there are exactly 3,000.
    """
    server, dice, size, batches = own_server(), random.Random(7), 50, 60
    answered: list[str] = []
    async with AsyncClient(server.target, timeout=30) as client:

        async def send(numbers: range) -> None:
            for number in numbers:
                jobs = [NewJob("t", n, queue=queue, request_id=f"{number}.{n}") for n in range(size)]
                for one in await client.enqueue_many(jobs):
                    assert isinstance(one, AsyncJobHandle)
                    answered.append(one.job_id)

        async with asyncio.TaskGroup() as tasks:
            for start in range(4):
                tasks.create_task(send(range(start, batches, 4)))
            for goal in sorted(dice.sample(range(200, 2_000), 2)):
                await eventually(lambda goal=goal: len(answered) >= goal)
                server.kill()
                assert len(answered) < batches * size, "it died too late to harm"
                await asyncio.to_thread(server.start_again)
    assert len(answered) == len(set(answered)) == batches * size
    async with Broker(url=valkey, namespace=namespace) as broker:
        shard = broker.shard(0)
        assert await broker.redis.hget(shard.queue(queue), "QUEUED") == b"%d" % (batches * size)
        entries = await broker.redis.xrange(shard.ready(queue, Priority.NORMAL))
        assert sorted(fields[b"j"].decode() for _, fields in entries) == sorted(answered)
