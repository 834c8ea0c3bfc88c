"""What goes over the wire: how many calls, and what happens when their replies are lost."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from client.rig import Hand, Server
from headrace import AsyncClient, AsyncJobHandle, NewJob
from headrace.v1 import job_service_pb2_grpc


class Relay(job_service_pb2_grpc.JobServiceServicer):
    """Between client and server: passes enqueues on, counts them, and loses the first replies when it is told to."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.calls: list[tuple[str, int]] = []
        self.replies_to_lose = 0
        self.how = grpc.StatusCode.UNAVAILABLE
        self._stub = job_service_pb2_grpc.JobServiceStub(channel)

    async def Enqueue(self, request, context):  # noqa: N802 - the contract's name
        """Pass it on."""
        self.calls.append(("Enqueue", 1))
        return await self._answered(await self._stub.Enqueue(request), context)

    async def BatchEnqueue(self, request, context):  # noqa: N802 - the contract's name
        """Pass it on."""
        self.calls.append(("BatchEnqueue", len(request.requests)))
        return await self._answered(await self._stub.BatchEnqueue(request), context)

    async def _answered(self, reply, context):
        if self.replies_to_lose:
            self.replies_to_lose -= 1
            await context.abort(self.how, "connection reset")
        return reply

    GetJob = StreamStatus = ListDLQ = Enqueue


@pytest.fixture
async def relayed(server: Server) -> AsyncIterator[tuple[AsyncClient, Relay]]:
    """A client that reaches the real server through a relay."""
    async with grpc.aio.insecure_channel(server.target) as channel:
        relay = Relay(channel)
        front = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        job_service_pb2_grpc.add_JobServiceServicer_to_server(relay, front)
        port = front.add_insecure_port("127.0.0.1:0")
        await front.start()
        async with AsyncClient(f"127.0.0.1:{port}") as client:
            yield client, relay
        await front.stop(None)


async def test_concurrent_enqueues_travel_together(relayed: tuple[AsyncClient, Relay], queue: str) -> None:
    """100 concurrent enqueues reach the server as one or two calls, and are 100 jobs."""
    client, relay = relayed
    handles = await asyncio.gather(*(client.enqueue("t", n, queue=queue) for n in range(100)))
    assert len({handle.job_id for handle in handles}) == 100
    assert sum(count for _, count in relay.calls) == 100
    assert len(relay.calls) <= 2


async def test_lone_enqueues_are_unary(relayed: tuple[AsyncClient, Relay], queue: str) -> None:
    """Enqueues that follow each other go as plain Enqueue calls."""
    client, relay = relayed
    for n in range(3):
        await client.enqueue("t", n, queue=queue)
    assert relay.calls == [("Enqueue", 1)] * 3


@pytest.mark.parametrize("how", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
async def test_lost_replies_make_no_second_job(
    relayed: tuple[AsyncClient, Relay], hand: Hand, queue: str, how: grpc.StatusCode
) -> None:
    """When the server stores jobs and its replies are lost, the client repeats the call, and each job is there once.
    A server that ends while it is called may say CANCELLED in place of UNAVAILABLE.
    """
    through, relay = relayed
    relay.replies_to_lose, relay.how = 2, how
    handle = await through.enqueue("t", 1, queue=queue)
    assert relay.calls == [("Enqueue", 1)] * 3
    assert handle.deduplicated
    relay.replies_to_lose = 1
    handles = await through.enqueue_many([NewJob("t", n, queue=queue) for n in (2, 3)])
    assert relay.calls[3:] == [("BatchEnqueue", 2)] * 2
    assert all(isinstance(one, AsyncJobHandle) and one.deduplicated for one in handles)
    assert {(await hand.claim(queue)).job_id for _ in range(3)} == {one.job_id for one in (handle, *handles)}
    assert await hand.poll(queue) is None
