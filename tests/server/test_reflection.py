"""The server describes itself to grpcurl (reflection v1alpha) and buf curl (v1), word for word as the README says."""

import asyncio
import json
import shutil
import sys
from pathlib import Path

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2

from harness.processes import Spawn
from headrace.v1 import job_service_pb2
from headrace_server.app import Server

from .conftest import Hands, Serve, refused

SERVICES = ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"]
METHODS = [method.name for method in job_service_pb2.DESCRIPTOR.services_by_name["JobService"].methods]


def tool(name: str) -> str:
    """The path of a tool that is installed beside Python, or on PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found, f"{name} is not installed"
    return found


class Curl:
    """Runs grpcurl against the server, in a process of its own, while the server's loop goes on."""

    def __init__(self, spawn: Spawn, server: Server) -> None:
        self._spawn = spawn
        self._address = f"127.0.0.1:{server.port}"

    async def __call__(self, *arguments: str, data: str = "", code: int = 0) -> str:
        """What grpcurl prints; it must exit with `code`."""
        given = ["-d", data] if data else []
        process = self._spawn(tool("grpcurl"), "-plaintext", *given, self._address, *arguments)
        assert await asyncio.to_thread(process.wait) == code, process.output
        return process.output


@pytest.fixture
async def grpcurl(spawn: Spawn, server: Server) -> Curl:
    """See Curl."""
    return Curl(spawn, server)


async def test_list(grpcurl: Curl):
    """`list` tells every service."""
    assert (await grpcurl("list")).split() == [*SERVICES, "headrace.v1.JobService", "headrace.v1.QueueService"]


async def test_describe(grpcurl: Curl):
    """`describe` tells every method and message of JobService, with the comments of the contract."""
    told = await grpcurl("describe", "headrace.v1.JobService")
    assert [name for name in METHODS if f"rpc {name} (" not in told] == []
    assert "// Stores one job. With a `request_id` the call may be repeated safely: it returns the first job." in told
    assert "google.protobuf.Value json = 4" in await grpcurl("describe", "headrace.v1.JobSpec")
    assert "ServerReflectionInfo" in await grpcurl("describe", "grpc.reflection.v1.ServerReflection")


async def test_the_commands_of_the_readme(grpcurl: Curl, hands: Hands, server: Server):
    """A person with grpcurl enqueues plain JSON, watches the job from SCHEDULED to SUCCEEDED, and reads the result."""
    data = '{"job":{"type":"echo.process","json":{"msg":"hello"},"delay":"0.5s"}}'
    stored = json.loads(await grpcurl("headrace.v1.JobService/Enqueue", data=data))
    wanted = json.dumps({"job_id": stored["jobId"]})
    watching = asyncio.create_task(grpcurl("headrace.v1.JobService/StreamStatus", data=wanted))
    (delivery,) = await hands.broker.wait(shard=0, worker="hands", queues=["default"], timeout_ms=5_000)
    claims = await hands.broker.claim(
        shard=0, worker="hands", queues=["default"], count=1, token="t" * 22, delivered=[delivery]
    )
    await hands.finish(claims.jobs[0])
    told = [one for one in _messages(await watching) if one["kind"] != "KIND_HEARTBEAT"]
    assert [(one["version"], one["state"]) for one in told] == [
        (1, "STATE_SCHEDULED"),
        (2, "STATE_QUEUED"),
        (3, "STATE_PROCESSING"),
        (4, "STATE_SUCCEEDED"),
    ]
    job = json.loads(await grpcurl("headrace.v1.JobService/GetJob", data=wanted))["job"]
    assert (job["json"], job["state"]) == ({"msg": "hello"}, "STATE_SUCCEEDED")
    assert json.loads(await grpcurl("headrace.v1.JobService/ListDLQ", data="{}")) == {}


def _messages(text: str) -> list[dict[str, object]]:
    decoder, messages = json.JSONDecoder(), []
    while text := text.strip():
        message, end = decoder.raw_decode(text)
        messages.append(message)
        text = text[end:]
    return messages


async def test_grpcurl_shows_the_details_of_an_error(grpcurl: Curl):
    """Grpcurl exits with 64 + INVALID_ARGUMENT and prints which field was wrong."""
    told = await grpcurl("headrace.v1.JobService/Enqueue", data='{"job":{"type":"a b"}}', code=64 + 3)
    assert '"field":"job.type"' in told


async def test_buf_curl(spawn: Spawn, server: Server):
    """buf, which asks reflection v1, lists the methods and calls one."""
    common = (tool("buf"), "curl", "--protocol", "grpc", "--http2-prior-knowledge")
    base = f"http://127.0.0.1:{server.port}"
    listing = spawn(*common, "--list-methods", base)
    assert await asyncio.to_thread(listing.wait) == 0, listing.output
    assert [name for name in METHODS if f"headrace.v1.JobService/{name}" not in listing.lines] == []
    data = '{"job":{"type":"t","json":[1]}}'
    call = spawn(*common, "--data", data, f"{base}/headrace.v1.JobService/Enqueue")
    assert await asyncio.to_thread(call.wait) == 0, call.output
    assert json.loads(call.output)["state"] == "STATE_QUEUED"


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_both_versions(channel: grpc.aio.Channel, version: str):
    """Reflection answers under both its names, and knows both."""
    method = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    asked = ["headrace.v1.JobService", "grpc.reflection.v1.ServerReflection", "no.such.Thing"]
    call = method(iter(reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in asked))
    kinds = [(await call.read()).WhichOneof("message_response") for _ in asked]
    assert kinds == ["file_descriptor_response", "file_descriptor_response", "error_response"]


async def test_switched_off(serve: Serve):
    """Without reflection its methods are not there."""
    server = await serve(reflection=False)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        answer = await refused(channel.unary_unary(path)(b""))
    assert answer.code == grpc.StatusCode.UNIMPLEMENTED
