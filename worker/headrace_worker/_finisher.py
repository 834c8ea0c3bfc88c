"""Writes how jobs ended: what gathers while one call is under way goes out together in the next."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from headrace_broker import Broker, Finish, Finished, GroupCommit, StoreUnavailable
from headrace_worker._outage import Outage

BATCH = 500

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("headrace_worker")

_Group = GroupCommit[Finish, Finished]


class Finisher:
    """Hands outcomes to the broker, again and again until it has them: a finish may be repeated safely.

    Each shard has its own group, so that one that cannot be reached holds up no other.
    """

    def __init__(self, *, broker: Broker) -> None:
        self._broker = broker
        self._groups: dict[str, _Group] = {}

    async def finish(self, finish: Finish) -> None:
        """Returns when the outcome is written, or refused because the lease was lost."""
        shard = finish.job_id[-2:]
        group = self._groups.get(shard)
        if group is None:
            group = self._groups[shard] = _group(self._broker, shard)
        if await group.submit(finish) is Finished.STALE:
            log.warning(
                "lease lost: the outcome was refused",
                job_id=finish.job_id,
                outcome=type(finish.outcome).__name__,
            )


def _group(broker: Broker, shard: str) -> _Group:
    outage = Outage(role=f"finisher of shard {shard}")

    async def write(batch: Sequence[Finish]) -> Sequence[Finished]:
        while True:
            try:
                replies = await broker.finish(batch)
            except StoreUnavailable as error:
                await outage.pause(error)
            else:
                outage.over()
                return replies

    return GroupCommit(write=write, limit=BATCH, name=f"finisher-{shard}")
