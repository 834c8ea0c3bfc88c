"""Keeps one program of `headrace dev` running, until it is told to stop or there is no hope."""

import asyncio
import contextlib
import re
import signal
import time
from collections import deque

from headrace.cli._dev_console import DevConsole
from headrace.cli._dev_program import Program, Run

_OWN_WORDS = re.compile(r"headrace(?:-\w+)?: (.+)")
_MOST_DEATHS = 5
_WITHIN = 60.0  # seconds
_FIRST_PAUSE = 0.1  # seconds; doubled at each death within a minute
_GRACE = 30.0  # seconds; a worker's own grace where HEADRACE_GRACE does not say another
_MARGIN = 30.0  # seconds beyond it for a program to stop by itself


class ProgramFailedError(Exception):
    """A program cannot be kept running; `exit_code` is what `headrace dev` ends with."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Keeper:
    """Runs a program again when it dies, after a pause that doubles, but not when it dies before it was ever up, and
    not after five deaths in a minute. `up` is set once the program has been up; its owner runs `run` as a task.
    """

    def __init__(self, *, program: Program, console: DevConsole, quiet_start: bool = False) -> None:
        self.program = program
        self.up = asyncio.Event()
        self._console = console
        self._quiet_start = quiet_start
        self._patience = float(program.environment.get("HEADRACE_GRACE", _GRACE)) + _MARGIN
        self._stopped = asyncio.Event()
        self._ended = asyncio.Event()
        self._run: Run | None = None
        self._deaths: deque[float] = deque(maxlen=_MOST_DEATHS)

    async def run(self) -> None:
        """Return when `stop` was called and the program is gone. Raises ProgramFailedError when it cannot be kept."""
        try:
            while not self._stopped.is_set():
                run, code = await self._run_once()
                if self._stopped.is_set():
                    self._console.say(f"{self.program.name} {_ended(code)}")
                else:
                    await self._after_death(run, code)
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """SIGTERM, and wait for the end; SIGKILL when it does not come. Safe to call twice, and before the start."""
        asked_before = self._stopped.is_set()
        self._stopped.set()
        if self._run is None:
            return
        if not asked_before:
            self._run.terminate()  # once: a worker takes a second SIGTERM for impatience, and drops its jobs
        try:
            await asyncio.wait_for(self._ended.wait(), self._patience)
        except TimeoutError:
            self._console.say(f"{self.program.name} did not stop in {self._patience:.0f} s; killing it", "yellow")
            self.kill()
            await self._ended.wait()

    def kill(self) -> None:
        """End it now, and do not start it again."""
        self._stopped.set()
        if self._run is not None:
            self._run.kill()

    def find(self, pattern: str) -> str:
        """What the running process wrote: the first group of the first recent line that matches, or ""."""
        return self._run.find(pattern) if self._run else ""

    async def _run_once(self) -> tuple[Run, int]:
        run = self._run = await Run.start(program=self.program, on_line=self._take)
        if self._stopped.is_set():
            run.terminate()
        try:
            return run, await run.wait()
        finally:
            self._run = None

    def _take(self, line: str) -> None:
        if self.up.is_set() or not self._quiet_start:
            self._console.line(self.program.name, line)
        if self.program.ready.search(line):
            if self.up.is_set():
                self._console.say(f"{self.program.name} is up again", "green")
            self.up.set()

    async def _after_death(self, run: Run, code: int) -> None:
        name = self.program.name
        if not self.up.is_set():
            raise ProgramFailedError(_never_up(name, code, run), code if code > 0 else 1)
        self._deaths.append(time.monotonic())
        recent = [at for at in self._deaths if at > time.monotonic() - _WITHIN]
        if len(recent) == _MOST_DEATHS:
            raise ProgramFailedError(
                f"{name} {_ended(code)}, the {_MOST_DEATHS}th time in a minute; its last lines:\n" + _last(run, 10),
                code if code > 0 else 1,
            )
        pause = _FIRST_PAUSE * 2 ** (len(recent) - 1)
        self._console.say(f"{name} {_ended(code)}; starting it again in {pause:.1f} s", "yellow")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), pause)


def _never_up(name: str, code: int, run: Run) -> str:
    """Its last line: alone where it is a reason given by one of headrace's own programs, which need no explaining."""
    last = next((line for line in reversed(run.lines) if line.strip()), "it wrote nothing")
    reason = _OWN_WORDS.match(last)
    return reason[1] if reason else f"{name} {_ended(code)} before it was up: {last}"


def _ended(code: int) -> str:
    return f"ended with exit code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"


def _last(run: Run, count: int) -> str:
    return "\n".join(f"    {line}" for line in list(run.lines)[-count:])
