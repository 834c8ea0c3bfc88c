"""Health per service: the process is up, and the store answers."""

import asyncio
from collections.abc import Callable

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from harness.stores import Store
from harness.waiting import Eventually
from headrace.v1.job_pb2 import JobSpec
from headrace.v1.job_service_pb2 import (
    BatchEnqueueRequest,
    EnqueueRequest,
    GetJobRequest,
    ListDLQRequest,
    StreamStatusRequest,
)
from headrace.v1.job_service_pb2_grpc import JobServiceStub
from headrace_server.app import SERVICES, Server
from headrace_server.job_service import SERVICE

from .conftest import Serve, next_message, refused

Status = health_pb2.HealthCheckResponse
Connect = Callable[[Server], grpc.aio.Channel]


async def _check(channel: grpc.aio.Channel, service: str) -> int:
    response = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
    return response.status


@pytest.mark.parametrize("service", ["", *SERVICES])
async def test_healthy(channel: grpc.aio.Channel, service: str):
    """A server that has started serves, as a process and as each of its services."""
    assert await _check(channel, service) == Status.SERVING


async def test_unknown_service(channel: grpc.aio.Channel):
    """A service that is not there has no health."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _check(channel, "nope")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_an_outage_of_the_store(own_valkey: Callable[..., Store], serve: Serve, connect: Connect):
    """While the store is down JobService is NOT_SERVING, the process still is; both flip back by themselves, and
    every method is UNAVAILABLE with a RetryInfo and tells no internals.
    """
    store = own_valkey()
    channel = connect(await serve(redis_url=store.url))
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
    assert (await next_message(watch)).status == Status.SERVING
    await asyncio.to_thread(store.kill)
    assert (await next_message(watch)).status == Status.NOT_SERVING
    assert (await _check(channel, ""), await _check(channel, SERVICE)) == (Status.SERVING, Status.NOT_SERVING)
    await _all_unavailable(JobServiceStub(channel))
    await asyncio.to_thread(store.start_again)
    assert (await next_message(watch)).status == Status.SERVING
    assert (await JobServiceStub(channel).Enqueue(EnqueueRequest(job=JobSpec(type="t")))).job_id


async def _all_unavailable(stub: JobServiceStub) -> None:
    one = EnqueueRequest(job=JobSpec(type="t"))
    job_id = "0" * 26
    calls = {
        "Enqueue": stub.Enqueue(one),
        "BatchEnqueue": stub.BatchEnqueue(BatchEnqueueRequest(requests=[one])),
        "GetJob": stub.GetJob(GetJobRequest(job_id=job_id)),
        "ListDLQ": stub.ListDLQ(ListDLQRequest()),
        "StreamStatus": stub.StreamStatus(StreamStatusRequest(job_id=job_id)).read(),
    }
    for call in calls.values():
        answer = await refused(call)
        assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
        assert answer.details["retry_info"].retry_delay.seconds > 0
        answer.tells_no_internals()


async def test_a_full_store(own_valkey: Callable[..., Store], serve: Serve, connect: Connect):
    """A store at its maxmemory takes no new jobs: RESOURCE_EXHAUSTED with a RetryInfo. Reading goes on."""
    store = own_valkey("--maxmemory", "8mb")
    stub = JobServiceStub(connect(await serve(redis_url=store.url)))
    large = EnqueueRequest(job=JobSpec(type="t", payload=b"x" * 2**20))
    stored = await stub.Enqueue(EnqueueRequest(job=JobSpec(type="t")))
    while True:
        try:
            await stub.Enqueue(large)
        except grpc.aio.AioRpcError:
            break
    answer = await refused(stub.Enqueue(large))
    assert (answer.code, answer.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "STORE_FULL")
    assert answer.details["retry_info"].retry_delay.seconds > 0
    answer.tells_no_internals()
    assert (await stub.GetJob(GetJobRequest(job_id=stored.job_id))).job.job_id == stored.job_id


async def test_an_outage_is_not_logged_call_by_call(
    own_valkey: Callable[..., Store], serve: Serve, connect: Connect, eventually: Eventually
):
    """Regression: each of hundreds of calls a second that failed had a line of its own. The first has one, the others
    of that second have one together, with their number.
    """
    store = own_valkey()
    stub = JobServiceStub(connect(await serve(redis_url=store.url)))
    await asyncio.to_thread(store.kill)
    with capture_logs() as lines:
        for _ in range(60):
            await refused(stub.GetJob(GetJobRequest(job_id="0" * 26)))
        told = [line for line in lines if line.get("code") == "UNAVAILABLE"]
        assert len(told) <= 2 * 5
        assert (told[0]["event"], told[0]["method"]) == ("call", "/headrace.v1.JobService/GetJob")
        await eventually(lambda: sum(line.get("count", 1) for line in lines if line.get("code") == "UNAVAILABLE") == 60)
