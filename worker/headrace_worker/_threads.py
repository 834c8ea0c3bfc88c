"""Threads for plain functions, which can be interrupted at any line of Python.

They are daemon threads: one that hangs in C code for ever does not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import queue
import signal
import threading
from collections.abc import Callable

from headrace_broker import Outcome
from headrace_worker.context import JobCancelled


def leave_signals_to_the_main_thread() -> None:
    """Blocks SIGINT and SIGTERM in this thread. Only the main thread runs Python's handlers: a signal that the kernel
    gave to another one would not wake it from a handler that blocks the loop.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})


class Call:
    """One function call in a thread."""

    def __init__(self, function: Callable[[], Outcome], *, loop: asyncio.AbstractEventLoop) -> None:
        self._function = function
        self._loop = loop
        self._lock = threading.Lock()
        self._thread_id: int | None = None
        self._over = False
        self.interrupted = False
        self.future: asyncio.Future[Outcome] = loop.create_future()
        """What the function returned or raised; done when the thread has really left it."""

    def interrupt(self) -> None:
        """Raises JobCancelled in the thread, at its next line of Python. It may take long to get there."""
        with self._lock:
            self.interrupted = True
            if self._thread_id is not None and not self._over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._thread_id), ctypes.py_object(JobCancelled)
                )

    def run(self) -> None:
        """Runs the function. For the thread.

        An interrupt is delivered a moment after it was asked for, so it may hit any line here: the function's end is
        reported in any case, and no interrupt is asked for once `_over` is set.
        """
        end: Outcome | BaseException = JobCancelled()
        try:
            try:
                if self._enter():
                    end = self._function()
            except BaseException as error:  # noqa: BLE001  carried to the event loop, which decides about the job
                end = error
            self._leave()
        except JobCancelled:
            self._leave()
        finally:
            self._report(end)

    def _enter(self) -> bool:
        with self._lock:
            self._thread_id = threading.get_ident()
            return not self.interrupted

    def _leave(self) -> None:
        with self._lock:
            self._over = True

    def _report(self, end: Outcome | BaseException) -> None:
        try:
            self._loop.call_soon_threadsafe(self._deliver, end)
        except RuntimeError:  # the loop is closed: the worker has ended, and the job was given back before
            return

    def _deliver(self, end: Outcome | BaseException) -> None:
        if self.future.done():
            return
        if isinstance(end, BaseException):
            self.future.set_exception(end)
        else:
            self.future.set_result(end)


class Threads:
    """As many threads as calls run at the same time; each is used again, unless it was interrupted."""

    def __init__(self, *, name: str) -> None:
        self._name = name
        self._numbers = itertools.count(1)
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._closed = False

    def call(self, function: Callable[[], Outcome]) -> Call:
        """Starts a call in a thread."""
        call = Call(function, loop=asyncio.get_running_loop())
        self._calls.put(call)
        if not self._idle.acquire(blocking=False):
            threading.Thread(target=self._serve, name=f"{self._name}-{next(self._numbers)}", daemon=True).start()
        return call

    def close(self) -> None:
        """Lets idle threads end, and the others when their call is over. Does not wait. Safe to call twice."""
        if not self._closed:
            self._closed = True
            self._calls.put(None)

    def _serve(self) -> None:
        leave_signals_to_the_main_thread()
        try:
            while (call := self._calls.get()) is not None:
                call.run()
                if call.interrupted:
                    return
                self._idle.release()
            self._calls.put(None)  # for the next thread
        except JobCancelled:  # delivered after its job had ended: this thread was to be retired anyway
            return
