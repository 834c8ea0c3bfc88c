"""What a measurement runs on: a fresh store, and the programs started on it. All of it is gone when the block ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from redis import Redis

from bench.tally import Reader

ROOT = Path(__file__).parents[1]
_PR_SET_PDEATHSIG = 1
_START = 30.0  # seconds that a program gets to say that it is up
_STOP = 10.0


class ProgramFailedError(Exception):
    """A program did not start, or ended when it should not have; the text has the end of what it said."""


@dataclass(slots=True)
class Program:
    """A running program, its output in a file."""

    name: str
    child: subprocess.Popen[bytes]
    log: Path

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first place in its output where the regular expression is found."""
        deadline = time.monotonic() + _START
        while not (found := re.search(pattern, self.log.read_text(errors="replace"))):
            if self.child.poll() is not None or time.monotonic() > deadline:
                raise ProgramFailedError(f"{self.name} did not start:\n{self.tail()}")
            time.sleep(0.01)
        return found

    def wait(self, *, within: float) -> None:
        """Wait for its end, which has to be a good one."""
        try:
            code = self.child.wait(within)
        except subprocess.TimeoutExpired:
            raise ProgramFailedError(f"{self.name} still runs after {within:.0f} s:\n{self.tail()}") from None
        if code:
            raise ProgramFailedError(f"{self.name} ended with exit code {code}:\n{self.tail()}")

    def rss(self) -> int:
        """Bytes of memory that it and its children hold."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in _family(self.child.pid))
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu(self) -> float:
        """Seconds of CPU that it and its children have used."""
        ticks = 0
        for pid in _family(self.child.pid):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def tail(self) -> str:
        """The end of its output."""
        return self.log.read_text(errors="replace")[-2_000:]

    def stop(self) -> None:
        """SIGTERM, then SIGKILL, for it and everything it has started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.child.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.wait(_STOP)
        self.child.wait()


@dataclass(slots=True)
class Stage:
    """A store of its own at `url`, and a directory in which handlers tell what they ran."""

    directory: Path
    url: str = ""
    programs: list[Program] = field(default_factory=list)

    @property
    def tally(self) -> Path:
        """Where the handlers write; see bench/tally.py."""
        return self.directory / "tally"

    @property
    def reader(self) -> Reader:
        """A new reader of the tally."""
        return Reader(self.tally)

    @property
    def store(self) -> Redis:
        """A connection to the store, for looking at it."""
        return Redis.from_url(self.url)

    def __enter__(self) -> Self:
        self.tally.mkdir()
        port = _free_port()
        self.url = f"redis://127.0.0.1:{port}/0"
        data = str(self.directory / "store")
        command = (sys.executable, "-m", "headrace_broker.embedded", "--data", data, "--port", str(port))
        self.start("store", *command).wait_for("[Rr]eady to accept connections")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for program in reversed(self.programs):
            program.stop()

    def start(
        self, name: str, *command: str, environment: Mapping[str, str] | None = None, within: Path = ROOT
    ) -> Program:
        """Start a program, which learns of this stage from its environment."""
        log = self.directory / f"{len(self.programs)}-{name}.log"
        with log.open("wb") as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=within,
                env={**_environment(), "BENCH_URL": self.url, "BENCH_TALLY": str(self.tally), **(environment or {})},
                process_group=0,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509  no threads yet
            )
        program = Program(name, child, log)
        self.programs.append(program)
        return program

    def serve(self, *options: str) -> tuple[Program, str]:
        """Start a headrace server. Returns it and its address."""
        address = f"127.0.0.1:{_free_port()}"
        command = (sys.executable, "-m", "headrace_server", "--listen", address, "--redis-url", self.url, *options)
        program = self.start("server", *command)
        program.wait_for("serving|store answers")
        return program, address


@contextlib.contextmanager
def fresh_stage() -> Iterator[Stage]:
    """A stage in a directory that is deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as directory, Stage(Path(directory)) as stage:
        yield stage


def wait_until(done: Callable[[], bool], *, within: float, every: float = 0.02) -> bool:
    """Poll until `done`, or `within` seconds have passed. Returns whether it is done."""
    deadline = time.monotonic() + within
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def _environment() -> dict[str, str]:
    """Ours, without settings of headrace: what is measured are the defaults."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_") and name != "REDIS_URL"
    }


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in _family(int(child)))]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _die_with_parent() -> None:
    """In the child: have the kernel end it when the benchmark is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
