"""What to do while the store cannot be reached: say so once, wait a little longer each time, say when it is over."""

from __future__ import annotations

import asyncio
import random
import time

import structlog

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("headrace_worker")


class Outage:
    """The outages that one role lives through."""

    def __init__(self, *, role: str, longest: float = LONGEST_PAUSE) -> None:
        self._role = role
        self._longest = longest
        self._since: float | None = None
        self._pause = FIRST_PAUSE
        self._hurry = asyncio.Event()

    async def pause(self, error: Exception) -> None:
        """Call after each failure: logs the first one, and returns after a pause of at most a second, with jitter."""
        if self._since is None:
            self._since = time.monotonic()
            log.warning("store lost, trying again until it is back", role=self._role, error=str(error))
        pause, self._pause = self._pause, min(2 * self._pause, self._longest)
        try:
            async with asyncio.timeout(pause * random.uniform(0.5, 1.0)):  # noqa: S311  spreads retries, guards nothing
                await self._hurry.wait()
        except TimeoutError:
            return

    def hurry(self) -> None:
        """Ends the pause that is under way, and all later ones: the worker wants to stop."""
        self._hurry.set()

    def over(self) -> None:
        """Call after each success: logs the end of an outage."""
        if self._since is None:
            return
        log.info("store is back", role=self._role, seconds=round(time.monotonic() - self._since, 1))
        self._since = None
        self._pause = FIRST_PAUSE
