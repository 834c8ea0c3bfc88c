"""What watchers were told (I11): a snapshot first, then every version once and in order, to the end."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.checker.history import TERMINAL, Event, History, Record, Watch
from chaos.checker.verdict import Violation


def told_in_order(history: History) -> Iterator[Violation]:
    """I11: no gap, no repeat, nothing after the end, and an end for every watcher of a job that ended."""
    for watch in history.watches:
        record = history.store.records.get(watch.job_id)
        yield from _order(watch)
        if record is not None:
            yield from _end(watch, record)
            yield from _truth(watch, record)


def _order(watch: Watch) -> Iterator[Violation]:
    steps = [event for event in watch.events if event.kind != "PROGRESS"]
    name = f"watch {watch.number}"
    if watch.after is None and watch.events and watch.events[0].kind != "SNAPSHOT":
        yield Violation("I11", watch.job_id, f"{name}: began with a {watch.events[0].kind}, not with a snapshot")
    last = watch.after
    for event in steps:
        if last is not None and event.version != last + 1:
            yield Violation("I11", watch.job_id, f"{name}: version {event.version} follows {last}")
        last = event.version
    ended = next((n for n, event in enumerate(steps) if event.state in TERMINAL), None)
    if ended is not None and ended != len(steps) - 1:
        yield Violation("I11", watch.job_id, f"{name}: told of {steps[ended + 1].state} after the end")


def _end(watch: Watch, record: Record) -> Iterator[Violation]:
    told = [event for event in watch.events if event.kind != "PROGRESS"]
    if watch.error:
        yield Violation("I11", watch.job_id, f"watch {watch.number} failed: {watch.error}")
    elif not watch.ended:
        yield Violation("I11", watch.job_id, f"watch {watch.number} has not ended; the job is {record.state}")
    elif not told or told[-1].state not in TERMINAL:
        last = told[-1].state if told else "nothing"
        yield Violation("I11", watch.job_id, f"watch {watch.number} ended with {last}; the job is {record.state}")


def _truth(watch: Watch, record: Record) -> Iterator[Violation]:
    states = {step.version: step.state for step in record.steps}
    for event in watch.events:
        if not _is_true(event, states):
            stored = states.get(event.version)
            told = f"version {event.version} is {event.state}"
            yield Violation("I11", watch.job_id, f"watch {watch.number} was told that {told}; stored is {stored}")


def _is_true(event: Event, states: dict[int, str]) -> bool:
    return states.get(event.version) == event.state
