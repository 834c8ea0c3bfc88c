"""The Worker: what users make, hang their handlers on, and run."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from headrace_worker._duration import Duration
from headrace_worker._handler import Handler, Recipe, check_fatal

if TYPE_CHECKING:
    from headrace_worker.settings import WorkerSettings

MAX_CONCURRENCY = 10_000
MAX_PROCESSES = 1_000
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_Function = TypeVar("_Function", bound=Callable[..., Any])


class Worker:
    """Handlers, and how to run them.

        worker = Worker(queues=["mail"], concurrency=20)

        @worker.handler("mail.send", timeout=30)
        async def send(payload: Mail) -> None: ...

    Start it with `headrace-worker module:worker`, or with `worker.run()`.

    Args:
        queues: queues to take jobs from; each is first in its turn, so none starves.
        concurrency: jobs that run at a time, of all kinds together.
        processes: processes for handlers with `process=True`; by default as many as the machine has CPUs.
        fatal: exception types that no retry can help: they make a dead letter of the job at once.
    """

    def __init__(
        self,
        *,
        queues: Sequence[str] = ("default",),
        concurrency: int = 100,
        processes: int | None = None,
        fatal: type[BaseException] | Sequence[type[BaseException]] = (),
    ) -> None:
        names = (queues,) if isinstance(queues, str) else tuple(queues)
        if not names or len(set(names)) != len(names):
            raise ValueError(f"queues must be one or more different names, not {queues!r}")
        for name in names:
            _check_name("queue", name)
        self.queues = names
        self.concurrency = _check_number("concurrency", concurrency, most=MAX_CONCURRENCY)
        self.processes = _check_number("processes", processes or os.cpu_count() or 1, most=MAX_PROCESSES)
        self._fatal = check_fatal(fatal)
        self._handlers: dict[str, Handler] = {}

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """The handlers by job type."""
        return MappingProxyType(self._handlers)

    def handler(
        self,
        type: str,  # noqa: A002  the word for it everywhere in headrace
        *,
        timeout: Duration | None = None,
        fatal: type[BaseException] | Sequence[type[BaseException]] = (),
        process: bool = False,
    ) -> Callable[[_Function], _Function]:
        """Registers a function for a job type, and leaves it as it is.

        `async def` runs on the event loop, `def` in a thread, and `def` with `process=True` in a process that can be
        killed. The function takes `(payload)`, `(payload, ctx)`, `(ctx)` or `()`. The payload is decoded by its
        annotation; what the function returns is the job's result.

        Args:
            type: the job type, `[A-Za-z0-9_.-]{1,128}`; one handler for each.
            timeout: seconds or timedelta that one attempt may take, 1 ms to 7 days. A job may bring a shorter one.
            fatal: exception types, beside the worker's, that make a dead letter of the job at once.
            process: run it in a process of its own.

        Raises:
            TypeError, ValueError: the function cannot be a handler; the message says why.
        """
        _check_name("job type", type)
        kinds = self._fatal + check_fatal(fatal)

        def register(function: _Function) -> _Function:
            if type in self._handlers:
                raise ValueError(f"there is already a handler for type {type!r}")
            recipe = Recipe(type=type, function=function, fatal=kinds)
            self._handlers[type] = Handler.of(recipe, process=process, timeout=timeout)
            return function

        return register

    def run(self, settings: WorkerSettings | None = None) -> None:
        """Runs this worker until SIGTERM or Ctrl-C, then drains. For programs that are their own command.

        Settings come from the environment unless they are given. Configures logging. Ends the process with a
        message and exit code 1 when it cannot start.
        """
        from headrace_worker.__main__ import run  # noqa: PLC0415  handlers are imported by many who never run them

        run(self, settings)

    async def serve(
        self,
        settings: WorkerSettings | None = None,
        *,
        ready: asyncio.Event | None = None,
        stop: asyncio.Event | None = None,
    ) -> None:
        """Runs this worker in the running event loop until `stop` is set, then drains. For embedding, and for tests.

        `ready` is set when it takes jobs. Cancelling it gives running jobs back at once. Leaves signals and logging
        alone.

        Raises:
            CannotStart: the store cannot be reached, or must not be used; or there are no handlers.
        """
        from headrace_worker.app import App  # noqa: PLC0415  as above
        from headrace_worker.settings import WorkerSettings  # noqa: PLC0415  as above

        await App(worker=self, settings=settings or WorkerSettings()).run(ready=ready, stop=stop)


def _check_name(what: str, name: Any) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{what} {name!r}: a name is 1 to 128 of the characters A-Z a-z 0-9 _ . -")


def _check_number(what: str, number: Any, *, most: int) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= most:
        raise ValueError(f"{what} must be a whole number from 1 to {most:,}, not {number!r}")
    return number
