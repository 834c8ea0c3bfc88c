"""What surrounds every call: parsing, errors, the log.

The order around a handler, from the outside in: log → errors → limit of time or drain → parse → handler. Requests are
parsed here rather than by grpc, because grpc tells a client the Python exception of bytes that it cannot parse.
"""

from __future__ import annotations

import asyncio
import inspect
import secrets
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from headrace_server._call_log import CallLog
from headrace_server.errors import Malformed, NoSuchMethod, TookTooLong
from headrace_server.status import is_foreseen, retries_are_hidden, status_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from typing import Never

    from headrace_server._drain import Drain

    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]

SETTLE = (0.05, 1.0)
"""Seconds without a new call after which a drained server counts as settled, and the longest wait for that."""
UNARY_LIMIT = 30.0
"""Seconds that the server gives a unary call. Far above what a call to the store may take; it ends what hangs."""

NO_RETRY = ("grpc-retry-pushback-ms", "-1")
"""The trailer by which gRPC's own retries in the client are told to leave it."""

_CODES = {code.value[0]: code.name for code in grpc.StatusCode}
_log = structlog.get_logger("headrace_server.calls")


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler of the server. `drain` refuses new calls and ends streams that are still open."""

    def __init__(self, *, drain: Drain, unary_limit: float = UNARY_LIMIT) -> None:
        self._drain = drain
        self._unary_limit = unary_limit
        self._wrapped: dict[str, Handler] = {}
        self._unary_calls = 0
        self._came = asyncio.Event()
        self._quiet = asyncio.Event()
        self._quiet.set()

    async def settle(self) -> None:
        """Return when new calls have stopped coming, now that all are refused. Those that grpc has accepted and not yet
        handed on when it stops are cut off as CANCELLED, which clients do not take for a reason to try again.
        """
        spell, longest = SETTLE
        give_up = time.monotonic() + longest
        while time.monotonic() < give_up:
            self._came.clear()
            try:
                async with asyncio.timeout(spell):
                    await self._came.wait()
            except TimeoutError:
                return

    async def quiet(self) -> None:
        """Return when no unary call is under way."""
        await self._quiet.wait()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The handler of the method, wrapped; for an unknown method one that says so with details."""
        self._came.set()
        method = handler_call_details.method
        found = self._wrapped.get(method)
        if found is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return self._wrap(method, grpc.unary_unary_rpc_method_handler(_no_such_method))
            found = self._wrapped[method] = self._wrap(method, handler)
        return found

    def _wrap(self, method: str, handler: Handler) -> Handler:
        behaviour: Any = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        parsed = _parsing(handler, behaviour)
        bounded = self._streamed(parsed) if handler.response_streaming else self._limited(parsed)
        make = _FACTORIES[handler.request_streaming, handler.response_streaming]
        wrapped: Handler = make(_answering(method, bounded), None, handler.response_serializer)
        return wrapped

    def _limited(self, behaviour: Any) -> Any:
        async def unary(request: Any, context: Context) -> Any:
            self._drain.check()
            self._unary_calls += 1
            self._quiet.clear()
            limit = asyncio.timeout(self._unary_limit)
            try:
                async with limit:
                    return await behaviour(request, context)
            except TimeoutError:
                if limit.expired():
                    raise TookTooLong(self._unary_limit) from None
                raise
            finally:
                self._unary_calls -= 1
                if not self._unary_calls:
                    self._quiet.set()

        return unary

    def _streamed(self, behaviour: Any) -> Any:
        async def stream(request: Any, context: Context) -> None:
            async with self._drain.interrupts():
                answer = behaviour(request, context)
                if not inspect.isasyncgen(answer):
                    await answer  # it writes to the context by itself, as the health service's Watch does
                    return
                async with aclosing(answer) as messages:  # so that its cleanup is done when the call is
                    async for message in messages:
                        await context.write(message)

        return stream


async def _no_such_method(_request: bytes, _context: Context) -> Never:
    raise NoSuchMethod


def _parsing(handler: Handler, behaviour: Any) -> Any:
    """The behaviour, but it takes bytes. Raises Malformed where they are not the message."""
    parse = handler.request_deserializer
    if parse is None:
        return behaviour
    name = getattr(getattr(parse, "__self__", None), "__name__", "message")

    def parsed(raw: bytes) -> Any:
        try:
            return parse(raw)
        except DecodeError:
            raise Malformed(name) from None

    async def parsed_stream(raw_requests: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for raw in raw_requests:
            yield parsed(raw)

    prepare = parsed_stream if handler.request_streaming else parsed
    return lambda request, context: behaviour(prepare(request), context)


def _answering(method: str, behaviour: Any) -> Any:
    """The behaviour, but whatever it raises is answered by a status from the table, and the call is logged."""
    log = CallLog(method)

    async def call(request: Any, context: Context) -> Any:
        started = time.perf_counter()
        try:
            return await behaviour(request, context)
        except grpc.aio.AbortError:
            raise  # the handler has answered already
        except Exception as error:
            if context.cancelled() or context.done():
                raise  # the client has gone while we wrote to it; nobody is left to answer
            await _abort(method, error, context)
        finally:
            log.tell(_code(context), seconds=time.perf_counter() - started, peer=context.peer())

    return call


async def _abort(method: str, error: Exception, context: Context) -> Never:
    error_id = ""
    if not is_foreseen(error):
        error_id = secrets.token_hex(8)
        _log.error("call failed", method=method, error_id=error_id, exc_info=error)
    status = rpc_status.to_status(status_for(error, error_id=error_id))
    trailers = status.trailing_metadata if retries_are_hidden(error) else (*status.trailing_metadata, NO_RETRY)
    await context.abort(status.code, status.details, trailers)


def _code(context: Context) -> str:
    return "CANCELLED" if context.cancelled() else _CODES.get(_number(context.code()), "UNKNOWN")


def _number(code: Any) -> int:
    return int(code.value[0]) if isinstance(code, grpc.StatusCode) else int(code or 0)


_FACTORIES: dict[tuple[bool, bool], Any] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
