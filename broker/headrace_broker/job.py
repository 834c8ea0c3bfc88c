"""The job, as the whole house sees it: states, the request for one, and the record of one.

Pure values; nothing here knows how they are stored. All durations and times are whole milliseconds; times are
milliseconds since the epoch by the clock of the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

JSON = "application/json"
TEXT = "text/plain"

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

DEFAULT_QUEUE = "default"
DEFAULT_RETENTION_MS = DAY

MAX_CRASHES = 3
"""Leases that a job may lose before it is taken for a poison pill and dead-lettered with CRASH_LOOP."""


class State(StrEnum):
    """Where a job is on its way; see docs/states.md."""

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
        """True for states that a job leaves only by a requeue."""
        return self in _TERMINAL


_TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED})


class Priority(StrEnum):
    """Order of claiming within a queue."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Durability(StrEnum):
    """How safely a job must be stored before its producer is answered."""

    ACCEPTED = "accepted"
    """The primary has it. What a crash of it leaves is a setting of the store."""
    FSYNCED = "fsynced"
    """The primary has it on disk, in its append-only file."""
    REPLICATED = "replicated"
    """Replicas have it in memory, beside the primary."""


class Reason(StrEnum):
    """Why a transition or a failure happened, where the state alone does not say it."""

    HANDLER_ERROR = "HANDLER_ERROR"
    TIMEOUT = "TIMEOUT"
    NO_HANDLER = "NO_HANDLER"
    BAD_PAYLOAD = "BAD_PAYLOAD"
    BAD_RESULT = "BAD_RESULT"
    CRASH_LOOP = "CRASH_LOOP"
    EXPIRED = "EXPIRED"
    LEASE_LOST = "LEASE_LOST"
    RELEASED = "RELEASED"
    SNOOZED = "SNOOZED"
    DISCARDED = "DISCARDED"
    REQUEUED = "REQUEUED"
    REQUESTED = "REQUESTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When and how often a failed attempt is tried again; the formula is in headrace_worker.backoff."""

    max_attempts: int = 5
    initial_backoff_ms: int = SECOND
    max_backoff_ms: int = 10 * MINUTE
    multiplier: float = 2.0
    jitter: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What a producer asked for. The same for the whole life of the job."""

    type: str
    queue: str = DEFAULT_QUEUE
    payload: bytes = b""
    content_type: str = JSON
    priority: Priority = Priority.NORMAL
    delay_ms: int = 0
    schedule_time_ms: int | None = None
    """Absolute due time; `delay_ms` is ignored when it is given."""
    attempt_timeout_ms: int | None = None
    expire_time_ms: int | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    labels: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    retention_ms: int = DEFAULT_RETENTION_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A request to store a job, and the name of that request, if it has one."""

    spec: JobSpec
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued:
    """The answer to a NewJob."""

    job_id: str
    state: State
    version: int
    create_time_ms: int
    deduplicated: bool = False
    durability: Durability = Durability.ACCEPTED
    """The level that the store has confirmed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an attempt, or the job, failed. Texts are cut to size where they enter, in `Failure.of` of the worker."""

    reason: str
    error_type: str = ""
    message: str = ""
    stack_trace: str = ""
    time_ms: int = 0
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The latest word of a running handler on how far it has come."""

    fraction: float
    message: str = ""
    time_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One step of a job. `version` is its number among the job's transitions."""

    version: int
    state: State
    time_ms: int
    attempt: int = 0
    reason: str = ""
    detail: str = ""
    """The worker for PROCESSING, the first 200 characters of the error for RETRYING and FAILED, who asked and why for
    CANCELLED."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The record of a job, as read at one moment."""

    job_id: str
    spec: JobSpec
    state: State
    version: int
    create_time_ms: int
    attempt: int = 0
    crashes: int = 0
    token: str = ""
    """Names the latest claim; the winner's once the job has ended."""
    worker: str = ""
    due_time_ms: int | None = None
    start_time_ms: int | None = None
    finish_time_ms: int | None = None
    cancel_time_ms: int | None = None
    """When it was asked to cancel the job while it ran."""
    failure: Failure | None = None
    progress: Progress | None = None
    result: bytes | None = None
    result_content_type: str = ""
    history: tuple[Transition, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedJob:
    """A job that a worker holds the lease of, with all that it takes to run it once."""

    job_id: str
    token: str
    spec: JobSpec
    attempt: int
    crashes: int
    version: int
    create_time_ms: int
    start_time_ms: int
