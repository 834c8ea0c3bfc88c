"""How the processes behaved: none dies unasked (I18), all work after the last fault (I19), no secret is told (I22)."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.checker.history import History, Process
from chaos.checker.verdict import Violation

BUSIEST = 200
"""Lines that a process may log in one second, beside those about single calls and jobs: more is a hot loop."""

START_MS = 3_000
CHANCES = 100
"""Runs, from START_MS after its start on, of which a worker must have had one."""
STORES = {"keys", "bytes", "consumers"}
SLACK = {"bytes": 300_000, "connections": 8, "files": 8, "threads": 44}
"""How much more may be held: buffers, connections of the pools, and a thread for each slot of a worker."""
SHARE = {"bytes": 0.02}


def none_dies_unasked(history: History) -> Iterator[Violation]:
    """I18: a process ends where it was killed, ended by a poison job, or told to stop: then it ends well."""
    exits = {run.pid for run in history.runs if run.how == "exits"}
    for process in history.processes:
        if not process.expected_end and process.pid not in exits:
            yield Violation("I18", "", f"{_name(process)} ended by itself or badly, exit code {process.exit_code}")
        for line in process.errors:
            yield Violation("I18", "", f"{_name(process)} tells of a fault of its own: {line}")


def work_goes_on(history: History) -> Iterator[Violation]:
    """I19: after the last fault the backlog drains, every worker runs jobs again, and nobody floods its log."""
    if not history.settings.quiet:
        yield Violation("I19", "", "the backlog was not gone in time after the last fault")
    late = [run for run in history.runs if run.began_ms >= history.settings.healed_ms]
    for process in history.processes:
        chances = [run.pid for run in late if run.began_ms > process.start_ms + START_MS]
        silent = process.name.startswith("worker") and process.to_the_end and process.pid not in chances
        if silent and len(chances) >= CHANCES:
            yield Violation("I19", "", f"{_name(process)} has run none of the last {len(chances)} jobs")
        if process.busiest_second > BUSIEST:
            yield Violation("I19", "", f"{_name(process)} logged {process.busiest_second} lines in a second")


def nothing_leaks(history: History) -> Iterator[Violation]:
    """I15, I18: after jobs of which nothing is kept, store and processes hold no more than before."""
    before, after = history.settings.held.get("before", {}), history.settings.held.get("after", {})
    for name in before.keys() & after.keys():
        slack = SLACK.get(name.partition(" ")[0], 0)
        if after[name] > before[name] + max(slack, before[name] * SHARE.get(name, 0)):
            yield Violation(
                "I15" if name in STORES else "I18", "", f"{name}: {before[name]} before, {after[name]} after"
            )


def no_secret_told(history: History) -> Iterator[Violation]:
    """I22: what a payload holds is in no log."""
    for process in history.processes:
        for line in process.leaks:
            yield Violation("I22", "", f"{_name(process)} logged part of a payload: {line}")


def _name(process: Process) -> str:
    return f"{process.name} (pid {process.pid})"
