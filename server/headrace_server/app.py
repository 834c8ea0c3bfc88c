"""The composition root: what the server is made of, and the order in which it starts and ends."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Self

import grpc
import structlog
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH

from headrace.v1 import job_service_pb2_grpc, queue_service_pb2_grpc
from headrace_broker import CannotStart, Maintenance, Subscription, await_store, open_broker
from headrace_broker.job import DAY, SECOND
from headrace_server import job_service, queue_service
from headrace_server._clock import StoreClock
from headrace_server._drain import Drain
from headrace_server._options import channel_options, concurrent_calls
from headrace_server._pulse import Pulse
from headrace_server._reflection import add_reflection
from headrace_server._supervisor import Supervisor
from headrace_server._watchers import Watchers
from headrace_server.http.server import HttpServer
from headrace_server.interceptors import CallInterceptor
from headrace_server.job_service import JobService
from headrace_server.queue_service import QueueService

if TYPE_CHECKING:
    from types import TracebackType

    from headrace_server.settings import ServerSettings

SERVICES = (job_service.SERVICE, queue_service.SERVICE)
"""Full names of the services of the contract that are served: over gRPC, by reflection, over HTTP."""
TELL_WATCHERS = 2.0
"""Seconds that watchers get to read that the server is going away."""
LAST_REPLIES = 0.5
"""Seconds that the replies of the last unary calls get to leave."""
LAST_WRITES = 6.0
"""Seconds that jobs which were accepted before the end get to be stored; above what one command may take."""

_log = structlog.get_logger("headrace_server")


class Server:
    """A whole server. `async with`, or `start` and `stop`."""

    def __init__(self, settings: ServerSettings) -> None:
        """Builds everything and connects nothing. Raises CannotStart where the URL of the store cannot be read."""
        self._settings = settings
        self._broker = open_broker(settings)
        self._subscription = Subscription(self._broker)
        self._maintenance = Maintenance(
            self._broker,
            subscription=self._subscription,
            dlq_retention_ms=int(settings.dlq_retention * DAY),
            repair_every=settings.repair_every,
        )
        clock = StoreClock()
        self._pulse = Pulse(broker=self._broker, services=SERVICES, clock=clock)
        self._watchers = Watchers(limit=settings.max_watchers)
        self._drain = Drain()
        self._calls = CallInterceptor(drain=self._drain)
        self._service = JobService(
            broker=self._broker,
            subscription=self._subscription,
            watchers=self._watchers,
            max_payload=settings.max_payload,
            durability=settings.confirmation().default,
            pace=settings.pace(),
            now_ms=clock.now_ms,
        )
        self._http = HttpServer(settings, services=SERVICES) if settings.http_listen else None
        self._roles = Supervisor()
        self._grpc: grpc.aio.Server | None = None
        self.port = 0
        self.http_port = 0

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Wait for the store, then serve. `port` is the port served on, 0 on a Unix socket. Raises CannotStart."""
        server = self._build()
        self.port = _bind(server, self._settings.listen)
        if self._http is not None:
            self.http_port = self._http.bind(server)
        info = await await_store(self._broker, self._settings)
        self._roles.start("subscription", self._subscription.run)
        self._roles.start("maintenance", self._maintenance.run)
        await self._pulse.beat()
        self._roles.start("pulse", self._pulse.run)
        self._grpc = server
        await server.start()
        if self._http is not None:
            await self._http.start()
        if not self._settings.is_local():
            _log.warning("whoever reaches this address may enqueue and read jobs", listen=self._settings.listen)
        store = f"{info.server} {info.version}, {info.persistence}"
        http = {"http": self._settings.http_listen, "http_port": self.http_port} if self._http else {}
        _log.info("serving", listen=self._settings.listen, port=self.port, **http, store=store)

    async def stop(self) -> None:
        """End in an order in which nobody is left without an answer. Safe to call again, and before `start`."""
        server, self._grpc = self._grpc, None
        if server is not None:
            _log.info("draining", watchers=self._watchers.seated)
            await self._pulse.end()
            await self._watchers.send_away(within=TELL_WATCHERS)
            self._drain.begin()
            if self._http is not None:
                self._http.drain()
            await self._calls.settle()
            await self._stop(server)
            await self._finish_writes()
        if self._http is not None:
            await self._http.stop(within=LAST_REPLIES)
        await self._roles.stop()
        await self._broker.aclose()
        if server is not None:
            _log.info("stopped")

    def _build(self) -> grpc.aio.Server:
        server = grpc.aio.server(
            interceptors=[self._calls],
            options=channel_options(self._settings),
            maximum_concurrent_rpcs=concurrent_calls(self._settings),
        )
        job_service_pb2_grpc.add_JobServiceServicer_to_server(self._service, server)
        queue_service_pb2_grpc.add_QueueServiceServicer_to_server(QueueService(broker=self._broker), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._pulse.servicer, server)
        if self._settings.reflection:
            add_reflection(server, (*SERVICES, HEALTH))
        return server

    async def _stop(self, server: grpc.aio.Server) -> None:
        """Let unary calls end within the grace. Streams that are left then belong to clients that do not read: not
        even a status reaches them.
        """
        stopping = asyncio.create_task(server.stop(self._settings.grace), name="grpc-stop")
        quiet = asyncio.create_task(self._calls.quiet(), name="quiet")
        await asyncio.wait({stopping, quiet}, return_when=asyncio.FIRST_COMPLETED)
        quiet.cancel()
        await server.stop(min(LAST_REPLIES, self._settings.grace))
        await stopping

    async def _finish_writes(self) -> None:
        try:
            async with asyncio.timeout(LAST_WRITES + self._settings.durability_timeout_ms / SECOND):
                await self._service.aclose()
        except TimeoutError:
            _log.warning("the store did not take the last jobs in time; their callers were not told that it had")


def _bind(server: grpc.aio.Server, listen: str) -> int:
    try:
        return server.add_insecure_port(listen)
    except RuntimeError:  # its text does not say why; the socket's does
        raise CannotStart(
            f"cannot listen on {listen}: {_why_not(listen)}. Stop what uses it, or set HEADRACE_LISTEN"
        ) from None


def _why_not(listen: str) -> str:
    host, _, port = listen.rpartition(":")
    try:
        if listen.startswith("unix:"):
            with socket.socket(socket.AF_UNIX) as probe:
                probe.bind(listen.removeprefix("unix:"))
        else:
            family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.bind(address)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return "grpc gives no reason"
