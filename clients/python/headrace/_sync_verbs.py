"""What Client can do to jobs that are there already; see _async_verbs.py."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

from headrace.models import DeadLetterFilter, DeadLetterSweep, Duration, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

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

    def requeue_dlq(
        self,
        job_ids: Iterable[str] | None = None,
        *,
        where: DeadLetterFilter | None = None,
        validate_only: bool = False,
        timeout: Duration | None = None,
    ) -> DeadLetterSweep:
        """Put dead letters back to work, oldest first, in as many calls as it takes.

        They keep their `job_id` and history; attempts and crashes are counted anew.

        Args:
            job_ids: These jobs.
            where: All dead letters that match; `DeadLetterFilter()` means all there are. In place of `job_ids`.
            validate_only: Only count; change nothing.
            timeout: Longest wait for the answer to each call. Default: that of the client.

        Returns:
            How many there were, and which of `job_ids` are no dead letters. A walk that was interrupted may be begun
            again: what was requeued is not met again.

        Raises:
            InvalidRequest: Neither or both of `job_ids` and `where` are given, or the filter is wrong.
        """
        held = None if job_ids is None else list(job_ids)  # The caller's iterator must run in the caller's thread.
        return self._run(
            lambda: self._async.requeue_dlq(held, where=where, validate_only=validate_only, timeout=timeout)
        )

    def requeue_dlq_page(
        self,
        job_ids: Sequence[str] | None = None,
        *,
        where: DeadLetterFilter | None = None,
        validate_only: bool = False,
        page_token: str = "",
        timeout: Duration | None = None,
    ) -> DeadLetterSweep:
        """One call of `requeue_dlq`, for those who show how far it is.

        `page_token` is the `next_page_token` of the call before.

        Raises:
            InvalidRequest: The token belongs to another filter.
        """
        return self._run(
            lambda: self._async.requeue_dlq_page(
                job_ids, where=where, validate_only=validate_only, page_token=page_token, timeout=timeout
            )
        )

    def purge_dlq(
        self,
        job_ids: Iterable[str] | None = None,
        *,
        where: DeadLetterFilter | None = None,
        force: bool = False,
        timeout: Duration | None = None,
    ) -> DeadLetterSweep:
        """Delete dead letters, oldest first, in as many calls as it takes. Without `force` it only counts them.

        Args:
            job_ids: These jobs.
            where: All dead letters that match; `DeadLetterFilter()` means all there are. In place of `job_ids`.
            force: Really delete.
            timeout: Longest wait for the answer to each call. Default: that of the client.

        Returns:
            How many there were, and which of `job_ids` are no dead letters. A walk that was interrupted may be begun
            again: what was deleted is not met again.

        Raises:
            InvalidRequest: Neither or both of `job_ids` and `where` are given, or the filter is wrong.
        """
        held = None if job_ids is None else list(job_ids)  # The caller's iterator must run in the caller's thread.
        return self._run(lambda: self._async.purge_dlq(held, where=where, force=force, timeout=timeout))

    def purge_dlq_page(
        self,
        job_ids: Sequence[str] | None = None,
        *,
        where: DeadLetterFilter | None = None,
        force: bool = False,
        page_token: str = "",
        timeout: Duration | None = None,
    ) -> DeadLetterSweep:
        """One call of `purge_dlq`, for those who show how far it is.

        `page_token` is the `next_page_token` of the call before.

        Raises:
            InvalidRequest: The token belongs to another filter.
        """
        return self._run(
            lambda: self._async.purge_dlq_page(
                job_ids, where=where, force=force, page_token=page_token, timeout=timeout
            )
        )
