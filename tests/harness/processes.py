"""Real processes, their output line by line, and the certainty that none of them outlives its test."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import pytest

_QUIET = {"PYTHONUNBUFFERED": "1", "HEADRACE_HTTP_LISTEN": "0"}  # no fixed port, unless a test asks for one
_MARK = "TEST_FAMILY"  # inherited by every descendant, so that none can hide in a process group of its own


class Process:
    """A started program. stdout and stderr are gathered together, in `lines`."""

    def __init__(self, *, command: Sequence[str], environment: Mapping[str, str], directory: Path | None) -> None:
        self.command = tuple(command)
        self.lines: list[str] = []
        self._mark = uuid.uuid4().hex
        self._changed = threading.Condition()
        self._ended = False
        self._child = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**environment, _MARK: self._mark},
            cwd=directory,
            process_group=0,
        )
        self._reader = threading.Thread(target=self._read, name=f"output of {self.pid}", daemon=True)
        self._reader.start()

    def __repr__(self) -> str:
        return f"{' '.join(self.command)} (pid {self.pid}, exit code {self._child.poll()})"

    @property
    def pid(self) -> int:
        """Its process id, which is also that of its process group."""
        return self._child.pid

    @property
    def output(self) -> str:
        """Everything it has written so far."""
        with self._changed:
            return "\n".join(self.lines)

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._child.poll() is None

    def wait_for_line(self, pattern: str, *, within: float = 10.0, after: int = 0) -> re.Match[str]:
        """The first line, from line number `after` on, in which the regular expression is found. AssertionError with
        the whole output when the program closes its output first, or `within` seconds pass.
        """
        deadline = time.monotonic() + within
        with self._changed:
            while True:
                for line in self.lines[after:]:
                    if found := re.search(pattern, line):
                        return found
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    why = "ended" if self._ended else f"ran {within} s"
                    raise AssertionError(f"{self!r} {why} without a line like {pattern!r}:\n" + "\n".join(self.lines))
                self._changed.wait(left)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program alone (not to its descendants)."""
        self._child.send_signal(number)

    def kill(self) -> None:
        """SIGKILL the program alone and wait for its end."""
        self._child.kill()
        self._child.wait()

    def wait(self, *, within: float = 10.0) -> int:
        """Its exit code (negative: the signal that ended it), with all its output read."""
        try:
            code = self._child.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self!r} still runs after {within} s:\n{self.output}") from None
        self._reader.join(within)
        return code

    def stop(self, *, within: float = 10.0) -> int:
        """SIGTERM, and its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(within=within)

    def family(self) -> dict[int, str]:
        """Every live process that descends from this program (itself too): pid → command line. Linux only."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                marked = f"{_MARK}={self._mark}".encode() in (entry / "environ").read_bytes()
                zombie = ") Z " in (entry / "stat").read_text()
                if marked and not zombie:
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except (OSError, ValueError):
                continue  # it ended while we looked, or belongs to somebody else
        return found

    def close(self) -> None:
        """Kill the program and every descendant, whatever group they are in."""
        if self.running:
            os.killpg(self.pid, signal.SIGKILL)
        self._child.wait()
        while family := self.family():
            for pid in family:
                _kill(pid)
        self._reader.join(5)

    def _read(self) -> None:
        assert self._child.stdout is not None
        with self._child.stdout as stream:
            for line in stream:
                with self._changed:
                    self.lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class Spawn(Protocol):
    """`spawn(*command, environment={…}, directory=…)`: start a program that the test's end kills, family and all.
    `python` as its first word is this Python. Settings of headrace in our own environment are not passed on.
    """

    def __call__(
        self, *command: str, environment: Mapping[str, str] | None = None, directory: Path | None = None
    ) -> Process:
        """Start it."""
        ...


def start(*command: str, environment: Mapping[str, str] | None = None, directory: Path | None = None) -> Process:
    """Start a program without tying it to a test; whoever calls this closes it."""
    first, *rest = command
    inherited = {name: value for name, value in os.environ.items() if not _is_setting(name)}
    return Process(
        command=[sys.executable if first == "python" else first, *rest],
        environment={**inherited, **_QUIET, **(environment or {})},
        directory=directory,
    )


def _is_setting(name: str) -> bool:
    return name.startswith("HEADRACE_") or name in {"REDIS_URL", "NO_COLOR", "FORCE_COLOR"}


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """See Spawn."""
    started: list[Process] = []

    def start_here(
        *command: str, environment: Mapping[str, str] | None = None, directory: Path | None = None
    ) -> Process:
        process = start(*command, environment=environment, directory=directory)
        started.append(process)
        return process

    yield start_here
    for process in reversed(started):
        process.close()
