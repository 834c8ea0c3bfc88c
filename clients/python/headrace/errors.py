"""Everything that can go wrong for a client, drawn as a tree.

    HeadraceError
    ├── RequestError             a call failed; `code`, `reason` and `retry_after` say how
    │   ├── InvalidRequest       (ValueError) `violations` name the fields
    │   ├── JobNotFound          (LookupError) never stored, or its record has aged out
    │   ├── QueueNotFound        (LookupError) it has never had a job, nor been set up
    │   ├── HistoryGap           a watch cannot be told every version after the one it asked for
    │   ├── PreconditionFailed   not in this state of the job, or of the store
    │   ├── AccessDenied         who you are, or are not, does not allow it
    │   ├── ResourceExhausted    a limit, or the store's memory, is used up: nothing was stored
    │   ├── Unavailable          no server there, or it cannot reach its store: try again
    │   ├── DeadlineExceeded     (TimeoutError) no answer in time; whether it took effect is unknown
    │   ├── Unsupported          the server does not know this call: it is older than this client
    │   └── ServerFault          a fault of the server
    ├── EnqueueError             one job of `enqueue_many` was not stored; returned in its place, not raised
    ├── JobUnsuccessful          `result` found that the job ended otherwise
    │   ├── JobFailed            for good; it is in the dead letter queue
    │   ├── JobCancelled
    │   └── JobExpired           it had not started by its expire_time
    ├── ContentError             (ValueError) content is not what its content type says
    ├── InvalidAddress           (ValueError) not the address of a server
    └── ClientClosed             (RuntimeError) the client was closed, or belongs to another process or event loop

The errors of gRPC never come out of the client; where one lies beneath, it is the `__cause__`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from headrace.models import Failure, Job, NewJob


class HeadraceError(Exception):
    """Base of all errors that the client raises on purpose."""


class RequestError(HeadraceError):
    """A call failed, or was found wrong before it was sent.

    Attributes:
        code: Number of the gRPC status, such as 14 for UNAVAILABLE.
        reason: The server's own name for the error, such as JOB_NOT_FOUND; empty where the server did not answer.
        retry_after: Seconds to wait before another try, where the server said so.
    """

    status: ClassVar[int] = 2

    def __init__(
        self, message: str, *, code: int | None = None, reason: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = self.status if code is None else code
        self.reason = reason
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One field of a request that is wrong."""

    field: str
    """Path of the field, such as `job.delay`."""
    description: str
    """What is wrong with it, and what would be right."""


class InvalidRequest(RequestError, ValueError):
    """The request is wrong; repeating it cannot help. `violations` name the fields."""

    status = 3
    violations: tuple[Violation, ...] = ()

    @classmethod
    def of(cls, field: str, description: str) -> Self:
        """The error for one field that was found wrong before anything was sent."""
        error = cls(f"{field}: {description}")
        error.violations = (Violation(field=field, description=description),)
        return error


class JobNotFound(RequestError, LookupError):
    """No such job: it was never stored, or its retention has passed."""

    status = 5


class QueueNotFound(RequestError, LookupError):
    """No such queue: it has never had a job, nor been set up."""

    status = 5


class HistoryGap(RequestError):
    """A watch cannot be told every version after the one that it asked for.

    The record holds the latest 500 transitions; or a failover of the store has lost the latest ones. Watching without
    `after_version` starts afresh, with a snapshot.
    """

    status = 11


class PreconditionFailed(RequestError):
    """The state of the job, or the setup of the store, does not allow this."""

    status = 9


class AccessDenied(RequestError):
    """The server does not know who calls, or does not allow it."""

    status = 7


class ResourceExhausted(RequestError):
    """A limit of the server or the store's memory is used up. Nothing was stored."""

    status = 8


class Unavailable(RequestError):
    """No server answers there, or it cannot reach its store. Repeating with the same request_id is safe."""

    status = 14


class DeadlineExceeded(RequestError, TimeoutError):
    """No answer in time. Whether the call took effect is unknown; repeating with the same request_id is safe."""

    status = 4


class Unsupported(RequestError):
    """The server does not know this call: it is older than this client, or not a headrace server."""

    status = 12


class ServerFault(RequestError):
    """A fault of the server; its log says more."""

    status = 13


class EnqueueError(HeadraceError):
    """One job of `enqueue_many` was not stored. Stands in its place in the answer.

    Attributes:
        index: Place of the job in the input, from 0.
        job: The job, with the request_id that was used: `enqueue_many([error.job])` is a safe repetition.
        error: Why it was not stored.
    """

    def __init__(self, index: int, job: NewJob, error: HeadraceError) -> None:
        super().__init__(index, job, error)
        self.index = index
        self.job = job
        self.error = error

    def __str__(self) -> str:
        return f"job {self.index} ({self.job.type}) was not stored: {self.error}"


class JobUnsuccessful(HeadraceError):
    """The job has ended, but not as SUCCEEDED. `job` is the whole job, `failure` its latest failure, if any."""

    how: ClassVar[str] = "did not succeed"

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.job = job

    @property
    def failure(self) -> Failure | None:
        """The latest failure of the job."""
        return self.job.failure

    def __str__(self) -> str:
        reason, error = self._why()
        return f"job {self.job.job_id} {self.how}{f' ({reason})' if reason else ''}{': ' if error else ''}{error}"

    def _why(self) -> tuple[str, str]:
        """The reason of the end, and its text. That of an attempt that failed before is not it."""
        last = self.job.history[-1] if self.job.history else None
        return ("", "") if last is None else (last.reason, last.detail)


class JobFailed(JobUnsuccessful):
    """The job failed for good and is in the dead letter queue."""

    how = "failed"

    def _why(self) -> tuple[str, str]:
        if self.failure is None:
            return super()._why()
        parts = (self.failure.error_type, self.failure.message)
        return self.failure.reason, ": ".join(part for part in parts if part)


class JobCancelled(JobUnsuccessful):
    """The job was cancelled, or discarded by its handler."""

    how = "was cancelled"


class JobExpired(JobUnsuccessful):
    """The job had not started by its expire_time."""

    how = "expired"


class ContentError(HeadraceError, ValueError):
    """Content is not what its content type says. `payload_bytes` and `result_bytes` have it as it is."""


class InvalidAddress(HeadraceError, ValueError):
    """Not the address of a server."""


class ClientClosed(HeadraceError, RuntimeError):
    """The client was closed, or is used in another process or event loop than its own."""
