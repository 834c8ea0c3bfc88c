"""The values that the client takes and gives: plain, frozen, free of protobuf.

All datetimes are aware, in UTC where they come from the server. A `Duration` is a number of seconds or a timedelta.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeAlias

from headrace._content import decode

Duration: TypeAlias = float | timedelta
"""Seconds, whole or not, or a timedelta."""


class JobState(StrEnum):
    """Where a job is on its way. The last four are terminal; only a requeue leaves FAILED."""

    SCHEDULED = "SCHEDULED"
    QUEUED = "QUEUED"
    PROCESSING = "PROCESSING"
    RETRYING = "RETRYING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"

    @property
    def is_terminal(self) -> bool:
        """True when nothing more happens to the job, unless someone requeues it."""
        return self in _TERMINAL


_TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED})


class Priority(StrEnum):
    """How soon a job is claimed, compared with the other jobs of its queue."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Durability(StrEnum):
    """How safely a job must be stored before `enqueue` returns."""

    ACCEPTED = "accepted"
    """The store has it. What a crash of the store leaves of it is a setting of the store."""
    FSYNCED = "fsynced"
    """The store has it on disk, in its append-only file."""
    REPLICATED = "replicated"
    """Replicas of the store have it in memory, as many as the server is set to wait for."""


class EventKind(StrEnum):
    """What a StatusEvent is about."""

    SNAPSHOT = "SNAPSHOT"
    """Where the job is; the first event, unless the watch was resumed with `after_version`."""
    TRANSITION = "TRANSITION"
    """The job reached a state."""
    PROGRESS = "PROGRESS"
    """The handler reported how far it has come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When and how often a failed attempt is tried again. None stands for the server's default.

    The n-th retry waits min(max_backoff, initial_backoff * multiplier**(n-1)), of which the share `jitter` is random.
    """

    max_attempts: int | None = None
    """Attempts in all, the first one included: 1 to 1,000. Default 5."""
    initial_backoff: Duration | None = None
    """Wait before the first retry: 0 to 24 hours. Default 1 s."""
    max_backoff: Duration | None = None
    """Longest wait between two attempts: 0 to 30 days. Default 10 minutes."""
    multiplier: float | None = None
    """Growth of the wait from one retry to the next: 1 to 100. Default 2."""
    jitter: float | None = None
    """Share of the wait that is drawn at random: 0 (exact) to 1 (anything up to the full wait). Default 1."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A request to store a job, for `enqueue_many`. The fields mean what the arguments of `enqueue` mean."""

    type: str
    payload: Any = None
    queue: str = field(default="default", kw_only=True)
    priority: Priority | str = field(default=Priority.NORMAL, kw_only=True)
    delay: Duration | None = field(default=None, kw_only=True)
    schedule_time: datetime | None = field(default=None, kw_only=True)
    attempt_timeout: Duration | None = field(default=None, kw_only=True)
    expire_time: datetime | None = field(default=None, kw_only=True)
    retry: RetryPolicy | None = field(default=None, kw_only=True)
    labels: Mapping[str, str] | None = field(default=None, kw_only=True)
    headers: Mapping[str, str] | None = field(default=None, kw_only=True)
    retention: Duration | None = field(default=None, kw_only=True)
    request_id: str | None = field(default=None, kw_only=True)
    content_type: str | None = field(default=None, kw_only=True)
    durability: Durability | str | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an attempt, or the job, failed."""

    reason: str
    """Kind of failure: HANDLER_ERROR, TIMEOUT, NO_HANDLER, BAD_PAYLOAD, BAD_RESULT, CRASH_LOOP, EXPIRED."""
    error_type: str
    """Name of the exception type, where there was one."""
    message: str
    stack_trace: str
    time: datetime | None
    attempt: int
    """The attempt that failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a running handler has come, in its own words."""

    fraction: float
    """Share of the work that is done: 0 to 1."""
    message: str
    time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One step of a job from state to state."""

    version: int
    """Number of this transition among the job's: +1 at each."""
    state: JobState
    time: datetime | None
    attempt: int
    reason: str
    """Why, where the state alone does not say it: LEASE_LOST, RELEASED, SNOOZED, REQUEUED, DISCARDED, REQUESTED, or the
    reason of a Failure."""
    detail: str
    """The worker that claimed the job, who asked to cancel it, or the first 200 characters of the error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as the store knew it at one moment. A time that has not come is None."""

    job_id: str
    queue: str
    type: str
    state: JobState
    version: int
    priority: Priority
    payload_bytes: bytes = field(repr=False)
    """The payload as it is stored. Empty in dead letter lists, which leave content and result out."""
    content_type: str
    create_time: datetime | None
    schedule_time: datetime | None
    """When the job became or becomes due."""
    start_time: datetime | None
    """When the latest attempt started."""
    finish_time: datetime | None
    expire_time: datetime | None
    cancel_request_time: datetime | None
    """When it was asked to cancel the job while it ran."""
    attempt: int
    """Attempts so far, the running one included."""
    crash_count: int
    """How often a worker died or went silent while it ran this job."""
    attempt_timeout: timedelta | None
    retry: RetryPolicy
    labels: Mapping[str, str]
    headers: Mapping[str, str]
    retention: timedelta | None
    worker: str
    progress: Progress | None
    failure: Failure | None
    """The latest failure: of the last attempt, or the reason for the dead letter."""
    result_bytes: bytes | None = field(repr=False)
    """The result as it is stored; None where there is none."""
    result_content_type: str
    history: tuple[Transition, ...] = field(repr=False)
    """Every transition that the record still holds, oldest first: all of the latest 500."""

    @property
    def payload(self) -> Any:
        """The payload, decoded by its content type: JSON to Python values, text to str, else bytes.

        Raises:
            ContentError: The bytes are not what the content type says.
        """
        return decode(self.payload_bytes, self.content_type)

    @property
    def result(self) -> Any:
        """What the handler returned, decoded like `payload`; None where there is no result.

        Raises:
            ContentError: The bytes are not what the content type says.
        """
        return None if self.result_bytes is None else decode(self.result_bytes, self.result_content_type)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusEvent:
    """One thing that a watcher is told."""

    kind: EventKind
    job_id: str
    version: int
    """Version of the job that the watcher has now been told: what to resume from with `after_version`."""
    state: JobState
    """State of the job at that version."""
    time: datetime | None
    """When it reached that state, or reported that progress."""
    attempt: int
    reason: str
    detail: str
    progress: Progress | None
    job: Job | None = field(repr=False)
    """The whole job: in the snapshot, and in the transition to a terminal state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterPage:
    """A page of the dead letter queue, those that failed last first."""

    jobs: tuple[Job, ...]
    """Without payload and result."""
    next_page_token: str
    """Gets the next page. Empty on the last page."""
    total_size: int
    """Dead letters that match, on all pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterFilter:
    """Which dead letters are meant: those that fit everything that is given; all where nothing is."""

    queue: str = ""
    type: str = ""
    labels: Mapping[str, str] | None = None
    """All of these."""
    reason: str = ""
    """Of the failure, such as TIMEOUT."""
    start_time: datetime | None = None
    """Those that failed then or later."""
    end_time: datetime | None = None
    """Those that failed before. None: before the first call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterSweep:
    """What became of some dead letters."""

    count: int
    """Those that were requeued or deleted; or that would have been, where only counting was asked for."""
    scanned: int
    """Those that were looked at."""
    skipped_job_ids: tuple[str, ...]
    """Of the ids that were given: those that are no dead letters, or no more."""
    next_page_token: str
    """Goes on where this call stopped. Empty at the end."""
