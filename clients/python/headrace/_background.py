"""The event loop behind the sync clients: one thread for all of them in a process."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from headrace.errors import ClientClosed

if TYPE_CHECKING:
    from collections.abc import Coroutine

_T = TypeVar("_T")


class BackgroundLoop:
    """An event loop on a daemon thread that lives until the process ends.

    One for the whole process, not one for each client: gRPC wakes every loop that ever used it for every event.
    """

    _shared: ClassVar[Self | None] = None
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self) -> None:
        self._ending = False
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="headrace-client", daemon=True)
        self._thread.start()
        self._started.wait()
        # A daemon thread that still runs Python while the interpreter is taken down can crash it.
        atexit.register(self._stop)

    @classmethod
    def shared(cls) -> Self:
        """The loop of this process, started on first use."""
        if (shared := cls._shared) is not None:
            return shared
        with cls._lock:
            if cls._shared is None:
                cls._shared = cls()
            return cls._shared

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run `work` on the loop and return what it returns; cancelled when the waiting thread is interrupted."""
        if threading.current_thread() is self._thread:
            work.close()
            raise ClientClosed("the sync client cannot be used from its own event loop")
        if self._loop.is_closed():
            work.close()
            raise ClientClosed("the interpreter is shutting down")
        errand = _Errand(work)
        try:
            self._loop.call_soon_threadsafe(errand.start)
            return errand.wait()
        except BaseException:
            if self._ending:
                # Only a daemon thread can still wait while the interpreter ends: it stops here like any other of its
                # kind, rather than print an exception that means nothing.
                threading.Event().wait()
            self._loop.call_soon_threadsafe(errand.abandon)
            raise

    def spawn(self, work: Coroutine[Any, Any, object]) -> None:
        """Start `work` on the loop without waiting; for finalizers, which must not block and may run on any thread."""
        try:
            self._loop.call_soon_threadsafe(_Errand(work).start)
        except RuntimeError:
            work.close()  # The loop has ended, and with it all that there was to finish.

    def _serve(self) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            self._loop.set_exception_handler(_report)
            self._stopping = asyncio.Event()
            self._loop.call_soon(self._started.set)
            runner.run(self._stopping.wait())

    def _stop(self) -> None:
        self._ending = True
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(timeout=2)

    @classmethod
    def _forget(cls) -> None:
        """In a forked child the thread does not exist, and the lock may be held by one that does not either."""
        cls._shared = None
        cls._lock = threading.Lock()


class _Errand(Generic[_T]):
    """One piece of work that a thread waits for while the loop does it.

    Not asyncio.run_coroutine_threadsafe: a Ctrl-C at the wrong instant leaves the lock inside its future held, and the
    loop then waits for that lock for ever. A SimpleQueue cannot be left in such a state.
    """

    def __init__(self, work: Coroutine[Any, Any, _T]) -> None:
        self._work = work
        self._task: asyncio.Task[_T] | None = None
        self._done: SimpleQueue[asyncio.Task[_T]] = SimpleQueue()

    def start(self) -> None:
        """On the loop: begin."""
        self._task = asyncio.get_running_loop().create_task(self._work, name="headrace-client-call")
        self._task.add_done_callback(self._done.put)

    def abandon(self) -> None:
        """On the loop: nobody waits any more. Cancels what still runs; how that ends is told to nobody."""
        if self._task is None:
            self._work.close()
        else:
            self._task.add_done_callback(lambda task: task.cancelled() or task.exception())
            self._task.cancel()

    def wait(self) -> _T:
        """In the waiting thread: what the work returns or raises.

        Looks up twice a second: Python does not notice a Ctrl-C that comes in the instant before a thread goes to
        sleep until it wakes up.
        """
        while True:
            try:
                task = self._done.get(timeout=0.5)
            except Empty:
                continue
            return task.result()


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # gRPC wakes all loops of a process for an event that one of them takes; the others find nothing to read.
    # Harmless, but asyncio would log each (grpc/grpc#25364).
    if not isinstance(context.get("exception"), BlockingIOError):
        loop.default_exception_handler(context)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=BackgroundLoop._forget)  # noqa: SLF001 - its own class
