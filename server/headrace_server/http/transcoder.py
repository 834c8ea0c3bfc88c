"""One HTTP request of the contract: JSON to a message, one gRPC call, its answer or answers to JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from headrace_server.http.answers import JSON, as_json
from headrace_server.http.bodies import end, raw_path, while_connected
from headrace_server.http.loopback import CallFailed
from headrace_server.http.refusals import BodyTooLarge
from headrace_server.http.request import message_of
from headrace_server.http.streams import RESUME_FIELD, Events, JsonLines, resumable

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from starlette.types import Receive, Scope, Send

    from headrace_server.http.bodies import Bodies
    from headrace_server.http.loopback import Loopback
    from headrace_server.http.routes import Route, Routes

FIRST_MESSAGE = 1.0
"""Seconds that a stream waits for its first message, which may be an error with a code of its own."""
LARGE = 32 * 1024
"""Bytes from which a message is turned to or from JSON in a thread: 10 ms and more, in which nobody else is served."""
_FORWARDED = ("authorization", "traceparent", "tracestate", "x-request-id")

_T = TypeVar("_T")


class Transcoder:
    """Answers requests to the routes."""

    def __init__(self, *, routes: Routes, loopback: Loopback, bodies: Bodies) -> None:
        self._routes = routes
        self._loopback = loopback
        self._bodies = bodies

    async def respond(self, request: Request) -> Response:
        """The answer, which may be a stream. Raises HttpRefusal, InvalidRequest, CallFailed, ClientDisconnect."""
        route, fields = self._routes.find(request.method, raw_path(request))
        body = await self._bodies.read(request)
        message = await _in_turn(len(body), message_of, route, fields, _query(request, route), body)
        if message.ByteSize() > self._bodies.limit:
            raise BodyTooLarge(self._bodies.limit)
        if route.streams:
            return await self._stream(request, route, message)
        call = self._loopback.unary(route.method, message, _metadata(request))
        answer = await while_connected(request, call)
        body = await _in_turn(answer.ByteSize(), as_json, answer, route.response_body)
        return Response(body, media_type=JSON)

    async def _stream(self, request: Request, route: Route, message: Message) -> Response:
        form = Events(route) if "text/event-stream" in request.headers.get("accept", "") else JsonLines()
        messages = self._loopback.stream(route.method, message, _metadata(request))
        first = asyncio.create_task(_next(messages), name="http-first-message")
        try:
            await while_connected(request, _settled(first))
            is_over = first.done() and first.result() is None
        except BaseException:
            await end(first)
            await messages.aclose()
            raise
        if is_over and isinstance(form, Events) and "last-event-id" in request.headers:
            return Response(status_code=204)  # which tells a browser that there is nothing to come back for
        return _Stream(form, first, messages)


class _Stream(StreamingResponse):
    """The answer that goes on until the call has ended or the client has gone. It owns the call."""

    def __init__(
        self, form: Events | JsonLines, first: asyncio.Task[Message | None], messages: AsyncGenerator[Message, None]
    ) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(self._body(form), headers=headers, media_type=form.media_type)
        self._first = first
        self._messages = messages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await end(self._first)
            await self._messages.aclose()

    async def _body(self, form: Events | JsonLines) -> AsyncIterator[bytes]:
        try:
            yield form.start
            message = await self._first
            while message is not None:
                yield form.message(message)
                message = await _next(self._messages)
        except CallFailed as error:
            yield form.failure(error.status)


async def _settled(task: asyncio.Task[Any]) -> None:
    await asyncio.wait({task}, timeout=FIRST_MESSAGE)


async def _next(messages: AsyncIterator[Message]) -> Message | None:
    return await anext(messages, None)


async def _in_turn(size: int, function: Callable[..., _T], *arguments: Any) -> _T:
    """What the function returns, from a thread where it would take long."""
    return await asyncio.to_thread(function, *arguments) if size > LARGE else function(*arguments)


def _query(request: Request, route: Route) -> str:
    """The query; a browser that opens a stream again tells in a header what it should have been."""
    query = request.url.query
    last = request.headers.get("last-event-id", "")
    if not last or not resumable(route) or RESUME_FIELD in query or "afterVersion" in query:
        return query
    return "&".join(part for part in (query, f"{RESUME_FIELD}={last}") if part)


def _metadata(request: Request) -> list[tuple[str, str]]:
    return [(name, request.headers[name]) for name in _FORWARDED if name in request.headers]
