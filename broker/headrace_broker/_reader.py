"""The blocking read with which an idle worker waits for its next job."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from redis.exceptions import RedisError, ResponseError

from headrace_broker import keys, store
from headrace_broker._primaries import Primaries, Primary
from headrace_broker.errors import StoreUnavailable
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

    def __init__(self, *, primaries: Primaries, shard: keys.Shard) -> None:
        self._primaries = primaries
        self._shard = shard
        self._primary: Primary | None = None
        self._redis: store.Client | None = None
        self._client_id = 0
        self._reading = False
        self._woken = False
        self._nudged = False
        self._called = asyncio.Event()

    async def wait(self, *, worker: str, queues: Sequence[str], timeout_ms: int) -> tuple[Delivery, ...]:
        """Returns the entries that arrive first, one for each stream at the most; () after timeout, wake or nudge.

        Where there are no queues to wait for, it waits for the rest alone.

        Raises:
            StoreUnavailable: it cannot be reached, or has ceased to be the primary of this shard meanwhile.
        """
        if self._woken or self._nudged or not queues:
            await self._rest(min(timeout_ms, LONGEST_BLOCK_MS) / 1_000)
            return ()
        try:
            with store.store_errors():
                return await self._wait(worker=worker, queues=queues, timeout_ms=timeout_ms)
        except StoreUnavailable as error:
            if self._primary is not None:
                self._primaries.doubt(self._primary, error)
            raise

    async def _wait(self, *, worker: str, queues: Sequence[str], timeout_ms: int) -> tuple[Delivery, ...]:
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
            self._reading = self._nudged = False
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
        self._called.set()
        async with store.calling():
            while self._reading:
                await self._unblock()

    async def nudge(self) -> None:
        """Ends the wait that is under way, or else the next one, in the same way."""
        self._nudged = True
        self._called.set()
        async with store.calling():
            while self._reading and self._nudged:
                await self._unblock()

    async def _unblock(self) -> None:
        if self._client_id and self._primary is not None:
            await self._primary.redis.client_unblock(self._client_id)
        await asyncio.sleep(_UNBLOCK_EVERY)  # it may have been asked before it had begun to block

    async def _rest(self, seconds: float) -> None:
        """Waits for a wake or a nudge, at most that long; not at all where there has been one."""
        self._called.clear()
        if not (self._woken or self._nudged):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._called.wait()
        self._nudged = False

    async def aclose(self) -> None:
        """Drops the connection. May be called twice."""
        redis, self._redis, self._client_id = self._redis, None, 0
        if redis is not None:
            try:
                await redis.aclose()
            except (RedisError, OSError):  # it was broken; nothing is lost by leaving it
                return

    async def _connected(self) -> store.Client:
        async with asyncio.timeout(store.COMMAND_TIMEOUT):
            primary = await self._primaries.of(self._shard.number)
            if self._redis is not None and primary is not self._primary:
                await self.aclose()
            if self._redis is None:
                self._primary = primary
                redis = self._redis = primary.reading_client()
                self._client_id = await redis.client_id()
        return self._redis
