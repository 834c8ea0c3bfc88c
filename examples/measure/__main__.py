"""The demo: one job for every module of Python's standard library. See README.md."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import platform
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from rich.console import Console

from examples.measure import library, summary
from examples.measure.library import Module
from examples.measure.producer import NotStoredError
from examples.measure.run import DemoFailedError, measure
from examples.measure.stack import Stack, StackFailedError, running
from headrace import HeadraceError

_INTERRUPTED = 130
_WIDTH_OF_A_FILE = 160  # characters


def main() -> None:
    """Run the demo; the exit code is 0 when every job has come to its end."""
    options = _options()
    width = None if sys.stdout.isatty() else _WIDTH_OF_A_FILE
    try:
        asyncio.run(_demo(options, Console(width=width, highlight=False, markup=False, emoji=False)))
    except (DemoFailedError, StackFailedError, NotStoredError, HeadraceError) as failure:
        sys.exit(f"demo: {failure}")
    except asyncio.CancelledError:
        print("demo: interrupted; everything is stopped", file=sys.stderr)
        sys.exit(_INTERRUPTED)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.measure",
        description="Start a whole headrace (Valkey, server, worker), enqueue one job for every module of this "
        "Python's standard library, follow them to their ends, sum up, and stop everything.",
    )
    keep = "leave it all up until Ctrl-C, on port 50051, with its data in ./.headrace"
    limit = "only the first N modules; those known to be broken come first"
    listen = "where the server listens (default: a free port; with --keep 127.0.0.1:50051)"
    parser.add_argument("--keep", action="store_true", help=keep)
    parser.add_argument("--limit", type=_positive, metavar="N", help=limit)
    parser.add_argument("--library", type=_directory, metavar="DIR", help="all .py files below DIR instead")
    parser.add_argument("--listen", metavar="HOST:PORT", help=listen)
    return parser.parse_args()


async def _demo(options: argparse.Namespace, console: Console) -> None:
    _cancel_on_signals()
    modules = _find(options, console)
    with contextlib.ExitStack() as cleanup:
        data = Path.cwd() / ".headrace" if options.keep else Path(cleanup.enter_context(_temporary_directory()))
        async with _started(options, data, console) as stack:
            dead = await stack.during(measure(stack.address, modules, console))
            if options.keep:
                summary.show_commands(dead, console, address=stack.address, kept=True)
                await _keep(stack, console)
    if not options.keep:
        summary.show_commands(dead, console, address=stack.address, kept=False)


def _find(options: argparse.Namespace, console: Console) -> Sequence[Module]:
    """The modules to measure, announced."""
    found = library.find(options.library or library.STANDARD_LIBRARY, limit=options.limit)
    if not found.modules:
        raise DemoFailedError(f"there are no .py files below {options.library}")
    whose = options.library or f"Python {platform.python_version()}'s standard library"
    console.print(f"{len(found.modules):,} jobs, one for each module of {whose}")
    if found.stand_ins:
        console.print(f"It brings no broken modules to see failures with; {found.stand_ins} binary ones stand in")
    return found.modules


@contextlib.asynccontextmanager
async def _started(options: argparse.Namespace, data: Path, console: Console) -> AsyncIterator[Stack]:
    """The stack, announced when it is up."""
    begun = time.monotonic()
    listen = options.listen or ("127.0.0.1:50051" if options.keep else "127.0.0.1:0")
    with console.status("Starting Valkey, a server and a worker") as starting:
        async with running(data=data, listen=listen) as stack:
            starting.stop()
            seconds = time.monotonic() - begun
            console.print(f"Valkey, a server at {stack.address} and a worker are up after {seconds:.1f} s\n")
            yield stack


async def _keep(stack: Stack, console: Console) -> None:
    """Pass on what the stack writes until Ctrl-C."""
    console.print("\nThe stack stays up, and this is its log. Ctrl-C stops everything.\n", style="bold")
    stack.echo = lambda line: console.print(line, soft_wrap=True)
    with contextlib.suppress(asyncio.CancelledError):  # Ctrl-C is how this is meant to end, so it is no failure
        await stack.during(asyncio.Event().wait())


def _cancel_on_signals() -> None:
    """Have the signals that would end this process cancel this task, so that everything is stopped in order."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


def _temporary_directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="headrace-demo-")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def _directory(text: str) -> Path:
    path = Path(text).resolve()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is not a directory")
    return path


if __name__ == "__main__":
    main()
