"""Group commit: while one call is under way the next items gather, and go out together when it returns.

An idle caller waits for nothing, a busy one pays for one call in hundreds. The server's Enqueue and the worker's
finish both ride on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Reply = TypeVar("Reply")


class GroupCommit(Generic[Item, Reply]):
    """Sends items in groups. Belongs to one event loop.

    `write` gets 1 to `limit` items and returns as many replies in the same order. Where a reply is an exception, it is
    raised for that item alone; where `write` raises, it is raised for all items of that call.
    """

    def __init__(
        self, *, write: Callable[[Sequence[Item]], Awaitable[Sequence[Reply | Exception]]], limit: int, name: str
    ) -> None:
        self._write = write
        self._limit = limit
        self._name = name
        self._waiting: list[tuple[Item, asyncio.Future[Reply]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Reply:
        """Sends one item, and returns its reply. Cancelling the caller does not take the item back."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_groups(), name=self._name)
        return await future

    async def aclose(self) -> None:
        """Returns when everything submitted so far has been answered."""
        while self._writer is not None:
            await asyncio.wait([self._writer])

    async def _write_groups(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
                await self._write_group(group)
        finally:
            self._writer = None

    async def _write_group(self, group: list[tuple[Item, asyncio.Future[Reply]]]) -> None:
        try:
            replies = await self._write([item for item, _ in group])
        except (
            BaseException
        ) as error:  # whatever it is, the callers must hear of it; a cancellation goes on upwards too
            for _, future in group:
                if not future.done():
                    future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
            if not isinstance(error, Exception):
                raise
            return
        for (_, future), reply in zip(group, replies, strict=True):
            if future.done():  # its caller has gone away
                continue
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)
