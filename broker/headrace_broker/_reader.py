"""The blocking read with which an idle worker waits for its next job."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from redis.exceptions import RedisError, ResponseError

from headrace_broker import keys, store
from headrace_broker.job import Priority

LONGEST_BLOCK_MS = 60_000
_UNBLOCK_EVERY = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An entry that the store has handed to a worker, and that is not claimed yet."""

    queue: str
    priority: Priority
    entry: str
    job_id: str


class Reader:
    """Waits on all streams of one shard at once, on a connection of its own."""

    def __init__(self, *, url: str, shard: keys.Shard, commands: store.Client) -> None:
        self._url = url
        self._shard = shard
        self._commands = commands
        self._redis: store.Client | None = None
        self._client_id = 0
        self._reading = False
        self._woken = False

    async def wait(self, *, worker: str, queues: Sequence[str], timeout_ms: int) -> tuple[Delivery, ...]:
        """Returns the entries that arrive first, one for each stream at the most; () after the timeout or a wake."""
        if self._woken:
            return ()
        streams = {self._shard.ready(queue, p): (queue, p) for p in Priority for queue in queues}
        block_ms = min(timeout_ms, LONGEST_BLOCK_MS)
        self._reading = True
        try:
            redis = await self._connected()
            async with asyncio.timeout(block_ms / 1_000 + store.BLOCK_MARGIN):
                reply = await redis.xreadgroup(keys.GROUP, worker, dict.fromkeys(streams, ">"), count=1, block=block_ms)
        except ResponseError as error:
            if str(error).startswith("NOGROUP"):  # the claim that follows makes the group
                return ()
            raise
        except BaseException:  # broken, or cancelled with an answer under way: this connection is of no more use
            await self.aclose()
            raise
        finally:
            self._reading = False
        return tuple(
            Delivery(queue=queue, priority=priority, entry=entry.decode(), job_id=fields[b"j"].decode())
            for name, entries in reply or ()
            for queue, priority in (streams[name.decode()],)
            for entry, fields in entries
            if fields
        )

    async def wake(self) -> None:
        """Ends a wait by the store's own hand, so that an entry is either returned by it or not delivered at all."""
        self._woken = True
        while self._reading:
            if self._client_id:
                await self._commands.client_unblock(self._client_id)
            await asyncio.sleep(_UNBLOCK_EVERY)  # it may have been asked before it had begun to block

    async def aclose(self) -> None:
        """Drops the connection. May be called twice."""
        redis, self._redis, self._client_id = self._redis, None, 0
        if redis is not None:
            try:
                await redis.aclose()
            except (RedisError, OSError):  # it was broken; nothing is lost by leaving it
                return

    async def _connected(self) -> store.Client:
        if self._redis is None:
            redis = store.reading_client(self._url)
            self._redis = redis
            async with asyncio.timeout(store.COMMAND_TIMEOUT):
                self._client_id = await redis.client_id()
        return self._redis
