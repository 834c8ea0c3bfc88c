"""Peers that vanish without a word, and connections that must not stay where they are for ever."""

import asyncio
from collections.abc import Callable

import grpc
import pytest

from client.rig import Hand
from harness.proxy import Mode, Proxy
from harness.waiting import Eventually
from headrace import AsyncClient, JobState, StatusEvent
from headrace._channel import _options
from headrace.v1.job_pb2 import JobSpec
from headrace.v1.job_service_pb2 import EnqueueRequest, StreamStatusRequest
from headrace.v1.job_service_pb2_grpc import JobServiceStub
from headrace_broker import Broker, Released, Succeeded
from headrace_server.app import Server

from .conftest import Serve, next_message, refused

QUICK = {"grpc.keepalive_time_ms": 1_000, "grpc.keepalive_timeout_ms": 1_000, "grpc.http2.ping_timeout_ms": 1_000}


async def test_both_ends_notice_a_peer_that_has_vanished(
    serve: Serve, connect: Callable[[Server], grpc.aio.Channel], eventually: Eventually
) -> None:
    """F68, regression: the network swallows everything between a watcher and its server, and tells neither. The server
    takes the seat back, the client's stream breaks, each after its own keepalive and the time for an answer: here 1 + 1
    s in place of 60 + 20 and 30 + 10. (gRPC waited a minute for the answer, whatever `keepalive_timeout_ms` said.)
    """
    server = await serve(keepalive=1, max_watchers=1, heartbeat=0.2)
    stub = JobServiceStub(connect(server))
    job_id = (await stub.Enqueue(EnqueueRequest(job=JobSpec(type="t")))).job_id
    request = StreamStatusRequest(job_id=job_id)
    target = f"127.0.0.1:{server.port}"
    options = [(name, QUICK.get(name, value)) for name, value in _options(target)]
    assert len({name for name, _ in options} & set(QUICK)) == len(QUICK)
    async with (
        Proxy(target) as link,
        grpc.aio.insecure_channel(f"127.0.0.1:{link.port}", options=options) as far,
    ):
        lost = JobServiceStub(far).StreamStatus(request)
        await next_message(lost)
        assert (await refused(stub.StreamStatus(request).read())).reason == "TOO_MANY_WATCHERS"
        link.mode = Mode(swallow=True, swallow_ends=True)

        await eventually(lambda: server._watchers.seated == 0, within=10)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _read_on(lost)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert await next_message(stub.StreamStatus(request))


async def _read_on(call: grpc.aio.UnaryStreamCall) -> None:
    while await next_message(call, within=10) is not grpc.aio.EOF:
        continue


async def test_connections_move_to_a_server_that_was_added(
    serve: Serve, broker: Broker, eventually: Eventually
) -> None:
    """F70: new connections go to another server. A client that is connected already, with calls and a watch under way,
    is asked to connect anew at the connection's age, and so comes along: no call fails, no version is lost.
    """
    old, new = [await serve(connection_age=1, watch_age=1) for _ in range(2)]
    hand = Hand(broker)
    async with (
        Proxy(f"127.0.0.1:{old.port}") as to_old,
        Proxy(f"127.0.0.1:{new.port}") as to_new,
        Proxy(f"127.0.0.1:{to_old.port}") as balancer,
        AsyncClient(f"127.0.0.1:{balancer.port}", timeout=5) as client,
    ):
        handle = await client.enqueue("t")

        async def follow() -> list[StatusEvent]:
            return [event async for event in handle.watch()]

        watching = asyncio.create_task(follow())
        await eventually(lambda: old._watchers.seated == 1)
        balancer.target = f"127.0.0.1:{to_new.port}"

        async def moved() -> bool:
            await handle.get()
            await hand.finish(await hand.claim("default"), Released())
            return to_old.connections == 0 and new._watchers.seated == 1

        await eventually(moved, within=10)
        await hand.finish(await hand.claim("default"), Succeeded())
        events = await watching
    versions = [event.version for event in events]
    assert versions == list(range(1, len(versions) + 1))
    assert events[-1].state is JobState.SUCCEEDED
