"""Who ran what, and when: written by the handlers of every contender in the same way, read by the benchmark.

Each process that runs handlers has a file of its own, mapped into its memory, so that a record costs about a
microsecond and outlives a kill. Only the standard library is imported: the peers' environments have nothing else.
"""

from __future__ import annotations

import itertools
import mmap
import os
import struct
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_RECORD = struct.Struct("<Id")  # number of the job plus one, so that no record is empty; seconds by CLOCK_MONOTONIC
_CAPACITY = 4_000_000  # records of one process; the file is sparse


class Tally:
    """The writing side, one for each process. `ran` may be called from any thread."""

    def __init__(self) -> None:
        directory = Path(os.environ["BENCH_TALLY"])
        with (directory / f"{os.getpid()}.tally").open("w+b") as file:
            file.truncate(_CAPACITY * _RECORD.size)
            self._map = mmap.mmap(file.fileno(), 0)
        self._next = itertools.count()

    def ran(self, number: int) -> None:
        """Record that job `number` has begun to run, now."""
        _RECORD.pack_into(self._map, next(self._next) * _RECORD.size, number + 1, time.monotonic())


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of a job's handler."""

    number: int
    at: float
    """Seconds by CLOCK_MONOTONIC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How complete a tally is."""

    done: int
    lost: int
    duplicated: int


class Reader:
    """The reading side: takes up what has come since it last looked."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read: dict[Path, int] = {}
        self.runs: list[Ran] = []

    def look(self) -> int:
        """Read on. Returns the number of runs so far."""
        for path in sorted(self._directory.glob("*.tally")):
            self.runs.extend(self._new(path))
        return len(self.runs)

    def count(self, expected: int) -> Count:
        """Hold what ran against jobs 0 … expected - 1."""
        times = Counter(run.number for run in self.runs)
        done = sum(number in times for number in range(expected))
        return Count(done=done, lost=expected - done, duplicated=len(self.runs) - len(times))

    def _new(self, path: Path) -> Iterator[Ran]:
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0))
            while len(data := file.read(_RECORD.size)) == _RECORD.size:
                number, at = _RECORD.unpack(data)
                if number == 0:
                    return
                self._read[path] = self._read.get(path, 0) + _RECORD.size
                yield Ran(number - 1, at)
