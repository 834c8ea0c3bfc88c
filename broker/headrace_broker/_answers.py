"""What the broker is told by a worker, and what it answers workers and duties."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from headrace_broker.job import ClaimedJob


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """The answer to a claim. `more`: it stopped at its bound, so call again rather than wait. `paused`: queues that
    hand out nothing now, so do not wait for them.
    """

    jobs: tuple[ClaimedJob, ...]
    more: bool = False
    paused: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A claim that its worker still runs."""

    job_id: str
    token: str


class Renewed(IntEnum):
    """What became of a lease at its renewal; false where it is lost."""

    LOST = 0
    """It belongs to someone else by now, or the job has ended."""
    KEPT = 1
    CANCELLED = 2
    """It is kept; but the job is to be cancelled, so stop its handler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """What a worker says of itself."""

    worker_id: str
    queues: tuple[str, ...]
    concurrency: int
    host: str
    pid: int
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoted:
    """What a promotion did. `next_due_in_ms` is None where nothing waits."""

    moved: int
    more: bool
    next_due_in_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reclaimed:
    """What a reclaim did. `held_ms`: how long reclaiming is still held after an outage of the store, or 0."""

    requeued: int = 0
    """Jobs that wait again, QUEUED or (from their second crash on) SCHEDULED."""
    dead: int = 0
    returned: int = 0
    held_ms: int = 0
