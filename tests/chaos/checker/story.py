"""The smallest story of one job: what its producer, handlers, watchers and record say, in time order."""

from __future__ import annotations

from datetime import UTC, datetime

from chaos.checker.causes import claims_of
from chaos.checker.history import History

Line = tuple[float, str, str]


def story(history: History, job_id: str) -> str:
    """Returns the whole history of a job from all logs, one line each, with the faults that fell into its life."""
    lines = [
        *_calls(history, job_id),
        *_cancels(history, job_id),
        *_steps(history, job_id),
        *_runs(history, job_id),
        *_watches(history, job_id),
    ]
    if not lines:
        return f"nothing is known of job {job_id}"
    first, last = min(lines)[0] - 1_000, max(lines)[0] + 1_000
    strangers = _strangers(history, job_id)
    for fault in history.faults:
        if fault.end_ms >= first and fault.start_ms <= last and fault.target.removesuffix(" to store") not in strangers:
            who, long = fault.pid or "all", fault.end_ms - fault.start_ms
            lines.append((fault.start_ms, "fault", f"{fault.kind} of {fault.target} (pid {who}), for {long:.0f} ms"))
    told = (f"  {_clock(at)}  {who:<8} {what}" for at, who, what in sorted(lines, key=lambda line: line[0]))
    return "\n".join([f"the story of job {job_id}:", *told])


def _strangers(history: History, job_id: str) -> set[str]:
    """Returns the workers that never had the job: what was done to them is no part of its story."""
    record = history.store.records.get(job_id)
    pids = {run.pid for run in history.runs_of.get(job_id, [])}
    pids |= {claim.pid for claim in claims_of(record)} if record else set()
    workers = {process.name for process in history.processes if process.name.startswith("worker")}
    return workers - {process.name for process in history.processes if process.pid in pids}


def _clock(at_ms: float) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1_000, UTC):%H:%M:%S.%f}"[:-3]


def _calls(history: History, job_id: str) -> list[Line]:
    record = history.store.records.get(job_id)
    request_id = record.labels.get("rid") if record else None
    lines: list[Line] = []
    for call in history.calls:
        if call.job_id == job_id or call.request_id == request_id:
            variant = f" as another job ({call.variant})" if call.variant else ""
            lines.append((call.invoked_ms, "producer", f"call {call.number}: enqueue {call.request_id}{variant}"))
            if call.ended_ms is not None:
                twice = " (deduplicated)" if call.deduplicated else ""
                lines.append(
                    (call.ended_ms, "producer", f"call {call.number}: {call.answer}{twice} {call.error}".rstrip())
                )
    return lines


def _cancels(history: History, job_id: str) -> list[Line]:
    lines: list[Line] = []
    for cancel in history.cancels:
        if cancel.job_id == job_id:
            lines.append((cancel.invoked_ms, "producer", f"cancel {cancel.number}"))
            if cancel.ended_ms is not None:
                told = f"cancel {cancel.number}: {cancel.answer} {cancel.state} {cancel.error}"
                lines.append((cancel.ended_ms, "producer", told.rstrip()))
    return lines


def _steps(history: History, job_id: str) -> list[Line]:
    record = history.store.records.get(job_id)
    if record is None:
        return []
    what = f"{record.type}, queue {record.queue}, {record.priority}, at most {record.max_attempts} attempts"
    end = f"token {record.token or '-'}, result {record.result!r}"
    return [
        (record.created_ms, "record", f"created: {what}"),
        *(
            (
                step.at_ms,
                "record",
                f"version {step.version} {step.state} attempt {step.attempt} {step.reason} {step.detail}".rstrip(),
            )
            for step in record.steps
        ),
        (record.steps[-1].at_ms + 0.5, "record", end),
    ]


def _runs(history: History, job_id: str) -> list[Line]:
    lines: list[Line] = []
    for run in history.runs_of.get(job_id, []):
        name = f"pid {run.pid} token {run.token}"
        lines.append(
            (run.began_ms, "handler", f"{name}: begins attempt {run.attempt}, claimed at {_clock(run.claimed_ms)}")
        )
        if run.ended_ms is not None:
            lines.append((run.ended_ms, "handler", f"{name}: {run.how}"))
    return lines


def _watches(history: History, job_id: str) -> list[Line]:
    lines: list[Line] = []
    for watch in history.watches:
        if watch.job_id == job_id:
            lines.append((watch.begun_ms, "watcher", f"watch {watch.number} begins after {watch.after}"))
            lines += [
                (event.at_ms, "watcher", f"watch {watch.number}: {event.kind} version {event.version} {event.state}")
                for event in watch.events
            ]
    return lines
