"""One job in this worker's hands, from its claim until its outcome is written."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING

from headrace_broker import ClaimedJob

if TYPE_CHECKING:
    from headrace_worker._progress import Progress

PATIENCE = 1.0
"""Seconds that a stopped handler has to end, before its job goes on without it."""


class Stop(Enum):
    """Why a handler is stopped before its end."""

    TIMEOUT = auto()
    """Its time is up: a failed attempt."""
    CANCELLED = auto()
    """Someone asked to cancel the job: the store makes that of whatever end is written, but for a success."""
    SHUTDOWN = auto()
    """The worker shuts down: the job is given back."""
    FENCED = auto()
    """The lease could not be renewed and is about to end: the job is given back once the handler has ended."""
    LOST = auto()
    """The lease belongs to someone else by now: nothing may be written."""


class Run:
    """What this worker knows of a job that it holds. Changed on the event loop alone, but for `leased_until`."""

    __slots__ = (
        "_cancelled", "_on_timeout", "_timer", "cancels", "ended", "entered", "interrupt", "job", "leased_until",
        "limit_ms", "progress", "renew_until", "settled", "started", "stop", "task",
    )  # fmt: skip

    def __init__(self, *, job: ClaimedJob, leased_until: float, on_timeout: Callable[[Run], None]) -> None:
        self.job = job
        self._on_timeout = on_timeout
        self.leased_until = leased_until
        """End of the lease, by the monotonic clock; moved on by the thread that renews."""
        self.renew_until = math.inf
        """When to let the lease go, because the handler should have ended long before."""
        self.stop: Stop | None = None
        self.entered = False
        """The executor is at it: from now on `interrupt` does something."""
        self.started = False
        """The user's code runs, or has run."""
        self.ended = False
        """The handler is over; its slot is free."""
        self.settled = False
        """The outcome is decided, and on its way to the store."""
        self.interrupt: Callable[[], None] | None = None
        """Stops the handler, in the way of its kind. May be called again when that had no effect."""
        self.cancels = 0
        self.limit_ms: int | None = None
        self.progress: Progress | None = None
        self.task: asyncio.Task[None] | None = None
        self._cancelled: threading.Event | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def cancelled(self) -> threading.Event:
        """What the handler's context looks at to see whether the job is being stopped."""
        if self._cancelled is None:
            self._cancelled = threading.Event()
            if self.stop is not None:
                self._cancelled.set()
        return self._cancelled

    def mark_stopped(self, stop: Stop) -> None:
        """Notes why the handler is stopped, and tells its context. The first reason stays."""
        if self.stop is None:
            self.stop = stop
            if self._cancelled is not None:
                self._cancelled.set()

    def start_clock(self, limit_ms: int | None) -> None:
        """The handler starts now, and is stopped after `limit_ms`, if there is a limit."""
        self.started = True
        self.limit_ms = limit_ms
        if limit_ms is None or self.ended:
            return
        self.renew_until = time.monotonic() + limit_ms / 1000 + PATIENCE
        self._timer = asyncio.get_running_loop().call_later(limit_ms / 1000, self._on_timeout, self)

    def stop_clock(self) -> None:
        """The handler has ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
