"""Connections to Valkey or Redis: clients for commands and for blocking reads, and what their errors mean.

redis-py's defaults would break a queue: it repeats commands whose reply was lost up to ten times, whether they may be
repeated or not, and gives up blocking reads after 5 s only to issue them again. With a socket timeout it also sends
through asyncio.wait_for, which before Python 3.12 swallows a cancellation that arrives while the send succeeds: one in
three cancelled calls went on as if nothing had happened. So retries and socket timeouts are off, and `calling` sets one
limit for a whole call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeAlias

import hiredis
import redis.asyncio as redis
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from headrace_broker.errors import StoreFull, StoreMoved, StoreUnavailable

CONNECT_TIMEOUT = 3.0
COMMAND_TIMEOUT = 5.0
"""Seconds that a call may take: waiting for a connection, sending, and reading the answer."""
BLOCK_MARGIN = 2.0
"""Seconds that a blocking read may take beyond its own timeout before its connection counts as broken."""
POOL = 32
"""Command connections of one broker; callers beyond that wait for one."""

_CLOSED = "the handler is closed"
"""What uvloop says, as a RuntimeError, of writing to a connection that was reset while it lay idle in the pool."""

_TEMPORARY = ("BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "TRYAGAIN")
_MOVED = ("READONLY", "UNBLOCKED")
_MOVING = "attempted to access a non local key"
"""What a script hears that looks for a key which is not there, while the slot is on its way to another primary."""


Client: TypeAlias = Any
"""A redis.asyncio.Redis. Its own types are unions over sync and async, bytes and str, which say less than nothing here:
all our clients are async and return bytes."""


def command_client(url: str, *, connections: int = POOL) -> Client:
    """Returns the client for commands and scripts. Nothing is repeated behind the caller's back."""
    pool = redis.BlockingConnectionPool.from_url(url, max_connections=connections, timeout=None, **_options(url))
    pool.connection_class = _OURS[pool.connection_class]
    return redis.Redis.from_pool(pool)


def check_url(url: str) -> None:
    """Raises ValueError where redis-py cannot make a connection of this URL: for a parameter that it does not know."""
    try:
        pool: Client = redis.ConnectionPool.from_url(url, **_options(url))
        pool.make_connection()
    except TypeError as error:
        raise ValueError(f"its parameters do not suit redis-py: {error}") from error


class _Ours:
    """A connection whose commands hiredis packs: redis-py packs them in Python, at a fifth more CPU for each job. And
    one that knows when it was reset: what redis-py asks on its way out of the pool notices an orderly end alone, so
    that after a restart of the store each idle connection had failed one more call.
    """

    _reader: asyncio.StreamReader | None

    async def can_read(self) -> bool:
        if self._reader is None or self._reader.exception() is not None:
            return True
        readable: bool = await super().can_read()  # type: ignore[misc]  # of the connection that this is mixed into
        return readable

    def pack_command(self, *arguments: Any) -> list[bytes]:
        name, *rest = arguments
        return [hiredis.pack_command((*name.split(), *rest))]  # redis-py has names of two words: SCRIPT LOAD


class _OurTCP(_Ours, redis.Connection):
    pass


class _OurTLS(_Ours, redis.SSLConnection):
    pass


class _OurUnix(_Ours, redis.UnixDomainSocketConnection):
    pass


_OURS: dict[type, type] = {
    redis.Connection: _OurTCP,
    redis.SSLConnection: _OurTLS,
    redis.UnixDomainSocketConnection: _OurUnix,
}


def reading_client(url: str) -> Client:
    """Returns a client with one connection of its own, for reads that block."""
    return redis.Redis.from_url(url, single_connection_client=True, **_options(url))


def _options(url: str) -> dict[str, Any]:
    options = {
        "socket_timeout": None,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "health_check_interval": 0,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    return options if url.startswith("unix:") else {**options, "socket_keepalive": True}


async def clock_ms(client: Client) -> int:
    """Reads the clock of the store, in ms since the epoch."""
    seconds, microseconds = await client.time()
    return int(seconds) * 1_000 + int(microseconds) // 1_000


async def close(client: Client) -> None:
    """Closes all connections of a client, also those in use. May be called twice."""
    with suppress(exceptions.RedisError, OSError):  # one that is broken has nothing left to close
        await client.aclose()
        await client.connection_pool.disconnect()


async def drop_idle(client: Client) -> None:
    """Closes the connections that lie idle, after one has failed: the network may have swallowed all of them, and each
    would keep a call waiting for COMMAND_TIMEOUT to find out.
    """
    for connection in list(client.connection_pool._available_connections):  # noqa: SLF001  its `disconnect` waits, and
        # then breaks a connection that was opened anew meanwhile; this does not
        await connection.disconnect(nowait=True)


@asynccontextmanager
async def calling(seconds: float = COMMAND_TIMEOUT) -> AsyncIterator[None]:
    """Wraps every call: gives it `seconds`, and turns what redis-py raises into the broker's errors."""
    with store_errors():
        async with asyncio.timeout(seconds):
            yield


@contextmanager
def store_errors() -> Iterator[None]:
    """Turns what redis-py raises into the broker's errors. An error of ours in a script comes through as it is."""
    try:
        yield
    except exceptions.OutOfMemoryError as error:
        raise StoreFull("the store has reached its maxmemory") from error
    except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:
        raise StoreUnavailable("the store cannot be reached") from error
    except RuntimeError as error:
        if _CLOSED not in str(error):
            raise
        raise StoreUnavailable("the store cannot be reached") from error
    except exceptions.ResponseError as error:
        text = str(error)
        if "OOM" in text.split(" ", 1)[0] or "OOM command not allowed" in text:
            raise StoreFull("the store has reached its maxmemory") from error
        if isinstance(error, _MOVED_TYPES) or text.startswith(_MOVED):
            raise StoreMoved("this store does not serve the shard, or not any more") from error
        if isinstance(error, _TEMPORARY_TYPES) or text.startswith(_TEMPORARY) or _MOVING in text.lower():
            raise StoreUnavailable("the store is loading, busy or failing over") from error
        raise


_MOVED_TYPES = (exceptions.MovedError, exceptions.ReadOnlyError)
"""All but ASK, a MovedError's base: half of the shard's keys would be missing there. It is waited for, not followed."""
_TEMPORARY_TYPES = (
    exceptions.AskError,
    exceptions.ClusterDownError,
    exceptions.MasterDownError,
    exceptions.TryAgainError,
)
