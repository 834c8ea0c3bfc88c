"""The port for HTTP: bound, served and drained together with the one for gRPC."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import structlog
import uvicorn
from uvicorn.server import ServerState

from headrace_broker import CannotStart
from headrace_server.http.app import HttpApp
from headrace_server.http.bodies import Bodies
from headrace_server.http.loopback import Loopback
from headrace_server.http.protocol import HEAD_BYTES, BoundedProtocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc

    from headrace_server.settings import ServerSettings

BACKLOG = 1_024
"""Connections that may wait to be accepted."""
KEEP_ALIVE_SECONDS = 75
"""Seconds that a connection without a request is kept open: above the 60 of most proxies, so that they close first."""
_log = structlog.get_logger("headrace_server.http")


class HttpServer:
    """Serves HTTP at `settings.http_listen`. `services`: full names of the gRPC services that it stands for."""

    def __init__(self, settings: ServerSettings, *, services: Sequence[str]) -> None:
        self._settings = settings
        self._loopback = Loopback()
        self._config = _config(settings, self._loopback, services)
        self._state = ServerState()
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None

    def bind(self, server: grpc.aio.Server) -> int:
        """Take the port, and give `server` the socket that calls over HTTP reach it by. Returns the port. Raises
        CannotStart.
        """
        listen = self._settings.http_listen
        try:
            self._socket = _listening(listen)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise CannotStart(
                f"cannot listen on {listen} for HTTP: {why}. "
                "Stop what uses it, or set HEADRACE_HTTP_LISTEN (0: no HTTP)"
            ) from None
        server.add_insecure_port(self._loopback.address)
        port: int = self._socket.getsockname()[1]
        return port

    async def start(self) -> None:
        """Answer requests from now on. `bind` comes first."""
        assert self._socket is not None
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, sock=self._socket)
        if not self._settings.http_is_local():
            _log.warning("whoever reaches this address may enqueue and read jobs", http=self._settings.http_listen)

    def drain(self) -> None:
        """Take no new connections, close those without a request, and the others after their answer."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()

    async def stop(self, *, within: float) -> None:
        """Let the last answers leave, for `within` seconds, and cut off the rest. Safe to call again, and before
        `start`.
        """
        self.drain()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=within)
        for connection in list(self._state.connections):
            connection.transport.abort()
        await asyncio.gather(*self._state.tasks, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()
        await self._loopback.aclose()

    def _connection(self) -> BoundedProtocol:
        return BoundedProtocol(
            max_connections=self._settings.max_connections,
            patience=self._settings.http_patience,
            config=self._config,
            server_state=self._state,
            app_state={},
        )


def _config(settings: ServerSettings, loopback: Loopback, services: Sequence[str]) -> uvicorn.Config:
    app = HttpApp(
        loopback=loopback,
        services=services,
        hosts=settings.allowed_hosts(),
        origins=settings.allowed_origins(),
        bodies=Bodies(limit=settings.max_message, patience=settings.http_patience),
    )
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",  # the app logs requests and faults itself
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=HEAD_BYTES,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    config.load()
    return config


def _listening(listen: str) -> socket.socket:
    """A socket that listens there. Raises OSError."""
    host, _, port = listen.rpartition(":")
    family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    taken = socket.socket(family, kind, protocol)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
        taken.listen(BACKLOG)
    except OSError:
        taken.close()
        raise
    return taken
