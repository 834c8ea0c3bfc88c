"""uvicorn's HTTP/1.1 with limits that it lacks: connections, slow requests, readers that have stopped to read."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from headrace_server.http.answers import refusal_response
from headrace_server.http.refusals import BadJson, HeadTooLarge

if TYPE_CHECKING:
    from collections.abc import Callable

    from uvicorn.config import Config
    from uvicorn.server import ServerState

HEAD_BYTES = 8 * 1024
"""Bytes of the request line and the headers together."""


class BoundedProtocol(H11Protocol):
    """One connection, which is closed at once where more than `max_connections` are open. `patience`: seconds that the
    head of a request gets to arrive, and a client that has stopped to read.
    """

    def __init__(
        self,
        *,
        max_connections: int,
        patience: float,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
    ) -> None:
        super().__init__(config, server_state, app_state)
        self._max_connections = max_connections
        self._head = _Clock(self.loop, patience, self._abort)
        self._stall = _Clock(self.loop, patience, self._abort)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base class
        """Take the connection, or close it where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._max_connections:
            transport.abort()
        else:
            self._head.start()

    def data_received(self, data: bytes) -> None:
        """Take bytes. The clock for a head runs from its first byte until it is complete."""
        super().data_received(data)
        if self._is_between_requests():
            self._head.start()
        else:
            self._head.stop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the clocks."""
        self._head.stop()
        self._stall.stop()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        super().pause_writing()
        self._stall.start()

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        self._stall.stop()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, or too much of it, as all other errors are answered."""
        error = sys.exc_info()[1]  # the base class calls this while it handles it
        too_large = isinstance(error, h11.RemoteProtocolError) and error.error_status_hint == 431  # noqa: PLR2004
        refusal = HeadTooLarge(HEAD_BYTES) if too_large else BadJson(msg)
        response = refusal_response(refusal)
        head = h11.Response(
            status_code=response.status_code, headers=[*response.raw_headers, (b"connection", b"close")]
        )
        for event in (head, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event))
        self.transport.close()

    def _is_between_requests(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # the base class does not say that there may be none yet
        return cycle is None or cycle.response_complete

    def _abort(self) -> None:
        self.transport.abort()


class _Clock:
    """Calls `ring` once, `seconds` after it was started, unless it is stopped before."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start it, unless it runs."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._ring)

    def stop(self) -> None:
        """Stop it. Safe to call when it does not run."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
