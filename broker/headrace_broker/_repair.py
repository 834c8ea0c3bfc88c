"""One step of the reconciler, as `Broker.repair` is asked for it and answers it; see lua/repair.lua."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

LOOK = 200
"""Records, or entries of indexes, that one step looks at, about; what keeps it well under 10 ms. The counters of a
queue are recounted where it holds no more jobs than this.
"""
_NOTES = re.compile(rb"owner$|until$|began$|drift:")
"""Fields of the shard's hash that are notes of the passes, not counts."""


class Walk(StrEnum):
    """What a pass goes through, in this order."""

    RECORDS = "records"
    PLACES = "places"
    """Schedules, dead letters, expiries, deliveries and counters of the queues."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairStep:
    """Which part of a shard is to be looked at next, and by whom."""

    shard: int
    who: str
    walk: Walk = Walk.RECORDS
    cursor: str = ""
    """What the step before it answered; "" begins the walk, and with the walk of the records a pass."""
    queues: Sequence[str] = ()
    recount: bool = False
    """Whether counters are to be corrected: only where the pass has found nothing else to repair."""
    turn_ms: int = 5_000
    """How long nobody else may go on after this step."""
    pass_ms: int = 0
    """Time between the beginnings of two passes, whoever makes them."""

    def arguments(self) -> tuple[str | int, ...]:
        """Returns what repair.lua takes."""
        return (
            self.who, self.turn_ms, self.pass_ms, LOOK, self.walk.value, self.cursor, int(self.recount), *self.queues,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """What a step did."""

    wait_ms: int = 0
    """Not 0: nothing was done, for another process has the turn, or a new pass would be too early. Begin one then."""
    cursor: str = ""
    """Where the walk goes on; "" at its end."""
    kinds: Mapping[str, int] = field(default_factory=dict)
    """What was repaired, and how often."""
    misfits: tuple[str, ...] = ()
    """Keys of a wrong type: what is theirs was left alone."""

    @classmethod
    def of(cls, reply: Sequence[Any]) -> Self:
        """Makes one from the reply of repair.lua."""
        wait_ms, cursor, kinds, misfits = reply
        return cls(
            wait_ms=wait_ms,
            cursor=cursor.decode(),
            kinds={kind.decode(): many for kind, many in zip(kinds[::2], kinds[1::2], strict=True)},
            misfits=tuple(misfit.decode() for misfit in misfits),
        )


def count_repairs(shards: Iterable[Mapping[bytes, bytes]]) -> dict[str, int]:
    """Adds up, by kind, what the hashes of the shards say of how often anything was ever repaired."""
    counts: Counter[str] = Counter()
    for kept in shards:
        counts.update({kind.decode(): int(many) for kind, many in kept.items() if not _NOTES.match(kind)})
    return dict(counts)
