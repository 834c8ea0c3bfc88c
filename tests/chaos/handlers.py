"""The worker of a chaos run. Handlers write down what they do, outside the store, in the file CHAOS_EFFECTS names."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from headrace_worker import Context, Discard, Retry, Snooze, Worker

QUEUES = ("alpha", "beta")
CONCURRENCY = 40

worker = Worker(queues=QUEUES, concurrency=CONCURRENCY, processes=1, fatal=ZeroDivisionError)


STALL_STEP = 0.05
STALL = 0.15
"""Seconds without a turn that are worth a line."""


class Broken(Exception):
    """What handlers raise that are to fail."""


def now_ms() -> float:
    """The time by the clock of the whole run: this process's own wall clock may have been set wrong."""
    return (time.monotonic() + float(os.environ["CHAOS_EPOCH"])) * 1_000


def write(row: dict[str, Any]) -> None:
    """Appends one line, whole or not at all, even if this process is killed in the next instruction."""
    line = json.dumps({**row, "at": now_ms()}) + "\n"
    place = os.open(os.environ["CHAOS_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(place, line.encode())
    finally:
        os.close(place)


def begin(ctx: Context, *, pid: int) -> str:
    """Writes down that a run begins, and names it. The token is no handler's business, and this suite's proof."""
    run, job = uuid.uuid4().hex[:12], ctx.job
    facts = {"job_id": job.id, "type": job.type, "attempt": job.attempt, "token": ctx._claimed.token, "pid": pid}
    write({"row": "start", "run": run, **facts, "claimed_ms": round(job.start_time.timestamp() * 1_000)})
    return run


@contextmanager
def effect(ctx: Context, *, pid: int = 0) -> Iterator[dict[str, Any]]:
    """Writes down a run's begin and end. What it yields is the result that proves who has run."""
    run = begin(ctx, pid=pid or os.getpid())
    try:
        yield {"token": ctx._claimed.token, "run": run}
    except BaseException as error:
        write({"row": "end", "run": run, "how": type(error).__name__})
        raise
    write({"row": "end", "run": run, "how": "returned"})


def watch_the_clock() -> None:
    """Writes down when this process got no turn for a while: a machine that is too slow costs leases, too."""
    last = time.monotonic()
    while True:
        time.sleep(STALL_STEP)
        now = time.monotonic()
        if now - last > STALL:
            write({"row": "stall", "pid": os.getpid(), "ms": (now - last) * 1_000})
        last = now


if multiprocessing.parent_process() is None and "CHAOS_EFFECTS" in os.environ:
    threading.Thread(target=watch_the_clock, name="stalls", daemon=True).start()


@worker.handler("quick")
async def quick(_payload: Any, ctx: Context) -> Any:
    """Returns at once."""
    with effect(ctx) as result:
        return result


@worker.handler("sleeps")
async def sleeps(payload: Any, ctx: Context) -> Any:
    """Takes its time; reports how far it is."""
    with effect(ctx) as result:
        for part in range(4):
            await asyncio.sleep(payload["work_ms"] / 4_000)
            ctx.progress((part + 1) / 4)
        return result


@worker.handler("thread")
def thread(payload: Any, ctx: Context) -> Any:
    """Works in a thread."""
    with effect(ctx) as result:
        for _ in range(10):
            time.sleep(payload["work_ms"] / 10_000)
        return result


@worker.handler("process", process=True)
def process(payload: Any, ctx: Context) -> Any:
    """Works in a process of its own."""
    with effect(ctx, pid=os.getppid()) as result:
        time.sleep(payload["work_ms"] / 1_000)
        return result


@worker.handler("blocks")
async def blocks(payload: Any, ctx: Context) -> Any:
    """Does what no handler should: keeps the event loop from everybody else for longer than a lease."""
    with effect(ctx) as result:
        time.sleep(payload["work_ms"] / 1_000)  # noqa: ASYNC251
        return result


@worker.handler("flaky")
async def flaky(_payload: Any, ctx: Context) -> Any:
    """Fails at first."""
    with effect(ctx) as result:
        if ctx.attempt < 3:
            raise Broken("not yet")
        return result


@worker.handler("retries")
async def retries(_payload: Any, ctx: Context) -> Any:
    """Asks for another attempt, and says when."""
    with effect(ctx) as result:
        return Retry(after=0.3, reason="again") if ctx.attempt == 1 else result


@worker.handler("snoozes")
async def snoozes(_payload: Any, ctx: Context) -> Any:
    """Puts itself off until it is a second old."""
    with effect(ctx) as result:
        young = now_ms() - ctx.job.create_time.timestamp() * 1_000 < 1_000
        return Snooze(0.4) if young else result


@worker.handler("discards")
async def discards(_payload: Any, ctx: Context) -> Any:
    """Finds that it need not be done."""
    with effect(ctx):
        return Discard("no need")


@worker.handler("doomed")
async def doomed(_payload: Any, ctx: Context) -> Any:
    """Fails whenever it is tried."""
    with effect(ctx):
        raise Broken("never")


@worker.handler("fatal")
async def fatal(_payload: Any, ctx: Context) -> Any:
    """Fails for good at once."""
    with effect(ctx):
        raise ZeroDivisionError("for good")


@worker.handler("overruns")
async def overruns(_payload: Any, ctx: Context) -> Any:
    """Takes longer than it may."""
    with effect(ctx):
        await asyncio.sleep(30)


@worker.handler("poison")
async def poison(_payload: Any, ctx: Context) -> Any:
    """Takes its whole worker with it."""
    run = begin(ctx, pid=os.getpid())
    write({"row": "end", "run": run, "how": "exits"})
    os._exit(9)
