"""A failover to a replica that was behind: what the old primary acknowledged last has never happened."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import pytest

from broker.moves import lose
from harness.proxy import Mode, Proxy
from harness.stores import Store
from headrace.v1.job_pb2 import Job, JobSpec
from headrace.v1.job_service_pb2 import EnqueueRequest, GetJobRequest, StreamStatusRequest
from headrace.v1.job_service_pb2_grpc import JobServiceStub
from headrace_broker import Broker, ClaimedJob, Finish, Finished, Released, State, Succeeded
from headrace_server.app import Server

from .conftest import Hands, Serve, refused
from .test_watch import next_news, rest_of


class Pair:
    """A primary, a replica behind a link that can be cut, and a front that everybody else talks to."""

    def __init__(self, *, primary: Store, replica: Store, link: Proxy, front: Proxy, namespace: str) -> None:
        self._primary = primary
        self._replica = replica
        self._link = link
        self._front = front
        self._namespace = namespace
        self.url = f"redis://127.0.0.1:{front.port}/0"

    async def cut_off_the_replica(self, broker: Broker) -> None:
        """Once it has everything that was written so far."""
        async with broker.redis.pipeline(transaction=False) as last:  # WAIT asks for the writes of its own connection
            last.set("last", "write")
            last.wait(1, 5_000)
            assert (await last.execute())[1] == 1
        self._link.mode = Mode(swallow=True)

    @asynccontextmanager
    async def promoted(self) -> AsyncIterator[Broker]:
        """The primary dies. Enters with a broker of the new one, which nobody else talks to yet."""
        await asyncio.to_thread(self._primary.kill)
        async with Broker(url=self._replica.url, namespace=self._namespace) as broker:
            await broker.redis.replicaof("NO", "ONE")
            yield broker

    def let_everybody_talk_to_it(self) -> None:
        """As Sentinel would have them."""
        self._front.target = _target(self._replica)
        self._front.reset()


def _target(store: Store) -> str:
    return store.url.replace("unix://", "unix:")


@pytest.fixture
async def pair(own_valkey: Callable[..., Store], namespace: str) -> AsyncIterator[Pair]:
    """See Pair."""
    primary = await asyncio.to_thread(own_valkey, "--repl-diskless-sync-delay", "0")
    async with Proxy(_target(primary)) as link, Proxy(_target(primary)) as front:
        replica = await asyncio.to_thread(own_valkey, "--replicaof", "127.0.0.1", str(link.port))
        yield Pair(primary=primary, replica=replica, link=link, front=front, namespace=namespace)


@pytest.fixture
async def stub(pair: Pair, serve: Serve, connect: Callable[[Server], grpc.aio.Channel]) -> JobServiceStub:
    """The JobService of a server that talks to the front."""
    return JobServiceStub(connect(await serve(redis_url=pair.url, heartbeat=0.2)))


@pytest.fixture
async def before(pair: Pair, namespace: str) -> AsyncIterator[Hands]:
    """A worker by hand, by the front."""
    async with Broker(url=pair.url, namespace=namespace) as broker:
        yield Hands(broker)


async def _store_job(stub: JobServiceStub) -> str:
    return (await stub.Enqueue(EnqueueRequest(job=JobSpec(type="t")))).job_id


async def _late(broker: Broker, job: ClaimedJob) -> Finished:
    """Writes the outcome of a claim."""
    [answer] = await broker.finish([Finish(job_id=job.job_id, token=job.token, outcome=Succeeded())])
    return answer


async def test_a_job_that_a_failover_brings_back_runs_again_and_its_watchers_are_told(
    pair: Pair, stub: JobServiceStub, before: Hands
) -> None:
    """F10, F11: what a job did since the replica was cut off is gone. Whoever watched that is told that the record was
    set back, instead of seeing the job go backwards; the job runs again; and a claim that the new primary has never
    seen writes nothing there.
    """
    ended, running = await _store_job(stub), await _store_job(stub)
    first = await before.claim()
    await pair.cut_off_the_replica(before.broker)
    await before.finish(first)
    assert (await stub.GetJob(GetJobRequest(job_id=ended))).job.state == Job.STATE_SUCCEEDED
    unknown = await before.claim()
    watch = stub.StreamStatus(StreamStatusRequest(job_id=running))
    assert (await next_news(watch)).version == 2
    async with pair.promoted() as after:
        pair.let_everybody_talk_to_it()
        answer = await refused(next_news(watch))
        assert (answer.code, answer.reason) == (grpc.StatusCode.OUT_OF_RANGE, "VERSION_AHEAD")
        resumed = await refused(stub.StreamStatus(StreamStatusRequest(job_id=ended, after_version=3)).read())
        assert resumed.reason == "VERSION_AHEAD"

        assert await _late(after, unknown) is Finished.STALE
        assert (await stub.GetJob(GetJobRequest(job_id=ended))).job.state == Job.STATE_PROCESSING
        await lose(after, ended)
        again = [await Hands(after).claim() for _ in range(2)]
        assert {one.job_id for one in again} == {ended, running}
        assert len({first.token, unknown.token, *(one.token for one in again)}) == 4
        assert await _late(after, first) is Finished.STALE
        assert [await _late(after, one) for one in again] == [Finished.WRITTEN] * 2
        assert [(await after.get(job)).state for job in (ended, running)] == [State.SUCCEEDED] * 2
        story = await rest_of(stub.StreamStatus(StreamStatusRequest(job_id=ended, after_version=0)))
        assert [one.version for one in story] == [1, 2, 3, 4, 5]


async def test_a_story_that_goes_on_differently_after_a_failover_is_not_told_as_the_same(
    pair: Pair, stub: JobServiceStub, before: Hands
) -> None:
    """F10, regression: where the new primary had already overtaken the version that a watcher was told last, the
    watcher went on as if nothing had happened, with steps that did not follow from those before.
    """
    job_id = await _store_job(stub)
    watch = stub.StreamStatus(StreamStatusRequest(job_id=job_id))
    await next_news(watch)
    await pair.cut_off_the_replica(before.broker)
    await before.run(Released())
    assert [(await next_news(watch)).version for _ in range(2)] == [2, 3]
    async with pair.promoted() as after:
        for _ in range(2):
            await Hands(after).run(Released())
        pair.let_everybody_talk_to_it()
        answer = await refused(next_news(watch))
        assert (answer.code, answer.reason) == (grpc.StatusCode.OUT_OF_RANGE, "HISTORY_REWOUND")
        assert "leave after_version out" in answer.fields["after_version"]
        assert (await next_news(stub.StreamStatus(StreamStatusRequest(job_id=job_id)))).version == 5
