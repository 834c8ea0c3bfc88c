"""Between the client's values and the messages of the contract; _convert_queue.py has those of queues."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration as DurationPb
from google.protobuf.timestamp_pb2 import Timestamp

from headrace import _content
from headrace.errors import InvalidRequest
from headrace.models import (
    DeadLetterPage,
    DeadLetterSweep,
    Durability,
    EventKind,
    Failure,
    Job,
    JobState,
    Priority,
    Progress,
    RetryPolicy,
    StatusEvent,
    Transition,
)
from headrace.v1 import job_pb2, job_service_pb2

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from headrace.models import DeadLetterFilter, Duration, NewJob

_PRIORITIES = {
    Priority.HIGH: job_pb2.PRIORITY_HIGH,
    Priority.NORMAL: job_pb2.PRIORITY_NORMAL,
    Priority.LOW: job_pb2.PRIORITY_LOW,
}
_DURABILITIES = {level: getattr(job_service_pb2.EnqueueRequest, f"DURABILITY_{level.name}") for level in Durability}
_DURABILITY_OF = {number: level for level, number in _DURABILITIES.items()}
_PRIORITY_OF = {number: priority for priority, number in _PRIORITIES.items()}
_STATE_OF = {job_pb2.Job.State.Value(f"STATE_{state}"): state for state in JobState}
_KIND_OF = {job_service_pb2.StreamStatusResponse.Kind.Value(f"KIND_{kind}"): kind for kind in EventKind}


# Values to messages.


def request_from(job: NewJob) -> job_service_pb2.EnqueueRequest:
    """The request for `job`, with a request_id of its own where the job has none.

    Raises:
        InvalidRequest: A field has a value that no message can hold; `violations` name it.
    """
    request = job_service_pb2.EnqueueRequest(request_id=job.request_id or str(uuid.uuid4()))
    spec = request.job
    spec.type = _text("type", job.type)
    spec.queue = _text("queue", job.queue)
    spec.priority = _PRIORITIES[_priority(job.priority)]
    data, spec.content_type = _content.encode(job.payload, job.content_type)
    if data is not None:
        spec.payload = data
    if job.delay is not None and job.schedule_time is not None:
        raise InvalidRequest.of("delay", "give either delay or schedule_time, not both")
    _set_duration(spec, "delay", job.delay)
    _set_time(spec, "schedule_time", job.schedule_time)
    _set_duration(spec, "attempt_timeout", job.attempt_timeout)
    _set_time(spec, "expire_time", job.expire_time)
    _set_duration(spec, "retention", job.retention)
    if job.retry is not None:
        _set_retry(spec.retry_policy, job.retry)
    _set_texts("labels", spec.labels, job.labels)
    _set_texts("headers", spec.headers, job.headers)
    if job.durability is not None:
        request.durability = _DURABILITIES[_durability(job.durability)]
    return request


def batch_from(requests: Sequence[job_service_pb2.EnqueueRequest]) -> job_service_pb2.BatchEnqueueRequest:
    """The batch of these requests, which all ask for the same durability."""
    return job_service_pb2.BatchEnqueueRequest(requests=requests, durability=requests[0].durability)


def filter_from(where: DeadLetterFilter) -> job_service_pb2.DeadLetterFilter:
    """The message for a filter.

    Raises:
        InvalidRequest: A field has a value that no message can hold; `violations` name it.
    """
    pb = job_service_pb2.DeadLetterFilter()
    pb.queue = _text("queue", where.queue)
    pb.type = _text("type", where.type)
    pb.reason = _text("reason", where.reason)
    _set_texts("labels", pb.labels, where.labels)
    _set_time(pb, "start_time", where.start_time)
    _set_time(pb, "end_time", where.end_time)
    return pb


def seconds(field: str, duration: object) -> float:
    """A duration in seconds.

    Raises:
        InvalidRequest: It is not a finite number of seconds or a timedelta.
    """
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    if isinstance(duration, bool) or not isinstance(duration, int | float) or not math.isfinite(duration):
        raise InvalidRequest.of(field, f"{duration!r} is not a number of seconds or a timedelta")
    return float(duration)


def _priority(value: str) -> Priority:
    try:
        return Priority(value)
    except ValueError:
        raise InvalidRequest.of("priority", f"{value!r} is not high, normal or low") from None


def _durability(value: str) -> Durability:
    try:
        return Durability(value)
    except ValueError:
        raise InvalidRequest.of("durability", f"{value!r} is not accepted, fsynced or replicated") from None


def _text(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidRequest.of(field, f"{value!r} is not a string")
    return value


def _set_texts(field: str, target: Mapping[str, str], texts: Mapping[str, str] | None) -> None:
    if not texts:
        return
    if not isinstance(texts, Mapping):
        raise InvalidRequest.of(field, f"{texts!r} is not a mapping of strings to strings")
    for key, value in texts.items():
        if not isinstance(key, str):
            raise InvalidRequest.of(field, f"its key {key!r} is not a string")
        if not isinstance(value, str):
            raise InvalidRequest.of(field, f"its value {value!r} for {key!r} is not a string")
    try:
        target.update(texts)  # type: ignore[attr-defined] # the generated type of a map field hides that it is mutable
    except ValueError as error:  # a lone surrogate: no UTF-8
        raise InvalidRequest.of(field, f"{texts!r} is not valid text: {error}") from error


def _set_duration(target: Message, field: str, duration: Duration | None) -> None:
    if duration is None:
        return
    try:
        delta = duration if isinstance(duration, timedelta) else timedelta(seconds=seconds(field, duration))
    except OverflowError:
        raise InvalidRequest.of(field, f"{duration!r} seconds is out of range") from None
    pb: DurationPb = getattr(target, field)
    pb.FromTimedelta(delta)


def _set_time(target: Message, field: str, time: object) -> None:
    if time is None:
        return
    if not isinstance(time, datetime) or time.tzinfo is None:
        raise InvalidRequest.of(field, f"{time!r} is not a datetime with a time zone, such as datetime.now(UTC)")
    pb: Timestamp = getattr(target, field)
    pb.FromDatetime(time)


def _set_retry(target: job_pb2.RetryPolicy, retry: RetryPolicy) -> None:
    try:
        if retry.max_attempts is not None:
            target.max_attempts = retry.max_attempts
        if retry.multiplier is not None:
            target.multiplier = retry.multiplier
        if retry.jitter is not None:
            target.jitter = retry.jitter
    except (TypeError, ValueError) as error:
        raise InvalidRequest.of("retry", str(error)) from error
    _set_duration(target, "initial_backoff", retry.initial_backoff)
    _set_duration(target, "max_backoff", retry.max_backoff)


# Messages to values.


def durability_from(number: int) -> Durability | None:
    """The level that an answer names; None where the server named none."""
    return _DURABILITY_OF.get(number)


def state_from(number: int) -> JobState:
    """The state that the enum value `number` stands for."""
    return _STATE_OF[number]


def job_from(pb: job_pb2.Job) -> Job:
    """The job of a raw answer, that is, one with its content as bytes."""
    return Job(
        job_id=pb.job_id,
        queue=pb.queue,
        type=pb.type,
        state=_STATE_OF[pb.state],
        version=pb.version,
        priority=_PRIORITY_OF.get(pb.priority, Priority.NORMAL),
        payload_bytes=pb.payload,
        content_type=pb.content_type,
        create_time=time_from(pb, "create_time"),
        schedule_time=time_from(pb, "schedule_time"),
        start_time=time_from(pb, "start_time"),
        finish_time=time_from(pb, "finish_time"),
        expire_time=time_from(pb, "expire_time"),
        cancel_request_time=time_from(pb, "cancel_request_time"),
        attempt=pb.attempt,
        crash_count=pb.crash_count,
        attempt_timeout=duration_from(pb, "attempt_timeout"),
        retry=_retry_from(pb.retry_policy),
        labels=dict(pb.labels),
        headers=dict(pb.headers),
        retention=duration_from(pb, "retention"),
        worker=pb.worker,
        progress=_progress_from(pb.progress) if pb.HasField("progress") else None,
        failure=_failure_from(pb.failure) if pb.HasField("failure") else None,
        result_bytes=pb.result if pb.HasField("result") else None,
        result_content_type=pb.result_content_type,
        history=tuple(_transition_from(step) for step in pb.history),
    )


def event_from(pb: job_service_pb2.StreamStatusResponse) -> StatusEvent:
    """The event that a snapshot, transition or progress message of a raw stream stands for."""
    return StatusEvent(
        kind=_KIND_OF[pb.kind],
        job_id=pb.job_id,
        version=pb.version,
        state=_STATE_OF[pb.state],
        time=time_from(pb, "time"),
        attempt=pb.attempt,
        reason=pb.reason,
        detail=pb.detail,
        progress=_progress_from(pb.progress) if pb.HasField("progress") else None,
        job=job_from(pb.job) if pb.HasField("job") else None,
    )


def page_from(pb: job_service_pb2.ListDLQResponse) -> DeadLetterPage:
    """A page of dead letters."""
    return DeadLetterPage(
        jobs=tuple(job_from(job) for job in pb.jobs), next_page_token=pb.next_page_token, total_size=pb.total_size
    )


def sweep_from(pb: job_service_pb2.RequeueDLQResponse | job_service_pb2.PurgeDLQResponse) -> DeadLetterSweep:
    """What became of some dead letters."""
    return DeadLetterSweep(
        count=pb.purged if isinstance(pb, job_service_pb2.PurgeDLQResponse) else pb.requeued,
        scanned=pb.scanned,
        skipped_job_ids=tuple(pb.skipped_job_ids),
        next_page_token=pb.next_page_token,
    )


def time_from(pb: Message, field: str) -> datetime | None:
    """The Timestamp field of that name as an aware datetime in UTC; None where it is not set."""
    if not pb.HasField(field):
        return None
    timestamp: Timestamp = getattr(pb, field)
    return timestamp.ToDatetime(tzinfo=UTC)


def duration_from(pb: Message, field: str) -> timedelta | None:
    """The Duration field of that name; None where it is not set."""
    if not pb.HasField(field):
        return None
    duration: DurationPb = getattr(pb, field)
    return duration.ToTimedelta()


def _retry_from(pb: job_pb2.RetryPolicy) -> RetryPolicy:
    return RetryPolicy(
        max_attempts=pb.max_attempts or None,
        initial_backoff=duration_from(pb, "initial_backoff"),
        max_backoff=duration_from(pb, "max_backoff"),
        multiplier=pb.multiplier if pb.HasField("multiplier") else None,
        jitter=pb.jitter if pb.HasField("jitter") else None,
    )


def _progress_from(pb: job_pb2.Progress) -> Progress:
    return Progress(fraction=pb.fraction, message=pb.message, time=time_from(pb, "time"))


def _failure_from(pb: job_pb2.Failure) -> Failure:
    return Failure(
        reason=pb.reason,
        error_type=pb.error_type,
        message=pb.message,
        stack_trace=pb.stack_trace,
        time=time_from(pb, "time"),
        attempt=pb.attempt,
    )


def _transition_from(pb: job_pb2.Transition) -> Transition:
    return Transition(
        version=pb.version,
        state=_STATE_OF[pb.state],
        time=time_from(pb, "time"),
        attempt=pb.attempt,
        reason=pb.reason,
        detail=pb.detail,
    )
