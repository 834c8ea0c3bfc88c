"""Durability over the wire: the level in the answer, what is refused, and what a caller hears of a missing replica."""

import asyncio
import time
import uuid
from collections.abc import Callable

import grpc
import pytest

from harness.processes import Spawn
from harness.proxy import Mode, Proxy
from harness.stores import Store
from headrace.v1.job_pb2 import JobSpec
from headrace.v1.job_service_pb2 import BatchEnqueueRequest, EnqueueRequest, GetJobRequest
from headrace.v1.job_service_pb2_grpc import JobServiceStub
from headrace_broker import Broker
from headrace_server.app import Server

from .conftest import Answer, Serve, refused

ACCEPTED = EnqueueRequest.DURABILITY_ACCEPTED
FSYNCED = EnqueueRequest.DURABILITY_FSYNCED
REPLICATED = EnqueueRequest.DURABILITY_REPLICATED

Connect = Callable[[Server], grpc.aio.Channel]


def _request(durability: EnqueueRequest.Durability = 0, request_id: str = "") -> EnqueueRequest:
    return EnqueueRequest(job=JobSpec(type="t"), request_id=request_id, durability=durability)


@pytest.fixture
def disk(own_valkey: Callable[..., Store]) -> str:
    """The URL of a store that syncs every write."""
    return own_valkey("--appendfsync", "always").url


async def test_the_answer_says_what_was_reached(disk: str, serve: Serve, connect: Connect):
    """Alone, in a group and in a batch, the answer has the level that was asked for, or the server's default."""
    by_default = JobServiceStub(connect(await serve(redis_url=disk)))
    strict = JobServiceStub(connect(await serve(redis_url=disk, durability="fsynced")))

    answers = await asyncio.gather(*(by_default.Enqueue(_request(n % 3)) for n in range(60)))
    assert [one.durability for one in answers] == [n % 3 or ACCEPTED for n in range(60)]
    assert (await strict.Enqueue(_request())).durability == FSYNCED
    assert (await strict.Enqueue(_request(ACCEPTED))).durability == ACCEPTED

    items = [_request(), _request(FSYNCED), _request(ACCEPTED)]
    results = (await by_default.BatchEnqueue(BatchEnqueueRequest(requests=items, durability=FSYNCED))).results
    assert [one.job.durability for one in results[:2]] == [FSYNCED, FSYNCED]
    other = Answer(grpc.StatusCode.INVALID_ARGUMENT, results[2].error)
    assert (other.reason, list(other.fields)) == ("INVALID_REQUEST", ["requests[2].durability"])


async def test_calls_share_a_confirmation(disk: str, serve: Serve, connect: Connect):
    """Three hundred calls at once are confirmed in a few groups, not each by itself, where confirming takes a while."""
    async with Proxy(disk.replace("unix://", "unix:")) as slow:
        slow.mode = Mode(delay=0.05)
        stub = JobServiceStub(connect(await serve(redis_url=f"redis://127.0.0.1:{slow.port}/0")))
        await asyncio.gather(*(stub.Enqueue(_request(FSYNCED)) for _ in range(300)))
    async with Broker(url=disk) as broker:
        stats = await broker.redis.info("commandstats")
    assert stats["cmdstat_config|get"]["calls"] < 100


async def test_a_level_that_cannot_be_had_is_refused(stub: JobServiceStub):
    """FSYNCED of a store without an append-only file is FAILED_PRECONDITION, names the field, and stores nothing."""
    name = str(uuid.uuid4())
    for call in (
        stub.Enqueue(_request(FSYNCED, name)),
        stub.BatchEnqueue(BatchEnqueueRequest(requests=[_request(request_id=name)], durability=FSYNCED)),
    ):
        answer = await refused(call)
        assert (answer.code, answer.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "DURABILITY_UNSUPPORTED")
        [violation] = answer.details["precondition_failure"].violations
        assert violation.subject == "durability"
        assert answer.message.startswith("durability: FSYNCED cannot be had from this store: ")
        assert "appendonly is no, not yes" in answer.message
        answer.tells_no_internals()
    assert not (await stub.Enqueue(_request(request_id=name))).deduplicated


async def test_a_level_that_is_not_reached_is_told_once(serve: Serve, connect: Connect):
    """No replica: UNAVAILABLE after one wait, not five, with the job's id. The same request again finds the first job,
    and is not confirmed either; each job of a batch is told by itself.
    """
    stub = JobServiceStub(connect(await serve(durability_timeout_ms=300)))
    name = str(uuid.uuid4())
    for _ in range(2):
        begun = time.monotonic()
        answer = await refused(stub.Enqueue(_request(REPLICATED, name)))
        assert time.monotonic() - begun < 2
        assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "DURABILITY_NOT_REACHED")
        assert set(answer.details) == {"error_info", "retry_info"}
        assert "0 of 1 replicas confirmed it within 300 ms" in answer.message
        answer.tells_no_internals()
    job_id = answer.details["error_info"].metadata["job_id"]
    assert (await stub.GetJob(GetJobRequest(job_id=job_id))).job.version == 1

    batch = BatchEnqueueRequest(requests=[_request(request_id=name), EnqueueRequest()], durability=REPLICATED)
    results = (await stub.BatchEnqueue(batch)).results
    told = [Answer(grpc.StatusCode.UNKNOWN, one.error) for one in results]
    assert [one.reason for one in told] == ["DURABILITY_NOT_REACHED", "INVALID_REQUEST"]
    again = await stub.Enqueue(_request(request_id=name))
    assert (again.job_id, again.deduplicated, again.durability) == (job_id, True, ACCEPTED)


async def test_who_asks_for_nothing_waits_for_nothing(serve: Serve, connect: Connect):
    """Jobs that have only to be accepted do not wait for those that have to be replicated."""
    stub = JobServiceStub(connect(await serve(durability_timeout_ms=1_000)))
    waiting = asyncio.ensure_future(stub.Enqueue(_request(REPLICATED)))
    for _ in range(20):
        await stub.Enqueue(_request())
    assert not waiting.done()
    assert (await refused(waiting)).reason == "DURABILITY_NOT_REACHED"


def test_f06_a_default_that_the_store_cannot_keep_ends_the_start(spawn: Spawn, valkey: str, namespace: str):
    """F06: a server that is to keep all jobs on disk does not start on a store that has none; it says what is wrong."""
    settings = {"HEADRACE_REDIS_URL": valkey, "HEADRACE_NAMESPACE": namespace, "HEADRACE_LISTEN": "127.0.0.1:0"}
    process = spawn("python", "-m", "headrace_server", environment={**settings, "HEADRACE_DURABILITY": "fsynced"})
    assert process.wait() == 1
    [line] = [line for line in process.lines if line.startswith("headrace-server:")]
    assert "HEADRACE_DURABILITY is fsynced, but the store does not sync every write: appendonly is no, not yes" in line

    process = spawn("python", "-m", "headrace_server", environment={**settings, "HEADRACE_DURABILITY": "replicated"})
    process.wait_for_line("HEADRACE_DURABILITY is replicated, on 1, but 0 replicas are connected")
    process.wait_for_line('"port": ')
