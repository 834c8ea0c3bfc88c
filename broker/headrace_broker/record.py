"""How a job is written down: the fields of its hash, to and from the values of job.py.

The scripts own the fields that change (`state`, `version`, `attempt`, `history`, …); this module owns the packed ones:
`spec` (JSON, defaults left out), `error` (JSON), `progress`, `cancel` and the lines of `history`.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from headrace_broker.job import (
    DEFAULT_RETENTION_MS,
    JSON,
    ClaimedJob,
    Failure,
    Job,
    JobSpec,
    NewJob,
    Priority,
    Progress,
    RetryPolicy,
    State,
    Transition,
)

_STATE_OF_LETTER = {
    "s": State.SCHEDULED,
    "q": State.QUEUED,
    "p": State.PROCESSING,
    "r": State.RETRYING,
    "+": State.SUCCEEDED,
    "-": State.FAILED,
    "c": State.CANCELLED,
    "x": State.EXPIRED,
}
_PRIORITIES = {priority.value.encode(): priority for priority in Priority}
_DEFAULT_RETRY = RetryPolicy()
_RETRY_FIELDS = ("max_attempts", "initial_backoff_ms", "max_backoff_ms", "multiplier", "jitter")

BASIC_FIELDS = (
    "spec", "queue", "priority", "state", "version", "created", "attempt", "crashes", "token", "worker", "due",
    "started", "finished", "cancel", "expires", "retention", "error", "errored", "progress", "history",
)  # fmt: skip
"""Fields of a record without content and result: what lists show."""

_SHORT = 512
"""Bytes of a packed spec that is worth remembering."""

_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def encode_spec(spec: JobSpec) -> str:
    """Returns the part of a spec that scripts never look into, as JSON without its defaults."""
    packed: dict[str, Any] = {"type": spec.type}
    if spec.content_type != JSON:
        packed["content_type"] = spec.content_type
    if spec.attempt_timeout_ms is not None:
        packed["timeout"] = spec.attempt_timeout_ms
    if spec.retry != _DEFAULT_RETRY:
        packed["retry"] = [getattr(spec.retry, name) for name in _RETRY_FIELDS]
    if spec.labels:
        packed["labels"] = dict(sorted(spec.labels.items()))
    if spec.headers:
        packed["headers"] = dict(sorted(spec.headers.items()))
    return _dumps(packed)


def digest(job: NewJob, packed: str) -> bytes:
    """Returns the fingerprint by which a repeated request is told from another one under the same request_id."""
    spec = job.spec
    rest = (spec.queue, spec.priority, spec.delay_ms, spec.schedule_time_ms, spec.expire_time_ms, spec.retention_ms)
    text = "\0".join((packed, *map(str, rest))).encode()
    return hashlib.blake2b(text + b"\0" + spec.payload, digest_size=8).digest()


def enqueue_arguments(job: NewJob, job_id: str) -> tuple[str | bytes | int, ...]:
    """Returns what enqueue.lua takes for one job."""
    spec = job.spec
    packed = encode_spec(spec)
    absolute = spec.schedule_time_ms is not None
    return (
        job_id,
        spec.queue,
        spec.priority.value,
        "" if absolute else spec.delay_ms,
        spec.schedule_time_ms if spec.schedule_time_ms is not None else "",
        packed,
        spec.payload,
        digest(job, packed) if job.request_id else b"",
        f"{spec.expire_time_ms or 0} {spec.retention_ms}",
    )


def decode_claimed(fields: list[Any], *, token: str) -> ClaimedJob:
    """Makes a claimed job from the ten values that claim.lua returns for it."""
    identifier, queue, priority, packed, payload, attempt, crashes, version, created, started = fields
    return ClaimedJob(
        job_id=identifier.decode(),
        token=token,
        spec=_spec(_unpack(packed), queue=queue.decode(), priority=priority, payload=payload),
        attempt=attempt,
        crashes=crashes,
        version=version,
        create_time_ms=created,
        start_time_ms=started,
    )


def decode_job(job_id: str, record: Mapping[str, bytes | None]) -> Job:
    """Makes a job from the fields of its record; content and result may be left out."""

    def number(name: str) -> int | None:
        value = record.get(name)
        return None if value is None else int(value)

    def text(name: str) -> str:
        return (record.get(name) or b"").decode()

    created = number("created") or 0
    version = number("version") or 0
    history = decode_history(text("history"), created=created, version=version)
    error = record.get("error")
    return Job(
        job_id=job_id,
        spec=_spec(
            json.loads(record["spec"] or b"{}"),
            queue=text("queue"),
            priority=record.get("priority") or b"normal",
            payload=record.get("payload") or b"",
            expire_time_ms=number("expires"),
            retention_ms=number("retention"),
        ),
        state=State(text("state")),
        version=version,
        create_time_ms=created,
        attempt=number("attempt") or 0,
        crashes=number("crashes") or 0,
        token=text("token"),
        worker=text("worker"),
        due_time_ms=number("due"),
        start_time_ms=number("started"),
        finish_time_ms=number("finished"),
        cancel_time_ms=int(cancel.partition("|")[0]) if (cancel := text("cancel")) else None,
        failure=None if error is None else decode_failure(error, time_ms=number("errored") or 0),
        progress=decode_progress(text("progress")),
        result=record.get("result"),
        result_content_type=text("result_type"),
        history=history,
    )


def _unpack(packed: bytes) -> Mapping[str, Any]:
    """Parses a packed spec. Most jobs of a type have the same one, byte for byte."""
    values: Mapping[str, Any] = _unpack_short(packed) if len(packed) <= _SHORT else json.loads(packed)
    return values


@functools.lru_cache(maxsize=512)
def _unpack_short(packed: bytes) -> Any:
    return json.loads(packed)


def _spec(packed: Mapping[str, Any], *, priority: bytes, retention_ms: int | None = None, **rest: Any) -> JobSpec:
    retry = packed.get("retry")
    return JobSpec(
        type=packed["type"],
        content_type=packed.get("content_type", JSON),
        priority=_PRIORITIES[priority],
        attempt_timeout_ms=packed.get("timeout"),
        retry=RetryPolicy(**dict(zip(_RETRY_FIELDS, retry, strict=True))) if retry else _DEFAULT_RETRY,
        labels=dict(packed["labels"]) if "labels" in packed else {},
        headers=dict(packed["headers"]) if "headers" in packed else {},
        retention_ms=DEFAULT_RETENTION_MS if retention_ms is None else retention_ms,
        **rest,
    )


def encode_failure(failure: Failure) -> str:
    """Returns a failure as the record keeps it; the script adds the time."""
    packed = {
        "reason": failure.reason,
        "type": failure.error_type,
        "message": failure.message,
        "trace": failure.stack_trace,
        "attempt": failure.attempt,
    }
    return _dumps({name: value for name, value in packed.items() if value})


def decode_failure(packed: bytes, *, time_ms: int) -> Failure:
    """Makes a failure from what `encode_failure` returned."""
    values = json.loads(packed)
    return Failure(
        reason=values.get("reason", ""),
        error_type=values.get("type", ""),
        message=values.get("message", ""),
        stack_trace=values.get("trace", ""),
        time_ms=time_ms,
        attempt=values.get("attempt", 0),
    )


def decode_progress(text: str) -> Progress | None:
    """Makes a progress from `time|fraction|message`."""
    if not text:
        return None
    time_ms, fraction, message = text.split("|", 2)
    return Progress(time_ms=int(time_ms), fraction=float(fraction), message=message)


def decode_history(text: str, *, created: int, version: int) -> tuple[Transition, ...]:
    """Makes the transitions from the lines of a record's history, the last of which led to `version`."""
    lines = text.split("\n") if text else []
    first = version - len(lines) + 1
    return tuple(_transition(line, created=created, version=first + n) for n, line in enumerate(lines))


def last_reason(history: bytes) -> str:
    """Returns the reason of the latest transition, without looking at the others."""
    return _transition(history.rpartition(b"\n")[2].decode(), created=0, version=0).reason


def _transition(line: str, *, created: int, version: int) -> Transition:
    delta, attempt, reason, detail = [*line[1:].split(",", 3), "", "", ""][:4]
    return Transition(
        version=version,
        state=_STATE_OF_LETTER[line[0]],
        time_ms=created + int(delta),
        attempt=int(attempt or 0),
        reason=reason,
        detail=detail,
    )


def decode_event(message: bytes) -> Transition | Progress:
    """Makes a transition or a progress from what a script published on the channel of a job."""
    _, version, state, time_ms, attempt, reason, detail = message.decode(errors="replace").split("|", 6)
    if state == "PROGRESS":
        return Progress(fraction=float(reason), message=detail, time_ms=int(time_ms))
    return Transition(
        version=int(version),
        state=State(state),
        time_ms=int(time_ms),
        attempt=int(attempt),
        reason=reason,
        detail=detail,
    )
