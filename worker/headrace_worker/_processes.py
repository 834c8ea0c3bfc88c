"""Processes for handlers with `process=True`: each runs one job at a time, and can be killed without harming others."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from headrace_broker import ClaimedJob, Outcome, Reason
from headrace_worker import _child, _decide
from headrace_worker._failure import failure
from headrace_worker._handler import Handler
from headrace_worker.context import JobCancelled

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

_REAP_PATIENCE = 5.0  # seconds; a process that closed its pipe is dead, or all but


class Child:
    """One process, started by `spawn` so that it inherits no lock, thread or connection."""

    def __init__(self, logs: _child.Logs) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe: Connection
        self._pipe, theirs = context.Pipe()
        self._process: SpawnProcess = context.Process(target=_child.main, args=(theirs, logs), name="headrace-handler")
        self._process.start()
        theirs.close()

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.is_alive()

    def kill(self) -> None:
        """Kills the process and those it has started. Safe to call twice."""
        pid = self._process.pid
        if pid is None or not self._process.is_alive():
            return
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:  # it has not made its own group yet
            self._process.kill()

    def ask(self) -> None:
        """Asks the handler to stop: its context says that the job is cancelled."""
        if self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, _child.ASK)

    def close(self) -> None:
        """Kills the process, and waits until it is gone."""
        self.kill()
        self._process.join(_REAP_PATIENCE)
        self._pipe.close()

    def exit_code(self) -> int | None:
        """Waits for the end of a process that has closed its pipe; negative: the signal that killed it."""
        self._process.join(_REAP_PATIENCE)
        return self._process.exitcode

    def run(self, task: _child.Task, *, started: Callable[[], object], report: Callable[[float, str], None]) -> Outcome:
        """Has the process run one job. Raises EOFError or OSError when it dies over it."""
        self._pipe.send_bytes(pickle.dumps(task))
        while True:
            match self._pipe.recv():
                case _child.Started():
                    started()
                case _child.Reported(fraction=fraction, message=message):
                    report(fraction, message)
                case _child.Ended(outcome=outcome):
                    return outcome


class Conversation:
    """One job in one process. Called in a thread; `ask` and `kill` may be called from any other."""

    def __init__(
        self,
        *,
        pool: Processes,
        task: _child.Task,
        started: Callable[[], object],
        report: Callable[[float, str], None],
    ) -> None:
        self._pool = pool
        self._task = task
        self._started = started
        self._report = report
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._killed = False
        self._asked = False

    def __call__(self) -> Outcome:
        """Runs the job, and returns how it ended. Raises JobCancelled when the process was killed on purpose."""
        child = self._pool.take()
        with self._lock:
            self._child = child
            if self._killed:
                child.kill()
        try:
            return child.run(self._task, started=self._started, report=self._report)
        except (EOFError, OSError) as error:
            if self._killed:
                raise JobCancelled from error
            return died(self._task.job, child.exit_code())
        finally:
            with self._lock:
                self._child = None
            self._pool.put_back(child, used_up=self._killed or self._asked)

    def ask(self) -> None:
        """Asks the handler to stop; kills the process where it has been asked before, or has not begun."""
        with self._lock:
            if self._child is not None and not self._asked:
                self._asked = True
                self._child.ask()
                return
        self.kill()

    def kill(self) -> None:
        """Kills the process, now or as soon as it is there."""
        with self._lock:
            self._killed = True
            if self._child is not None:
                self._child.kill()


class Processes:
    """Up to `size` processes, started when they are needed and used again."""

    def __init__(self, *, size: int, logs: _child.Logs, limit: int) -> None:
        self._logs = logs
        self._limit = limit
        self._turns = asyncio.Semaphore(size)
        self._lock = threading.Lock()
        self._idle: list[Child] = []
        self._all: set[Child] = set()
        self._closed = False

    @property
    def turn(self) -> asyncio.Semaphore:
        """Hold this while a conversation goes on: it stands for one of the processes."""
        return self._turns

    def conversation(
        self,
        handler: Handler,
        job: ClaimedJob,
        *,
        started: Callable[[], object],
        report: Callable[[float, str], None],
    ) -> Conversation:
        """Returns the conversation that runs this job."""
        task = _child.Task(job=job, limit=self._limit, recipe=pickle.dumps(handler.recipe))
        return Conversation(pool=self, task=task, started=started, report=report)

    def take(self) -> Child:
        """Returns an idle process, or a new one. Raises JobCancelled once the pool is closed."""
        while True:
            with self._lock:
                if self._closed:
                    raise JobCancelled
                child = self._idle.pop() if self._idle else None
            if child is None:
                return self._start()
            if child.is_alive:
                return child
            self._forget(child)

    def put_back(self, child: Child, *, used_up: bool) -> None:
        """Takes a process back, to be used again unless it is dead or `used_up`."""
        if child.is_alive and not used_up and not self._closed:
            with self._lock:
                self._idle.append(child)
        else:
            self._forget(child)

    def close(self) -> None:
        """Kills all processes, and waits until they are gone. Safe to call twice."""
        with self._lock:
            self._closed = True
            children, self._all = self._all, set()
        for child in children:
            child.kill()
        for child in children:
            child.close()

    def _start(self) -> Child:
        child = Child(self._logs)
        with self._lock:
            self._all.add(child)
        return child

    def _forget(self, child: Child) -> None:
        with self._lock:
            self._all.discard(child)
        child.close()


def died(job: ClaimedJob, exit_code: int | None) -> Outcome:
    """A process that died over its job: a failed attempt, tried again by the job's policy."""
    if exit_code is not None and exit_code < 0:
        how = f"was killed by {signal.Signals(-exit_code).name}"
    else:
        how = f"died with exit code {exit_code}"
    return _decide.attempt_failed(job, failure(job, Reason.HANDLER_ERROR, f"the handler's process {how}"))
