"""What stands around every HTTP request: the log, the guard, CORS, and the way to whatever answers it."""

from __future__ import annotations

import secrets
import time
from email.utils import formatdate
from typing import TYPE_CHECKING

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from headrace_server.errors import Refused
from headrace_server.http.ancestor import Ancestor
from headrace_server.http.answers import JSON, dumps, error_response, refusal_response
from headrace_server.http.bodies import raw_path
from headrace_server.http.guard import Guard
from headrace_server.http.health import Health
from headrace_server.http.loopback import CallFailed
from headrace_server.http.openapi import document
from headrace_server.http.protocol import HEAD_BYTES
from headrace_server.http.refusals import HeadTooLarge, NoSuchRoute, WrongMethod
from headrace_server.http.routes import Routes
from headrace_server.http.transcoder import Transcoder
from headrace_server.status import status_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from headrace_server.http.bodies import Bodies
    from headrace_server.http.loopback import Loopback

    Endpoint = Callable[[Request], Awaitable[Response]]

_SERVER_FAULT = 500
_GONE = 499
_log = structlog.get_logger("headrace_server.http")


class HttpApp:
    """An ASGI application. `services`: full names of those to serve; `hosts` and `origins`: see Guard."""

    def __init__(
        self,
        *,
        loopback: Loopback,
        services: Sequence[str],
        hosts: frozenset[str],
        origins: frozenset[str],
        bodies: Bodies,
    ) -> None:
        self._guard = Guard(hosts=hosts, origins=origins)
        routes = Routes(services)
        self._dispatch = _Dispatch(
            transcoder=Transcoder(routes=routes, loopback=loopback, bodies=bodies),
            ancestor=Ancestor(loopback=loopback, bodies=bodies),
            health=Health(loopback=loopback, service=services[0]),
            openapi=dumps(document(routes)),
        )
        self._inner: ASGIApp = self._dispatch if not origins else _with_cors(self._dispatch, origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens, and log it."""
        started = time.perf_counter()
        told = _Told(send)
        try:
            await self._answer(scope, receive, told.send)
        except ClientDisconnect:
            told.status = told.status or _GONE
        finally:
            _log_request(scope, told.status, time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            _check_head(scope)
            self._guard.check(Headers(scope=scope))
        except Refused as refusal:
            await refusal_response(refusal)(scope, receive, send)
        else:
            await self._inner(scope, receive, send)


class _Dispatch:
    """The way to whatever answers a request. Errors become answers here, so that CORS applies to them as well."""

    def __init__(self, *, transcoder: Transcoder, ancestor: Ancestor, health: Health, openapi: bytes) -> None:
        self._transcoder = transcoder
        self._ancestor = ancestor
        self._fixed: dict[str, Endpoint] = {
            "/healthz": health.live,
            "/readyz": health.ready,
            "/openapi.json": _constant(openapi),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        response = await self._respond(request)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        try:
            return await self._route(request)
        except CallFailed as error:
            return error_response(error.status)
        except ClientDisconnect:
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, the client is told, and the log where it is a fault
            return refusal_response(error) if isinstance(error, Refused) else _fault(request, error)

    async def _route(self, request: Request) -> Response:
        path = raw_path(request)
        if path in self._fixed:
            if request.method not in {"GET", "HEAD"}:
                raise WrongMethod(request.method, path, ("GET", "HEAD"))
            return await self._fixed[path](request)
        if self._ancestor.serves(path):
            return await self._ancestor.respond(request)
        if path.startswith("/v1/"):
            return await self._transcoder.respond(request)
        raise NoSuchRoute(path)


class _Told:
    """Adds the headers that every answer has, and remembers the code that the client was told; 0 for none."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def send(self, message: Message) -> None:
        """Send on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["Date"] = formatdate(usegmt=True)
            headers["X-Content-Type-Options"] = "nosniff"
        await self._send(message)


def _with_cors(app: ASGIApp, origins: frozenset[str]) -> ASGIApp:
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
        allow_headers=("Authorization", "Content-Type", "Last-Event-ID", "Traceparent", "Tracestate", "X-Request-Id"),
        expose_headers=("Retry-After",),
        allow_private_network=True,  # a page of an allowed origin may reach 127.0.0.1
    )


def _check_head(scope: Scope) -> None:
    """Bound what uvicorn bounds only while it is incomplete. Raises HeadTooLarge."""
    size = len(scope["raw_path"]) + len(scope["query_string"])
    if size + sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > HEAD_BYTES:
        raise HeadTooLarge(HEAD_BYTES)


def _constant(body: bytes) -> Endpoint:
    async def endpoint(_request: Request) -> Response:
        return Response(body, media_type=JSON)

    return endpoint


def _fault(request: Request, error: Exception) -> Response:
    error_id = secrets.token_hex(8)
    _log.error("request failed", method=request.method, path=request.url.path, error_id=error_id, exc_info=error)
    return error_response(status_for(error, error_id=error_id))


def _log_request(scope: Scope, status: int, seconds: float) -> None:
    level = "error" if status == _SERVER_FAULT or not status else "debug"
    peer = scope["client"][0] if scope["client"] else ""
    getattr(_log, level)(
        "request", method=scope["method"], path=scope["path"], status=status, ms=round(seconds * 1_000, 3), peer=peer
    )
