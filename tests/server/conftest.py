"""A whole server inside the test's event loop, on a real socket and a real Valkey."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from harness.web import Web
from headrace.v1.job_service_pb2_grpc import JobServiceStub
from headrace_broker import Broker, ClaimedJob, Finish, Outcome, Succeeded, new_token
from headrace_server.app import Server
from headrace_server.settings import ServerSettings

DETAILS = {
    "error_info": error_details_pb2.ErrorInfo,
    "bad_request": error_details_pb2.BadRequest,
    "resource_info": error_details_pb2.ResourceInfo,
    "retry_info": error_details_pb2.RetryInfo,
    "precondition_failure": error_details_pb2.PreconditionFailure,
}
INTERNALS = ("Traceback", "redis", "valkey", ".py", "/work", "/tmp", "Error(", "Exception", "headrace_broker", "lua")


class Answer:
    """An error as a client reads it: code, message, and the details by name."""

    def __init__(self, code: grpc.StatusCode, status: status_pb2.Status) -> None:
        self.code = code
        self.message = status.message
        self.details: dict[str, Message] = {}
        for packed in status.details:
            for name, kind in DETAILS.items():
                detail = kind()
                if packed.Unpack(detail):
                    assert name not in self.details, f"{name} is there twice"
                    self.details[name] = detail
        self.text = f"{status.message} {self.details}"

    @property
    def reason(self) -> str:
        """The reason of the ErrorInfo, which every error must carry."""
        info = self.details["error_info"]
        assert info.domain == "headrace"
        return info.reason

    @property
    def fields(self) -> dict[str, str]:
        """Path → description of the violations in the BadRequest."""
        return {one.field: one.description for one in self.details["bad_request"].field_violations}

    def tells_no_internals(self) -> None:
        """Fail if the texts name code, files, the store or an exception."""
        assert not [word for word in INTERNALS if word.lower() in self.text.lower()], self.text


def answer_of(error: grpc.aio.AioRpcError) -> Answer:
    """The error that a call raised."""
    status = rpc_status.from_call(error)
    assert status is not None, f"{error.code()} without details: {error.details()}"
    assert status.code == error.code().value[0]
    return Answer(error.code(), status)


async def refused(call: Awaitable[object]) -> Answer:
    """The error that the call must raise."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return answer_of(caught.value)


class Hands:
    """Does what a worker does to jobs, without a worker."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    async def claim(self, queue: str = "default") -> ClaimedJob:
        """Claim the next job of the queue; it must be there."""
        claims = await self.broker.claim(shard=0, worker="hands", queues=[queue], count=1, token=new_token())
        (job,) = claims.jobs
        return job

    async def finish(self, job: ClaimedJob, outcome: Outcome | None = None) -> None:
        """Write the outcome, by default that it succeeded."""
        outcome = outcome or Succeeded()
        await self.broker.finish([Finish(job_id=job.job_id, token=job.token, outcome=outcome)])

    async def run(self, outcome: Outcome | None = None) -> ClaimedJob:
        """Claim and finish the next job."""
        job = await self.claim()
        await self.finish(job, outcome)
        return job


@pytest.fixture
def hands(broker: Broker) -> Hands:
    """See Hands; in the namespace of the server."""
    return Hands(broker)


Serve = Callable[..., Awaitable[Server]]


@pytest.fixture
async def serve(valkey: str, namespace: str) -> AsyncIterator[Serve]:
    """Start servers with the settings that a test gives; they are stopped when it ends."""
    async with AsyncExitStack() as stack:

        async def start(**settings: object) -> Server:
            own = {"redis_url": valkey, "namespace": namespace, "listen": "127.0.0.1:0", "http_listen": ""}
            given = {**own, "grace": 1.0, **settings}
            return await stack.enter_async_context(Server(ServerSettings(**given)))

        yield start


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[Server], grpc.aio.Channel]]:
    """Opens a channel to the server it is given, and closes it at the end of the test."""
    async with AsyncExitStack() as stack:

        def open_channel(server: Server) -> grpc.aio.Channel:
            channel = grpc.aio.insecure_channel(
                f"127.0.0.1:{server.port}", options=[("grpc.use_local_subchannel_pool", 1)]
            )
            stack.push_async_callback(channel.close)
            return channel

        yield open_channel


@pytest.fixture
async def server(serve: Serve) -> Server:
    """A running server with the default settings."""
    return await serve()


@pytest.fixture
async def channel(server: Server, connect: Callable[[Server], grpc.aio.Channel]) -> grpc.aio.Channel:
    """A channel to `server`."""
    return connect(server)


@pytest.fixture
async def stub(channel: grpc.aio.Channel) -> JobServiceStub:
    """The JobService of `server`."""
    return JobServiceStub(channel)


@pytest.fixture
async def web(serve: Serve) -> Web:
    """HTTP to a server of its own, with the default settings."""
    server = await serve(http_listen="127.0.0.1:0")
    return Web(server.http_port)


async def next_message(call: grpc.aio.UnaryStreamCall, *, within: float = 5.0) -> object:
    """The next message of a stream; grpc.aio.EOF at its end."""
    async with asyncio.timeout(within):
        return await call.read()
