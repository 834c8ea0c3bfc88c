"""The queue, as the house sees it. Pure values; nothing here knows how they are stored. Times and durations are whole
milliseconds; times are milliseconds since the epoch by the clock of the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace_broker.job import State

LIVE = (State.SCHEDULED, State.QUEUED, State.PROCESSING, State.RETRYING)
"""The states that a job passes through; it ends in one of the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Jobs a second over the last minute."""

    enqueued: float = 0.0
    finished: float = 0.0
    """Reached a terminal state, whichever."""
    failed: float = 0.0
    """Became dead letters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue at one moment."""

    name: str
    jobs: Mapping[State, int]
    """Jobs that are in each of the LIVE states now, and that have ever ended in each of the others."""
    dead: int = 0
    """Dead letters that are kept now."""
    oldest_ready_ms: int | None = None
    """How long the job has waited that has been ready longest; None where none is ready."""
    rates: Rates = field(default_factory=Rates)
    paused_at_ms: int | None = None
    """When it was paused; None where it is not."""
    pause_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePage:
    """Queues by name. `total` counts all pages; `next_page_token` is empty on the last."""

    queues: tuple[Queue, ...]
    next_page_token: str
    total: int
