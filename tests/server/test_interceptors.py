"""What surrounds every call, seen from the wire: bytes that are no message, methods that are none, faults of ours."""

import asyncio
import random
from collections.abc import AsyncIterator

import grpc
import pytest

from headrace.v1 import job_service_pb2
from headrace_server._drain import Drain
from headrace_server.errors import TooManyWatchers
from headrace_server.interceptors import CallInterceptor

from .conftest import answer_of, refused

METHODS = [method.name for method in job_service_pb2.DESCRIPTOR.services_by_name["JobService"].methods]
SECRET = "redis://user:hunter2@10.0.0.1/0"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("raw", [b"\xff", b"\x0a\xff", b"\x0a\x02\xc3\x28", b"\x0f"], ids=repr)
async def test_bytes_that_are_no_message(channel: grpc.aio.Channel, method: str, raw: bytes):
    """Bytes that are not the message are INVALID_ARGUMENT and tell nothing of how they were parsed."""
    path = f"/headrace.v1.JobService/{method}"
    call = channel.unary_stream(path)(raw) if method == "StreamStatus" else channel.unary_unary(path)(raw)
    answer = await refused(call.read() if method == "StreamStatus" else call)
    assert answer.code == grpc.StatusCode.INVALID_ARGUMENT
    assert answer.reason in {"MALFORMED_REQUEST", "INVALID_REQUEST"}  # some of them happen to parse
    answer.tells_no_internals()


async def test_random_bytes(channel: grpc.aio.Channel):
    """Random bytes never crash the server, and never get more than a clean refusal."""
    chance = random.Random(7)
    call = channel.unary_unary("/headrace.v1.JobService/Enqueue")
    results = await asyncio.gather(
        *(call(chance.randbytes(chance.randrange(1, 60))) for _ in range(300)), return_exceptions=True
    )
    for answer in (answer_of(one) for one in results if isinstance(one, grpc.aio.AioRpcError)):
        assert answer.code == grpc.StatusCode.INVALID_ARGUMENT
        answer.tells_no_internals()


@pytest.mark.parametrize(
    "path", ["/headrace.v1.JobService/Nope", "/no.such.Service/Nope", "/grpc.health.v1.Health/List"]
)
async def test_methods_that_are_not_there(channel: grpc.aio.Channel, path: str):
    """A method that is not served is UNIMPLEMENTED, with details like every error."""
    answer = await refused(channel.unary_unary(path)(b""))
    assert (answer.code, answer.reason) == (grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED")
    answer.tells_no_internals()


async def _unary_fault(request: bytes, context: object) -> bytes:
    raise ValueError(SECRET)


async def _generator_fault(request: bytes, context: object) -> AsyncIterator[bytes]:
    yield b"first"
    raise ValueError(SECRET)


async def _writing_fault(request: bytes, context: grpc.aio.ServicerContext) -> None:
    await context.write(b"first")
    raise ValueError(SECRET)


async def _reading_fault(requests: AsyncIterator[bytes], context: object) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request
        raise ValueError(SECRET)


async def _aborts(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
    await context.abort(grpc.StatusCode.ABORTED, "by the handler's own will")


async def _hangs(request: bytes, context: object) -> bytes:
    await asyncio.Event().wait()


async def _waits_for_ever(request: bytes, context: grpc.aio.ServicerContext) -> None:
    await context.write(b"first")
    await asyncio.Event().wait()


async def _refuses(request: bytes, context: object) -> AsyncIterator[bytes]:
    raise TooManyWatchers(3)
    yield b""


@pytest.fixture
async def streams() -> Drain:
    """The drain of the streams of `faulty`."""
    return Drain()


@pytest.fixture
async def faulty(streams: Drain) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server of handlers that fail in every way there is."""
    server = grpc.aio.server(interceptors=[CallInterceptor(drain=streams, unary_limit=0.2)])
    handlers = {
        "unary_fault": grpc.unary_unary_rpc_method_handler(_unary_fault),
        "generator_fault": grpc.unary_stream_rpc_method_handler(_generator_fault),
        "writing_fault": grpc.unary_stream_rpc_method_handler(_writing_fault),
        "reading_fault": grpc.stream_stream_rpc_method_handler(_reading_fault),
        "aborts": grpc.unary_unary_rpc_method_handler(_aborts),
        "hangs": grpc.unary_unary_rpc_method_handler(_hangs),
        "waits_for_ever": grpc.unary_stream_rpc_method_handler(_waits_for_ever),
        "refuses": grpc.unary_stream_rpc_method_handler(_refuses),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("faulty", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(0)


def _call_of(channel: grpc.aio.Channel, name: str) -> grpc.aio.UnaryStreamCall:
    if name == "reading_fault":
        return channel.stream_stream(f"/faulty/{name}")(iter([b"x"]))
    return channel.unary_stream(f"/faulty/{name}")(b"x")


@pytest.mark.parametrize("name", ["unary_fault", "generator_fault", "writing_fault", "reading_fault"])
async def test_faults_of_ours(faulty: grpc.aio.Channel, name: str, capsys: pytest.CaptureFixture[str]):
    """Whatever a handler of any kind raises is INTERNAL with an id; its text is in the log under that id alone."""
    if name == "unary_fault":
        answer = await refused(faulty.unary_unary(f"/faulty/{name}")(b"x"))
    else:
        call = _call_of(faulty, name)
        await call.read()
        answer = await refused(call.read())
    assert (answer.code, answer.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "hunter2" not in answer.text
    answer.tells_no_internals()
    logged = capsys.readouterr().out
    assert answer.details["error_info"].metadata["error_id"] in logged
    assert "hunter2" in logged


async def test_a_handlers_own_abort_is_left_alone(faulty: grpc.aio.Channel):
    """A status that a handler chose itself reaches the client as it is."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await faulty.unary_unary("/faulty/aborts")(b"")
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.ABORTED, "by the handler's own will")


async def test_a_call_that_hangs_is_ended(faulty: grpc.aio.Channel):
    """A unary call without a deadline ends at the server's own limit."""
    answer = await refused(faulty.unary_unary("/faulty/hangs")(b""))
    assert (answer.code, answer.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "TOOK_TOO_LONG")


async def test_a_stream_may_be_refused_before_its_first_message(faulty: grpc.aio.Channel):
    """An error before the first message of a stream is told like that of a unary call."""
    answer = await refused(_call_of(faulty, "refuses").read())
    assert (answer.code, answer.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_WATCHERS")


async def test_streams_end_when_the_server_does(faulty: grpc.aio.Channel, streams: Drain):
    """A stream that would wait for ever is ended by the drain, its client told to call again; so is every new call."""
    call = _call_of(faulty, "waits_for_ever")
    assert await call.read() == b"first"
    streams.begin()
    answer = await refused(call.read())
    assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "GOING_AWAY")
    late = await refused(_call_of(faulty, "waits_for_ever").read())
    unary = await refused(faulty.unary_unary("/faulty/hangs")(b""))
    assert (late.reason, unary.reason) == ("GOING_AWAY", "GOING_AWAY")
