"""One run of one program under `headrace dev`: started in a process group of its own, its output read line by line."""

import asyncio
import codecs
import ctypes
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_PR_SET_PDEATHSIG = 1
_KEPT_LINES = 40
_LONGEST_LINE = 64 * 1024  # characters; a longer line is shown in pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run. `ready` is found in the line by which the program says that it is up; `environment` is all of it."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    ready: re.Pattern[str]


class Run:
    """One process of a program, from its start to its end."""

    def __init__(self, *, program: Program, child: asyncio.subprocess.Process, on_line: Callable[[str], None]) -> None:
        self.lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._child = child
        self._on_line = on_line
        self._output = asyncio.create_task(self._read(), name=f"output of {program.name}")

    @classmethod
    async def start(cls, *, program: Program, on_line: Callable[[str], None]) -> "Run":
        """Start the program. On Linux the kernel kills it when this process dies, however it dies: a drain would
        have no store to write to. Valkey asks for SIGTERM in place of that, and saves what it has.
        """
        child = await asyncio.create_subprocess_exec(
            *program.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(program.environment),
            process_group=0,  # the terminal's Ctrl-C reaches this process alone, which then stops the others in order
            preexec_fn=_die_with_parent(),  # calls prctl and nothing that could need a lock
        )
        return cls(program=program, child=child, on_line=on_line)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    def find(self, pattern: str) -> str:
        """The first group of the first of the kept lines in which the pattern is found, or ""."""
        matches = (re.search(pattern, line) for line in self.lines)
        return next((found[1] for found in matches if found), "")

    def terminate(self) -> None:
        """Ask it to stop (SIGTERM)."""
        _signal(self._child.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it and whatever it started in its process group (SIGKILL)."""
        _signal_group(self._child.pid, signal.SIGKILL)

    async def wait(self) -> int:
        """Its exit code (negative: the signal that ended it), after its output was read and its children are gone."""
        code = await self._child.wait()
        self.kill()
        await asyncio.wait({self._output}, timeout=1.0)
        self._output.cancel()
        return code

    async def _read(self) -> None:
        assert self._child.stdout is not None
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        rest = ""
        while chunk := await self._child.stdout.read(_LONGEST_LINE):
            *lines, rest = (rest + decoder.decode(chunk)).split("\n")
            for line in lines:
                self._take(line)
            if len(rest) > _LONGEST_LINE:
                self._take(rest)
                rest = ""
        if rest:
            self._take(rest)

    def _take(self, line: str) -> None:
        self.lines.append(line.rstrip("\r"))
        self._on_line(self.lines[-1])


def _die_with_parent() -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    parent, libc = os.getpid(), ctypes.CDLL(None)

    def in_the_child() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return in_the_child


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it has ended already


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return  # nobody is left in it (macOS answers PermissionError where only zombies are)
