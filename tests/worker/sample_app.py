"""Handlers for worker processes of the tests. Those with a `log` write down when they begin and end."""

import asyncio
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from headrace_worker import Context, Worker

worker = Worker(concurrency=4, processes=2)


@dataclass
class Work:
    """A file to write effects to, a file to wait for, and seconds to take."""

    log: str = ""
    until: str = ""
    seconds: float = 0.0


def note(work: Work, text: str) -> None:
    """Appends one line, outside of the store."""
    with Path(work.log).open("a") as log:
        log.write(f"{text} {os.getpid()}\n")


@worker.handler("wait.thread")
def wait_thread(work: Work, ctx: Context) -> str:
    """Waits for a file, and can be stopped meanwhile."""
    note(work, "begin")
    while not Path(work.until).exists():
        ctx.raise_if_cancelled()
        ctx.wait_cancelled(0.02)
    note(work, "end")
    return "done"


@worker.handler("wait.process", process=True)
def wait_process(work: Work, ctx: Context) -> str:
    """Waits for a file, in a process."""
    note(work, "begin")
    ctx.progress(0.5, "half way")
    while not Path(work.until).exists():
        ctx.wait_cancelled(0.02)
    note(work, "end")
    return "done"


@worker.handler("block.loop")
async def block_loop(work: Work) -> str:
    """Blocks the event loop, as no coroutine should."""
    note(work, "begin")
    threading.Event().wait(work.seconds)
    note(work, "end")
    return "done"


@worker.handler("hang.loop", timeout=0.2)
async def hang_loop() -> None:
    """Waits for ever on the loop."""
    await asyncio.get_running_loop().create_future()


@worker.handler("hang.thread", timeout=0.2)
def hang_thread() -> None:
    """Runs for ever in a thread."""
    while True:
        threading.Event().wait(0.01)


@worker.handler("hang.process", timeout=0.2, process=True)
def hang_process(work: Work) -> None:
    """Hangs for ever in a process, in one call of C code."""
    note(work, "begin")
    threading.Event().wait()


@worker.handler("polite.process", process=True)
def polite_process(work: Work, ctx: Context) -> str:
    """Stops at a place of its own choice when its job is cancelled."""
    note(work, "begin")
    while not ctx.wait_cancelled(30):
        continue
    note(work, "cleaned")
    ctx.raise_if_cancelled()
    return "never"


@worker.handler("stubborn.process", process=True)
def stubborn_process(work: Work) -> None:
    """Hangs for ever in a process, without a time limit."""
    note(work, "begin")
    threading.Event().wait()


@worker.handler("pid.process", process=True)
def pid_process() -> int:
    """Says in which process it runs."""
    return os.getpid()


@worker.handler("die.process", process=True)
def die_process() -> None:
    """Takes its process with it."""
    os._exit(7)


@worker.handler("log.process", process=True)
def log_process(ctx: Context) -> None:
    """Logs from a process."""
    ctx.log.info("seen", colour="blue")
