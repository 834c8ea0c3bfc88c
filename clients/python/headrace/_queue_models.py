"""The values of queues that the client gives: plain, frozen, free of protobuf, like those of jobs in models.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from headrace.models import JobState


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRates:
    """Jobs a second, as the mean of the last 50 to 60 s."""

    enqueued: float
    finished: float
    """Jobs that ended, in whichever way."""
    failed: float
    """Jobs that failed for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue at one moment."""

    name: str
    jobs: Mapping[JobState, int]
    """Jobs that are SCHEDULED, QUEUED, PROCESSING and RETRYING now, and that have ever ended in each other state."""
    dead: int
    """Dead letters that are kept now."""
    oldest_ready_age: timedelta | None
    """How long the job has waited that has been ready longest; None where none is ready."""
    rates: QueueRates
    paused: bool
    """Whether the queue hands out nothing now."""
    pause_time: datetime | None
    pause_reason: str
    worker_count: int
    """Live workers that take jobs from this queue."""
