"""Run one job once, and decide what its end means. Nothing is written here."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping

from headrace_broker import Broker, Outcome
from headrace_worker import _decide
from headrace_worker._handler import Handler, Kind
from headrace_worker._invoke import invoke
from headrace_worker._payload import BadPayload
from headrace_worker._processes import Conversation, Processes
from headrace_worker._progress import Progress
from headrace_worker._run import Run, Stop
from headrace_worker._threads import Threads
from headrace_worker.context import Context, JobCancelled

Runner = Callable[[Run, Handler], Awaitable[Outcome]]


class Executor:
    """Runs handlers: on the loop, in threads, in processes."""

    def __init__(
        self,
        *,
        handlers: Mapping[str, Handler],
        broker: Broker,
        processes: Processes,
        limit: int,
    ) -> None:
        self._handlers = handlers
        self._broker = broker
        self._threads = Threads(name="handler")
        self._processes = processes
        self._limit = limit
        self._runners: dict[Kind, Runner] = {
            Kind.LOOP: self._on_loop,
            Kind.THREAD: self._in_thread,
            Kind.PROCESS: self._in_process,
        }

    async def execute(self, run: Run) -> Outcome | None:
        """Runs one job once. Returns its outcome; None: nothing may be written, for the lease is lost.

        Raises CancelledError only when the calling task is cancelled by someone other than this run's stop.
        """
        handler = self._handlers.get(run.job.spec.type)
        if handler is None:
            return _decide.no_handler(run.job)
        outcome = None
        run.entered = True
        if run.stop is None:
            outcome = await self._attempt(run, handler)
        if run.stop is not None:
            return self.outcome_of_stop(run, outcome)
        return outcome

    @staticmethod
    def outcome_of_stop(run: Run, outcome: Outcome | None = None) -> Outcome | None:
        """Returns what is to be written for a run that was stopped, and ended with `outcome` or not at all yet."""
        assert run.stop is not None
        return _decide.stopped(run.job, run.stop, outcome, limit_ms=run.limit_ms)

    def close(self) -> None:
        """Lets go of threads and processes, killing the latter. Safe to call twice."""
        self._threads.close()
        self._processes.close()

    async def _attempt(self, run: Run, handler: Handler) -> Outcome | None:
        """Returns how the handler ended; None where a stop ended it."""
        try:
            return await self._runners[handler.kind](run, handler)
        except JobCancelled as error:
            return None if run.stop else _decide.threw(run.job, error, fatal=())
        except asyncio.CancelledError as error:
            if _take_back_cancels(run):  # this task's own end: not the handler's business, nor the job's
                raise
            return None if run.stop else _decide.threw(run.job, error, fatal=())
        finally:
            run.ended = True
            run.stop_clock()
            if run.cancels:
                _take_back_cancels(run)

    async def _on_loop(self, run: Run, handler: Handler) -> Outcome:
        job, spec = run.job, run.job.spec
        run.interrupt = functools.partial(_cancel, run)
        context = self._context(run) if handler.signature.takes_context else None
        try:
            arguments = handler.signature.arguments(spec.payload, spec.content_type, context)
        except BadPayload as error:
            return _decide.undecodable(job, str(error))
        _start_clock(run, handler)
        try:
            value = await handler.recipe.function(*arguments)
        except (asyncio.CancelledError, JobCancelled):
            raise
        except BaseException as error:  # noqa: BLE001  whatever the user's code raises fails this attempt alone
            return _decide.threw(job, error, fatal=handler.recipe.fatal)
        return _decide.returned(job, value, limit=self._limit)

    async def _in_thread(self, run: Run, handler: Handler) -> Outcome:
        _start_clock(run, handler)
        context = self._context(run)
        call = self._threads.call(functools.partial(invoke, handler, run.job, context, limit=self._limit))
        run.interrupt = call.interrupt
        return await call.future

    async def _in_process(self, run: Run, handler: Handler) -> Outcome:
        loop = asyncio.get_running_loop()
        run.interrupt = functools.partial(_cancel, run)  # while it waits for its turn
        async with self._processes.turn:
            conversation = self._processes.conversation(
                handler,
                run.job,
                started=functools.partial(loop.call_soon_threadsafe, _start_clock, run, handler),
                report=functools.partial(self._report, run, loop),
            )
            run.interrupt = functools.partial(_stop_process, run, conversation)
            return await self._threads.call(conversation).future

    def _context(self, run: Run) -> Context:
        report = functools.partial(self._report, run, asyncio.get_running_loop())
        return Context(job=run.job, report=report, cancelled=run.cancelled)

    def _report(self, run: Run, loop: asyncio.AbstractEventLoop, fraction: float, message: str) -> None:
        if run.settled:
            return
        if run.progress is None:
            run.progress = Progress(job=run.job, broker=self._broker, loop=loop)
        run.progress.report(fraction, message)


def _start_clock(run: Run, handler: Handler) -> None:
    """The attempt's time runs from now: the shorter one of the job's limit and the handler's."""
    mine, theirs = handler.timeout_ms, run.job.spec.attempt_timeout_ms
    run.start_clock(mine if theirs is None or (mine is not None and mine < theirs) else theirs)


def _stop_process(run: Run, conversation: Conversation) -> None:
    """Kills the process; at a cancellation it is asked first, and killed at the second call, when its grace is over."""
    if run.stop is Stop.CANCELLED:
        conversation.ask()
    else:
        conversation.kill()


def _cancel(run: Run) -> None:
    assert run.task is not None
    run.cancels += 1
    run.task.cancel()


def _take_back_cancels(run: Run) -> bool:
    """Undoes this run's own cancels of its task. Returns whether someone else has cancelled it as well."""
    task = run.task
    assert task is not None
    while run.cancels:
        run.cancels -= 1
        task.uncancel()
    return task.cancelling() > 0
