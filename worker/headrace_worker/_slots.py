"""How many more jobs this worker may claim."""

from __future__ import annotations

import asyncio

UNWRITTEN = 500
"""Outcomes that may wait to be written while new jobs are claimed: one full call of finish."""


class Slots:
    """Counts handlers that run and outcomes that wait. Belongs to one event loop.

    A slot is free again when its handler has really ended, so no more than `size` run at any time. While the store
    cannot take outcomes, up to UNWRITTEN more jobs are taken than there are slots, and then none.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._running = 0
        self._held = 0
        self._freed = asyncio.Event()
        self._freed.set()

    @property
    def free(self) -> int:
        """How many jobs may be claimed now."""
        return min(self._size - self._running, self._size + UNWRITTEN - self._held)

    def take(self, count: int) -> None:
        """Takes up to `free` slots."""
        self._running += count
        self._held += count
        if self.free <= 0:
            self._freed.clear()

    def give_back(self, count: int) -> None:
        """Gives back slots that were taken and are not needed."""
        self._held -= count
        self.ended(count)

    def ended(self, count: int = 1) -> None:
        """A handler has ended."""
        self._running -= count
        if self.free > 0:
            self._freed.set()

    def written(self) -> None:
        """An outcome has been written, or was given up."""
        self._held -= 1
        if self.free > 0:
            self._freed.set()

    async def available(self) -> None:
        """Waits until a slot is free, or until `wake`."""
        await self._freed.wait()

    def wake(self) -> None:
        """Ends the waits that are under way."""
        self._freed.set()
