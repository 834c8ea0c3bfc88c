"""HTTP as a client speaks it: one request on a connection of its own, or a connection for whatever bytes one likes."""

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back. Names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON, which it must be."""
        assert self.headers["content-type"] == "application/json", self
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error that the body must be."""
        error = self.json["error"]
        assert error["code"] == self.status
        return error

    @property
    def reason(self) -> str:
        """The reason of the ErrorInfo that every error carries."""
        (info,) = (one for one in self.error["details"] if one["@type"].endswith("/google.rpc.ErrorInfo"))
        assert info["domain"] == "headrace"
        return info["reason"]

    @property
    def fields(self) -> dict[str, str]:
        """Path → description of the violations in the BadRequest."""
        bad = [one for one in self.error["details"] if one["@type"].endswith("/google.rpc.BadRequest")]
        return {found["field"]: found["description"] for one in bad for found in one["fieldViolations"]}


class Web:
    """Calls the server at a port of this machine."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def ask(
        self, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """One request. A body that is neither bytes nor None is sent as JSON, and said to be JSON."""
        given = {**(JSON if body is not None else {}), **(headers or {})}
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        return await asyncio.to_thread(self._ask, method, path, sent, given)

    async def get(self, path: str, **headers: str) -> Reply:
        """GET, with headers as `last_event_id="2"`."""
        return await self.ask("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    async def post(self, path: str, body: object) -> Reply:
        """POST of JSON, or of bytes that are said to be JSON."""
        return await self.ask("POST", path, body)

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            told = {name.lower(): value for name, value in response.getheaders()}
            return Reply(status=response.status, headers=told, body=response.read())
        finally:
            connection.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A bare connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()

    @asynccontextmanager
    async def stream(self, path: str, *headers: str) -> AsyncIterator[asyncio.StreamReader]:
        """The lines of an answer that goes on, after its head; each chunk of the wire is one line or event."""
        async with self.connection() as (reader, writer):
            head = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", *headers, "", ""]
            writer.write("\r\n".join(head).encode())
            while (await _line(reader)).strip():
                pass
            yield reader


async def _line(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(10):
        return await reader.readline()
