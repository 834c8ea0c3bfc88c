"""The table at the end of a run: what was done to it, what became of its jobs, and what was found."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.table import Table

from chaos.checker.causes import duplicates
from chaos.checker.history import History
from chaos.checker.story import story
from chaos.checker.verdict import Violation

SHOWN = 20
STORIES = 3


def show(history: History, violations: list[Violation], console: Console) -> None:
    """Prints the tables, the violations, and the smallest stories that show them."""
    records = history.store.records.values()
    _table(console, "faults injected", Counter(fault.kind for fault in history.faults))
    ends = Counter(f"{record.state} {record.steps[-1].reason}".strip() for record in records)
    _table(console, f"jobs by outcome ({len(records)})", ends)
    _table(console, "calls of enqueue", Counter(call.answer for call in history.calls))
    _table(console, "leases lost, by cause", duplicates(history))
    twice = sum(_same_attempt_again(history, job_id) for job_id in history.runs_of)
    harmed = sum(record.type != "poison" and record.failure == "CRASH_LOOP" for record in records)
    poison = sum(record.type == "poison" for record in records)
    console.print(f"poison jobs: {poison}; other jobs that ended as CRASH_LOOP: {harmed}")
    told = sum(len(watch.events) for watch in history.watches)
    console.print(
        f"runs of handlers: {len(history.runs)} of {len(history.runs_of)} jobs; attempts begun again: {twice}"
    )
    console.print(f"watches: {len(history.watches)}, told {told} events; {_lateness(history)}")
    _show_violations(history, violations, console)


def _show_violations(history: History, violations: list[Violation], console: Console) -> None:
    by_kind = Counter(violation.invariant for violation in violations)
    for violation in violations[:SHOWN]:
        console.print(str(violation), markup=False, highlight=False, soft_wrap=True)
    if len(violations) > SHOWN:
        console.print(f"and {len(violations) - SHOWN} more: {dict(by_kind)}")
    jobs = dict.fromkeys(violation.job_id for violation in violations if violation.job_id)
    stories = sorted((story(history, job_id) for job_id in jobs), key=len)
    for told in stories[:STORIES]:
        console.print(told, markup=False, highlight=False, soft_wrap=True)
    console.print(f"seed {history.settings.seed}: violations = {len(violations)}")


def _table(console: Console, title: str, counts: Counter[str]) -> None:
    table = Table(title=title, title_justify="left", show_header=False, min_width=44)
    for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        table.add_row(name, str(count))
    if not counts:
        table.add_row("none", "0")
    console.print(table)


def _same_attempt_again(history: History, job_id: str) -> int:
    runs = history.runs_of[job_id]
    return len(runs) - len({run.attempt for run in runs})


def _lateness(history: History) -> str:
    late = sorted(
        step.at_ms - record.created_ms - int(record.labels["delay_ms"])
        for record in history.store.records.values()
        if "delay_ms" in record.labels
        for step in record.steps[1:2]
        if step.state == "QUEUED"
    )
    if not late:
        return "no scheduled jobs"
    return f"scheduled jobs were {late[len(late) // 2]} ms late (half of them), {late[len(late) * 99 // 100]} ms (99 %)"
