"""The rows of a run, in order: what is measured, of whom, and what the design asks of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.contenders import CONTENDERS
from bench.numbers import Target
from bench.rows import calls, light, memory, race, watching
from bench.rows.race import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measurement of one contender; it may give several numbers."""

    name: str
    contender: str
    measure: Callable[[], Result]


UNITS = {
    "worker CPU": "µs/job",
    "pickup p50": "ms",
    "pickup p99": "ms",
    "due: first start": "ms",
    "due: median start": "ms",
    "due: last start": "ms",
    "status p50": "ms",
    "status p99": "ms",
    "status p99 meanwhile": "ms",
    "KB per watcher": "KB",
    "bytes per queued job": "bytes",
    "bytes per finished job": "bytes",
}
"""What a number is in; all others are in jobs/s."""

TARGETS = {
    "process": Target(bound=15_000),
    "sustained": Target(bound=10_000),
    "enqueue, batches of 100": Target(bound=30_000),
    "enqueue, 64 callers": Target(bound=12_000),
    "enqueue, one by one": Target(bound=1_500),
    "pickup p50": Target(bound=2.0, at_least=False),
    "pickup p99": Target(bound=5.0, at_least=False),
    "due: last start": Target(bound=250.0, at_least=False),
    "status p99": Target(bound=10.0, at_least=False),
    "KB per watcher": Target(bound=50.0, at_least=False),
    "bytes per queued job": Target(bound=350.0, at_least=False),
}
"""What headrace's own numbers are held to, on a machine with two cores."""


def rows(*, peers: bool) -> list[Row]:
    """Everything there is to measure."""
    racers = [racer for racer in CONTENDERS if racer.can_run() and (peers or racer.name == "headrace")]
    kinds = {"backlog": race.backlog, "sustained": race.sustained, "pickup": race.pickup, "due": race.due}
    found = [
        Row(name=name, contender=racer.name, measure=lambda kind=kind, racer=racer: kind(racer))  # type: ignore[misc]
        for name, kind in kinds.items()
        for racer in racers
        if racer.schedules or name != "due"
    ]
    ours = {
        "batches": calls.batches,
        "coalesced": calls.coalesced,
        "one-by-one": calls.one_by_one,
        "status": watching.status,
        "watchers": watching.watchers,
        "memory": memory.per_job,
    }
    found += [Row(name=name, contender="headrace", measure=measure) for name, measure in ours.items()]
    return [*found, Row(name="light", contender="the store alone", measure=light.bare_commands)]
