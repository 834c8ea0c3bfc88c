"""`headrace-worker module:worker`, or `python -m headrace_worker module:worker`: run jobs until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from pydantic import Field, ValidationError
from pydantic_settings import CliApp, CliImplicitFlag, CliPositionalArg

from headrace_broker import CannotStart, configure_logging, loop_factory, setting_problems
from headrace_worker.settings import WorkerSettings

if TYPE_CHECKING:
    from headrace_worker.worker import Worker

WRONG_USAGE = 2
CANNOT_START = 1
LINGER = 2.0
"""Seconds that the process gets to end by itself after the worker has stopped: a handler's thread may hang."""


class CommandLine(WorkerSettings):
    """Runs jobs, until SIGTERM or Ctrl-C. Every option can also be given in the environment."""

    target: CliPositionalArg[str] = Field(
        description="The Worker to run, as module:attribute; the current directory is looked at first"
    )
    reload: CliImplicitFlag[bool] = Field(
        default=False, description="Restart the worker when a .py file under the current directory changes"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a worker. Exit code 0 after a drain, 1 when it cannot start, 2 when it was called wrongly."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        line = CliApp.run(CommandLine, cli_args=words)
    except ValidationError as error:
        _leave(WRONG_USAGE, *setting_problems(error))
    if line.reload:
        _reload(line, words)
    from headrace_worker._load import CannotLoad, load  # noqa: PLC0415  imports the user's code, so errors come first

    try:
        worker = load(line.target)
    except CannotLoad as error:
        _leave(WRONG_USAGE, str(error))
    run(worker, line)


def run(worker: Worker, settings: WorkerSettings | None = None) -> None:
    """Runs a worker until a signal ends it. Exits with a message where it cannot start."""
    try:
        settings = settings or WorkerSettings()
    except ValidationError as error:
        _leave(WRONG_USAGE, *setting_problems(error))
    configure_logging(log_format=settings.log_format, log_level=settings.log_level)
    gc.collect()
    gc.freeze()  # what is there by now stays: collections that pass over it cost a tenth less CPU for each job
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            try:
                runner.run(_serve(worker, settings))
            finally:
                _end_soon(exit_code=CANNOT_START if sys.exc_info()[0] else 0)
    except CannotStart as error:
        _leave(CANNOT_START, str(error))


async def _serve(worker: Worker, settings: WorkerSettings) -> None:
    stop = asyncio.Event()
    _on_signals(asyncio.get_running_loop(), stop)
    await worker.serve(settings, stop=stop)


def _on_signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Drains at the first signal, and leaves at the second one, even while a handler blocks the event loop."""
    received = 0

    def on_signal(number: int, _frame: object) -> None:
        nonlocal received
        received += 1
        if received > 1:
            os.write(2, b"headrace-worker: second signal, leaving at once\n")
            os._exit(128 + number)
        loop.call_soon_threadsafe(stop.set)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)


def _end_soon(*, exit_code: int) -> None:
    """Ends the process, should a thread or a coroutine of a handler keep it from ending."""
    timer = threading.Timer(LINGER, os._exit, [exit_code])
    timer.daemon = True
    timer.start()


def _reload(line: CommandLine, words: Sequence[str]) -> NoReturn:
    from headrace_worker._reload import Reloader  # noqa: PLC0415  watchfiles is for development

    configure_logging(log_format=line.log_format, log_level=line.log_level)
    rest = [word for word in words if word != "--reload"]
    sys.exit(Reloader([sys.executable, "-m", "headrace_worker", *rest, "--no-reload"]).run())


def _leave(code: int, *lines: str) -> NoReturn:
    for text in lines:
        sys.stderr.write(f"headrace-worker: {text}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
