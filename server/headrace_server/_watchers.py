"""The seats for watchers: a quota of their own, so that watchers never take the place of other calls."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from headrace_server._drain import Drain
from headrace_server.errors import TooManyWatchers

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = structlog.get_logger("headrace_server.watchers")


class Watchers:
    """Counts the watchers of this server and, when it ends, has them told. Belongs to one event loop."""

    def __init__(self, *, limit: int) -> None:
        self.drain = Drain()
        self._limit = limit
        self._seated = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def seated(self) -> int:
        """Watchers that are served now."""
        return self._seated

    @contextmanager
    def seat(self) -> Iterator[None]:
        """Hold a seat. Raises TooManyWatchers when there is none, GoingAway when watchers are being sent away."""
        self.drain.check()
        if self._seated >= self._limit:
            raise TooManyWatchers(self._limit)
        self._seated += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._seated -= 1
            if not self._seated:
                self._empty.set()

    async def send_away(self, *, within: float) -> None:
        """Have every watcher told that the server is going away. Returns when all are gone, or after `within` seconds:
        one that does not read what it is sent cannot be told.
        """
        self.drain.begin()
        try:
            async with asyncio.timeout(within):
                await self._empty.wait()
        except TimeoutError:
            _log.warning("watchers do not read, and are cut off", watchers=self._seated)
