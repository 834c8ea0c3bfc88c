"""What the demo says in the end."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from examples.measure.tally import Tally
from headrace import Job, JobState

_DEFAULT_ADDRESS = "127.0.0.1:50051"
_SHOWN = 10
_COLUMNS = ("lines", "functions", "classes", "branches")


def show(tally: Tally, dead: Mapping[str, Job], console: Console) -> None:
    """Print what came of the jobs. `dead` are the dead letters, by module."""
    console.print()
    console.print(_outcome(tally))
    console.print()
    console.print(_dead_letters(dead))
    console.print()
    console.print(_largest(tally))
    console.print()


def show_commands(dead: Mapping[str, Job], console: Console, *, address: str, kept: bool) -> None:
    """Print three commands to try next. Where the stack is not `kept`, the first one starts it again."""
    headrace = _program() + ("" if address == _DEFAULT_ADDRESS or not kept else f" --server {address}")
    payload = shlex.quote(json.dumps({"path": "examples/measure/worker.py"}))  # from where the worker runs
    dead_letters = f"{headrace} dlq list"
    one_more = f"{headrace} enqueue measure.module --json {payload} --delay 3s --watch"
    if kept:
        title = "Try next, in another terminal:"
        first = f"{headrace} get {next(iter(dead.values())).job_id}" if dead else f"{headrace} --help"
        commands = [dead_letters, first, one_more]
    else:
        title = "Everything is stopped. Try next; the first leaves a stack up for the others:"
        commands = ["make demo KEEP=1", dead_letters, one_more]
    console.print(Text(title, "bold"))
    for command in commands:
        console.print(Text(f"  {command}"), soft_wrap=True)


def _outcome(tally: Tally) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", style="bold")
    rate = f"in {tally.elapsed:.1f} s: {tally.rate:.0f} jobs/s"
    again = f"{tally.retries.total():,} more attempts" if tally.retries else ""
    table.add_row(f"{tally.total:,}", "jobs", rate)
    table.add_row(f"{tally.states[JobState.SUCCEEDED]:,}", Text("succeeded", "green"), _sums(tally))
    table.add_row(f"{len(tally.retries):,}", Text("retried", "magenta"), again)
    table.add_row(f"{tally.states[JobState.FAILED]:,}", Text("dead-lettered", "red"), "")
    return table


def _sums(tally: Tally) -> str:
    sums = {column: sum(result[column] for result in tally.results.values()) for column in _COLUMNS}
    return ", ".join(f"{number:,} {column}" for column, number in sums.items())


def _dead_letters(dead: Mapping[str, Job]) -> Table:
    table = _table(f"Dead letters ({len(dead):,})")
    table.add_column("module", no_wrap=True)
    table.add_column("attempts", justify="right")
    table.add_column("error", overflow="fold")
    for name, job in list(dead.items())[:_SHOWN]:
        error = f"{job.failure.error_type}: {job.failure.message}" if job.failure else ""
        table.add_row(name, str(job.attempt), Text(error, "red"))
    if len(dead) > _SHOWN:
        table.add_row(f"and {len(dead) - _SHOWN:,} more")
    return table


def _largest(tally: Tally) -> Table:
    table = _table("Largest modules")
    table.add_column("module", overflow="fold")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    largest = sorted(tally.results.items(), key=lambda item: item[1]["lines"], reverse=True)
    for name, result in largest[:_SHOWN]:
        table.add_row(name, *(f"{result[column]:,}" for column in _COLUMNS))
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")


def _program() -> str:
    """How to call the command `headrace` of this Python from here."""
    own = Path(sys.executable).with_name("headrace")
    if (found := shutil.which("headrace")) and Path(found).samefile(own):
        return "headrace"
    return shlex.quote(str(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own))
