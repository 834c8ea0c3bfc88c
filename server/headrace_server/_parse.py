"""From a request to the values of the broker room. Whatever breaks the contract is named, field by field.

Each function notes the violations it finds under the path that the client wrote (`job.queue`), and returns something
harmless in their place; the caller raises them all at once with `Violations.check`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from headrace.v1 import job_pb2
from headrace.v1.job_service_pb2 import EnqueueRequest
from headrace_broker.job import (
    DEFAULT_QUEUE,
    DEFAULT_RETENTION_MS,
    JSON,
    TEXT,
    Durability,
    JobSpec,
    NewJob,
    Priority,
)
from headrace_server import _spans
from headrace_server._json_value import to_json
from headrace_server._retry import parse_retry
from headrace_server._violations import Violations, escaped, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.v1.job_service_pb2 import BatchEnqueueRequest, ListDLQRequest, StreamStatusRequest

MAX_BATCH = 1_000
MAX_PAGE = 1_000
DEFAULT_PAGE = 50
MAX_LABELS = 64
MAX_LABEL_VALUE = 255
MAX_HEADERS = 64
MAX_HEADER_BYTES = 16 * 1024
REPEAT_WINDOW_MS = 5 * 60_000
"""A request with a request_id may be the repeat of one whose reply was lost. One whose expire_time has passed since is
taken for that this long: refusing it would deny a job that is stored."""

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_LABEL_KEY = re.compile(r"[A-Za-z0-9_.-]{1,63}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_REQUEST_ID = re.compile(r"[\x20-\x7e]{0,128}")
_CONTENT_TYPE = re.compile(r"[!#$&^_.+A-Za-z0-9-]+/[!#$&^_.+A-Za-z0-9-]+(;[\x20-\x7e]*)?")
_MAX_CONTENT_TYPE = 255
_JOB_ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")

_PRIORITIES = {
    job_pb2.PRIORITY_UNSPECIFIED: Priority.NORMAL,
    job_pb2.PRIORITY_HIGH: Priority.HIGH,
    job_pb2.PRIORITY_NORMAL: Priority.NORMAL,
    job_pb2.PRIORITY_LOW: Priority.LOW,
}

_DURABILITIES = {
    EnqueueRequest.DURABILITY_UNSPECIFIED: None,
    EnqueueRequest.DURABILITY_ACCEPTED: Durability.ACCEPTED,
    EnqueueRequest.DURABILITY_FSYNCED: Durability.FSYNCED,
    EnqueueRequest.DURABILITY_REPLICATED: Durability.REPLICATED,
}


def parse_durability(number: EnqueueRequest.Durability, *, default: Durability) -> Durability:
    """How safely a job, or all of a batch, must be stored. Raises InvalidRequest."""
    if number not in _DURABILITIES:
        bad = Violations()
        names = "DURABILITY_ACCEPTED, DURABILITY_FSYNCED or DURABILITY_REPLICATED"
        bad.add("durability", f"must be {names} (1 to 3), or 0 for the server's default; got {number}")
        bad.check()
    return _DURABILITIES[number] or default


def parse_item(
    request: EnqueueRequest, batch: EnqueueRequest.Durability, *, max_payload: int, now_ms: int, prefix: str
) -> NewJob:
    """The job to store of one item of a batch; see `parse_enqueue`. `batch` is the durability of the whole batch."""
    if request.durability not in {EnqueueRequest.DURABILITY_UNSPECIFIED, batch}:
        bad = Violations(prefix)
        bad.add("durability", "must be left out, or be that of the batch: one level holds for all of its jobs")
        bad.check()
    return parse_enqueue(request, max_payload=max_payload, now_ms=now_ms, prefix=prefix)


def parse_enqueue(request: EnqueueRequest, *, max_payload: int, now_ms: int, prefix: str = "") -> NewJob:
    """The job to store. `max_payload` in bytes, `now_ms` in milliseconds since the epoch. Raises InvalidRequest."""
    bad = Violations(prefix)
    request_id = request.request_id
    if not _REQUEST_ID.fullmatch(request_id):
        bad.add("request_id", f"must be at most 128 printable ASCII characters; got {shown(request_id)}")
    if not request.HasField("job"):
        bad.add("job", "is required")
        bad.check()
    spec = _spec(request.job, bad, max_payload=max_payload, now_ms=now_ms, may_repeat=bool(request_id))
    bad.check()
    return NewJob(spec=spec, request_id=request_id)


def parse_batch(request: BatchEnqueueRequest) -> None:
    """Check the size of a batch; its items are parsed one by one. Raises InvalidRequest."""
    count = len(request.requests)
    if not 1 <= count <= MAX_BATCH:
        bad = Violations()
        bad.add("requests", f"must hold 1 to {MAX_BATCH} requests; got {count}")
        bad.check()


def parse_job_id(job_id: str) -> str:
    """The id in the spelling of the store: upper case. Raises InvalidRequest."""
    bad = Violations()
    found = checked_job_id("job_id", job_id, bad)
    bad.check()
    return found


def checked_job_id(field: str, job_id: str, bad: Violations) -> str:
    """The id in the spelling of the store: upper case. One that is none is noted in `bad`."""
    found = job_id.upper()
    if not job_id:
        bad.add(field, "is required")
    elif not _JOB_ID.fullmatch(found):
        bad.add(field, f"must be 26 characters of Crockford base32; got {shown(job_id)}")
    return found


def parse_watch(request: StreamStatusRequest) -> tuple[str, int | None]:
    """The job to watch and the version to resume after, None for a snapshot first. Raises InvalidRequest."""
    job_id = parse_job_id(request.job_id)
    if not request.HasField("after_version"):
        return job_id, None
    if request.after_version < 0:
        bad = Violations()
        bad.add("after_version", f"must not be negative; got {request.after_version}")
        bad.check()
    return job_id, request.after_version


def parse_list(request: ListDLQRequest) -> int:
    """The number of jobs on a page, 1 to 1,000. Raises InvalidRequest for it and for the queue."""
    bad = Violations()
    if request.queue:
        checked_name("queue", request.queue, bad)
    if request.page_size < 0:
        bad.add("page_size", f"must not be negative; got {request.page_size}")
    bad.check()
    return min(request.page_size or DEFAULT_PAGE, MAX_PAGE)


def _spec(job: job_pb2.JobSpec, bad: Violations, *, max_payload: int, now_ms: int, may_repeat: bool) -> JobSpec:
    payload, content_type = _content(job, bad, max_payload)
    delay_ms, schedule_time_ms = _due(job, bad, now_ms)
    return JobSpec(
        type=checked_name("job.type", job.type, bad),
        queue=checked_name("job.queue", job.queue, bad) if job.queue else DEFAULT_QUEUE,
        payload=payload,
        content_type=content_type,
        priority=_priority(job.priority, bad),
        delay_ms=delay_ms,
        schedule_time_ms=schedule_time_ms,
        attempt_timeout_ms=(
            _spans.duration_ms(job.attempt_timeout, "job.attempt_timeout", _spans.ATTEMPT_TIMEOUT, bad)
            if job.HasField("attempt_timeout")
            else None
        ),
        expire_time_ms=_expiry(job, bad, schedule_time_ms, now_ms - REPEAT_WINDOW_MS if may_repeat else now_ms, now_ms),
        retry=parse_retry(job, bad),
        labels=checked_labels("job.labels", job.labels, bad),
        headers=_headers(job.headers, bad),
        retention_ms=(
            _spans.duration_ms(job.retention, "job.retention", _spans.RETENTION, bad)
            if job.HasField("retention")
            else DEFAULT_RETENTION_MS
        ),
    )


def checked_name(field: str, name: str, bad: Violations) -> str:
    """The name, of a queue or a type. One that is none is noted in `bad`."""
    if not name:
        bad.add(field, "is required")
    elif not _NAME.fullmatch(name):
        bad.add(field, f"must be 1 to 128 of the characters A-Z a-z 0-9 _ . -; got {shown(name)}")
    return name


def _content(job: job_pb2.JobSpec, bad: Violations, max_payload: int) -> tuple[bytes, str]:
    kind = job.WhichOneof("content")
    content_type = JSON
    if kind == "json":
        payload = to_json(job.json, field="job.json", bad=bad)
    elif kind == "text":
        payload, content_type = job.text.encode(), TEXT
    else:
        payload = job.payload
    if len(payload) > max_payload:
        bad.add(f"job.{kind}", f"must be at most {max_payload:,} bytes as it is stored; got {len(payload):,}")
    if job.content_type:
        content_type = job.content_type
        if len(content_type) > _MAX_CONTENT_TYPE or not _CONTENT_TYPE.fullmatch(content_type):
            bad.add(
                "job.content_type",
                f"must be a media type of at most {_MAX_CONTENT_TYPE} characters, such as application/json; "
                f"got {shown(content_type)}",
            )
    return payload, content_type


def _priority(number: job_pb2.Priority, bad: Violations) -> Priority:
    found = _PRIORITIES.get(number)
    if found is None:
        bad.add("job.priority", f"must be PRIORITY_HIGH, PRIORITY_NORMAL or PRIORITY_LOW (1 to 3); got {number}")
        return Priority.NORMAL
    return found


def _due(job: job_pb2.JobSpec, bad: Violations, now_ms: int) -> tuple[int, int | None]:
    kind = job.WhichOneof("due")
    if kind == "delay":
        return _spans.duration_ms(job.delay, "job.delay", _spans.DELAY, bad), None
    if kind == "schedule_time":
        moment = _spans.moment_ms(job.schedule_time, "job.schedule_time", bad)
        if moment is None:
            return 0, None
        if moment > now_ms + _spans.DELAY.high:
            bad.add("job.schedule_time", f"must be at most 1 year ahead; got {_spans.told(job.schedule_time)}")
        return 0, max(moment, 0)
    return 0, None


def _expiry(
    job: job_pb2.JobSpec, bad: Violations, schedule_time_ms: int | None, earliest_ms: int, now_ms: int
) -> int | None:
    if not job.HasField("expire_time"):
        return None
    moment = _spans.moment_ms(job.expire_time, "job.expire_time", bad)
    if moment is None:
        return None
    if moment <= earliest_ms:
        bad.add("job.expire_time", f"must be in the future; got {_spans.told(job.expire_time)}")
    elif moment > now_ms + _spans.MAX_EXPIRY_MS:
        bad.add("job.expire_time", f"must be at most 10 years ahead; got {_spans.told(job.expire_time)}")
    elif schedule_time_ms is not None and moment <= schedule_time_ms:
        bad.add("job.expire_time", f"must be after job.schedule_time; got {_spans.told(job.expire_time)}")
    return moment


def checked_labels(path: str, labels: Mapping[str, str], bad: Violations) -> dict[str, str]:
    """The labels in the order of their keys. What is wrong with them is noted in `bad`."""
    if not labels:
        return {}
    if len(labels) > MAX_LABELS:
        bad.add(path, f"must be at most {MAX_LABELS} labels; got {len(labels)}")
        return {}
    for key, value in labels.items():
        field = f'{path}["{escaped(key)}"]'
        if not _LABEL_KEY.fullmatch(key):
            bad.add(field, f"must have a key of 1 to 63 of the characters A-Z a-z 0-9 _ . -; got {shown(key)}")
        if len(value) > MAX_LABEL_VALUE:
            bad.add(field, f"must be at most {MAX_LABEL_VALUE} characters; got {len(value)}")
        elif _CONTROL.search(value):
            bad.add(field, f"must not hold control characters; got {shown(value)}")
    return dict(sorted(labels.items()))


def _headers(headers: Mapping[str, str], bad: Violations) -> dict[str, str]:
    if not headers:
        return {}
    if len(headers) > MAX_HEADERS:
        bad.add("job.headers", f"must be at most {MAX_HEADERS} headers; got {len(headers)}")
    size = sum(len(key.encode()) + len(value.encode()) for key, value in headers.items())
    if size > MAX_HEADER_BYTES:
        bad.add("job.headers", f"must be at most {MAX_HEADER_BYTES:,} bytes in all; got {size:,}")
    return dict(sorted(headers.items()))
