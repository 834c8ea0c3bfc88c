"""The limits that grpc is given, seen from the wire, and callers that go away at any moment."""

import asyncio
import random
import uuid
from collections.abc import Callable

import grpc
import pytest

from harness.waiting import Eventually
from headrace.v1.job_pb2 import JobSpec
from headrace.v1.job_service_pb2 import BatchEnqueueRequest, EnqueueRequest
from headrace.v1.job_service_pb2_grpc import JobServiceStub
from headrace_server._options import METADATA_BYTES
from headrace_server.app import Server

from .conftest import Serve

MIB = 2**20


def _request(request_id: str = "", payload: bytes = b"") -> EnqueueRequest:
    return EnqueueRequest(job=JobSpec(type="t", payload=payload), request_id=request_id)


async def test_metadata_has_one_exact_limit(stub: JobServiceStub):
    """Metadata below the limit always passes, above it never: no lottery in between."""
    small = [("x", "y" * (METADATA_BYTES - 1_500))]
    large = [("x", "y" * (METADATA_BYTES + 500))]
    for _ in range(6):
        assert (await stub.Enqueue(_request(), metadata=small)).job_id
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Enqueue(_request(), metadata=large)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_batch_up_to_the_size_of_a_message(stub: JobServiceStub):
    """Seven of the largest jobs fit into one batch, and each is stored."""
    batch = BatchEnqueueRequest(requests=[_request(payload=bytes([n]) * MIB) for n in range(7)])
    assert [one.WhichOneof("result") for one in (await stub.BatchEnqueue(batch)).results] == ["job"] * 7


async def test_the_payload_limit_is_a_setting(serve: Serve, connect: Callable[[Server], grpc.aio.Channel]):
    """A server may be told to take larger or smaller jobs."""
    stub = JobServiceStub(connect(await serve(max_payload=10)))
    assert (await stub.Enqueue(_request(payload=b"x" * 10))).job_id
    with pytest.raises(grpc.aio.AioRpcError, match="at most 10 bytes"):
        await stub.Enqueue(_request(payload=b"x" * 11))


async def test_callers_that_go_away(stub: JobServiceStub, server: Server, eventually: Eventually):
    """Calls that are cancelled at random moments leave no task behind and never make a second job of a request."""
    chance = random.Random(3)
    names = [str(uuid.uuid4()) for _ in range(300)]
    tasks = len(asyncio.all_tasks())

    async def give_up(name: str) -> None:
        call = stub.Enqueue(_request(name))
        done, _ = await asyncio.wait([asyncio.ensure_future(call)], timeout=chance.uniform(0, 0.02))
        if not done:
            call.cancel()

    await asyncio.gather(*(give_up(name) for name in names))
    answers = await asyncio.gather(*(stub.Enqueue(_request(name)) for name in names))
    assert len({one.job_id for one in answers}) == len(names)
    assert {one.version for one in answers} == {1}
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks)
    assert server._calls._unary_calls == 0
