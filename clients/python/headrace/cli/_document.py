"""The client's values as JSON documents, for programs."""

from __future__ import annotations

import base64
import json
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from headrace import _content
from headrace.errors import ContentError

if TYPE_CHECKING:
    from headrace.models import DeadLetterPage, Failure, Job, Progress, RetryPolicy, StatusEvent, Transition


def show(document: dict[str, Any], *, line: bool = False) -> None:
    """Print one document; on one line where several follow each other, or no person reads it."""
    indent = 2 if sys.stdout.isatty() and not line else None
    print(json.dumps(document, ensure_ascii=False, indent=indent), flush=True)  # noqa: T201 - this is the output


def of_job(job: Job) -> dict[str, Any]:
    """A job. Durations are seconds; content that is neither JSON nor text is in `…_base64`."""
    return {
        "job_id": job.job_id,
        "queue": job.queue,
        "type": job.type,
        "state": job.state,
        "version": job.version,
        "priority": job.priority,
        **_content_of("payload", job.payload_bytes, job.content_type),
        "content_type": job.content_type,
        "create_time": _time(job.create_time),
        "schedule_time": _time(job.schedule_time),
        "start_time": _time(job.start_time),
        "finish_time": _time(job.finish_time),
        "expire_time": _time(job.expire_time),
        "cancel_request_time": _time(job.cancel_request_time),
        "attempt": job.attempt,
        "crash_count": job.crash_count,
        "attempt_timeout": _seconds(job.attempt_timeout),
        "retry": _retry(job.retry),
        "labels": dict(job.labels),
        "headers": dict(job.headers),
        "retention": _seconds(job.retention),
        "worker": job.worker,
        "progress": _progress(job.progress),
        "failure": _failure(job.failure),
        **_content_of("result", job.result_bytes, job.result_content_type),
        "result_content_type": job.result_content_type,
        "history": [_transition(step) for step in job.history],
    }


def of_event(event: StatusEvent) -> dict[str, Any]:
    """One thing that a watcher is told."""
    return {
        "kind": event.kind,
        "job_id": event.job_id,
        "version": event.version,
        "state": event.state,
        "time": _time(event.time),
        "attempt": event.attempt,
        "reason": event.reason,
        "detail": event.detail,
        "progress": _progress(event.progress),
        "job": None if event.job is None else of_job(event.job),
    }


def of_page(page: DeadLetterPage) -> dict[str, Any]:
    """A page of dead letters."""
    return {
        "jobs": [of_job(job) for job in page.jobs],
        "next_page_token": page.next_page_token,
        "total_size": page.total_size,
    }


def time_text(time: datetime) -> str:
    """A time in UTC, as JSON documents have it."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _time(time: datetime | None) -> str | None:
    return None if time is None else time_text(time)


def _seconds(duration: object) -> float | None:
    return duration.total_seconds() if isinstance(duration, timedelta) else None


def _content_of(name: str, data: bytes | None, content_type: str) -> dict[str, Any]:
    if data is None:
        return {name: None}
    try:
        value = _content.decode(data, content_type)
    except ContentError:
        value = data  # Not what it is called; a program gets it as it is.
    if isinstance(value, bytes):
        return {f"{name}_base64": base64.b64encode(value).decode()}
    return {name: value}


def _retry(retry: RetryPolicy) -> dict[str, Any]:
    return {
        "max_attempts": retry.max_attempts,
        "initial_backoff": _seconds(retry.initial_backoff),
        "max_backoff": _seconds(retry.max_backoff),
        "multiplier": retry.multiplier,
        "jitter": retry.jitter,
    }


def _progress(progress: Progress | None) -> dict[str, Any] | None:
    if progress is None:
        return None
    return {"fraction": progress.fraction, "message": progress.message, "time": _time(progress.time)}


def _failure(failure: Failure | None) -> dict[str, Any] | None:
    if failure is None:
        return None
    return {
        "reason": failure.reason,
        "error_type": failure.error_type,
        "message": failure.message,
        "stack_trace": failure.stack_trace,
        "time": _time(failure.time),
        "attempt": failure.attempt,
    }


def _transition(step: Transition) -> dict[str, Any]:
    return {
        "version": step.version,
        "state": step.state,
        "time": _time(step.time),
        "attempt": step.attempt,
        "reason": step.reason,
        "detail": step.detail,
    }
