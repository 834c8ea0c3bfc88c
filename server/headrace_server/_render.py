"""From the values of the broker room to the messages of the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.v1 import job_pb2, job_service_pb2
from headrace_broker.job import JSON, TEXT, Durability, Priority, State
from headrace_server._json_value import from_json
from headrace_server._retry import retry_message
from headrace_server._spans import duration, moment

if TYPE_CHECKING:
    from google.protobuf.struct_pb2 import Value

    from headrace_broker.job import Enqueued, Failure, Job, Progress, Transition

STATES: dict[State, job_pb2.Job.State] = {state: getattr(job_pb2.Job.State, f"STATE_{state.value}") for state in State}
PRIORITIES: dict[Priority, job_pb2.Priority] = {
    priority: getattr(job_pb2.Priority, f"PRIORITY_{priority.name}") for priority in Priority
}

DURABILITIES: dict[Durability, job_service_pb2.EnqueueRequest.Durability] = {
    level: getattr(job_service_pb2.EnqueueRequest, f"DURABILITY_{level.name}") for level in Durability
}


def enqueued_message(enqueued: Enqueued) -> job_service_pb2.EnqueueResponse:
    """The answer to an Enqueue."""
    return job_service_pb2.EnqueueResponse(
        job_id=enqueued.job_id,
        state=STATES[enqueued.state],
        version=enqueued.version,
        create_time=moment(enqueued.create_time_ms),
        deduplicated=enqueued.deduplicated,
        durability=DURABILITIES[enqueued.durability],
    )


def job_message(job: Job, *, raw: bool) -> job_pb2.Job:
    """The whole job. With `raw`, content and result are bytes; without, they take the most readable exact form."""
    message = listed_message(job)
    if raw:
        message.payload = job.spec.payload
    elif job.spec.payload:
        _set_readable(message, ("json", "text", "payload"), job.spec.payload, job.spec.content_type)
    if job.result is None:
        return message
    message.result_content_type = job.result_content_type
    if raw:
        message.result = job.result
    else:
        _set_readable(message, ("result_json", "result_text", "result"), job.result, job.result_content_type)
    return message


def listed_message(job: Job) -> job_pb2.Job:
    """The job without content and result, as lists show it."""
    spec = job.spec
    message = job_pb2.Job(
        job_id=job.job_id,
        queue=spec.queue,
        type=spec.type,
        state=STATES[job.state],
        version=job.version,
        priority=PRIORITIES[spec.priority],
        content_type=spec.content_type,
        create_time=moment(job.create_time_ms),
        attempt=job.attempt,
        crash_count=job.crashes,
        retry_policy=retry_message(spec.retry),
        labels=spec.labels,
        headers=spec.headers,
        retention=duration(spec.retention_ms),
        worker=job.worker,
        history=[transition_message(transition) for transition in job.history],
    )
    _set_times(message, job)
    if job.progress is not None:
        message.progress.CopyFrom(progress_message(job.progress))
    if job.failure is not None:
        message.failure.CopyFrom(_failure_message(job.failure))
    return message


def _set_times(message: job_pb2.Job, job: Job) -> None:
    for field, ms in (
        (message.schedule_time, job.due_time_ms),
        (message.start_time, job.start_time_ms),
        (message.finish_time, job.finish_time_ms),
        (message.expire_time, job.spec.expire_time_ms),
        (message.cancel_request_time, job.cancel_time_ms),
    ):
        if ms is not None:
            field.CopyFrom(moment(ms))
    if job.spec.attempt_timeout_ms is not None:
        message.attempt_timeout.CopyFrom(duration(job.spec.attempt_timeout_ms))


def transition_message(transition: Transition) -> job_pb2.Transition:
    """One step of a job."""
    return job_pb2.Transition(
        version=transition.version,
        state=STATES[transition.state],
        time=moment(transition.time_ms),
        attempt=transition.attempt,
        reason=transition.reason,
        detail=transition.detail,
    )


def progress_message(progress: Progress) -> job_pb2.Progress:
    """How far a handler has come."""
    return job_pb2.Progress(fraction=progress.fraction, message=progress.message, time=moment(progress.time_ms))


def _failure_message(failure: Failure) -> job_pb2.Failure:
    return job_pb2.Failure(
        reason=failure.reason,
        error_type=failure.error_type,
        message=failure.message,
        stack_trace=failure.stack_trace,
        time=moment(failure.time_ms),
        attempt=failure.attempt,
    )


def _set_readable(message: job_pb2.Job, fields: tuple[str, str, str], content: bytes, content_type: str) -> None:
    as_json, as_text, as_bytes = fields
    readable = _readable(content, content_type)
    if isinstance(readable, str):
        setattr(message, as_text, readable)
    elif readable is not None:
        getattr(message, as_json).CopyFrom(readable)
    else:
        setattr(message, as_bytes, content)


def _readable(content: bytes, content_type: str) -> Value | str | None:
    media_type = content_type.partition(";")[0].strip().lower()
    is_json = media_type == JSON or media_type.endswith("+json")
    if not is_json and media_type.partition("/")[0] != TEXT.partition("/")[0]:
        return None
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    value = from_json(text) if is_json else None
    return text if value is None else value
