"""A process that runs handlers with `process=True`: what happens inside of it."""

from __future__ import annotations

import functools
import multiprocessing
import os
import pickle
import signal
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

from headrace_broker import ClaimedJob, Outcome, configure_logging
from headrace_worker import _decide
from headrace_worker._handler import Handler, Recipe
from headrace_worker._invoke import invoke
from headrace_worker.context import Context

ASK = signal.SIGUSR1
"""Sent to the process to say that its job is cancelled. It gets no other job after that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """How the process is to log: like its worker."""

    format: str
    level: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What the process is asked to do."""

    job: ClaimedJob
    limit: int
    recipe: bytes
    """A Recipe, pickled by itself: where its module cannot be imported, that is a failure of this job alone."""


@dataclass(frozen=True, slots=True)
class Started:
    """The handler is about to be called: the modules it needs are imported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """The handler reported progress."""

    fraction: float
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The handler has ended."""

    outcome: Outcome


def main(pipe: Connection, logs: Logs) -> None:
    """Serves tasks until the pipe is closed."""
    # Killed as a group, with all that the handler starts; and a Ctrl-C in the terminal is the worker's to handle.
    os.setsid()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda _number, _frame: None)  # not SIG_IGN, which processes started here would inherit
    cancelled = threading.Event()
    # Set by a thread: this one may hold the event's lock when the signal comes.
    signal.signal(ASK, lambda _number, _frame: threading.Thread(target=cancelled.set, daemon=True).start())
    threading.Thread(target=_follow_parent, name="follow-parent", daemon=True).start()
    configure_logging(log_format=logs.format, log_level=logs.level)
    while True:
        try:
            packed = pipe.recv_bytes()
        except EOFError:
            return
        pipe.send(Ended(outcome=_serve(packed, pipe, cancelled)))


def _serve(packed: bytes, pipe: Connection, cancelled: threading.Event) -> Outcome:
    task: Task = pickle.loads(packed)  # noqa: S301  written by the process that started this one
    job = task.job
    try:
        handler = _handler(task.recipe)
    except BaseException as error:  # noqa: BLE001  the user's module fails at import: so does this attempt
        return _decide.threw(job, error, fatal=())

    def report(fraction: float, message: str) -> None:
        pipe.send(Reported(fraction=fraction, message=message))

    context = Context(job=job, report=report, cancelled=cancelled)
    pipe.send(Started())
    return invoke(handler, job, context, limit=task.limit)


@functools.cache
def _handler(packed: bytes) -> Handler:
    recipe: Recipe = pickle.loads(packed)  # noqa: S301  as above
    return Handler.of(recipe, process=True)


def _follow_parent() -> None:
    """Ends this process, and all that it has started, when the worker is gone, however it went."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.killpg(0, signal.SIGKILL)
