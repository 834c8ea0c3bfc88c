"""The client's values as text and tables, for people. Colours and widths are rich's business."""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace import _content
from headrace.errors import ContentError
from headrace.models import EventKind, JobState

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from headrace.models import DeadLetterPage, Failure, Job, StatusEvent

_COLOURS = {
    JobState.SCHEDULED: "cyan",
    JobState.QUEUED: "blue",
    JobState.PROCESSING: "yellow",
    JobState.RETRYING: "magenta",
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "bold red",
    JobState.CANCELLED: "bright_black",
    JobState.EXPIRED: "red",
}


_UNBROKEN = 100_000
"""Columns of an output that is no terminal."""

# What a job carries may come from anywhere, and a terminal obeys control characters: they are shown, not sent.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}


def visible(text: str) -> str:
    """The text with its control characters spelled out."""
    return text.translate(_CONTROLS)


def console() -> Console:
    """Standard output as it is now: rich looks at the terminal, its width and NO_COLOR."""
    # rich takes a pipe for 80 columns wide, and would break what the next program reads into lines.
    width = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else _UNBROKEN
    return Console(highlight=False, markup=False, emoji=False, width=width)


def job_page(job: Job) -> Iterable[Table | Text]:
    """All of one job: its facts, then its history."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(job):
        if value:
            facts.add_row(name, visible(value) if isinstance(value, str) else value)
    yield facts
    yield Text()
    yield _history(job)
    if job.failure is not None and job.failure.stack_trace:
        yield Text()
        yield Text(visible(job.failure.stack_trace.rstrip()), style="dim")


def event_line(event: StatusEvent) -> Text:
    """One event of a watch on one line."""
    line = Text(f"{_clock(event.time)}  v{event.version:<3} ")
    if event.kind is EventKind.PROGRESS and event.progress is not None:
        line.append(f"{event.progress.fraction:>10.0%}", style="yellow")
        return line.append(visible(f"  {event.progress.message}".rstrip()))
    line.append(f"{event.state:<10}", style=_COLOURS[event.state])
    words = [f"attempt {event.attempt}" if event.attempt else "", event.reason, event.detail]
    return line.append(visible("".join(f"  {word}" for word in words if word)))


def outcome_text(job: Job) -> str:
    """What a job came to: its result, or why there is none."""
    if job.failure is not None and job.state is not JobState.SUCCEEDED:
        return failure_text(job.failure)
    return "" if job.result_bytes is None else content_text(job.result_bytes, job.result_content_type)


def ending_text(job: Job) -> str:
    """Why a job that did not succeed ended, on one line."""
    if job.state is JobState.FAILED and job.failure is not None:
        return failure_text(job.failure)
    last = job.history[-1] if job.history else None
    return "" if last is None else visible(": ".join(word for word in (last.reason, last.detail) if word))


def failure_text(failure: Failure) -> str:
    """A failure on one line."""
    words = [failure.reason, failure.error_type, failure.message.partition("\n")[0]]
    return visible(": ".join(word for word in words if word))


def content_text(data: bytes, content_type: str) -> str:
    """Content as a person reads it."""
    try:
        value = _content.decode(data, content_type)
    except ContentError:
        value = data
    if isinstance(value, bytes):
        return f"{len(value)} bytes of {content_type or 'no content type'}"
    return visible(value if content_type.startswith("text/") else json.dumps(value, ensure_ascii=False))


def dead_letters(page: DeadLetterPage, query: str) -> Iterable[Text]:
    """A page of dead letters, and how to get the next: by the same command, with the options of `query`."""
    if not page.jobs:
        yield Text("No dead letters.")
        return
    # Two lines for each: beside the id, a terminal of 80 columns has no room for an error.
    yield Text(f"{'JOB':<26}  {'FAILED':<23}  TRIES  QUEUE: TYPE", style="bold")
    for job in page.jobs:
        yield Text(f"{job.job_id:<26}  {_moment(job.finish_time):<23}  {job.attempt:>5}  {job.queue}: {job.type}")
        if job.failure is not None:
            yield Text(f"    {failure_text(job.failure)}", style="red")
    yield Text(f"\n{len(page.jobs)} of {page.total_size} dead letters.")
    if page.next_page_token:
        yield Text(f"Next page: headrace dlq list{query} --page-token {page.next_page_token}", style="dim")


def state_text(state: JobState) -> Text:
    """A state in its colour."""
    return Text(state, style=_COLOURS[state])


def _facts(job: Job) -> Iterable[tuple[str, str | Text]]:
    yield "job", job.job_id
    yield "type", job.type
    yield "queue", f"{job.queue} ({job.priority} priority)"
    yield "state", state_text(job.state).append(f" (version {job.version})", style="default")
    yield "attempts", f"{job.attempt} of {job.retry.max_attempts}" if job.retry.max_attempts else str(job.attempt)
    yield "crashes", str(job.crash_count or "")
    yield "created", _moment(job.create_time)
    yield "due", _moment(job.schedule_time)
    yield "started", _moment(job.start_time)
    yield "finished", _moment(job.finish_time)
    yield "expires", _moment(job.expire_time)
    yield "cancel asked", _moment(job.cancel_request_time)
    yield "time limit", _span(job.attempt_timeout)
    yield "kept for", _span(job.retention)
    yield "worker", job.worker
    yield "labels", " ".join(f"{key}={value}" for key, value in sorted(job.labels.items()))
    yield "headers", " ".join(f"{key}={value}" for key, value in sorted(job.headers.items()))
    yield "payload", content_text(job.payload_bytes, job.content_type) if job.payload_bytes else ""
    if job.progress is not None:
        yield "progress", f"{job.progress.fraction:.0%} {job.progress.message}".rstrip()
    if job.failure is not None:
        yield "failure", Text(failure_text(job.failure), style="red")
    if job.result_bytes is not None:
        yield "result", content_text(job.result_bytes, job.result_content_type)


def _history(job: Job) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("VERSION", "STATE", "TIME", "ATTEMPT", "REASON"):
        table.add_column(name, no_wrap=True)
    table.add_column("DETAIL", overflow="fold")
    for step in job.history:
        state = state_text(step.state)
        detail = Text(visible(step.detail))
        table.add_row(str(step.version), state, _moment(step.time), str(step.attempt or ""), step.reason, detail)
    return table


def _moment(time: datetime | None) -> str:
    return "" if time is None else f"{time.astimezone():%Y-%m-%d %H:%M:%S}.{time.microsecond // 1000:03d}"


def _clock(time: datetime | None) -> str:
    return " " * 12 if time is None else f"{time.astimezone():%H:%M:%S}.{time.microsecond // 1000:03d}"


def _span(duration: timedelta | None) -> str:
    return "" if duration is None else str(duration)
