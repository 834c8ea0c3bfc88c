"""The jobs in this worker's hands: start them, stop them, and see that each outcome gets written once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine

import structlog

from headrace_broker import ClaimedJob, Failed, Finish, Outcome, Released, Retried
from headrace_worker._executor import Executor
from headrace_worker._finisher import Finisher
from headrace_worker._run import PATIENCE, Run, Stop
from headrace_worker._slots import Slots

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("headrace_worker")


class Runs:
    """All runs of this worker. Belongs to the event loop, but for `held`."""

    def __init__(self, *, executor: Executor, finisher: Finisher, slots: Slots) -> None:
        self._executor = executor
        self._finisher = finisher
        self._slots = slots
        self._lock = threading.Lock()
        self._held: set[Run] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def start(self, job: ClaimedJob, *, leased_until: float) -> None:
        """Runs a claimed job, in a slot that was taken for it."""
        run = Run(job=job, leased_until=leased_until, on_timeout=self._time_is_up)
        self._hold(run)
        run.task = asyncio.create_task(self._perform(run), name=job.job_id)

    async def give_back(self, jobs: tuple[ClaimedJob, ...]) -> None:
        """Gives back jobs that were claimed and not started; no slots are theirs."""
        await asyncio.gather(*(self._write(job, Released()) for job in jobs))

    def held(self) -> list[Run]:
        """Returns the runs whose leases are to be renewed. May be called from any thread."""
        with self._lock:
            return [run for run in self._held if not run.settled or run.ended]

    def stop(self, run: Run, stop: Stop) -> None:
        """Stops a handler, unless it has ended or is being stopped already."""
        if run.ended or run.settled or run.stop is not None:
            return
        run.mark_stopped(stop)
        if stop in (Stop.LOST, Stop.FENCED):
            log.warning("lease lost" if stop is Stop.LOST else "lease not renewed in time", **_names(run))
        elif stop is Stop.CANCELLED:
            log.info("cancelled on request", **_names(run))
        if not run.entered:
            return
        self._spawn(self._see_off(run), name=f"stop {run.job.job_id}")

    def stop_all(self, stop: Stop, *, started: bool) -> None:
        """Stops all handlers, or only those that have not begun yet."""
        for run in self.held():
            if started or not run.started:
                self.stop(run, stop)

    async def empty(self, *, within: float) -> bool:
        """Waits until every job is done with, its outcome written. Returns False if that takes too long."""
        try:
            async with asyncio.timeout(within):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Lets go of threads and processes."""
        self._executor.close()

    async def _perform(self, run: Run) -> None:
        """The life of one job here: run, free the slot, write."""
        outcome = None
        try:
            outcome = await self._executor.execute(run)
        except Exception:  # a fault of ours, not of the handler: nothing is written, and the job runs again
            log.exception("fault in the worker", **_names(run))
        finally:
            run.ended = True
            self._slots.ended()
        await self._settle(run, outcome)

    async def _settle(self, run: Run, outcome: Outcome | None) -> None:
        """Writes the outcome, unless that was done over the handler's head."""
        if run.settled:
            return
        run.settled = True
        try:
            if run.progress is not None:
                await run.progress.close()
            if outcome is not None:
                _tell(run.job, outcome)
                await self._write(run.job, outcome)
        finally:
            self._let_go(run)

    async def _write(self, job: ClaimedJob, outcome: Outcome) -> None:
        try:
            await self._finisher.finish(Finish(job_id=job.job_id, token=job.token, outcome=outcome))
        except Exception:  # the job stays PROCESSING; its lease runs out, and it is run again
            log.exception("outcome not written", job_id=job.job_id, type=job.spec.type)

    async def _see_off(self, run: Run) -> None:
        """Interrupts a handler until it has ended."""
        while not run.ended:
            if run.interrupt is not None:
                run.interrupt()
            assert run.task is not None
            await asyncio.wait([run.task], timeout=PATIENCE)
            self._pass_over(run)

    def _pass_over(self, run: Run) -> None:
        """A handler that takes too long to stop loses its job, but keeps its slot. One whose lease may still be good
        keeps its job as well: nobody else may run it meanwhile.
        """
        if not (run.ended or run.settled or run.stop is Stop.FENCED):
            log.warning("the handler does not stop; its slot stays taken until it does", **_names(run))
            self._spawn(self._settle(run, self._executor.outcome_of_stop(run)), name=f"settle {run.job.job_id}")

    def _time_is_up(self, run: Run) -> None:
        self.stop(run, Stop.TIMEOUT)

    def _spawn(self, work: Coroutine[None, None, None], *, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _hold(self, run: Run) -> None:
        with self._lock:
            self._held.add(run)
        self._empty.clear()

    def _let_go(self, run: Run) -> None:
        with self._lock:
            self._held.discard(run)
        self._slots.written()
        if not self._held:
            self._empty.set()


def _tell(job: ClaimedJob, outcome: Outcome) -> None:
    """Logs a failed attempt, and a dead letter louder; what goes well is told by the job's own record."""
    if not isinstance(outcome, Retried | Failed):
        return
    why = outcome.failure
    error = ": ".join(part for part in (why.error_type, why.message) if part)
    facts = {"job_id": job.job_id, "type": job.spec.type, "attempt": job.attempt, "reason": why.reason, "error": error}
    if why.stack_trace:
        facts["exception"] = why.stack_trace
    if isinstance(outcome, Failed):
        log.error("job failed for good", **facts)
    else:
        log.warning("attempt failed", retry_in=outcome.delay_ms / 1000, **facts)


def _names(run: Run) -> dict[str, object]:
    job = run.job
    stop = None if run.stop is None else run.stop.name.lower()
    return {"job_id": job.job_id, "type": job.spec.type, "attempt": job.attempt, "stop": stop}
