"""What Client can do to jobs that are there already; see _async_verbs.py."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

from headrace.models import Duration, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from headrace.aio import AsyncClient

_T = TypeVar("_T")


class SyncVerbs(ABC):
    """The verbs, each one call."""

    _async: AsyncClient

    @abstractmethod
    def _run(self, call: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """What the coroutine returns, run on the loop of the async client."""

    def cancel(self, job_id: str, *, reason: str = "", timeout: Duration | None = None) -> Job:
        """Cancel a job: one that waits at once; of one that runs, the handler is stopped within a second.

        Args:
            job_id: The job.
            reason: Who asks, and why, at most 200 characters; kept in its history.
            timeout: Longest wait for the answer. Default: that of the client.

        Returns:
            The job, without payload and result: CANCELLED, or PROCESSING with a `cancel_request_time`. That one is
            CANCELLED once its handler has ended, or a second has passed, unless it succeeded before. Safe to repeat.

        Raises:
            JobNotFound: It was never stored, or its retention has passed.
            PreconditionFailed: It has ended otherwise.
        """
        return self._run(lambda: self._async.cancel(job_id, reason=reason, timeout=timeout))
