"""How one attempt ended: decided by a worker's executor, written by `Broker.finish`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from headrace_broker.job import JSON, Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """The handler returned. PROCESSING → SUCCEEDED."""

    result: bytes | None = None
    content_type: str = JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """The attempt failed, and another one is due after `delay_ms`. PROCESSING → RETRYING."""

    delay_ms: int
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The job failed for good. PROCESSING → FAILED, into the dead letter queue."""

    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """The worker gives the job back unharmed, attempt not counted. PROCESSING → QUEUED, at the front."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snoozed:
    """The handler asks to be run later, attempt not counted. PROCESSING → SCHEDULED."""

    delay_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Discarded:
    """The handler says that the job need not be done. PROCESSING → CANCELLED, no dead letter."""

    reason: str = ""


Outcome = Succeeded | Retried | Failed | Released | Snoozed | Discarded


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """One outcome, and the claim that it belongs to."""

    job_id: str
    token: str
    outcome: Outcome


class Finished(StrEnum):
    """What `Broker.finish` did with a Finish."""

    WRITTEN = "WRITTEN"
    """The outcome is stored; also when an earlier call with a lost reply had stored it."""
    STALE = "STALE"
    """The lease belongs to someone else by now, or the job is gone. Nothing was changed."""
