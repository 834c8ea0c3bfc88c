"""One gRPC channel: where it leads, how it is set up, and how its calls fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import grpc

from headrace._status import error_from_rpc
from headrace.errors import ClientClosed, InvalidAddress, Unavailable, Unsupported
from headrace.v1.job_service_pb2_grpc import JobServiceStub
from headrace.v1.queue_service_pb2_grpc import QueueServiceStub

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.v1.job_service_pb2_grpc import JobServiceAsyncStub
    from headrace.v1.queue_service_pb2_grpc import QueueServiceAsyncStub

_Request = TypeVar("_Request")
_Reply = TypeVar("_Reply")

DEFAULT_TARGET = "localhost:50051"
MAX_MESSAGE_BYTES = 8 << 20

# Five tries of a unary call within about 4 s; the deadline of the call bounds them all.
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": "headrace.v1.JobService"}, {"service": "headrace.v1.QueueService"}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "3s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        },
        # A broken stream is reopened by _watch.py, which knows where to resume.
        {"name": [{"service": "headrace.v1.JobService", "method": "StreamStatus"}]},
    ],
}

# Health/Check of this service, and its answer SERVING, as they go over the wire: `string service = 1` and `status: 1`.
_HEALTH_SERVICE = b"headrace.v1.JobService"
_HEALTH_REQUEST = b"\x0a" + bytes([len(_HEALTH_SERVICE)]) + _HEALTH_SERVICE
_HEALTH_SERVING = b"\x08\x01"


def resolve_target(target: str | None) -> str:
    """The address to call: `target`, else the environment's HEADRACE_ADDRESS, else localhost:50051.

    Raises:
        InvalidAddress: It is a URL of the web, or names no port.
    """
    address = (target or os.environ.get("HEADRACE_ADDRESS") or DEFAULT_TARGET).strip()
    scheme = address.partition(":")[0].lower()
    if scheme in {"http", "https", "grpc"} and "://" in address:
        raise InvalidAddress(f"{address!r} is a URL; a server's address is HOST:PORT, such as {DEFAULT_TARGET}")
    if scheme in {"dns", "unix", "unix-abstract", "ipv4", "ipv6", "xds"}:
        return address
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 1 << 16):
        raise InvalidAddress(f"{address!r} is not the address of a server: HOST:PORT, such as {DEFAULT_TARGET}")
    return address


class Connection:
    """The channel of one client. Opened on first use, by the event loop that it then belongs to."""

    _open_ones: ClassVar[int] = 0
    _spoiled: ClassVar[bool] = False
    """This process was forked while its parent had a channel open: calls of gRPC would hang in it."""

    def __init__(self, *, target: str) -> None:
        self.target = target
        self._pid = os.getpid()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._channel: grpc.aio.Channel | None = None
        self._stub: JobServiceAsyncStub | None = None
        self._queue_stub: QueueServiceAsyncStub | None = None

    @property
    def stub(self) -> JobServiceAsyncStub:
        """The calls of JobService.

        Raises:
            ClientClosed: After `close`, in a forked process, or in another event loop.
        """
        self._open()
        assert self._stub is not None
        return self._stub

    @property
    def queue_stub(self) -> QueueServiceAsyncStub:
        """The calls of QueueService. Raises ClientClosed as `stub` does."""
        channel = self._open()
        if self._queue_stub is None:
            self._queue_stub = QueueServiceStub(channel)
        return self._queue_stub

    def check_open(self) -> None:
        """Raise ClientClosed when this connection cannot be used any more."""
        if self._closed:
            raise ClientClosed("this client was closed; make a new one")
        if self._pid != os.getpid():
            raise ClientClosed("this client was made before a fork; make a new one in each process")

    async def unary(
        self, rpc: grpc.aio.UnaryUnaryMultiCallable[_Request, _Reply], request: _Request, *, within: float
    ) -> _Reply:
        """One call with one answer, in at most `within` seconds, waiting for the server to come up within them."""
        with self.translated():
            return await rpc(request, timeout=within, wait_for_ready=True)

    async def check_health(self, within: float) -> None:
        """Ask the server whether it serves. Fails fast: does not wait for a server to come up.

        Raises:
            Unavailable: Nobody answers, or the server says that it cannot serve.
        """
        channel = self._open()
        check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/grpc.health.v1.Health/Check")
        with contextlib.suppress(Unsupported), self.translated():  # No health service: it answers, that must do.
            if await check(_HEALTH_REQUEST, timeout=within) != _HEALTH_SERVING:
                raise Unavailable(
                    f"the server at {self.target} is up but not serving: it is shutting down, or its store is away",
                    reason="NOT_SERVING",
                )

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Turns the errors of gRPC that are raised inside into those of errors.py."""
        try:
            yield
        except grpc.aio.AioRpcError as error:
            connected = self._channel is None or self._channel.get_state() is grpc.ChannelConnectivity.READY
            raise error_from_rpc(error, self.target, connected=connected) from error
        except asyncio.CancelledError:
            # gRPC cancels the calls of a channel that is closed. Not so when someone cancelled this very task.
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():
                raise ClientClosed("this client was closed while a call was under way") from None
            raise

    async def close(self) -> None:
        """Close the channel; calls under way end with ClientClosed. Safe twice."""
        self._closed = True
        channel, self._channel, self._stub, self._queue_stub = self._channel, None, None, None
        if channel is not None and self._pid == os.getpid():
            Connection._open_ones -= 1
            await channel.close()

    def _open(self) -> grpc.aio.Channel:
        self.check_open()
        if self._spoiled:
            raise ClientClosed(
                "gRPC does not survive a fork: close all clients before you fork, or start processes by `spawn`"
            )
        loop = asyncio.get_running_loop()
        if self._loop not in {None, loop}:
            raise ClientClosed("this client belongs to another event loop; make a new one in each loop")
        if self._channel is None:
            Connection._open_ones += 1
            self._loop = loop
            self._channel = grpc.aio.insecure_channel(self.target, options=_options(self.target))
            self._stub = JobServiceStub(self._channel)
        return self._channel

    @classmethod
    def _forked(cls) -> None:
        cls._spoiled = cls._spoiled or cls._open_ones > 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=Connection._forked)  # noqa: SLF001 - its own class


def _options(target: str) -> list[tuple[str, Any]]:
    options = [
        ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", 30_000),  # The server allows a ping every 20 s.
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.ping_timeout_ms", 10_000),  # The one that counts: gRPC 1.85 never looks at the line above.
        ("grpc.http2.max_pings_without_data", 0),
        # A restarted server is found again within seconds, not minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 3_000),
        ("grpc.primary_user_agent", f"headrace-python/{version('headrace')}"),
    ]
    if target.partition(":")[0] in {"localhost", "127.0.0.1", "[", "unix"}:
        options.append(("grpc.enable_http_proxy", 0))  # A proxy of the web cannot reach this machine's own ports.
    return options
