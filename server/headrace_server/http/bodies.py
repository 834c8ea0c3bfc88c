"""What an HTTP request holds, and whether whoever sent it is still there."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import ClientDisconnect

from headrace_server.http.answers import JSON
from headrace_server.http.refusals import BodyTooLarge, NotJson, TooSlow

if TYPE_CHECKING:
    from starlette.requests import Request

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bodies:
    """Reads bodies of at most `limit` bytes, which get `patience` seconds to arrive."""

    limit: int
    patience: float

    async def read(self, request: Request) -> bytes:
        """The whole body, which must be JSON if there is any. Raises NotJson, BodyTooLarge, TooSlow,
        ClientDisconnect.
        """
        length = request.headers.get("content-length", "0")
        if length == "0" and "transfer-encoding" not in request.headers:
            return b""
        _check_type(request.headers.get("content-type", ""))
        if int(length) > self.limit:
            raise BodyTooLarge(self.limit)
        try:
            async with asyncio.timeout(self.patience):
                return await self._gather(request)
        except TimeoutError:
            raise TooSlow(self.patience) from None

    async def _gather(self, request: Request) -> bytes:
        body = bytearray()
        async with aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > self.limit:
                    raise BodyTooLarge(self.limit)
        return bytes(body)


def _check_type(content_type: str) -> None:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type != JSON and not (media_type.startswith("application/") and media_type.endswith("+json")):
        raise NotJson(content_type)


def raw_path(request: Request) -> str:
    """The path as the client sent it, without the query."""
    path: bytes = request.scope["raw_path"]
    return path.decode("ascii")


async def while_connected(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """The result of `work`, which is cancelled when the client goes away: then ClientDisconnect is raised."""
    call = asyncio.create_task(work, name="http-call")
    gone = asyncio.create_task(_gone(request), name="http-client")
    try:
        await asyncio.wait({call, gone}, return_when=asyncio.FIRST_COMPLETED)
        if call.done():
            return call.result()
        raise ClientDisconnect
    finally:
        await end(call, gone)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
