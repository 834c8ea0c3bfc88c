"""What Client can do to queues; see _async_queues.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from headrace._async_queues import AsyncQueues
    from headrace._queue_models import Queue
    from headrace.models import Duration

_T = TypeVar("_T")


class Run(Protocol):
    """Runs a coroutine on the loop of the async client."""

    def __call__(self, call: Callable[[], Coroutine[Any, Any, _T]], /) -> _T:
        """What the coroutine returns."""


class Queues:
    """Shows queues, and steers them. Reached as `client.queues`.

    Methods that name a queue raise QueueNotFound where it has never had a job, nor been set up. All may be repeated.
    `timeout` is the longest wait for the answer; by default that of the client.
    """

    def __init__(self, *, queues: AsyncQueues, run: Run) -> None:
        self._async = queues
        self._run = run

    def list(self, *, timeout: Duration | None = None) -> tuple[Queue, ...]:
        """All queues, by name."""
        return self._run(lambda: self._async.list(timeout=timeout))

    def get(self, queue: str, *, timeout: Duration | None = None) -> Queue:
        """One queue."""
        return self._run(lambda: self._async.get(queue, timeout=timeout))

    def pause(
        self, queue: str, *, reason: str = "", allow_missing: bool = False, timeout: Duration | None = None
    ) -> Queue:
        """Stop a queue from handing out jobs, until it is resumed; see `AsyncQueues.pause`."""
        return self._run(lambda: self._async.pause(queue, reason=reason, allow_missing=allow_missing, timeout=timeout))

    def resume(self, queue: str, *, timeout: Duration | None = None) -> Queue:
        """Let a paused queue hand out jobs again."""
        return self._run(lambda: self._async.resume(queue, timeout=timeout))
