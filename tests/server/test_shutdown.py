"""The end of a server, in an order in which nobody is left without an answer."""

import asyncio
import time
from collections.abc import Callable

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from harness.waiting import Eventually
from headrace.v1.job_pb2 import JobSpec
from headrace.v1.job_service_pb2 import EnqueueRequest, StreamStatusRequest, StreamStatusResponse
from headrace.v1.job_service_pb2_grpc import JobServiceStub
from headrace_broker import CannotStart
from headrace_server.app import TELL_WATCHERS, Server

from .conftest import Hands, Serve, answer_of, next_message, refused

Kind = StreamStatusResponse.Kind
Connect = Callable[[Server], grpc.aio.Channel]


async def _store_job(stub: JobServiceStub) -> str:
    return (await stub.Enqueue(EnqueueRequest(job=JobSpec(type="t")))).job_id


async def test_everyone_is_told(serve: Serve, connect: Connect):
    """Health watchers hear NOT_SERVING, watchers of jobs are told and end well; all of it long before the grace is
    over, although all these streams were open.
    """
    server = await serve(grace=30.0, heartbeat=15.0)
    channel, other = connect(server), connect(server)
    stub = JobServiceStub(channel)
    watch = stub.StreamStatus(StreamStatusRequest(job_id=await _store_job(stub)))
    assert (await next_message(watch)).kind == Kind.KIND_SNAPSHOT
    healths = [
        health_pb2_grpc.HealthStub(other).Watch(health_pb2.HealthCheckRequest(service=name))
        for name in ("", "headrace.v1.JobService")
    ]
    for health in healths:
        assert (await next_message(health)).status == health_pb2.HealthCheckResponse.SERVING
    began = time.monotonic()
    stopping = asyncio.create_task(server.stop())
    for health in healths:
        assert (await next_message(health)).status == health_pb2.HealthCheckResponse.NOT_SERVING
    farewell = await next_message(watch)
    assert (farewell.kind, farewell.version) == (Kind.KIND_GOING_AWAY, 1)
    assert await next_message(watch) is grpc.aio.EOF
    assert await watch.code() == grpc.StatusCode.OK
    for health in healths:
        assert (await refused(health.read())).reason == "GOING_AWAY"
    await stopping
    assert time.monotonic() - began < TELL_WATCHERS


async def test_a_watch_goes_on_with_another_server(serve: Serve, connect: Connect, hands: Hands):
    """What one server told last, the next one resumes from: no version is missing or twice."""
    first, second = await serve(), await serve()
    stub = JobServiceStub(connect(first))
    job_id = await _store_job(stub)
    watch = stub.StreamStatus(StreamStatusRequest(job_id=job_id))
    told = [(await next_message(watch)).version]
    job = await hands.claim()
    told.append((await next_message(watch)).version)
    stopping = asyncio.create_task(first.stop())
    farewell = await next_message(watch)
    await stopping
    await hands.finish(job)
    request = StreamStatusRequest(job_id=job_id, after_version=farewell.version)
    told += [one.version async for one in JobServiceStub(connect(second)).StreamStatus(request)]
    assert (farewell.kind, told) == (Kind.KIND_GOING_AWAY, [1, 2, 3])


async def test_a_watcher_that_does_not_read(
    serve: Serve, connect: Connect, hands: Hands, capsys: pytest.CaptureFixture[str], eventually: Eventually
):
    """Health says NOT_SERVING first; then a watcher that cannot be told, because it does not read, holds the end up for
    a moment only, in which other calls still get their answers.
    """
    server = await serve(grace=30.0)
    stub = JobServiceStub(connect(server))
    job_id = await _store_job(stub)
    watch = stub.StreamStatus(StreamStatusRequest(job_id=job_id))
    assert (await next_message(watch)).kind == Kind.KIND_SNAPSHOT
    job = await hands.claim()
    for n in range(100):
        await hands.broker.report_progress(job_id, job.token, fraction=n / 100, message="x" * 200_000)
    stopping = asyncio.create_task(server.stop())
    await eventually(lambda: "draining" in capsys.readouterr().out)
    health = health_pb2_grpc.HealthStub(connect(server))
    asked = health_pb2.HealthCheckRequest(service="headrace.v1.JobService")
    assert (await health.Check(asked)).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert await _store_job(stub)
    async with asyncio.timeout(TELL_WATCHERS + 5):
        await stopping


async def test_calls_under_way_are_answered(serve: Serve, connect: Connect):
    """Jobs that were on their way when the server ends are stored and answered, or clearly refused."""
    server = await serve(grace=10.0)
    stub = JobServiceStub(connect(server))
    await _store_job(stub)
    calls = [asyncio.ensure_future(_outcome(stub)) for _ in range(100)]
    await calls[0]
    await server.stop()
    outcomes = await asyncio.gather(*calls)
    assert outcomes[0] == "OK"
    assert set(outcomes) <= {"OK", "UNAVAILABLE"}


async def _outcome(stub: JobServiceStub) -> str:
    try:
        await _store_job(stub)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def test_no_watch_begins_during_the_end(serve: Serve, connect: Connect):
    """A watch that arrives while the server ends is sent elsewhere at once."""
    server = await serve()
    stub = JobServiceStub(connect(server))
    job_id = await _store_job(stub)
    server._watchers.drain.begin()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.StreamStatus(StreamStatusRequest(job_id=job_id)).read()
    assert answer_of(caught.value).reason == "GOING_AWAY"


async def test_stop_is_idempotent(serve: Serve):
    """A server may be stopped twice."""
    server = await serve()
    await asyncio.gather(server.stop(), server.stop())
    await server.stop()


async def test_nothing_is_left_running(valkey: str, namespace: str, serve: Serve, eventually: Eventually):
    """A stopped server leaves no task behind."""
    before = asyncio.all_tasks()
    server = await serve()
    await server.stop()
    await eventually(lambda: not {task for task in asyncio.all_tasks() - before if not task.done()})


async def test_port_in_use(serve: Serve):
    """A second server on the same port does not start, and says why and what to do."""
    server = await serve()
    with pytest.raises(CannotStart, match=r"cannot listen on 127.0.0.1:\d+: address already in use.*HEADRACE_LISTEN"):
        await serve(listen=f"127.0.0.1:{server.port}")


async def test_unix_socket(serve: Serve, tmp_path):
    """A server may listen on a Unix socket."""
    await serve(listen=f"unix:{tmp_path}/s")
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/s") as channel:
        assert await _store_job(JobServiceStub(channel))
