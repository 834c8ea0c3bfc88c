"""The stack under the demo: `headrace dev`, run as a child as a person would run it in a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import TypeVar

_ROOT = Path(__file__).parents[2]  # where the worker finds `examples`
_WORKER = "examples.measure.worker:worker"
_ADDRESS = re.compile(r"^  server  (\S+)$")
_REASON = re.compile(r"^headrace: (.+)$")
_NOT_FOR_US = {"REDIS_URL", "HEADRACE_REDIS_URL", "HEADRACE_QUEUES"}
_PR_SET_PDEATHSIG = 1

_T = TypeVar("_T")


class StackFailedError(Exception):
    """The stack did not start, or has ended by itself; the text says why, in one line."""


class Stack:
    """A running `headrace dev`. `echo` is called with every line it writes, once it is set."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self.address = ""
        self.echo: Callable[[str], None] | None = None
        self._child = child
        self._lines: deque[str] = deque(maxlen=20)
        self._up = asyncio.Event()
        self._output = asyncio.create_task(self._read(), name="output of headrace dev")

    async def until_up(self) -> None:
        """Return when it takes and runs jobs; `address` is set then. Raises StackFailedError."""
        await self.during(self._up.wait())

    async def during(self, work: Coroutine[None, None, _T]) -> _T:
        """What `work` returns. Raises StackFailedError when the stack ends before it is done."""
        task = asyncio.create_task(work, name="work on the stack")
        try:
            await asyncio.wait({task, self._output}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise StackFailedError(self._why())
            return await task
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def stop(self) -> None:
        """Stop it in order, as Ctrl-C does. Cancelling this asks again, and that kills it; it waits for the end."""
        cancelled: asyncio.CancelledError | None = None
        while not self._output.done():
            with contextlib.suppress(ProcessLookupError):
                self._child.terminate()
            try:
                await asyncio.wait({self._output})
            except asyncio.CancelledError as again:
                cancelled = again
        if cancelled:
            raise cancelled

    async def _read(self) -> None:
        assert self._child.stdout is not None
        async for line in self._child.stdout:
            self._take(line.decode(errors="replace").rstrip())
        await self._child.wait()

    def _take(self, line: str) -> None:
        self._lines.append(line)
        if found := _ADDRESS.match(line):
            self.address = found[1]
            self._up.set()
        if self.echo:
            self.echo(line)

    def _why(self) -> str:
        reasons = [found[1] for line in self._lines if (found := _REASON.match(line))]
        how = "stopped" if self._up.is_set() else "did not start"
        code = self._child.returncode or 0
        ended = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"the stack {how}: {reasons[-1] if reasons else f'headrace dev {ended}'}"


@contextlib.asynccontextmanager
async def running(*, data: Path, listen: str) -> AsyncIterator[Stack]:
    """A stack of Valkey, server and the demo's worker, up inside the block and stopped after it.

    It keeps to itself: a store or queues that your environment names are not for the jobs of a demo.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_US}
    child = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("headrace")),
        *("dev", "--worker", _WORKER, "--data", str(data), "--listen", listen, "--http-listen", "127.0.0.1:0"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=1 << 20,  # bytes of the longest line
        env=environment,
        cwd=_ROOT,
        process_group=0,  # the terminal's Ctrl-C reaches the demo alone, which then stops the stack in order
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
    )
    stack = Stack(child)
    try:
        await stack.until_up()
        yield stack
    finally:
        await stack.stop()


def _die_with_parent() -> None:
    """In the child: have the kernel end it when the demo is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
