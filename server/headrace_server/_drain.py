"""Ends what would otherwise hold a shutdown up until its grace is over: waits for something to happen."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from headrace_server.errors import GoingAway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Drain:
    """A set of waits that one call ends. Belongs to one event loop."""

    def __init__(self) -> None:
        self._waits: set[asyncio.Timeout] = set()
        self._begun = False

    @asynccontextmanager
    async def interrupts(self) -> AsyncIterator[None]:
        """Raise GoingAway inside the body when the drain begins, or at once when it has begun."""
        self.check()
        wait = asyncio.timeout(None)
        self._waits.add(wait)
        try:
            async with wait:
                yield
        except TimeoutError:
            if wait.expired():
                raise GoingAway from None
            raise
        finally:
            self._waits.discard(wait)

    def check(self) -> None:
        """Raise GoingAway when the drain has begun."""
        if self._begun:
            raise GoingAway

    def begin(self) -> None:
        """End every wait, and every later one before it begins. Safe to call again."""
        self._begun = True
        now = asyncio.get_running_loop().time()
        for wait in self._waits:
            wait.reschedule(now)
