"""Writes how jobs ended: what gathers while one call is under way goes out together in the next."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from headrace_broker import Broker, Finish, Finished, GroupCommit, StoreUnavailable
from headrace_worker._outage import Outage

BATCH = 500

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("headrace_worker")


class Finisher:
    """Hands outcomes to the broker, again and again until it has them: a finish may be repeated safely."""

    def __init__(self, *, broker: Broker) -> None:
        self._broker = broker
        self._outage = Outage(role="finisher")
        self._commit: GroupCommit[Finish, Finished] = GroupCommit(write=self._write, limit=BATCH, name="finisher")

    async def finish(self, finish: Finish) -> None:
        """Returns when the outcome is written, or refused because the lease was lost."""
        if await self._commit.submit(finish) is Finished.STALE:
            log.warning(
                "lease lost: the outcome was refused",
                job_id=finish.job_id,
                outcome=type(finish.outcome).__name__,
            )

    async def aclose(self) -> None:
        """Returns when all outcomes are written."""
        await self._commit.aclose()

    async def _write(self, batch: Sequence[Finish]) -> Sequence[Finished]:
        while True:
            try:
                replies = await self._broker.finish(batch)
            except StoreUnavailable as error:
                await self._outage.pause(error)
            else:
                self._outage.over()
                return replies
