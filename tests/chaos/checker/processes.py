"""How the processes behaved: none dies unasked (I18), all work after the last fault (I19), no secret is told (I22)."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.checker.history import History, Process
from chaos.checker.verdict import Violation

BUSIEST = 400
"""Lines that a process may log in one second: more is a hot loop."""


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
    worked = {run.pid for run in history.runs if run.began_ms >= history.settings.healed_ms}
    for process in history.processes:
        if process.name.startswith("worker") and process.to_the_end and process.pid not in worked:
            yield Violation("I19", "", f"{_name(process)} has run no job since the last fault was healed")
        if process.busiest_second > BUSIEST:
            yield Violation("I19", "", f"{_name(process)} logged {process.busiest_second} lines in a second")


def no_secret_told(history: History) -> Iterator[Violation]:
    """I22: what a payload holds is in no log."""
    for process in history.processes:
        for line in process.leaks:
            yield Violation("I22", "", f"{_name(process)} logged part of a payload: {line}")


def _name(process: Process) -> str:
    return f"{process.name} (pid {process.pid})"
