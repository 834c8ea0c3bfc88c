"""The proxy misbehaves exactly as it is told: what a chaos run blames on the network is the network's fault."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from harness.proxy import Mode, Proxy
from harness.waiting import Eventually


class Echo:
    """A server that sends back what it gets, and remembers it."""

    def __init__(self) -> None:
        self.heard = b""
        self.target = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Echoes until the other end closes."""
        try:
            while data := await reader.read(1_000):
                self.heard += data
                writer.write(data)
        except ConnectionError:
            return
        finally:
            writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    """A server behind the proxy."""
    one = Echo()
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    async with server:
        one.target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield one


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    """A proxy before it."""
    async with Proxy(echo.target) as one:
        yield one


class Line:
    """A connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def say(self, words: bytes) -> bytes:
        """Sends something, and returns what comes back first."""
        self.writer.write(words)
        return await self._reader.read(1_000)


@pytest.fixture
async def line(proxy: Proxy) -> AsyncIterator[Line]:
    """An open connection that has been used."""
    one = Line(*await asyncio.open_connection("127.0.0.1", proxy.port))
    assert await one.say(b"hello") == b"hello"
    yield one
    one.writer.close()


async def test_delay(proxy: Proxy, line: Line) -> None:
    """What passes is late, in each direction, and complete; afterwards it is not late any more."""
    proxy.mode = Mode(delay=0.1)
    began = time.monotonic()
    assert await line.say(b"late") == b"late"
    assert time.monotonic() - began >= 0.2

    proxy.pass_on()
    assert await line.say(b"again") == b"again"


async def test_lost_replies(proxy: Proxy, line: Line, echo: Echo) -> None:
    """The request arrives; in place of its answer the connection is reset."""
    proxy.mode = Mode(lose_replies=True)
    with pytest.raises(ConnectionResetError):
        await line.say(b" lost")
    assert echo.heard == b"hello lost"


async def test_reset(proxy: Proxy, line: Line, eventually: Eventually) -> None:
    """Connections that are open are reset; new ones are not."""
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        await line.say(b"?")
    await eventually(lambda: proxy.connections == 0)
    fresh = Line(*await asyncio.open_connection("127.0.0.1", proxy.port))
    assert await fresh.say(b"new") == b"new"
    fresh.writer.close()


async def test_swallowed(proxy: Proxy, line: Line, echo: Echo) -> None:
    """Nothing arrives and nobody is told, for ever: a connection that was swallowed stays so."""
    proxy.mode = Mode(swallow=True)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(line.say(b"gone"), 0.2)
    proxy.pass_on()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(line.say(b"gone too"), 0.2)
    assert echo.heard == b"hello"


async def test_cut(proxy: Proxy, line: Line, echo: Echo) -> None:
    """A connection passes so many bytes more, to the byte, and is reset then."""
    proxy.mode = Mode(cut_after=12)
    assert await line.say(b"1234") == b"1234"
    with pytest.raises(ConnectionResetError):
        await line.say(b"567890")
    assert echo.heard == b"hello1234" + b"5678"
