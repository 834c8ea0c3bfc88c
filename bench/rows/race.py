"""The rows that headrace and its peers run side by side, on the same store, with the same no-op job."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from bench.contenders import Contender
from bench.numbers import percentile, throughput
from bench.stage import Stage, fresh_stage, wait_until
from bench.tally import Count, Reader

_PATIENCE = 120.0  # seconds that the jobs of one measurement get
_AFTERMATH = 0.5  # seconds in which a second run of a job would show
_PINGS = 200
_DUE = 2_000
_AHEAD = 6.0  # seconds between the request and the instant at which its jobs are due
_WARM_UP = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one repeat of one row gives: named numbers, and how complete the work was."""

    numbers: dict[str, float]
    counts: dict[str, float]


def backlog(contender: Contender, jobs: int | None = None) -> Result:
    """Enqueue everything first; then one worker process works it off. Gives both rates in jobs/s."""
    count = jobs or contender.jobs
    with _playground(contender) as (stage, environment):
        told = contender.play(stage, "enqueue", count, **environment)
        reader = stage.reader
        worker = contender.start(stage, **environment)
        begun = worker.cpu()
        counted = _all_run(reader, count)
        cpu = (worker.cpu() - begun) / count
        rate = throughput([run.at for run in reader.runs])
    return Result(
        numbers={"process": rate, "bulk enqueue": count / _took(told), "worker CPU": cpu * 1e6},
        counts=_as_notes(counted),
    )


def sustained(contender: Contender) -> Result:
    """Producer and worker at the same time: jobs/s from the first call to the last run."""
    count = contender.jobs
    with _playground(contender) as (stage, environment):
        reader = stage.reader
        contender.start(stage, **environment)
        told = contender.play(stage, "enqueue", count, **environment)
        counted = _all_run(reader, count)
        took = max(run.at for run in reader.runs) - _number(told, "begun")
    return Result(numbers={"sustained": count / took}, counts=_as_notes(counted))


def pickup(contender: Contender) -> Result:
    """An idle worker, and one job at a time: ms from the call to the start of the handler."""
    with _playground(contender) as (stage, environment):
        reader = stage.reader
        contender.start(stage, **environment)
        told = contender.play(stage, "ping", _WARM_UP + _PINGS, **environment)
        called = told["called"]
        assert isinstance(called, list)
        counted = _all_run(reader, len(called))
        started = {run.number: run.at for run in reader.runs}
    waits = [(started[n] - at) * 1e3 for n, at in enumerate(called) if n >= _WARM_UP and n in started]
    return Result(
        numbers={"pickup p50": percentile(waits, 0.5), "pickup p99": percentile(waits, 0.99)},
        counts=_as_notes(counted),
    )


def due(contender: Contender) -> Result:
    """2,000 jobs that are due at one instant: ms by which the last one, and the median one, starts late."""
    with _playground(contender) as (stage, environment):
        reader = stage.reader
        contender.start(stage, **environment)
        at = time.time() + _AHEAD
        instant = time.monotonic() + (at - time.time())
        contender.play(stage, "schedule", _DUE, at, **environment)
        counted = _all_run(reader, _DUE)
        late = [(run.at - instant) * 1e3 for run in reader.runs]
    numbers = {"due: last start": max(late), "due: median start": percentile(late, 0.5), "due: first start": min(late)}
    return Result(numbers=numbers, counts=_as_notes(counted))


@contextlib.contextmanager
def _playground(contender: Contender) -> Iterator[tuple[Stage, dict[str, str]]]:
    """A fresh stage, and what the contender's programs need to know beyond the store: headrace, its server."""
    with fresh_stage() as stage:
        if contender.name == "headrace":
            _, address = stage.serve()
            yield stage, {"BENCH_SERVER": address}
        else:
            yield stage, {}


def _all_run(reader: Reader, count: int) -> Count:
    """Wait for all runs, and a little for those that should not be."""
    wait_until(lambda: reader.look() >= count, within=_PATIENCE)
    wait_until(lambda: reader.look() > count, within=_AFTERMATH)
    return reader.count(count)


def _took(told: dict[str, object]) -> float:
    return _number(told, "ended") - _number(told, "begun")


def _number(told: dict[str, object], name: str) -> float:
    value = told[name]
    assert isinstance(value, float)
    return value


def _as_notes(counted: Count) -> dict[str, float]:
    return {name: float(value) for name, value in asdict(counted).items()}
