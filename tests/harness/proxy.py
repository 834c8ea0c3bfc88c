"""A TCP proxy that can be told to misbehave: to delay, lose replies, reset, swallow everything, or cut a connection.

Modes concern the connections that are open and those that are made while the mode holds. A connection that was
swallowed once stays so until one of its ends gives up, as with a firewall that has forgotten it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from typing import Self

CHUNK = 1 << 18


@dataclass(slots=True)
class Mode:
    """How the proxy treats what passes. The default: it passes."""

    delay: float = 0.0
    """Seconds that each piece waits, in each direction."""
    lose_replies: bool = False
    """Requests arrive; the connection of the first reply is reset instead of passing it on."""
    swallow: bool = False
    """Nothing arrives, and neither end is told."""
    swallow_ends: bool = False
    """With `swallow`: nor is one end told when the other one has given up. Each must find out by itself."""
    cut_after: int | None = None
    """Bytes that each connection may pass on, both directions together, before it is reset; None: any number."""


def target_of(url: str) -> str:
    """Returns the target that a store's URL means: the socket, or the host and port, of a cluster those of one node."""
    place = url.partition("://")[2].partition(",")[0]
    return f"unix:{place}" if url.startswith("unix") else place.partition("/")[0]


class Proxy:
    """Listens on a free port of 127.0.0.1, and passes everything to `target`: "unix:/path" or "host:port". Another
    target is for new connections.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self.port = 0
        self.mode = Mode()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        tasks = [link.task for link in self._links]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._links)

    def pass_on(self) -> None:
        """Ends every misbehaviour, but for what connections have suffered already."""
        self.mode = Mode()

    def swallow_open(self) -> None:
        """Swallows all connections that are open now, busy or idle, for good; new ones pass."""
        for link in self._links:
            link.swallowed = True

    def reset(self) -> None:
        """Resets all connections that are open now."""
        for link in self._links:
            link.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        link = _Link(self, task, (reader, writer))
        self._links.add(link)
        try:
            await link.run(self.target)
        except (OSError, asyncio.CancelledError):  # the end of this connection, whoever wanted it
            return
        finally:
            self._links.discard(link)


class _Link:
    """One connection, and its twin to the target."""

    def __init__(
        self, proxy: Proxy, task: asyncio.Task[None], near: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    ) -> None:
        self.task = task
        self._proxy = proxy
        self._near = near
        self._writers = [near[1]]
        self._passed = 0
        self._limit = proxy.mode.cut_after
        self.swallowed = False

    async def run(self, target: str) -> None:
        """Until one end closes, or it is cut."""
        try:
            far = await _connect(target)
            self._writers.append(far[1])
            there = asyncio.create_task(self._copy(self._near[0], far[1], reply=False), name="proxy requests")
            back = asyncio.create_task(self._copy(far[0], self._near[1], reply=True), name="proxy replies")
            try:
                await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
                if self.swallowed and self._proxy.mode.swallow_ends:
                    await asyncio.wait([there, back])
            finally:
                for task in (there, back):
                    task.cancel()
                await asyncio.wait([there, back])
        finally:
            self._close()

    def reset(self) -> None:
        """Ends it by a reset in both directions."""
        for writer in self._writers:
            sock = writer.get_extra_info("socket")
            if sock is not None and sock.family == socket.AF_INET:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def _close(self) -> None:
        for writer in self._writers:
            writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, reply: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                mode = self._proxy.mode
                if mode.delay:
                    await asyncio.sleep(mode.delay)
                if mode.swallow or self.swallowed:
                    self.swallowed = True
                    continue
                if reply and mode.lose_replies:
                    self.reset()
                    return
                if not await self._within_limit(data, writer):
                    return

    async def _within_limit(self, data: bytes, writer: asyncio.StreamWriter) -> bool:
        """Passes on what the limit allows; beyond it the connection is reset."""
        limit = self._proxy.mode.cut_after
        if limit is None:
            self._limit, self._passed = None, 0
        elif self._limit is None:
            self._limit, self._passed = limit, 0
        room = len(data) if self._limit is None else max(0, self._limit - self._passed)
        self._passed += len(data)
        writer.write(data[:room])
        await writer.drain()
        if room < len(data):
            self.reset()
            return False
        return True


async def _connect(target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if target.startswith("unix:"):
        return await asyncio.open_unix_connection(target.removeprefix("unix:"))
    host, _, port = target.rpartition(":")
    return await asyncio.open_connection(host, int(port))
