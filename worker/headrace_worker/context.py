"""What a handler can know and say about the job it runs."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from types import MappingProxyType

import structlog

from headrace_broker import ClaimedJob

MAX_PROGRESS_MESSAGE = 500


class JobCancelled(BaseException):
    """Ends a handler whose job was stopped: raised by `Context.raise_if_cancelled`, and in threads at a stop.

    Not an Exception, so that a handler's `except Exception` lets it pass; let it pass likewise.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInfo:
    """The job of a handler, read only. Times are by the clock of the store."""

    id: str
    """The same for every attempt: use it as the idempotency key of effects that must not happen twice."""
    queue: str
    type: str
    priority: str
    labels: Mapping[str, str]
    headers: Mapping[str, str]
    payload: bytes
    """The payload as it was stored."""
    content_type: str
    attempt: int
    """1 for the first attempt."""
    max_attempts: int
    crashes: int
    """How often a worker died or went silent while it ran this job."""
    create_time: datetime
    start_time: datetime
    """When this attempt was claimed."""

    @classmethod
    def of(cls, job: ClaimedJob) -> JobInfo:
        """Returns what a handler may know of a claimed job."""
        spec = job.spec
        return cls(
            id=job.job_id,
            queue=spec.queue,
            type=spec.type,
            priority=spec.priority.value,
            labels=MappingProxyType(dict(spec.labels)),
            headers=MappingProxyType(dict(spec.headers)),
            payload=spec.payload,
            content_type=spec.content_type,
            attempt=job.attempt,
            max_attempts=spec.retry.max_attempts,
            crashes=job.crashes,
            create_time=_moment(job.create_time_ms),
            start_time=_moment(job.start_time_ms),
        )


class Context:
    """Given to handlers that ask for it. Valid while the handler runs; usable from any of its threads."""

    def __init__(self, *, job: ClaimedJob, report: Callable[[float, str], None], cancelled: threading.Event) -> None:
        self._claimed = job
        self._report = report
        self._cancelled = cancelled

    @cached_property
    def job(self) -> JobInfo:
        """The job."""
        return JobInfo.of(self._claimed)

    @property
    def attempt(self) -> int:
        """Number of this attempt: 1 for the first."""
        return self._claimed.attempt

    @cached_property
    def log(self) -> structlog.stdlib.BoundLogger:
        """A logger whose lines name the job."""
        job = self._claimed
        logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("headrace.job")
        return logger.bind(job_id=job.job_id, type=job.spec.type, attempt=job.attempt, queue=job.spec.queue)

    def progress(self, fraction: float, message: str = "") -> None:
        """Says how far the job has come: `fraction` from 0 to 1, and up to 500 characters for people.

        Returns at once. Of reports in quick succession only the latest is kept, about ten a second; the last one
        always is.

        Raises:
            ValueError: `fraction` is not a number.
        """
        if math.isnan(fraction):
            raise ValueError("the fraction of a progress must be a number from 0 to 1, not NaN")
        text = str(message)[:MAX_PROGRESS_MESSAGE].encode("utf-8", "replace").decode("utf-8")
        self._report(min(max(float(fraction), 0.0), 1.0), text)

    @property
    def cancelled(self) -> bool:
        """True once the job is being stopped: someone cancelled it, its time is up, its lease is lost, or the worker
        shuts down.

        `async` handlers are cancelled then, threads get a JobCancelled at their next line of Python, and processes are
        killed, after a second where the job was cancelled; this is for those that would rather stop at a place of
        their own choice.
        """
        return self._cancelled.is_set()

    def raise_if_cancelled(self) -> None:
        """Raises JobCancelled once the job is being stopped."""
        if self._cancelled.is_set():
            raise JobCancelled

    def wait_cancelled(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds for the job to be stopped, and says whether it is. Not for `async` handlers.

        The `time.sleep` of a thread that can be stopped.
        """
        return self._cancelled.wait(timeout)


def _moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)
